"""The rogue rule from the first look to the last: found, asked about, backed up, taken out, watched."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from remediation.errors import BadInput, Conflict, NotFound
from remediation.firewall.edit import same
from remediation.firewall.incident import Incident, State
from remediation.investigation.task import TaskState
from remediation.model import Caller
from remediation.policy import DEFAULT_POLICY
from remediation.rogues import Desk
from tests.azure import Azure
from tests.estate import ATTACKER, NETWORK, SUB, alert
from tests.inquiry import WORKSPACE, Inquiry
from tests.role import IDENTITY, firewall_actions, inquiry_actions, role_actions
from tests.unit.firewalls import application, collection, nat, network

PERSON = Caller("ann@example.com", frozenset({"Approve"}), identified=True)
POLICY, FIREWALL = f"{NETWORK}/firewallPolicies/policy", f"{NETWORK}/azureFirewalls/fw"
GROUP = f"{POLICY}/ruleCollectionGroups/egress"
FINE = network("updates", sources=["10.1.0.0/24"], destinations=["20.0.0.0/8"], ports=["443"],
               protocols=["TCP"])
ROGUE = network("allow-all", sources=["10.1.0.4"])
API = "2024-05-01"


def site(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A hub with a firewall, and a spoke peered with it, with two machines and a guard."""
    hub, spoke = (f"{NETWORK}/virtualNetworks/{n}" for n in ("hub", "spoke"))
    return {"subscription": SUB, "groups": [{
        "name": "rg", "nsgs": [{"name": "nsg"}],
        "vnets": [
            {"name": "hub", "prefix": "10.0.0.0/16", "subnets": [
                {"name": "AzureFirewallSubnet", "prefix": "10.0.0.0/24"}]},
            {"name": "spoke", "prefix": "10.1.0.0/16", "subnets": [
                {"name": "app", "prefix": "10.1.0.0/24", "nsg": "nsg"}]},
            {"name": "far", "prefix": "10.1.0.0/16", "subnets": [{"name": "app", "prefix": "10.1.0.0/24"}]}],
        "vms": [{"name": "vm", "nics": [{"name": "nic", "subnet": "spoke/app", "address": "10.1.0.4"}]},
                {"name": "vm2", "nics": [{"name": "nic2", "subnet": "spoke/app", "address": "10.1.0.5"}]},
                {"name": "stranger", "nics": [{"name": "nic3", "subnet": "far/app", "address": "10.1.0.4"}]}],
        "ipGroups": [{"name": "servers", "addresses": ["10.1.0.4", "10.1.0.5"]}],
        "firewallPolicies": [
            {"name": "base", "groups": []},
            {"name": "policy", "base": "base", "groups": [
                {"name": "egress", "priority": 300, "ruleCollections": [collection(FINE, *rules)]},
                {"name": "other", "priority": 400, "ruleCollections": [
                    collection(application(fqdns=["*.example.com"]), name="web")]}]}],
        "firewalls": [{"name": "fw", "subnet": "hub/AzureFirewallSubnet", "address": "10.0.0.4",
                       "policy": "policy"}],
    }], "peerings": [[hub, spoke]], **more}


@pytest.fixture(autouse=True)
def may_change(azure: Azure) -> None:
    """The deployment says `changeFirewalls`."""
    azure.world.role(IDENTITY, [*role_actions(), *firewall_actions()])


@pytest.fixture
def bold(azure: Azure, tmp_path: Path) -> Azure:
    """The policy says: remove."""
    return _with(azure, tmp_path, "remove")


def _with(azure: Azure, tmp_path: Path, action: str) -> Azure:
    policy = tmp_path / "policy.toml"
    policy.write_text(DEFAULT_POLICY.read_text().replace('action = "ask"', f'action = "{action}"'))
    azure.start(RESPONDER_POLICY=str(policy))
    return azure


