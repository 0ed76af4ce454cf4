"""SIGKILL before any outbound request of a removal: it ends fully removed with a backup, or untouched, and
the ledger says which. At no moment is a rule gone that the ledger could not put back."""

from __future__ import annotations

import signal
import time

import pytest

from remediation.firewall.edit import same
from remediation.firewall.incident import Incident, State
from tests.azure import Azure
from tests.role import IDENTITY, firewall_actions, role_actions
from tests.sandbox.crash_child import PERSON, start
from tests.sandbox.test_firewall import GROUP, ROGUE, incident, look, rules, seed, site
from tests.unit.firewalls import network

SETTINGS = {"RESPONDER_LEASE_SECONDS": "2"}
LEASE_OVER = 3.1
PARTS = 4
MOST_REQUESTS = 120
SECOND = f"{GROUP.replace('egress', 'more')}"


def fresh(azure: Azure, number: int) -> Incident:
    """An Azure with a rogue path cut in two, over two groups, and empty tables."""
    azure.world.control("POST", "reset")
    azure.world.tune(settle=0)
    azure.world.role(IDENTITY, [*role_actions(), *firewall_actions()])
    azure.clock.shift *= 0
    own = azure.settings["RESPONDER_TABLE_PREFIX"].partition("x")[0]
    azure.start(**SETTINGS, RESPONDER_TABLE_PREFIX=f"{own}x{number}")
    data = site({**ROGUE, "ipProtocols": ["TCP"]})
    data["groups"][0]["firewallPolicies"][1]["groups"].append(
        {"name": "more", "priority": 500, "ruleCollections": [{
            "ruleCollectionType": "FirewallPolicyFilterRuleCollection", "name": "rest", "priority": 100,
            "action": {"type": "Allow"}, "rules": [network("udp", ["10.1.0.4"], protocols=["UDP"])]}]})
    seed(azure, data)
    (one,) = look(azure)
    return one


def check_backups(azure: Azure, before: dict[str, object]) -> None:
    """What is gone from a group is in the ledger, whole."""
    kept = {b.owner: b.body for b in azure.ledger.firewall.backups(incident(azure))}
    for group, name in ((GROUP, "allow-all"), (SECOND, "udp")):
        if name not in rules(azure, group):
            body = kept[group.lower()]
            assert same(body, before[group]), group  # type: ignore[arg-type]


@pytest.mark.parametrize("part", range(PARTS))
def test_death_at_any_moment_of_a_removal_leaves_it_whole_or_untouched(azure: Azure, part: int):
    died = 0
    for request in range(part, MOST_REQUESTS, PARTS):
        one = fresh(azure, request)
        before = {g: azure.world.arm("GET", g).json() for g in (GROUP, SECOND)}
        child, pipe = start(azure.world.environment(**azure.settings),
                            {"incident": one.id, "passes": 4, "hours": 0})
        with pipe:
            azure.faults({"skip": request, "kill": child.pid})
            pipe.send("go")
            child.join(60)
        azure.faults()
        assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
        check_backups(azure, before)
        for wait in (0, LEASE_OVER, 0.2, 0.2, 0.5, 1):
            time.sleep(wait)
            azure.clock.forward(seconds=60)
            azure.sweep()
            check_backups(azure, before)
            if incident(azure).state in (State.REMOVED, State.ASKING):
                break
        done = incident(azure)
        if done.state is State.ASKING:  # the yes was never recorded
            assert rules(azure) == ["updates", "allow-all"]
            assert rules(azure, SECOND) == ["udp"]
        else:
            assert done.state is State.REMOVED, done
            assert done.decided_by == PERSON.name
            assert rules(azure) == ["updates"]
            assert rules(azure, SECOND) == []
        if child.exitcode == 0:
            break
        died += 1
    assert died > 3
