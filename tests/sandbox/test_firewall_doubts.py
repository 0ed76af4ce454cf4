"""What goes wrong, or only looks right, about rogue rules: failures that stay known, blame that is earned,
loops that end, and a person's word that is about what the person saw."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from remediation.errors import Conflict
from remediation.firewall.edit import same
from remediation.firewall.incident import Incident, State
from remediation.ledger.store import LedgerDown
from tests.azure import Azure
from tests.estate import NETWORK
from tests.role import IDENTITY, firewall_actions, role_actions
from tests.sandbox.test_firewall import (
    FINE,
    FIREWALL,
    GROUP,
    PERSON,
    ROGUE,
    _with,
    approve,
    desk,
    event,
    look,
    removed,
    rules,
    seed,
    settle,
    site,
    write,
)
from tests.unit.firewalls import network


@pytest.fixture(autouse=True)
def may_change(azure: Azure) -> None:
    """The deployment says `changeFirewalls`, and Azure is quick."""
    azure.world.role(IDENTITY, [*role_actions(), *firewall_actions()])
    azure.world.tune(settle=0)


def faulted(azure: Azure, value: bool) -> None:
    azure.world.seed({"facts": {FIREWALL: {"faulted": value}}})


def rogue(azure: Azure) -> Incident:
    (one,) = [i for i in azure.ledger.firewall.all() if i.kind == "rogue"]
    return one


# --- failures ---


def test_what_failed_half_way_stays_known_and_can_be_put_back(azure: Azure):
    seed(azure, site(ROGUE))
    before = azure.world.arm("GET", GROUP).json()
    (one,) = look(azure)
    faulted(azure, True)
    approve(azure, one)
    settle(azure, 10)
    assert rogue(azure).state is State.FAILED
    azure.app.on_firewall_change(event())  # our own write is told of, too
    look(azure)
    assert rogue(azure).state is State.FAILED, "it is not gone: the firewall may still enforce it"
    faulted(azure, False)
    desk(azure).restore(one.id, PERSON, azure.app.budget(), "start over")
    settle(azure)
    assert rogue(azure).state is State.RESTORED
    assert same(azure.world.arm("GET", GROUP).json(), before)


def test_what_the_firewall_does_not_take_back_is_not_called_restored(azure: Azure):
    one = removed(azure)
    faulted(azure, True)
    desk(azure).restore(one.id, PERSON, azure.app.budget(), "it was ours")
    settle(azure, 10)
    assert rogue(azure).state is State.FAILED
    assert any("mend the firewall" in n for n in azure.notices("firewall-failed"))


def test_a_rule_that_was_changed_before_it_could_be_taken_out_is_looked_at_anew(azure: Azure):
    seed(azure, site(ROGUE))
    (one,) = look(azure)
    azure.faults({"service": "arm", "method": "PUT", "path": "egress", "status": 503, "times": 9})
    approve(azure, one)
    azure.faults()
    azure.ledger.firewall.save(replace(rogue(azure), written=False))
    write(azure, FINE, {**ROGUE, "destinationAddresses": ["0.0.0.0/1", "128.0.0.0/1"]})
    settle(azure, 1)
    assert "not what it was" in str(azure.notices("firewall"))
    settle(azure, 3)
    assert rogue(azure).state is State.ASKING, "it is asked about anew"


@pytest.mark.parametrize("fault", [
    {"service": "arm", "status": 503},
    {"service": "arm", "status": 403, "body": {"error": {"code": "AuthorizationFailed", "message": "no"}}},
    {"service": "arm", "drop": "before"}, {"service": "arm", "drop": "after"},
    {"service": "arm", "status": 429, "headers": {"retry-after": "1"}},
    {"service": "table", "drop": "before", "times": 3}, {"service": "table", "drop": "after"},
])
def test_whatever_request_fails_it_ends_taken_out_with_a_backup_or_as_it_was(
    azure: Azure, fault: dict[str, Any]
):
    azure.start(RESPONDER_LEASE_SECONDS="2")
    seed(azure, site(ROGUE))
    before = azure.world.arm("GET", GROUP).json()
    for n in range(0, 120, 2 if fault["service"] == "arm" else 3):
        if rules(azure) == ["updates"]:
            write(azure, FINE, ROGUE)
        look(azure)
        one = rogue(azure)
        if one.state not in (State.ASKING, State.TOLD, State.STOPPED, State.FAILED):
            azure.ledger.firewall.save(replace(one, state=State.ASKING, round=0, returns=0))
        azure.faults({"skip": n, **fault})
        with contextlib.suppress(LedgerDown):  # the person is told so, and says yes again
            approve(azure, rogue(azure))
        seen = azure.world.control("GET", "faults")["trace"]
        struck = sum(line.startswith(f"{fault['service']} ") for line in seen) > n
        azure.faults()
        settle(azure, 3)
        if rogue(azure).state is State.REMOVING:  # a lease that could not be given back
            time.sleep(3.1)
            settle(azure, 2)
        done = rogue(azure)
        if done.state is State.ASKING:  # the yes was never recorded
            assert rules(azure) == ["updates", "allow-all"]
        elif done.state is State.FAILED:
            assert rules(azure) == ["updates", "allow-all"] or azure.ledger.firewall.backups(done)
        else:
            assert done.state is State.REMOVED, (n, done)
            assert rules(azure) == ["updates"]
            assert any(same(b.body, before) for b in azure.ledger.firewall.backups(done))
        if not struck:
            break
    assert n > 3


# --- who, and since when ---


def test_who_wrote_something_else_is_not_blamed_for_a_rule_that_was_there(azure: Azure):
    seed(azure, site())
    write(azure, FINE, ROGUE, upn="alice@example.com")
    write(azure, FINE, path=GROUP.replace("egress", "more"), priority=500, upn="mallory@example.com")
    azure.app.on_firewall_change(event(GROUP.replace("egress", "more")))
    author = rogue(azure).author
    assert author is not None
    assert author.name == "alice@example.com"
    assert rogue(azure).absent is None, "nobody had looked before"


def test_what_a_look_before_had_not_found_is_new_since_then_and_its_writers(azure: Azure):
    seed(azure, site())
    assert look(azure) == []
    first = azure.clock.now()
    azure.clock.forward(seconds=60)
    write(azure, FINE, ROGUE)
    azure.app.on_firewall_change(event())
    one = rogue(azure)
    assert one.author is not None
    assert one.author.name == "mallory@example.com"
    assert one.absent is not None
    assert abs((one.absent - first).total_seconds()) < 30


def test_an_unreadable_part_is_told_once_and_nothing_is_called_gone(azure: Azure):
    seed(azure, site({**ROGUE, "sourceAddresses": [], "sourceIpGroups": [f"{NETWORK}/ipGroups/servers"]}))
    azure.world.arm("PUT", f"{NETWORK}/ipGroups/servers", {"location": "westeurope", "properties": {
        "ipAddresses": ["10.1.0.4"]}})
    look(azure)
    assert rogue(azure).state is State.ASKING
    azure.world.seed({"denied": [{"action": "ipgroups/read", "scope": ""}]})
    look(azure)
    look(azure)
    assert rogue(azure).state is State.ASKING, "it may still be there"
    assert len(azure.notices("firewall-unreadable")) == 1
    azure.world.seed({"denied": [{"action": "firewallpolicies/read", "scope": ""}]})
    assert look(azure) == []
    assert len(azure.notices("firewall-unreadable")) == 2


# --- loops, and a person's word ---


def test_one_that_comes_and_goes_by_itself_counts_as_coming_back(azure: Azure):
    removed(azure)
    states = []
    for _ in range(3):
        write(azure, FINE, ROGUE)
        look(azure)
        states.append(rogue(azure).state)
        if states[-1] is State.STOPPED:
            break
        write(azure, FINE)
        look(azure)
        assert rogue(azure).state is State.GONE
    assert states == [State.ASKING, State.STOPPED]
    write(azure, FINE)
    look(azure)
    assert rogue(azure).state is State.STOPPED, "until a person has seen to it"


def test_a_no_stands_whatever_becomes_of_the_machine(azure: Azure, tmp_path: Path):
    _with(azure, tmp_path, "remove")
    seed(azure, site(ROGUE))
    (one,) = look(azure)
    desk(azure).decide(one.id, PERSON, azure.app.budget(), act=False, reason="it is known")
    azure.attack()
    settle(azure)
    assert rogue(azure).state is State.KEPT
    assert "allow-all" in rules(azure)


def test_a_yes_is_to_what_was_seen(azure: Azure):
    seed(azure, site(ROGUE))
    (one,) = look(azure)
    write(azure, FINE, ROGUE, network("second", sources=["10.1.0.4"]))
    look(azure)
    budget = azure.app.budget()
    with pytest.raises(Conflict, match="has changed since"):
        desk(azure).decide(one.id, PERSON, budget, act=True, reason="x", digest=one.digest)
    with pytest.raises(Conflict, match="has changed since"):
        desk(azure).approve(one.id, PERSON, timedelta(days=1), "x", budget, one.digest)
    seen = rogue(azure)
    desk(azure).decide(seen.id, PERSON, azure.app.budget(), act=True, reason="x", digest=seen.digest)


def test_what_is_being_taken_out_is_not_approved_meanwhile(azure: Azure):
    seed(azure, site(ROGUE))
    (one,) = look(azure)
    azure.world.tune(settle=5)
    approve(azure, one)
    with pytest.raises(Conflict, match="removing"):
        desk(azure).approve(one.id, PERSON, timedelta(days=1), "x", azure.app.budget())


def test_a_second_deny_has_a_name_of_its_own_and_approval_lifts_them(azure: Azure, tmp_path: Path):
    _with(azure, tmp_path, "deny")
    seed(azure, site())
    look(azure)
    write(azure, FINE, ROGUE)
    azure.attack()
    settle(azure)
    assert rogue(azure).state is State.REMOVED
    body = azure.world.arm("GET", GROUP).json()
    body["properties"]["ruleCollections"].append({
        "ruleCollectionType": "FirewallPolicyFilterRuleCollection", "name": "earlier", "priority": 150,
        "action": {"type": "Allow"}, "rules": [{**ROGUE, "name": "back"}]})
    assert azure.world.arm("PUT", GROUP, body, upn="mallory@example.com").status_code == 200
    look(azure)
    settle(azure)
    one = rogue(azure)
    assert (one.state, one.round) == (State.REMOVED, 2), one
    names = [c["name"] for c in azure.world.arm("GET", GROUP).json()["properties"]["ruleCollections"]]
    assert {f"defender-deny-test-{one.id[:8]}-{r}-0" for r in (1, 2)} <= set(names)
    desk(azure).approve(one.id, PERSON, timedelta(days=30), "the new proxy", azure.app.budget())
    settle(azure)
    left = [c["name"] for c in azure.world.arm("GET", GROUP).json()["properties"]["ruleCollections"]]
    assert left == ["rules", "earlier"]
    assert look(azure) == []


def test_what_the_policy_decided_before_a_long_pause_is_decided_anew(azure: Azure, tmp_path: Path):
    _with(azure, tmp_path, "remove")
    seed(azure, site())
    look(azure)
    write(azure, FINE, ROGUE)
    azure.faults({"service": "arm", "method": "PUT", "path": "egress", "status": 503, "times": 99})
    azure.attack()
    settle(azure, 1)
    assert rogue(azure).state is State.REMOVING
    azure.ledger.firewall.save(replace(rogue(azure), written=False))
    azure.faults()
    azure.clock.forward(hours=30)  # the block has ended meanwhile
    azure.start(RESPONDER_POLICY=str(azure.app.settings.policy_file))
    settle(azure)
    assert rogue(azure).state is State.ASKING
    assert "allow-all" in rules(azure)


def test_the_same_rule_on_another_firewall_is_an_incident_of_its_own(azure: Azure):
    data = site(ROGUE)
    data["groups"][0]["firewallPolicies"].append({"name": "second", "groups": [
        {"name": "g", "priority": 100, "ruleCollections": []}]})
    data["groups"][0]["vnets"][0]["subnets"].append({"name": "more", "prefix": "10.0.1.0/24"})
    data["groups"][0]["firewalls"].append({"name": "fw2", "subnet": "hub/more", "address": "10.0.1.4",
                                           "policy": "second"})
    seed(azure, data)
    (one,) = look(azure)
    approve(azure, one)
    settle(azure)
    write(azure, ROGUE, path=f"{NETWORK}/firewallPolicies/second/ruleCollectionGroups/g", priority=100)
    (other,) = azure.app.watch.look(FIREWALL.lower().replace("/fw", "/fw2"), azure.app.budget())
    assert (other.state, other.round, other.returns) == (State.ASKING, 0, 0)
    assert other.id != one.id
    assert not azure.notices("firewall-returned")


def test_a_new_rule_beside_an_old_one_makes_the_old_one_no_younger(azure: Azure, tmp_path: Path):
    _with(azure, tmp_path, "remove")
    data = site(ROGUE)
    made = azure.clock.now() - timedelta(days=10)
    data["groups"][0]["vms"][0]["created"] = made.isoformat()
    seed(azure, data)
    azure.attack()
    settle(azure, 2)
    assert rogue(azure).state is State.ASKING, "the machine may be younger than the rule"
    write(azure, FINE, ROGUE, network("second", sources=["10.1.0.4"]))
    look(azure)
    assert rogue(azure).state is State.ASKING
    assert rules(azure) == ["updates", "allow-all", "second"]


def test_where_a_wider_rule_stays_open_the_loop_still_ends(azure: Azure, tmp_path: Path):
    _with(azure, tmp_path, "remove")
    wide = network("wide", sources=["10.1.0.0/24"])
    seed(azure, site(wide))
    look(azure)
    write(azure, FINE, ROGUE, wide)
    azure.attack()
    settle(azure)
    one = rogue(azure)
    assert (one.state, one.round) == (State.OPEN, 1)
    assert "more than this machine" in one.detail or "egress/rules/wide" in one.detail
    for expected in (State.OPEN, State.STOPPED):
        write(azure, FINE, ROGUE, wide)
        look(azure)
        settle(azure)
        assert rogue(azure).state is expected
    assert rules(azure) == ["updates", "allow-all", "wide"], "people must act"


def test_what_cannot_be_read_holds_up_no_removal_and_is_said(azure: Azure):
    seed(azure, site(ROGUE, network("shared", [], ["20.0.0.0/8"], ["443"], ["TCP"],
                                    sourceIpGroups=[f"{NETWORK}/ipGroups/servers"])))
    (one,) = look(azure)
    azure.world.seed({"denied": [{"action": "ipgroups/read", "scope": ""}]})
    approve(azure, one)
    settle(azure)
    done = rogue(azure)
    assert rules(azure) == ["updates", "shared"]
    assert done.state is State.OPEN
    assert "not all of the firewall can be read" in done.detail


def test_a_rule_whose_group_cannot_be_read_any_more_is_not_called_gone(azure: Azure):
    azure.world.arm("PUT", f"{NETWORK}/ipGroups/servers", {"location": "westeurope", "properties": {
        "ipAddresses": ["10.1.0.4"]}})
    seed(azure, site({**ROGUE, "sourceAddresses": [], "sourceIpGroups": [f"{NETWORK}/ipGroups/servers"]}))
    azure.world.arm("PUT", f"{NETWORK}/ipGroups/servers", {"location": "westeurope", "properties": {
        "ipAddresses": ["10.1.0.4"]}})
    (one,) = look(azure)
    azure.world.seed({"denied": [{"action": "ipgroups/read", "scope": ""}]})
    approve(azure, one)
    settle(azure)
    assert rogue(azure).state is State.REMOVING, "it goes on trying, and says so in time"
    assert "allow-all" in rules(azure)
    azure.world.seed({"denied": []})
    settle(azure)
    assert rogue(azure).state is State.REMOVED