def seed(azure: Azure, data: dict[str, Any]) -> None:
    peerings = data.pop("peerings", [])
    azure.world.seed(data)
    for one, other in peerings:
        for here, there in ((one, other), (other, one)):
            azure.world.arm("PUT", f"{here}/virtualNetworkPeerings/to-{there.rpartition('/')[2]}", {
                "properties": {"remoteVirtualNetwork": {"id": there}}})


def look(azure: Azure) -> list[Incident]:
    return azure.app.watch.look(FIREWALL.lower(), azure.app.budget())


def desk(azure: Azure) -> Desk:
    return azure.app.desk


def rules(azure: Azure, group: str = GROUP) -> list[str]:
    body = azure.world.arm("GET", group).json()
    return [r["name"] for c in body["properties"]["ruleCollections"] for r in c["rules"]]


def write(azure: Azure, *given: dict[str, Any], path: str = GROUP, priority: int = 300,
          upn: str = "mallory@example.com", name: str = "rules") -> None:
    """Somebody writes the group."""
    body = {"properties": {"priority": priority, "ruleCollections": [collection(*given, name=name)]}}
    assert azure.world.arm("PUT", path, body, upn=upn).status_code in (200, 201)


def event(path: str = GROUP, operation: str = "write", upn: str = "mallory@example.com") -> dict[str, Any]:
    return {"type": "Microsoft.Resources.ResourceWriteSuccess", "subject": path, "data": {
        "resourceUri": path, "operationName": operation,
        "claims": {"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn": upn,
                   "ipaddr": "203.0.113.9"}}}


def incident(azure: Azure) -> Incident:
    (one,) = azure.ledger.firewall.all()
    return one


def settle(azure: Azure, passes: int = 4) -> None:
    """The sweep comes by, some times."""
    for _ in range(passes):
        azure.clock.forward(seconds=30)
        azure.sweep()


def approve(azure: Azure, one: Incident) -> dict[str, Any]:
    return desk(azure).decide(one.id, PERSON, azure.app.budget(), act=True, reason="it is not ours")


# --- found ------------------------------------------------------------------------------------------------


def test_a_rule_that_opens_the_internet_to_one_server_is_asked_about(azure: Azure):
    seed(azure, site(ROGUE))
    (one,) = look(azure)
    assert (one.state, one.machine.rpartition("/")[2], one.holds) == (State.ASKING, "vm", "SDPT")
    assert [str(p.where) for p in one.parts] == ["egress/rules/allow-all"]
    assert rules(azure) == ["updates", "allow-all"], "nothing is changed unasked"
    (notice,) = azure.notices("firewall")
    assert "allow-all" in notice
    assert one.id in notice
    assert look(azure)[0].state is State.ASKING
    assert len(azure.notices("firewall")) == 1, "told once"


def test_a_question_that_nobody_answers_expires_and_is_not_asked_again(azure: Azure):
    seed(azure, site(ROGUE))
    look(azure)
    azure.clock.forward(hours=25)
    azure.start()
    azure.sweep()
    assert incident(azure).state is State.TOLD
    assert rules(azure) == ["updates", "allow-all"]
    look(azure)
    assert incident(azure).state is State.TOLD
    write(azure, FINE, {**ROGUE, "name": "renamed"})
    assert look(azure)[0].state is State.ASKING, "it is written anew: asked anew"


@pytest.mark.parametrize(("rule", "kind"), [
    (network("wide", sources=["10.1.0.0/24"]), "wide"),
    (network("tcp", ["10.1.0.4"], protocols=["TCP"]), "partial"),
    (application("web", ["10.1.0.4"]), "web"), (network("nobody", sources=["10.1.0.77"]), "unused"),
])
def test_what_is_not_the_definition_is_told_once_and_left_alone(bold: Azure, rule: dict[str, Any], kind: str):
    bold.world.tune(settle=0)
    seed(bold, site())
    write(bold, rule, path=GROUP.replace("egress", "more"), priority=500)
    bold.attack()
    (one,) = [i for i in look(bold) if i.kind == kind]
    assert one.state is State.TOLD
    look(bold)
    assert len(bold.notices("firewall")) == 1
    assert rules(bold, GROUP.replace("egress", "more")) == [rule["name"]]
    with pytest.raises(BadInput):
        approve(bold, one)


