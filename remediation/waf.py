"""WAF policies of application gateways, read as guards; our rule put into one, or taken out. Pure.

A custom rule has no resource of its own: the policy is written whole, equal but for our rule. Custom
rules are tried by ascending priority, 1 to 100; Allow and Block end the search, Log does not. In Detection
mode nothing is blocked. We own a rule by its name: there is no description to hold a marker.

Source: Microsoft's "Custom rules for Web Application Firewall v2 on Application Gateway"; limits of a
WAF_v2 policy: 100 custom rules, 540 address ranges a condition (600 with newer rule sets).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from remediation.model import Direction
from remediation.nsg import Limits, Nsg, Rule
from remediation.owned import Ownership
from remediation.topology import name_of, owner_of

WAF_LIMITS = Limits(rules=100, addresses=540, first=1, last=100, shared=False)

READ_ONLY = ("resourceState", "provisioningState", "applicationGateways", "applicationGatewayForContainers",
             "httpListeners", "pathBasedRules")
"""Of the policy's properties: Azure's to say, not ours to send."""


def guard_from_arm(body: Mapping[str, Any], ownership: Ownership) -> Nsg:
    """ARM's JSON of a WAF policy → a guard. Its `trouble` says why it stops nobody, if it does not."""
    p: Mapping[str, Any] = body.get("properties") or {}
    policy_id = str(body["id"]).lower()
    state = str(p.get("provisioningState") or "Succeeded")
    users = [str(u.get("id") or "") for part in ("applicationGateways", "httpListeners", "pathBasedRules")
             for u in p.get(part) or ()]
    return Nsg(
        id=policy_id,
        rules=tuple(_rule(r, state, ownership) for r in p.get("customRules") or ()),
        nics=frozenset(_gateway_of(u) for u in users if u),
        location=str(body.get("location", "")),
        limits=WAF_LIMITS,
        trouble=_trouble(policy_id, p.get("policySettings") or {}),
    )


def _gateway_of(user: str) -> str:
    low = user.lower()
    for part in ("/httplisteners/", "/urlpathmaps/"):
        low = low.partition(part)[0]
    return owner_of(low)


def _trouble(policy_id: str, settings: Mapping[str, Any]) -> str:
    """A policy counts as disabled, or in Detection mode, unless it says otherwise."""
    name = name_of(policy_id)
    if str(settings.get("state") or "").lower() != "enabled":
        return f"WAF policy {name} is not enabled"
    mode = str(settings.get("mode") or "Detection")
    if mode.lower() != "prevention":
        return f"WAF policy {name} is in {mode} mode: it logs, and stops nobody"
    return ""


def _rule(body: Mapping[str, Any], state: str, ownership: Ownership) -> Rule:
    """A custom rule as one of a guard. An Allow may match whoever it does not surely exclude; a Block
    surely stops only the addresses that it names and nothing else depends on."""
    name, action = str(body.get("name") or ""), str(body.get("action") or "").lower()
    enabled = str(body.get("state") or "Enabled").lower() == "enabled"
    conditions = [c for c in body.get("matchConditions") or () if isinstance(c, Mapping)]
    named = [_addresses(c) for c in conditions]
    sources: tuple[str, ...] = ()  # matches nobody: Log, what is disabled, what we cannot be sure of
    passes = enabled and action not in ("block", "log")
    if passes:
        sources = next((n for n in named if n is not None), ("*",))
    elif enabled and action == "block" and str(body.get("ruleType") or "").lower() == "matchrule" and (
            len(named) == 1):
        sources = named[0] or ()
    ours = name in (ownership.waf_name(4), ownership.waf_name(6))
    return Rule(
        name=name, priority=int(body.get("priority") or 0), direction=Direction.INBOUND, allow=passes,
        sources=sources, state=state, description=ownership.marker if ours else "",
    )


def _addresses(condition: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The client addresses that a condition asks for; None if it asks for anything else."""
    variables = [str(v.get("variableName") or "").lower() for v in condition.get("matchVariables") or ()]
    plain = not condition.get("negationConditon") and not condition.get("transforms")
    if variables == ["remoteaddr"] and str(condition.get("operator") or "").lower() == "ipmatch" and plain:
        return tuple(str(v).lower() for v in condition.get("matchValues") or ())
    return None


def with_rule(body: Mapping[str, Any], name: str, rule: Rule | None) -> dict[str, Any]:
    """The policy to be written: as it was read, but for our rule of that name, which is `rule` or gone."""
    made = {k: copy.deepcopy(v) for k, v in body.items() if k != "etag"}
    properties = made.setdefault("properties", {})
    for one in READ_ONLY:
        properties.pop(one, None)
    rules = [r for r in properties.get("customRules") or () if r.get("name") != name]
    properties["customRules"] = rules if rule is None else [*rules, _to_arm(rule)]
    return made


def _to_arm(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "priority": rule.priority,
        "state": "Enabled",
        "ruleType": "MatchRule",
        "action": "Block",
        "matchConditions": [{
            "matchVariables": [{"variableName": "RemoteAddr"}],
            "operator": "IPMatch",
            "negationConditon": False,  # Azure spells it so
            "matchValues": list(rule.remote),
        }],
    }
