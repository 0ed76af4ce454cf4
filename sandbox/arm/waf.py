"""WAF policies of application gateways: written whole, with etags; who uses them is the gateways' to say."""

from __future__ import annotations

import copy
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.arm.call import Answer, Call, ref
from sandbox.arm.errors import ArmError, bad, not_found
from sandbox.arm.state import Resource, State

TYPE = "Microsoft.Network/ApplicationGatewayWebApplicationFirewallPolicies"
KIND = TYPE.lower()
GATEWAY = "microsoft.network/applicationgateways"
MAX_RULES, MAX_VALUES, LOWEST, HIGHEST = 100, 540, 1, 100
RULE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,127}")
OURS = ("resourceState", "provisioningState", "applicationGateways", "httpListeners", "pathBasedRules")


def render(state: State, policy: Resource, api: str = "") -> dict[str, Any]:
    """The policy as ARM shows it. `api` changes nothing here."""
    p = copy.deepcopy(policy.body.get("properties") or {})
    p["provisioningState"] = policy.state
    p["resourceState"] = "Enabled"
    p.setdefault("customRules", [])
    for part, found in users(state, policy.id).items():
        if found:
            p[part] = [ref(one) for one in found]
    return {"name": policy.name, "id": policy.id, "type": TYPE, "etag": policy.etag,
            **{k: policy.body[k] for k in ("location", "tags") if k in policy.body}, "properties": p}


def users(state: State, policy_id: str) -> dict[str, list[str]]:
    """The gateways, listeners and path rules that name the policy."""
    found: dict[str, list[str]] = {"applicationGateways": [], "httpListeners": [], "pathBasedRules": []}
    for gateway in state.of_kind(GATEWAY):
        p = gateway.body.get("properties") or {}
        if _names(p, policy_id):
            found["applicationGateways"].append(gateway.id)
        for listener in p.get("httpListeners") or ():
            if _names(listener.get("properties"), policy_id):
                found["httpListeners"].append(f"{gateway.id}/httpListeners/{listener.get('name')}")
        for paths in p.get("urlPathMaps") or ():
            for rule in (paths.get("properties") or {}).get("pathRules") or ():
                if _names(rule.get("properties"), policy_id):
                    found["pathBasedRules"].append(
                        f"{gateway.id}/urlPathMaps/{paths.get('name')}/pathRules/{rule.get('name')}")
    return found


def _names(properties: Mapping[str, Any] | None, policy_id: str) -> bool:
    reference = (properties or {}).get("firewallPolicy") or {}
    return str(reference.get("id", "")).lower() == policy_id.lower()


def put(call: Call) -> Answer:
    """PUT the policy: a full replacement, of one that nobody else is writing."""
    body, old = call.replacing()
    if old is not None and call.state.pending(old.id) is not None:
        raise ArmError(409, "AnotherOperationInProgress", "Another operation on this or dependent resource "
                       "is in progress.")
    properties = {k: v for k, v in (body.get("properties") or {}).items() if k not in OURS}
    check(call.id, properties.get("customRules") or [])
    policy = old or Resource(call.id, KIND, {})
    policy.body = {**{k: body[k] for k in ("location", "tags") if k in body}, "properties": properties}
    policy.state = "Updating"
    policy.touch()
    call.state.put(policy)

    def finish() -> None:
        policy.state = "Succeeded"
        policy.touch()

    op = call.state.begin(policy.id, "PutWebApplicationFirewallPolicyOperation", "Microsoft.Network",
                          policy.location, call.api, finish, effect=lambda: _effect(policy.id, properties))
    return Answer(201 if old is None else 200, render(call.state, policy), call.operation_headers(op))


def get(call: Call) -> Answer:
    """GET the policy."""
    policy = call.state.get(call.id)
    if policy is None:
        raise not_found(TYPE, call.names[0], call.group)
    return Answer(200, render(call.state, policy), {"etag": policy.etag})


def delete(call: Call) -> Answer:
    """DELETE the policy, unless a gateway uses it."""
    policy = call.state.get(call.id)
    if policy is None:
        return Answer(204)
    used = [one for many in users(call.state, policy.id).values() for one in many]
    if used:
        raise bad("ApplicationGatewayFirewallPolicyInUse", f"{policy.id} is in use by {', '.join(used)}.")
    op = call.state.begin(policy.id, "DeleteWebApplicationFirewallPolicyOperation", "Microsoft.Network",
                          policy.location, call.api, lambda: call.state.drop(policy.id), deletes=True)
    return Answer(202, None, call.operation_headers(op, location=True))


def check(policy_id: str, rules: Sequence[Mapping[str, Any]]) -> None:
    """What Azure refuses. The codes are inferred: no such refusal was recorded."""
    if len(rules) > MAX_RULES:
        raise bad("ApplicationGatewayFirewallCustomRulesLimitReached",
                  f"{policy_id} has {len(rules)} custom rules; {MAX_RULES} are allowed.")
    names, priorities = [r.get("name") for r in rules], [r.get("priority") for r in rules]
    if len(set(names)) < len(names) or len(set(priorities)) < len(priorities):
        raise bad("ApplicationGatewayFirewallCustomRuleConflict",
                  "Names and priorities of custom rules must be unique.")
    for rule in rules:
        priority = rule.get("priority")
        if not RULE_NAME.fullmatch(str(rule.get("name"))) or not isinstance(priority, int) or not (
                LOWEST <= priority <= HIGHEST) or not rule.get("matchConditions"):
            raise bad("ApplicationGatewayFirewallInvalidCustomRule",
                      f"Custom rule {rule.get('name')} is invalid.")
        for condition in rule["matchConditions"]:
            _check_values(str(rule["name"]), condition)


def _check_values(name: str, condition: Mapping[str, Any]) -> None:
    values = condition.get("matchValues") or []
    if str(condition.get("operator")).lower() != "ipmatch":
        return
    try:
        for value in values:
            ipaddress.ip_network(value)
    except ValueError:
        raise bad("ApplicationGatewayFirewallInvalidCustomRule",
                  f"Custom rule {name} has an invalid address.") from None
    if not values or len(values) > MAX_VALUES:
        raise bad("ApplicationGatewayFirewallInvalidCustomRule",
                  f"Custom rule {name} has {len(values)} addresses; 1 to {MAX_VALUES} are allowed.")


def _effect(policy_id: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The custom rules in force now, by name, and no others."""
    return {"nsg": policy_id.lower(), "whole": True,
            "rules": {str(r["name"]).lower(): dict(r) for r in properties.get("customRules") or ()}}