def test_classic_rules_and_ip_groups_are_read_and_what_cannot_be_read_is_said(azure: Azure):
    data = site()
    data["groups"][0]["firewalls"][0] = {
        "name": "fw", "subnet": "hub/AzureFirewallSubnet", "address": "10.0.0.4", "networkRuleCollections": [
            {"name": "net", "properties": {"priority": 200, "action": {"type": "Allow"}, "rules": [
                {"name": "all", "protocols": ["Any"], "sourceIpGroups": [f"{NETWORK}/ipGroups/servers"],
                 "destinationAddresses": ["*"], "destinationPorts": ["*"]}]}}]}
    seed(azure, data)
    assert [i.kind for i in look(azure)] == ["wide"], "two servers"
    azure.world.tune(settle=0)
    azure.world.arm("PUT", f"{NETWORK}/ipGroups/servers", {"location": "westeurope", "properties": {
        "ipAddresses": ["10.1.0.4"]}})
    touched = azure.app.on_firewall_change(event(f"{NETWORK}/ipGroups/servers"))
    assert touched == [FIREWALL.lower()]
    (rogue,) = [i for i in azure.ledger.firewall.all() if i.kind == "rogue"]
    assert rogue.author is not None
    assert (rogue.author.name, rogue.author.address) == ("mallory@example.com", "203.0.113.9")
    azure.world.seed({"denied": [{"action": "ipgroups/read", "scope": ""}]})
    assert "rogue" not in [i.kind for i in look(azure)]


# --- taken out ----------------------------------------------------------------------------------------------


def test_a_yes_backs_up_and_takes_out_that_rule_alone(azure: Azure):
    azure.world.tune(settle=0)
    seed(azure, site(ROGUE))
    before = azure.world.arm("GET", f"{GROUP}?api-version=2026-03-01").json()
    (one,) = look(azure)
    said = approve(azure, one)
    assert said["state"] in ("removing", "removed")
    settle(azure)
    done = incident(azure)
    assert (done.state, done.decided_by) == (State.REMOVED, "ann@example.com")
    assert rules(azure) == ["updates"]
    assert "no rogue path is left" in done.detail
    (backup,) = azure.ledger.firewall.backups(done)
    assert same(backup.body, before)
    after = azure.world.arm("GET", f"{GROUP}?api-version=2026-03-01").json()
    expected = copy.deepcopy(before)
    expected["properties"]["ruleCollections"][0]["rules"].pop()
    assert same(after, expected)
    with pytest.raises(Conflict):
        approve(azure, done)


def test_an_alert_on_the_machine_takes_it_out_unasked_where_the_policy_says_so(bold: Azure):
    bold.world.tune(settle=0)
    seed(bold, site())
    write(bold, FINE, ROGUE)
    one = bold.attack()
    assert bold.states() == {"active"}
    settle(bold)
    done = incident(bold)
    assert (done.state, done.decided_by) == (State.REMOVED, "policy")
    assert done.author is not None
    assert done.author.name == "mallory@example.com"
    assert rules(bold) == ["updates"]
    name = one["name"]
    assert done.alerts == (name,)
    assert any(a["action"] == "firewall-removed" for a in bold.timeline(one)["actions"])


