"""An attack through an application gateway whose subnet has no guard: stopped in its WAF policies."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from remediation.ledger import Block
from remediation.owned import Ownership
from tests.azure import Azure
from tests.estate import ATTACKER, NETWORK, SUB
from tests.role import IDENTITY

GATEWAY = f"{NETWORK}/applicationGateways/agw"
WAF = f"{NETWORK}/ApplicationGatewayWebApplicationFirewallPolicies"
NAME = Ownership("test").waf_name(4)
THEIRS = {"name": "theirs", "priority": 7, "ruleType": "MatchRule", "action": "Block", "matchConditions": [
    {"matchVariables": [{"variableName": "RequestUri"}], "operator": "Contains", "matchValues": ["/admin"]}]}


def site(*policies: dict[str, Any], **gateway: Any) -> dict[str, Any]:
    """A gateway in a subnet without a guard, before one machine."""
    return {"subscription": SUB, "groups": [{
        "name": "rg", "nsgs": [{"name": "nsg"}],
        "vnets": [{"name": "vnet", "prefix": "10.0.0.0/16", "subnets": [
            {"name": "app", "prefix": "10.0.0.0/24", "nsg": "nsg"},
            {"name": "agw", "prefix": "10.0.2.0/24"}]}],
        "vms": [{"name": "vm", "nics": [{"name": "nic", "subnet": "vnet/app", "gatewayPools": ["agw/app"]}]}],
        "wafPolicies": list(policies),
        "gateways": [{"name": "agw", "subnet": "vnet/agw", "pools": [{"name": "app"}], **gateway}],
    }]}


def attack(azure: Azure, address: str = ATTACKER) -> dict[str, Any]:
    return azure.attack(attacker=address, resourceIdentifiers=[
        {"type": "AzureResource", "azureResourceId": GATEWAY}])


def rules(azure: Azure, name: str = "waf") -> dict[str, dict[str, Any]]:
    """The policy's custom rules by name."""
    for one in azure.world.resources("microsoft.network/applicationgatewaywebapplicationfirewallpolicies"):
        if one["name"] == name:
            return {r["name"]: r for r in one["properties"]["customRules"]}
    return {}


def denied(azure: Azure, name: str = "waf") -> list[str]:
    """The addresses our rule stops."""
    rule = rules(azure, name).get(NAME)
    return sorted(rule["matchConditions"][0]["matchValues"]) if rule else []


def blocks(azure: Azure, name: str = "waf") -> list[Block]:
    return list(azure.ledger.blocks.live(f"{WAF}/{name}".lower()))


def test_it_is_stopped_there_proven_and_lifted_on_time(azure: Azure):
    azure.world.seed(site({"name": "waf", "rules": [THEIRS]}, waf="waf"))
    before = copy.deepcopy(rules(azure))
    one = attack(azure)
    assert denied(azure) == [ATTACKER]
    (block,) = blocks(azure)
    assert (block.state.value, block.rule) == ("active", NAME)
    assert azure.owned() == {"outbound": [ATTACKER]}, "what comes in is stopped before the machine"
    assert {b["nsg"].rpartition("/")[2] for b in azure.timeline(one)["plan"]["blocks"]} == {"nsg", "waf"}
    assert not azure.notices("alert")
    azure.clock.forward(hours=25)
    azure.start()
    azure.sweep()
    assert rules(azure) == before
    assert not blocks(azure)
    assert {b.state.value for b in azure.ended()} == {"lifted"}


def test_addresses_of_many_alerts_share_one_rule(azure: Azure):
    azure.world.seed(site({"name": "waf"}, waf="waf"))
    attack(azure)
    attack(azure, "198.51.100.9")
    assert denied(azure) == sorted([ATTACKER, "198.51.100.9"])
    writes = [w for w in azure.writes() if w == "PUT waf"]
    assert len(writes) == 2


def test_each_policy_that_sees_requests_gets_the_rule(azure: Azure):
    azure.world.seed(site({"name": "waf"}, {"name": "shop"}, waf="waf", listeners=[
        {"name": "http"}, {"name": "shop", "waf": "shop"}]))
    attack(azure)
    assert denied(azure) == denied(azure, "shop") == [ATTACKER]
    assert not azure.notices("alert")


