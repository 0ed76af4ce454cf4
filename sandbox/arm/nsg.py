"""Network security groups and their rules: requests, default rules, back references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.arm.call import Answer, Call, check_name, ref
from sandbox.arm.errors import ArmError, bad, not_found
from sandbox.arm.nsgrules import GROUPS, LISTS, SINGLES, check_limits, checked
from sandbox.arm.pointers import pointers
from sandbox.arm.state import Child, Resource, State

KIND = "microsoft.network/networksecuritygroups"
TYPE = "Microsoft.Network/networkSecurityGroups"
RULE_TYPE = f"{TYPE}/securityRules"

_DEFAULTS = (
    ("AllowVnetInBound", "Allow inbound traffic from all VMs in VNET", "VirtualNetwork",
     "VirtualNetwork", "Allow", 65000, "Inbound"),
    ("AllowAzureLoadBalancerInBound", "Allow inbound traffic from azure load balancer",
     "AzureLoadBalancer", "*", "Allow", 65001, "Inbound"),
    ("DenyAllInBound", "Deny all inbound traffic", "*", "*", "Deny", 65500, "Inbound"),
    ("AllowVnetOutBound", "Allow outbound traffic from all VMs to all VMs in VNET",
     "VirtualNetwork", "VirtualNetwork", "Allow", 65000, "Outbound"),
    ("AllowInternetOutBound", "Allow outbound traffic from all VMs to Internet", "*", "Internet",
     "Allow", 65001, "Outbound"),
    ("DenyAllOutBound", "Deny all outbound traffic", "*", "*", "Deny", 65500, "Outbound"),
)


# --- rendering ---


def render(state: State, nsg: Resource, api: str = "") -> dict[str, Any]:
    """The NSG as ARM shows it."""
    rules = nsg.children.get("securityrules", {})
    busy = nsg.state if nsg.state != "Succeeded" else next(
        (r.state for r in rules.values() if r.state != "Succeeded"), "Succeeded")
    properties: dict[str, Any] = {
        "provisioningState": busy,
        "resourceGuid": nsg.guid,
        "securityRules": [render_rule(nsg, r) for r in rules.values()],
        "defaultSecurityRules": [_default(nsg, *d) for d in _DEFAULTS],
    }
    if "flushConnection" in (nsg.body.get("properties") or {}):
        properties["flushConnection"] = nsg.body["properties"]["flushConnection"]
    nics, subnets = users(state, nsg.id)
    if nics:
        properties["networkInterfaces"] = [ref(n) for n in nics]
    if subnets:
        properties["subnets"] = [ref(s) for s in subnets]
    head = {"name": nsg.name, "id": nsg.id, "etag": nsg.etag, "type": TYPE,
            "location": nsg.body.get("location", "")}
    if "tags" in nsg.body:
        head["tags"] = nsg.body["tags"]
    return {**head, "properties": properties}


def users(state: State, nsg_id: str) -> tuple[list[str], list[str]]:
    """NICs and subnets that the NSG is attached to."""
    low = nsg_id.lower()
    known_users = pointers(state)
    nics, subnets = list(known_users.nics_of_nsg.get(low, ())), list(known_users.subnets_of_nsg.get(low, ()))
    nsg = state.get(low)
    for found, name in ((nics, "nics"), (subnets, "subnets")):
        known = {f.lower() for f in found}
        # Users that a seeding named and nobody described.
        found += [u for u in (nsg.facts.get(name, []) if nsg else [])
                  if u.lower() not in known and not _described(state, u)]
    return nics, subnets


def _described(state: State, resource_id: str) -> bool:
    return state.get(resource_id.partition("/subnets/")[0]) is not None


def _default(nsg: Resource, name: str, description: str, source: str, destination: str,
             access: str, priority: int, direction: str) -> dict[str, Any]:
    return {
        "name": name, "id": f"{nsg.id}/defaultSecurityRules/{name}", "etag": nsg.etag,
        "type": f"{TYPE}/defaultSecurityRules",
        "properties": {
            "provisioningState": nsg.state, "description": description, "protocol": "*",
            "sourcePortRange": "*", "destinationPortRange": "*", "sourceAddressPrefix": source,
            "destinationAddressPrefix": destination, "access": access, "priority": priority,
            "direction": direction, **{k: [] for k in LISTS},
        },
    }


def render_rule(nsg: Resource, rule: Child) -> dict[str, Any]:
    """A rule as ARM shows it: the four plural lists are always there, singles only if sent."""
    p = rule.properties
    out: dict[str, Any] = {"provisioningState": rule.state}
    out.update({k: p[k] for k in SINGLES if k in p})
    out.update({"access": p["access"].title(), "priority": p["priority"],
                "direction": p["direction"].title()})
    out.update({k: p.get(k) or [] for k in LISTS})
    out.update({k: [ref(g["id"]) for g in p[k]] for k in GROUPS if p.get(k)})
    return {"name": rule.name, "id": f"{nsg.id}/securityRules/{rule.name}", "etag": nsg.etag,
            "type": RULE_TYPE, "properties": out}


# --- requests ---


def put(call: Call) -> Answer:
    """PUT the NSG: a full replacement, rules too."""
    check_name(call.names[0])
    body = call.json()
    if not body.get("location"):
        raise ArmError(400, "LocationRequired", "The location property is required for this "
                       "definition.", gateway=True)
    properties = body.get("properties") or {}
    rules: dict[str, Child] = {}
    old = call.state.get(call.id)
    if old is not None:
        call.check_match(old)
        _refuse_if_busy(call, old)
    for given in properties.get("securityRules") or []:
        rule = checked(call.id, str(given.get("name", "")), given.get("properties") or {}, rules)
        rules[rule.name.lower()] = rule
    nsg = old or Resource(call.id, KIND, {})
    before = nsg.children.get("securityrules", {})
    same = old is not None and {k: r.properties for k, r in before.items()} == {
        k: r.properties for k, r in rules.items()}
    check_limits(call.id, rules)
    nsg.body = {k: body[k] for k in ("location", "tags") if k in body}
    nsg.body["properties"] = {k: v for k, v in properties.items() if k == "flushConnection"}
    nsg.children["securityrules"] = before if same else rules
    nsg.touch()
    call.state.put(nsg)
    if same:  # tags at most: nothing to bring to the hosts
        op = call.state.begin(nsg.id, "PutNetworkSecurityGroupOperation", "Microsoft.Network",
                              nsg.location, call.api, lambda: None, seconds=0)
        return Answer(200, render(call.state, nsg), call.operation_headers(op, retry_after=False))
    _set_state(nsg, "Updating")
    op = call.state.begin(nsg.id, "PutNetworkSecurityGroupOperation", "Microsoft.Network",
                          nsg.location, call.api, lambda: _settle(nsg),
                          effect=lambda: _effect(nsg, rules, whole=True))
    return Answer(201 if old is None else 200, render(call.state, nsg), call.operation_headers(op))


def get(call: Call) -> Answer:
    """GET the NSG."""
    nsg = _nsg(call)
    return Answer(200, render(call.state, nsg), {"etag": nsg.etag})


def delete(call: Call) -> Answer:
    """DELETE the NSG, unless something is attached."""
    nsg = call.state.get(call.id)
    if nsg is None:
        return Answer(204)
    nics, subnets = users(call.state, nsg.id)
    if nics or subnets:
        raise bad(
            "InUseNetworkSecurityGroupCannotBeDeleted",
            f"Network security group {nsg.id} cannot be deleted because it is in use by the "
            f"following resources: {', '.join([*nics, *subnets])}. In order to delete the Network "
            "security group, remove the association with the resource(s). To learn how to do this, "
            "see aka.ms/deletensg.",
        )
    op = call.state.begin(nsg.id, "DeleteNetworkSecurityGroupOperation", "Microsoft.Network",
                          nsg.location, call.api, lambda: call.state.drop(nsg.id), deletes=True)
    return Answer(202, None, call.operation_headers(op, location=True))


def put_rule(call: Call) -> Answer:
    """PUT one rule."""
    nsg = _nsg(call)
    call.check_match(nsg)
    _refuse_if_busy(call, nsg)
    name = call.names[1]
    check_name(name)
    rules = nsg.children.setdefault("securityrules", {})
    old = rules.get(name.lower())
    others = {k: r for k, r in rules.items() if k != name.lower()}
    rule = checked(nsg.id, old.name if old else name, call.json().get("properties") or {}, others)
    check_limits(nsg.id, {**others, name.lower(): rule})
    if old is not None and old.properties == rule.properties and old.state == "Succeeded":
        op = call.state.begin(f"{nsg.id}/securityRules/{name}", "PutSecurityRuleOperation",
                              "Microsoft.Network", nsg.location, call.api, lambda: None, seconds=0)
        return Answer(200, render_rule(nsg, old), call.operation_headers(op, retry_after=False))
    rule.state = "Updating"
    rules[name.lower()] = rule
    nsg.touch()
    call.state.version += 1

    def finish() -> None:
        rule.state = "Succeeded"
        nsg.touch()

    op = call.state.begin(f"{nsg.id}/securityRules/{name}", "PutSecurityRuleOperation",
                          "Microsoft.Network", nsg.location, call.api, finish,
                          effect=lambda: _effect(nsg, {rule.name: rule}))
    return Answer(201 if old is None else 200, render_rule(nsg, rule), call.operation_headers(op))


def get_rule(call: Call) -> Answer:
    """GET one rule."""
    nsg = _nsg(call)
    rule = nsg.children.get("securityrules", {}).get(call.names[1].lower())
    if rule is None:
        raise ArmError(404, "NotFound", f"Resource {call.id} not found.")
    return Answer(200, render_rule(nsg, rule), {"etag": nsg.etag})


def delete_rule(call: Call) -> Answer:
    """DELETE one rule; 204 where there is none (a guess: never recorded)."""
    nsg = _nsg(call)
    rules = nsg.children.get("securityrules", {})
    rule = rules.get(call.names[1].lower())
    if rule is None:
        return Answer(204)
    call.check_match(nsg)
    _refuse_if_busy(call, nsg)
    rule.state = "Deleting"

    def finish() -> None:
        if rules.get(call.names[1].lower()) is rule:
            rules.pop(call.names[1].lower())
        nsg.touch()

    op = call.state.begin(f"{nsg.id}/securityRules/{rule.name}", "DeleteSecurityRuleOperation",
                          "Microsoft.Network", nsg.location, call.api, finish, deletes=True,
                          effect=lambda: _effect(nsg, {rule.name: None}))
    return Answer(202, None, call.operation_headers(op, location=True))


def list_rules(call: Call) -> Answer:
    """GET the custom rules."""
    nsg = _nsg(call)
    return Answer(200, {"value": [render_rule(nsg, r)
                                  for r in nsg.children.get("securityrules", {}).values()]})


def _nsg(call: Call) -> Resource:
    nsg = call.state.get(call.id_of(1))
    if nsg is None:
        raise not_found(TYPE, call.names[0], call.group)
    return nsg


def _effect(nsg: Resource, rules: Mapping[str, Child | None], *, whole: bool = False
            ) -> dict[str, Any]:
    """Which rules are in force now, by name; None: gone; `whole`: and no others."""
    return {"nsg": nsg.id.lower(), "whole": whole,
            "rules": {n.lower(): r and {**r.properties} for n, r in rules.items()}}


def _set_state(nsg: Resource, state: str) -> None:
    nsg.state = state
    for rule in nsg.children.get("securityrules", {}).values():
        rule.state = state


def _settle(nsg: Resource) -> None:
    _set_state(nsg, "Succeeded")
    nsg.touch()


def _refuse_if_busy(call: Call, nsg: Resource) -> None:
    """One write at a time, answered in one of the three recorded ways."""
    op = call.state.pending(nsg.id)
    mode = call.state.tuning.busy
    if op is None or mode == "accept":
        return
    if mode == "409":
        url = call.operation_headers(op)["azure-asyncoperation"]
        raise ArmError(409, "AnotherOperationInProgress", "Another operation on this or dependent "
                       "resource is in progress. To retrieve status of the operation use uri: "
                       f"{url}.")
    seconds = 2
    raise ArmError(
        429, "RetryableError", "A retryable error occurred.", headers={"retry-after": str(seconds)},
        details=[{
            "code": "RetryableErrorDueToAnotherOperation",
            "message": f"Operation {op.name} ({op.id}) is updating resource {nsg.id}. The call can "
                       f"be retried in {seconds} seconds.",
        }],
    )