def test_a_removal_is_watched_for_a_week_though_the_blocks_have_ended(bold: Azure):
    def through(address: str) -> dict[str, Any]:
        at = (bold.clock.now() - timedelta(minutes=5)).replace(tzinfo=None).isoformat()
        return {"TimeGenerated": at, "SourceIp": "10.1.0.4", "DestinationIp": address, "DestinationPort": 443,
                "Protocol": "TCP", "Action": "Allow"}

    bold.world.role(IDENTITY, [*role_actions(), *firewall_actions(), *inquiry_actions()])
    bold.world.tune(settle=0)
    seed(bold, site())
    write(bold, FINE, ROGUE)
    inquiry = Inquiry(bold, GUEST_QUEUE="")
    inquiry.begin()
    settle(bold)
    assert incident(bold).state is State.REMOVED
    inquiry.pump()
    inquiry.deliver(inquiry.of("watch"))
    bold.clock.forward(hours=25)
    settle(bold)
    assert (bold.states(), bool(bold.ended())) == (set(), True)
    bold.world.seed({"logs": {WORKSPACE: {"AZFWNetworkRule": [through(ATTACKER), through("198.51.100.99")]}}})
    inquiry.deliver(inquiry.of("watch"))
    task = inquiry.of("watch")
    assert (task.state, len(task.memory["passed"])) == (TaskState.RUNNING, 1)
    assert any("let through in spite of" in n for n in bold.notices("watch"))
    bold.clock.forward(days=7)
    inquiry.deliver(inquiry.of("watch"))
    assert inquiry.of("watch").state is TaskState.DONE


@pytest.mark.parametrize("case", ["no incident", "more addresses", "a younger machine", "no log", "paused",
                                  "capped"])
def test_in_doubt_a_person_is_asked(bold: Azure, case: str):
    bold.world.tune(settle=0)
    data = site()
    if case == "a younger machine":
        data["groups"][0]["vms"][0]["created"] = "2999-01-01T00:00:00.0000000+00:00"
    seed(bold, data)
    write(bold, FINE, {**ROGUE, "sourceAddresses": ["10.1.0.4", "10.1.0.99"]}
          if case == "more addresses" else ROGUE)
    if case != "no incident":
        bold.attack()
    if case == "no log":
        bold.world.seed({"denied": [{"action": "eventtypes/values/read", "scope": ""}]})
    if case == "paused":
        bold.app.operator.pause(PERSON, bold.app.budget(), reason="a change", lift="due")
    if case == "capped":
        bold.start(RESPONDER_MODE="approve", RESPONDER_POLICY=str(bold.app.settings.policy_file))
    (one,) = look(bold)
    assert one.state is State.ASKING, one
    settle(bold, 1)
    assert "allow-all" in rules(bold)


def test_a_rule_cut_in_pieces_over_groups_and_policies_goes_piece_by_piece(azure: Azure):
    azure.world.tune(settle=0)
    seed(azure, site(network("udp", ["10.1.0.4"], protocols=["UDP"])))
    base = f"{NETWORK}/firewallPolicies/base/ruleCollectionGroups/low"
    write(azure, network("tcp", ["10.1.0.4"], protocols=["TCP"]), path=base, priority=200)
    (one,) = look(azure)
    assert len(one.parts) == 2
    approve(azure, one)
    settle(azure, 6)
    assert incident(azure).state is State.REMOVED
    assert rules(azure) == ["updates"]
    assert rules(azure, base) == []
    assert len(azure.ledger.firewall.backups(incident(azure))) == 2


def test_another_way_out_is_said(azure: Azure):
    azure.world.tune(settle=0)
    seed(azure, site(ROGUE))
    (one,) = look(azure)
    azure.faults({"service": "arm", "method": "PUT", "path": "egress", "status": 503, "times": 9})
    approve(azure, one)
    write(azure, network("second", sources=["10.1.0.4"]), path=GROUP.replace("egress", "more"), priority=500)
    azure.faults()
    settle(azure)
    kinds = azure.notices("firewall-open")
    assert len(kinds) == 1
    assert "more/rules/second" in kinds[0]
    assert rules(azure) == ["updates"]
    assert incident(azure).round == 1