@pytest.mark.parametrize(("policy", "gateway", "why"), [
    ({"name": "waf", "mode": "Detection"}, {"waf": "waf"}, "WAF policy waf is in Detection mode"),
    ({"name": "waf", "state": "Disabled"}, {"waf": "waf"}, "WAF policy waf is not enabled"),
    ({"name": "waf"}, {}, "listener http has no WAF policy"),
])
def test_where_nothing_would_stop_it_a_human_is_told_what_is_missing(
    azure: Azure, policy: dict[str, Any], gateway: dict[str, Any], why: str
):
    azure.world.seed(site(policy, **gateway))
    attack(azure)
    assert not rules(azure)
    (notice,) = azure.notices("alert")
    assert why in notice
    assert "its subnet has no network security group" in notice


def test_a_listener_without_a_policy_is_told_and_the_others_are_covered(azure: Azure):
    azure.world.seed(site({"name": "shop"}, listeners=[{"name": "http"}, {"name": "shop", "waf": "shop"}]))
    attack(azure)
    assert denied(azure, "shop") == [ATTACKER]
    (notice,) = azure.notices("alert")
    assert "listener http has no WAF policy" in notice
    assert "some of what comes in" in notice


def test_someone_elses_write_in_between_is_kept(azure: Azure):
    azure.world.seed(site({"name": "waf"}, waf="waf"))
    azure.faults({"service": "arm", "method": "PUT", "path": "FirewallPolicies/waf$", "status": 412,
                  "body": {"error": {"code": "PreconditionFailed", "message": "changed"}}, "times": 1})
    attack(azure)
    assert denied(azure) == [ATTACKER]


def test_an_answer_that_is_lost_costs_no_second_write(azure: Azure):
    azure.world.seed(site({"name": "waf"}, waf="waf"))
    azure.faults({"service": "arm", "method": "PUT", "path": "FirewallPolicies/waf$", "drop": "after",
                  "times": 1})
    attack(azure)
    assert denied(azure) == [ATTACKER]
    (block,) = blocks(azure)
    assert block.state.value == "active"
    sent = [r for r in azure.world.log() if r["service"] == "arm" and r["method"] == "PUT"
            and r["by"] == IDENTITY and r["path"].endswith("/waf")]
    assert len(sent) == 1


def test_a_rule_that_someone_takes_away_is_brought_back(azure: Azure):
    azure.world.seed(site({"name": "waf"}, waf="waf"))
    attack(azure)
    azure.world.seed(site({"name": "waf"}, waf="waf"))
    assert denied(azure) == []
    azure.clock.forward(hours=2)
    azure.start()
    azure.sweep()
    assert denied(azure) == [ATTACKER]
    assert any("our rule" in n for n in azure.notices("drift"))


def test_a_policy_that_is_set_to_detection_later_is_told(azure: Azure):
    azure.world.seed(site({"name": "waf"}, waf="waf"))
    attack(azure)
    kept = list(rules(azure).values())
    azure.world.seed(site({"name": "waf", "mode": "Detection", "rules": kept}, waf="waf"))
    azure.clock.forward(hours=2)
    azure.start()
    azure.sweep()
    (block,) = blocks(azure)
    assert block.state.value == "shadowed"
    assert any("Detection mode" in n for n in azure.notices("unproven"))


def test_without_the_right_to_write_policies_the_block_fails_and_a_human_is_told(azure: Azure):
    azure.world.seed(site({"name": "waf"}, waf="waf"))
    azure.world.control("POST", "seed", {"denied": [
        {"action": "firewallpolicies/write", "scope": WAF.rpartition("/providers/")[0]}]})
    attack(azure)
    (block,) = blocks(azure)
    assert block.state.value == "failed"
    assert azure.states() == {"active"}, "the machine's own guard is written"
    assert azure.notices("block-failed")


def test_a_listener_added_later_that_no_policy_sees_makes_the_block_unproven_and_it_is_said(azure: Azure):
    azure.world.seed(site({"name": "waf"}, waf="waf"))
    attack(azure)
    assert blocks(azure)[0].state == "active"
    body = azure.world.arm("GET", GATEWAY).json()
    own = body["properties"].pop("firewallPolicy")
    listeners = body["properties"]["httpListeners"]
    listeners[0]["properties"]["firewallPolicy"] = own
    listeners.append({"name": "late", "properties": {"protocol": "Http"}})
    assert azure.world.arm("PUT", GATEWAY, body).status_code < 300
    azure.app.responder.commit_nsg(f"{WAF}/waf".lower(), azure.app.budget(), forced=True)
    (block,) = blocks(azure)
    assert (block.state, block.shadowed_by) == ("shadowed", "")
    assert "no WAF policy sees listener late of agw" in block.detail
    assert denied(azure) == [ATTACKER], "what it sees it goes on stopping"
    assert any("listener late" in n for n in azure.notices())
