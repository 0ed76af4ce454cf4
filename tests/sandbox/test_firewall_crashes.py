"""SIGKILL before any outbound request of a removal: it ends fully removed with a backup, or untouched, and
the ledger says which. At no moment is a rule gone that the ledger could not put back."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from remediation.firewall.edit import same
from remediation.firewall.incident import Incident, State
from remediation.policy import DEFAULT_POLICY
from tests.azure import Azure
from tests.role import IDENTITY, firewall_actions, role_actions
from tests.sandbox.crash_child import PERSON, start
from tests.sandbox.test_firewall import GROUP, ROGUE, incident, look, rules, seed, site
from tests.unit.firewalls import network

SETTINGS = {"RESPONDER_LEASE_SECONDS": "2"}
LEASE_OVER = 3.1
PARTS = 4
MOST_REQUESTS, EVERY = 120, 6
SECOND = f"{GROUP.replace('egress', 'more')}"


def fresh(azure: Azure, number: int, **more: str) -> Incident:
    """An Azure with a rogue path cut in two, over two groups, and empty tables."""
    azure.world.control("POST", "reset")
    azure.world.tune(settle=0)
    azure.world.role(IDENTITY, [*role_actions(), *firewall_actions()])
    azure.clock.shift *= 0
    own = azure.settings["RESPONDER_TABLE_PREFIX"].partition("x")[0]
    azure.start(**SETTINGS, **more, RESPONDER_TABLE_PREFIX=f"{own}x{number}")
    data = site({**ROGUE, "ipProtocols": ["TCP"]})
    data["groups"][0]["firewallPolicies"][1]["groups"].append(
        {"name": "more", "priority": 500, "ruleCollections": [{
            "ruleCollectionType": "FirewallPolicyFilterRuleCollection", "name": "rest", "priority": 200,
            "action": {"type": "Allow"}, "rules": [network("udp", ["10.1.0.4"], protocols=["UDP"])]}]})
    seed(azure, data)
    (one,) = look(azure)
    return one


def check_backups(azure: Azure, before: dict[str, dict[str, Any]]) -> None:
    """What is gone from a group is in the ledger, whole."""
    kept = {b.owner: b.body for b in azure.ledger.firewall.backups(incident(azure))}
    for group, name in ((GROUP, "allow-all"), (SECOND, "udp")):
        if name not in rules(azure, group):
            body = kept[group.lower()]
            assert same(body, before[group]), group


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
            assert child.exitcode != 0, "nobody died, and still it is not taken out"
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
    else:
        pytest.fail(f"it makes more than {MOST_REQUESTS} requests: not all were met")
    assert died > 3


@pytest.mark.parametrize("verb", ["deny", "restore"])
def test_death_while_a_deny_is_put_before_it_or_all_is_put_back_is_made_good(
    azure: Azure, verb: str, tmp_path: Path
):
    died = 0
    for request in range(0, MOST_REQUESTS, EVERY):
        policy = tmp_path / f"policy-{request}.toml"
        action = "deny" if verb == "deny" else "ask"
        policy.write_text(DEFAULT_POLICY.read_text().replace('action = "ask"', f'action = "{action}"'))
        one = fresh(azure, 200 + request, RESPONDER_POLICY=str(policy))
        before = {g: azure.world.arm("GET", g).json() for g in (GROUP, SECOND)}
        if verb == "restore":
            azure.app.desk.decide(one.id, PERSON, azure.app.budget(), act=True, reason="first")
            for _ in range(4):
                azure.app.removal.go_on(one.id, azure.app.budget())
            assert incident(azure).state is State.REMOVED
        child, pipe = start(azure.world.environment(**azure.settings),
                            {"incident": one.id, "passes": 4, "hours": 0, "verb": verb})
        with pipe:
            azure.faults({"skip": request, "kill": child.pid})
            pipe.send("go")
            child.join(60)
        azure.faults()
        for wait in (0, LEASE_OVER, 0.2, 0.2, 0.5, 1):
            time.sleep(wait)
            azure.clock.forward(seconds=60)
            azure.sweep()
            if incident(azure).state not in (State.REMOVING, State.RESTORING):
                break
        done = incident(azure)
        if verb == "restore":
            assert done.state in (State.RESTORED, State.REMOVED), done
            if done.state is State.RESTORED:
                assert all(same(azure.world.arm("GET", g).json(), before[g]) for g in before)
        else:
            assert done.state in (State.REMOVED, State.ASKING), done
            assert rules(azure)[:2] == ["updates", "allow-all"], "nothing is taken out"
            denies = [c for g in before for c in azure.world.arm("GET", g).json()["properties"][
                "ruleCollections"] if c["action"]["type"] == "Deny"]
            assert len(denies) == (2 if done.state is State.REMOVED else 0)
        if child.exitcode == 0:  # nobody died: then it comes to its end
            assert done.state is (State.RESTORED if verb == "restore" else State.REMOVED)
            break
        died += 1
    else:
        pytest.fail(f"it makes more than {MOST_REQUESTS} requests: not all were met")
    assert died > 3