def test_a_deny_is_put_before_it_where_the_policy_would_rather(azure: Azure, tmp_path: Path):
    _with(azure, tmp_path, "deny")
    azure.world.tune(settle=0)
    seed(azure, site())
    write(azure, FINE, ROGUE)
    azure.attack()
    settle(azure)
    (done,) = [i for i in azure.ledger.firewall.all() if i.kind == "rogue"]
    assert (done.state, done.action) == (State.REMOVED, "deny")
    body = azure.world.arm("GET", GROUP).json()["properties"]["ruleCollections"]
    assert [(c["name"], c["action"]["type"]) for c in body] == [
        ("rules", "Allow"), (f"defender-deny-test-{done.id[:8]}-1-0", "Deny")]
    desk(azure).restore(done.id, PERSON, azure.app.budget(), "a mistake")
    settle(azure)
    left = azure.world.arm("GET", GROUP).json()["properties"]["ruleCollections"]
    assert [c["name"] for c in left] == ["rules"]


# --- put back, approved ---------------------------------------------------------------------------------


def test_what_was_taken_out_is_put_back_and_then_left_alone(azure: Azure):
    azure.world.tune(settle=0)
    seed(azure, site(ROGUE))
    before = azure.world.arm("GET", GROUP).json()
    (one,) = look(azure)
    approve(azure, one)
    settle(azure)
    said = desk(azure).restore(one.id, PERSON, azure.app.budget(), "the backup server needs it")
    assert said["state"] in ("restoring", "restored")
    settle(azure)
    assert incident(azure).state is State.RESTORED
    assert same(azure.world.arm("GET", GROUP).json(), before)
    assert look(azure)[0].state is State.RESTORED
    with pytest.raises(Conflict):
        desk(azure).restore(one.id, PERSON, azure.app.budget(), "again")


def test_a_place_that_is_taken_by_then_is_left_alone_and_told(azure: Azure):
    azure.world.tune(settle=0)
    seed(azure, site(ROGUE))
    (one,) = look(azure)
    approve(azure, one)
    settle(azure)
    write(azure, FINE, network("allow-all", sources=["10.1.0.4"], ports=["25"], protocols=["TCP"]))
    desk(azure).restore(one.id, PERSON, azure.app.budget(), "it was ours")
    settle(azure, 2)
    assert "another rule allow-all" in str(azure.notices())
    assert rules(azure) == ["updates", "allow-all"]


def test_an_approved_rule_is_silent_until_it_changes(azure: Azure):
    azure.world.tune(settle=0)
    seed(azure, site(ROGUE))
    (one,) = look(azure)
    said = desk(azure).approve(one.id, PERSON, timedelta(days=30), "the proxy", azure.app.budget())
    assert said["incident"]["state"] == "gone"
    assert look(azure) == []
    write(azure, FINE, {**ROGUE, "name": "another-name"})
    assert look(azure) == [], "its name is not its meaning"
    write(azure, FINE, network("allow-all", sources=["10.1.0.5"]))
    assert [i.machine.rpartition("/")[2] for i in look(azure)] == ["vm2"]
    azure.clock.forward(days=31)
    write(azure, FINE, ROGUE)
    assert [i.state for i in look(azure)] == [State.ASKING]
    with pytest.raises(NotFound):
        desk(azure).approve("none", PERSON, timedelta(days=1), "x", azure.app.budget())


def test_a_no_leaves_the_rule_and_asks_no_more(azure: Azure):
    seed(azure, site(ROGUE))
    (one,) = look(azure)
    desk(azure).decide(one.id, PERSON, azure.app.budget(), act=False, reason="known")
    assert look(azure)[0].state is State.KEPT
    assert len(azure.notices("firewall")) == 1


# --- watched --------------------------------------------------------------------------------------------


def removed(azure: Azure) -> Incident:
    azure.world.tune(settle=0)
    seed(azure, site(ROGUE))
    (one,) = look(azure)
    approve(azure, one)
    settle(azure)
    assert incident(azure).state is State.REMOVED
    return incident(azure)


BACK: dict[str, list[dict[str, Any]]] = {
    "as it was": [ROGUE], "under another name": [{**ROGUE, "name": "temp"}],
    "by an IP group": [{**ROGUE, "sourceAddresses": [], "sourceIpGroups": [f"{NETWORK}/ipGroups/servers"]}],
    "in two halves": [network("a", ["10.1.0.4"], ["0.0.0.0/1"]), network("b", ["10.1.0.4"], ["128.0.0.0/1"])],
}


