"""A WAF policy read as a guard, and written back equal but for our rule."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from remediation.model import BlockKey, Direction, Target
from remediation.nsg import Nsg
from remediation.owned import Ownership, Window, difference, room_for, wanted_rules
from remediation.proof import Outcome, Proof, prove
from remediation.waf import READ_ONLY, WAF_LIMITS, guard_from_arm, with_rule

ID = ("/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/rg/providers/microsoft.network"
      "/applicationgatewaywebapplicationfirewallpolicies/waf")
GATEWAY = ID.partition("/applicationgatewayweb")[0] + "/applicationgateways/agw"
OURS, IN = Ownership("prod-eu"), Direction.INBOUND
EVIL, OTHER = "198.18.7.7", "198.18.7.8"


def condition(*values: str, variable: str = "RemoteAddr", operator: str = "IPMatch", **more: Any
              ) -> dict[str, Any]:
    return {"matchVariables": [{"variableName": variable}], "operator": operator,
            "matchValues": list(values), **more}


def rule(name: str, priority: int, action: str, *conditions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "priority": priority, "action": action, "ruleType": "MatchRule",
            "matchConditions": list(conditions), **more}


def policy(*rules: dict[str, Any], **settings: str) -> dict[str, Any]:
    return {"id": ID.upper(), "name": "waf", "location": "westeurope", "etag": 'W/"1"', "tags": {"a": "b"},
            "properties": {
                "customRules": list(rules), "provisioningState": "Succeeded", "resourceState": "Enabled",
                "policySettings": {"state": "Enabled", "mode": "Prevention", "newSetting": 7, **settings},
                "managedRules": {"managedRuleSets": [{"ruleSetType": "OWASP"}]},
                "applicationGateways": [{"id": GATEWAY.upper()}]}}


def written(body: dict[str, Any], *addresses: str) -> dict[str, Any]:
    """The policy after our writes."""
    guard = guard_from_arm(body, OURS)
    for one in difference(guard, wanted_rules(guard, {IN: addresses}, OURS, Window(300, 999)), OURS):
        body = {**with_rule(body, one.name, one.rule), "etag": 'W/"2"'}
        body["properties"]["applicationGateways"] = [{"id": GATEWAY}]
    return body


def proof(body: dict[str, Any], address: str = EVIL) -> Proof:
    target = Target(GATEWAY, GATEWAY, "/vnet/subnets/agw", ())
    return prove(guard_from_arm(body, OURS), BlockKey(ID, IN, address), [target], OURS)


def test_our_rule_is_the_first_and_stops_the_attacker():
    body = written(policy(), EVIL)
    (made,) = body["properties"]["customRules"]
    assert made["name"] == OURS.waf_name(4)
    assert made["name"].isalnum()
    assert (made["priority"], made["action"], made["ruleType"], made["state"]) == (
        1, "Block", "MatchRule", "Enabled")
    assert made["matchConditions"] == [{
        "matchVariables": [{"variableName": "RemoteAddr"}], "operator": "IPMatch",
        "negationConditon": False, "matchValues": [EVIL]}]
    assert proof(body).effective
    assert proof(body, OTHER).outcome is Outcome.MISSING


def test_everything_else_stays_as_it_was_and_what_azure_says_is_not_sent():
    before = policy(rule("theirs", 5, "Block", condition("x", variable="RequestUri", operator="Contains")))
    kept = copy.deepcopy(before)
    guard = guard_from_arm(before, OURS)
    made = with_rule(before, OURS.waf_name(4), wanted_rules(
        guard, {IN: [EVIL]}, OURS, Window(1, 2))[0].as_rule())
    assert before == kept, "what was read is not changed"
    assert "etag" not in made
    for one in READ_ONLY:
        assert one not in made["properties"]
    assert made["properties"]["customRules"].pop()["name"] == OURS.waf_name(4)
    for one in READ_ONLY:
        kept["properties"].pop(one, None)
    kept.pop("etag")
    assert made == kept
    assert with_rule(made, "gone", None)["properties"] == made["properties"]


def test_the_same_again_costs_no_write_and_the_last_address_takes_the_rule_with_it():
    body = written(policy(), EVIL, "2001:db8:7::7")
    assert [r["name"] for r in body["properties"]["customRules"]] == [OURS.waf_name(4), OURS.waf_name(6)]
    assert written(body, EVIL, "2001:db8:7::7") is body
    assert written(body)["properties"]["customRules"] == []


@pytest.mark.parametrize(("other", "outcome"), [
    (rule("theirs", 1, "Allow", condition("198.18.0.0/16")), Outcome.SHADOWED),
    (rule("theirs", 1, "Allow", condition("/healthz", variable="RequestUri", operator="Contains")),
     Outcome.SHADOWED),
    (rule("theirs", 1, "Allow", condition(EVIL, negationConditon=True)), Outcome.SHADOWED),
    (rule("theirs", 1, "Allow", condition(EVIL, transforms=["Lowercase"])), Outcome.SHADOWED),
    (rule("theirs", 1, "Allow", condition("DE", operator="GeoMatch")), Outcome.SHADOWED),
    (rule("theirs", 1, "JSChallenge", condition("198.18.0.0/16")), Outcome.SHADOWED),
    (rule("theirs", 1, "Allow", condition("192.0.2.0/24")), Outcome.EFFECTIVE),
    (rule("theirs", 1, "Allow", condition("x", variable="RequestUri", operator="Contains"),
          condition("192.0.2.0/24")), Outcome.EFFECTIVE),
    (rule("theirs", 1, "Allow", condition("198.18.0.0/16"), state="Disabled"), Outcome.EFFECTIVE),
    (rule("theirs", 1, "Log", condition("198.18.0.0/16")), Outcome.EFFECTIVE),
    (rule("theirs", 1, "Block", condition("198.18.0.0/16")), Outcome.EFFECTIVE),
    (rule("theirs", 1, "Block", condition("x", variable="RequestUri", operator="Contains")),
     Outcome.EFFECTIVE),
])
def test_an_earlier_allow_that_may_match_shadows(other: dict[str, Any], outcome: Outcome):
    body = policy(other, rule(OURS.waf_name(4), 2, "Block", condition(EVIL)))
    assert proof(body).outcome is outcome


def test_our_rule_goes_before_an_allow_where_a_number_is_free_and_else_says_so():
    body = written(policy(rule("theirs", 3, "Allow", condition("198.18.0.0/16")),
                          rule("log", 1, "Log", condition("10.0.0.0/8"))), EVIL)
    assert {r["name"]: r["priority"] for r in body["properties"]["customRules"]}[OURS.waf_name(4)] == 2
    full = written(policy(rule("theirs", 1, "Allow", condition("198.18.0.0/16"))), EVIL)
    assert proof(full).outcome is Outcome.SHADOWED
    assert "theirs" in proof(full).detail


@pytest.mark.parametrize(("settings", "why"), [
    ({"mode": "Detection"}, "Detection mode"), ({"mode": ""}, "Detection mode"),
    ({"state": "Disabled"}, "not enabled"), ({"state": ""}, "not enabled"),
])
def test_a_policy_that_only_looks_on_stops_nobody(settings: dict[str, str], why: str):
    found = proof(written(policy(**settings), EVIL))
    assert found.outcome is Outcome.UNPROVEN
    assert why in found.detail


@pytest.mark.parametrize("part", [
    rule(OURS.waf_name(4), 1, "Block", condition(EVIL), condition("x", variable="RequestUri")),
    rule(OURS.waf_name(4), 1, "Block", condition(EVIL), state="Disabled"),
    rule(OURS.waf_name(4), 1, "Block", condition(EVIL), ruleType="RateLimitRule"),
    rule(OURS.waf_name(4), 1, "Log", condition(EVIL)),
    rule(OURS.waf_name(4), 1, "Block", condition(EVIL, negationConditon=True)),
])
def test_our_rule_as_someone_changed_it_stops_nobody_and_is_written_again(part: dict[str, Any]):
    body = policy(part)
    assert not proof(body).effective
    assert proof(written(body, EVIL)).effective


def test_a_rule_of_theirs_is_never_ours_and_deployments_do_not_meet():
    guard = guard_from_arm(policy(rule("DefenderBlock", 1, "Block", condition(EVIL))), OURS)
    assert not any(OURS.owns(r) for r in guard.rules)
    assert Ownership("prodeu").waf_name(4) != OURS.waf_name(4) != Ownership("prod-us").waf_name(4)


def test_it_knows_the_gateways_that_use_it_by_listener_and_path_too():
    body = policy()
    body["properties"] |= {
        "applicationGateways": [], "httpListeners": [{"id": f"{GATEWAY}2/httpListeners/http"}],
        "pathBasedRules": [{"id": f"{GATEWAY}3/urlPathMaps/m/pathRules/r"}]}
    assert guard_from_arm(body, OURS).nics == {f"{GATEWAY}2", f"{GATEWAY}3"}


def test_its_limits_are_its_own():
    guard = guard_from_arm(policy(), OURS)
    assert guard.limits is WAF_LIMITS
    assert room_for(guard, OURS, IN) == 540
    assert room_for(Nsg("/nsg", ()), OURS, IN) > 3_900