@pytest.mark.parametrize("case", BACK)
def test_one_that_returns_is_found_within_one_event_tied_to_the_incident_and_told(azure: Azure, case: str):
    first = removed(azure)
    azure.world.arm("PUT", f"{NETWORK}/ipGroups/servers", {"location": "westeurope", "properties": {
        "ipAddresses": ["10.1.0.4"]}})
    write(azure, *BACK[case], path=GROUP.replace("egress", "again"), priority=600, name="elsewhere")
    azure.app.on_firewall_change(event(GROUP.replace("egress", "again")))
    again = incident(azure)
    assert (again.id, again.state, again.round) == (first.id, State.ASKING, 1)
    assert again.author is not None
    assert again.author.name == "mallory@example.com"
    (notice,) = azure.notices("firewall-returned")
    assert "mallory@example.com" in notice


def test_after_two_rounds_it_is_for_people_to_stop_it(azure: Azure):
    one = removed(azure)
    for round_ in (1, 2):
        write(azure, FINE, {**ROGUE, "name": f"again-{round_}"})
        look(azure)
        if round_ == 1:
            approve(azure, incident(azure))
            settle(azure)
            assert incident(azure).state is State.REMOVED
    assert (incident(azure).id, incident(azure).state) == (one.id, State.STOPPED)
    assert len(azure.notices("firewall-loop")) == 1
    look(azure)
    assert len(azure.notices("firewall-loop")) == 1
    write(azure, FINE, {**ROGUE, "name": "and-again"})
    look(azure)
    assert incident(azure).state is State.STOPPED
    assert rules(azure) == ["updates", "and-again"], "the service has stopped"
    approve(azure, incident(azure))
    settle(azure)
    assert incident(azure).state is State.REMOVED, "a person may still say so"


def test_what_someone_else_takes_out_is_gone(azure: Azure):
    azure.world.tune(settle=0)
    seed(azure, site(ROGUE))
    look(azure)
    write(azure, FINE)
    assert azure.app.on_firewall_change(event()) == [FIREWALL.lower()]
    assert incident(azure).state is State.GONE


@pytest.mark.parametrize("kind", ["draft", "policy swapped", "base swapped", "flipped"])
def test_other_ways_to_let_a_rule_in_are_seen_by_their_events(azure: Azure, kind: str):
    azure.world.tune(settle=0)
    seed(azure, site())
    say = event()
    if kind == "draft":
        draft = f"{GROUP}/ruleCollectionGroupDrafts/default"
        azure.world.arm("PUT", f"{draft}?api-version=2023-11-01", {"properties": {
            "priority": 300, "ruleCollections": [collection(FINE, ROGUE)]}})
        azure.app.on_firewall_change(event(draft))
        assert list(azure.ledger.firewall.all()) == [], "a draft enforces nothing"
        azure.world.arm("POST", f"{POLICY}/deploy?api-version=2023-11-01", {})
        say = {**event(POLICY, "deploy/action"), "type": "Microsoft.Resources.ResourceActionSuccess"}
    elif kind == "policy swapped":
        other = POLICY.replace("/policy", "/evil")
        azure.world.arm("PUT", other, {"location": "westeurope", "properties": {}})
        write(azure, ROGUE, path=f"{other}/ruleCollectionGroups/g")
        body = azure.world.arm("GET", FIREWALL).json()
        body["properties"]["firewallPolicy"] = {"id": other}
        azure.world.arm("PUT", FIREWALL, body)
        say = event(FIREWALL)
    elif kind == "base swapped":
        other = POLICY.replace("/policy", "/evil")
        azure.world.arm("PUT", other, {"location": "westeurope", "properties": {}})
        write(azure, ROGUE, path=f"{other}/ruleCollectionGroups/g")
        azure.world.arm("PUT", POLICY, {"location": "westeurope", "properties": {
            "basePolicy": {"id": other}}})
        say = event(POLICY)
    else:
        body = {"properties": {"priority": 300, "ruleCollections": [collection(ROGUE, action="Deny")]}}
        azure.world.arm("PUT", GROUP, body)
        azure.app.on_firewall_change(say)
        assert list(azure.ledger.firewall.all()) == []
        write(azure, ROGUE)
    assert azure.app.on_firewall_change(say) == [FIREWALL.lower()]
    assert incident(azure).kind == "rogue"


def test_other_events_cost_nothing(azure: Azure):
    seed(azure, site(ROGUE))
    azure.start(AZURE_CLIENT_ID="alone")  # what another app's threads still ask is not its doing
    for one in (event(f"{NETWORK}/networkSecurityGroups/nsg"), {**event(), "type": "Microsoft.Other.Thing"},
                {"data": None, "subject": ""}, {}):
        assert azure.app.on_firewall_change(one) == []
    assert [r for r in azure.world.log() if r["by"] == "alone"] == []
    assert azure.app.on_firewall_change(event(POLICY.replace("/policy", "/nowhere"))) == []


def test_all_firewalls_are_looked_at_once_a_day(azure: Azure):
    seed(azure, site(ROGUE))
    azure.sweep()
    settle(azure, 1)
    assert incident(azure).state is State.ASKING
    azure.app.ledger.firewall.save(replace(incident(azure), state=State.GONE))
    assert desk(azure).scan("", azure.app.budget()) == {"queued": True}
    settle(azure, 2)
    assert incident(azure).state is State.ASKING
    shown = desk(azure).incidents("asking")
    assert [i["machine"].rpartition("/")[2] for i in shown["incidents"]] == ["vm"]
    assert desk(azure).incidents("removed")["incidents"] == []


# --- interrupted ----------------------------------------------------------------------------------------


def test_a_slow_firewall_is_waited_for_by_the_sweep_alone(azure: Azure):
    seed(azure, site(ROGUE))
    (one,) = look(azure)
    azure.world.tune(settle=1.5)
    approve(azure, one)
    assert incident(azure).state is State.REMOVING
    assert incident(azure).written
    settle(azure, 1)
    assert incident(azure).state is State.REMOVING
    azure.world.tune(settle=0)
    time.sleep(1.6)
    settle(azure)
    assert incident(azure).state is State.REMOVED


@pytest.mark.parametrize("fault", [
    {"status": 409, "body": {"error": {"code": "AnotherOperationInProgress", "message": "busy"}}},
    {"status": 412, "body": {"error": {"code": "PreconditionFailed", "message": "changed"}}},
    {"status": 503}, {"status": 429, "headers": {"retry-after": "1"}}, {"drop": "before"}, {"drop": "after"},
])
def test_a_write_that_goes_wrong_is_made_again_and_only_once(azure: Azure, fault: dict[str, Any]):
    azure.world.tune(settle=0)
    seed(azure, site(ROGUE))
    (one,) = look(azure)
    azure.faults({"service": "arm", "method": "PUT", "path": "ruleCollectionGroups", "times": 1, **fault})
    approve(azure, one)
    azure.faults()
    settle(azure)
    assert incident(azure).state is State.REMOVED
    assert rules(azure) == ["updates"]
    assert len(azure.ledger.firewall.backups(incident(azure))) == 1


def test_a_firewall_that_cannot_take_it_over_is_given_it_again_and_then_told(azure: Azure):
    azure.world.tune(settle=0)
    seed(azure, site(ROGUE))
    (one,) = look(azure)
    azure.world.seed({"facts": {FIREWALL: {"faulted": True}}})
    approve(azure, one)
    settle(azure, 10)
    assert incident(azure).state is State.FAILED
    assert any("mend the firewall" in n for n in azure.notices("firewall-failed"))
    assert len(azure.ledger.firewall.backups(incident(azure))) == 1
    azure.world.seed({"facts": {FIREWALL: {"faulted": False}}})
    approve(azure, incident(azure))
    settle(azure, 6)
    assert incident(azure).state in (State.REMOVED, State.GONE)
    assert rules(azure) == ["updates"]


def test_without_the_right_to_write_it_fails_and_is_told(azure: Azure):
    azure.world.tune(settle=0)
    seed(azure, site(ROGUE))
    (one,) = look(azure)
    azure.world.seed({"denied": [{"action": "rulecollectiongroups/write", "scope": ""}]})
    approve(azure, one)
    assert incident(azure).state is State.FAILED
    assert any("AuthorizationFailed" in n for n in azure.notices("firewall-failed"))
    assert rules(azure) == ["updates", "allow-all"]


def test_two_changes_of_one_policy_take_turns(azure: Azure):
    azure.world.tune(settle=0)
    seed(azure, site(ROGUE, network("second", sources=["10.1.0.5"])))
    one, two = look(azure)
    lease = azure.ledger.leases.take(POLICY.lower(), azure.clock)
    assert lease is not None
    approve(azure, one)
    assert incident_of(azure, one).state is State.REMOVING
    assert rules(azure) == ["updates", "allow-all", "second"]
    azure.ledger.leases.drop(lease)
    approve(azure, two)
    settle(azure, 6)
    assert rules(azure) == ["updates"]
    assert {i.state for i in azure.ledger.firewall.all()} == {State.REMOVED}


def incident_of(azure: Azure, one: Incident) -> Incident:
    found = azure.ledger.firewall.get(one.id)
    assert found is not None
    return found


def test_nat_from_anywhere_is_told(azure: Azure):
    seed(azure, site())
    data = collection(nat(to="10.1.0.4", ports=["3389"]), name="in", action="Dnat")
    azure.world.tune(settle=0)
    azure.world.arm("PUT", GROUP.replace("egress", "nat"), {"properties": {"priority": 100,
                                                                           "ruleCollections": [data]}})
    assert [i.kind for i in look(azure)] == ["inbound"]


def test_a_machine_in_an_alert_has_its_firewalls_looked_at(azure: Azure):
    seed(azure, site(ROGUE))
    azure.deliver(azure.know(alert("vm2")))
    settle(azure, 2)
    assert incident(azure).state is State.ASKING


def test_changing_firewalls_uses_every_action_that_the_role_adds_for_it(azure: Azure):
    azure.world.tune(settle=0)
    data = site({**ROGUE, "name": "one"}, network("two", ["10.1.0.9"], ["20.0.0.0/8"], ["443"], ["TCP"],
                                                  destinationIpGroups=[f"{NETWORK}/ipGroups/servers"]))
    group = data["groups"][0]
    group["publicIps"] = [{"name": "pip", "address": "203.0.113.77"}]
    seed(azure, data)
    (one,) = look(azure)
    approve(azure, one)
    settle(azure)
    azure.world.seed({"resources": [{
        "id": FIREWALL, "name": "fw", "location": "westeurope", "properties": {
            "ipConfigurations": [{"name": "c", "properties": {
                "subnet": {"id": f"{NETWORK}/virtualNetworks/hub/subnets/AzureFirewallSubnet"},
                "publicIPAddress": {"id": f"{NETWORK}/publicIPAddresses/pip"}}}],
            "networkRuleCollections": [{"name": "n", "properties": {
                "priority": 100, "action": {"type": "Allow"}, "rules": [
                    {"name": "all", "protocols": ["Any"], "sourceAddresses": ["10.1.0.5"],
                     "destinationAddresses": ["*"], "destinationPorts": ["*"]}]}}]}}]})
    classic = [i for i in look(azure) if i.kind == "rogue"]
    approve(azure, classic[0])
    settle(azure)
    assert {i.state for i in azure.ledger.firewall.all()} == {State.REMOVED}
    used = set(azure.world.control("GET", "role")[IDENTITY])
    assert {a.lower() for a in firewall_actions()} <= used
