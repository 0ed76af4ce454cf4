"""Azure Firewall with rules of its own, and IP groups. Source of shapes: the recordings.

IP groups, as policies, have bare guids for etags, quoted in the header, and operations with a URL segment of
their own. A firewall that has broken down (`faulted`) fails every update that reaches it.
"""

from __future__ import annotations

import copy
import ipaddress
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sandbox.arm.call import Answer, Call, ref
from sandbox.arm.errors import ArmError, bad, not_found
from sandbox.arm.state import Child, Operation, Resource, State

FIREWALL_TYPE, FIREWALL = "Microsoft.Network/azureFirewalls", "microsoft.network/azurefirewalls"
POLICY, GROUPS = "microsoft.network/firewallpolicies", "rulecollectiongroups"
IP_GROUP_TYPE, IP_GROUP = "Microsoft.Network/IpGroups", "microsoft.network/ipgroups"
SEGMENT = "nfvOperations"

PARTS = ("networkRuleCollections", "applicationRuleCollections", "natRuleCollections")
CLASSIC: dict[str, dict[str, Any]] = {
    "networkRuleCollections": {"sourceAddresses": [], "destinationAddresses": [], "sourceIpGroups": [],
                               "destinationIpGroups": [], "destinationFqdns": []},
    "applicationRuleCollections": {"priority": 0, "direction": "Inbound", "fqdnTags": [], "targetFqdns": [],
                                   "actions": [], "sourceAddresses": [], "sourceIpGroups": []},
    "natRuleCollections": {"sourceAddresses": [], "sourceIpGroups": []},
}
"""What is shown of a rule even where it was not given."""


def new_guid() -> str:
    """An etag as policies and IP groups have them."""
    return str(uuid.uuid4())


# --- firewalls ---


def render_firewall(state: State, found: Resource, api: str = "") -> dict[str, Any]:
    """The firewall as ARM shows it."""
    given = found.body.get("properties") or {}
    p: dict[str, Any] = {"provisioningState": found.state,
                         "sku": {"name": "AZFW_VNet", "tier": "Standard", **(given.get("sku") or {})}}
    if not given.get("firewallPolicy"):
        p["threatIntelMode"] = "Alert"
    p["additionalProperties"] = {}
    p.update({k: copy.deepcopy(v) for k, v in given.items() if k not in ("sku", *PARTS)})
    p.setdefault("ipConfigurations", [])
    for one in p["ipConfigurations"]:
        part_id = f"{found.id}/azureFirewallIpConfigurations/{one.get('name')}"
        one |= {"id": part_id, "etag": found.etag, "type": f"{FIREWALL_TYPE}/azureFirewallIpConfigurations"}
        one["properties"] = {"provisioningState": found.state, "privateIPAllocationMethod": "Dynamic",
                             **(one.get("properties") or {})}
    for part in PARTS:
        if part == PARTS[0] or not given.get("firewallPolicy"):
            p[part] = [_classic(found, part, one) for one in given.get(part) or []]
    return {"name": found.name, "id": found.id, "etag": found.etag, "type": FIREWALL_TYPE,
            **{k: found.body[k] for k in ("location", "tags", "zones") if k in found.body}, "properties": p}


def _classic(found: Resource, part: str, one: Mapping[str, Any]) -> dict[str, Any]:
    p = copy.deepcopy(one.get("properties") or {})
    rules = p.pop("rules", None) or []
    return {
        "name": one.get("name"), "id": f"{found.id}/{part}/{one.get('name')}", "etag": found.etag,
        "type": f"{FIREWALL_TYPE}/{part}",
        "properties": {"provisioningState": found.state, **{
            k: v for k, v in p.items() if k != "provisioningState"}, "rules": [
            copy.deepcopy({**CLASSIC[part], **r}) for r in rules]},
    }


def put_firewall(call: Call) -> Answer:
    """PUT the firewall: a full replacement."""
    body, old = call.replacing()
    if old is not None:
        idle(call.state, [call.id])
    properties = {k: copy.deepcopy(v) for k, v in (body.get("properties") or {}).items()
                  if k != "provisioningState"}
    for part in PARTS:
        if part in properties:
            properties[part] = [bare_collection(c) for c in properties[part] or []]
            _check_classic(call.id, properties[part])
    _may_join(call, properties)
    found = old or Resource(call.id, FIREWALL, {})
    before = (old.body.get("properties") or {}) if old else None
    same = before is not None and _full(before) == _full(properties)
    found.body = {**{k: body[k] for k in ("location", "tags", "zones") if k in body},
                  "properties": properties}
    call.state.put(found)
    if not same:
        found.touch()
        found.state = "Updating"

    def finish() -> None:
        if not same:
            found.state = "Succeeded"
            found.touch()

    op = call.state.begin(found.id, "PutAzureFirewallOperation", "Microsoft.Network", found.location,
                          call.api, finish, seconds=0 if same else None, retry_after=0)
    op.error = faulted([found], f"Put on Azure Firewall {found.name}", "AzureFirewallUpdateFailed")
    on_failure(op, [found])
    return Answer(201 if old is None else 200, render_firewall(call.state, found, call.api),
                  call.operation_headers(op, retry_after=False))


def _may_join(call: Call, properties: Mapping[str, Any]) -> None:
    """Whoever writes a firewall must be allowed to join it to all that it names."""
    access, who = call.state.access, call.caller.name
    for one in properties.get("ipConfigurations") or []:
        inner = one.get("properties") or {}
        for name, action in (("subnet", "virtualNetworks/subnets"), ("publicIPAddress", "publicIPAddresses")):
            if inner.get(name):
                access.check(who, f"Microsoft.Network/{action}/join/action", str(inner[name].get("id")))
    for group in _groups_in(properties):
        access.check(who, "Microsoft.Network/ipGroups/join/action", group)


def bare_collection(one: Mapping[str, Any]) -> dict[str, Any]:
    """A classic collection as it was sent, without what Azure says of it."""
    inner = {k: copy.deepcopy(v) for k, v in (one.get("properties") or {}).items()
             if k != "provisioningState"}
    return {"name": one.get("name"), "properties": inner}


def _full(properties: Mapping[str, Any]) -> dict[str, Any]:
    """With what Azure would say where nothing was sent."""
    return {"threatIntelMode": "Alert", "additionalProperties": {}, "ipConfigurations": [],
            **{part: [] for part in PARTS}, **properties,
            "sku": {"name": "AZFW_VNet", "tier": "Standard", **(properties.get("sku") or {})}}


def _check_classic(firewall_id: str, collections: Iterable[Mapping[str, Any]]) -> None:
    priorities = [(c.get("properties") or {}).get("priority") for c in collections]
    if len(set(priorities)) < len(priorities):
        raise bad("AzureFirewallRuleCollectionInvalidPriority",
                  f"Rule collections of {firewall_id} must have priorities of their own.")


def get_firewall(call: Call) -> Answer:
    """GET the firewall."""
    found = there(call, FIREWALL_TYPE)
    return Answer(200, render_firewall(call.state, found, call.api), {"etag": found.etag})


def delete_firewall(call: Call) -> Answer:
    """DELETE the firewall."""
    found = call.state.get(call.id)
    if found is None:
        return Answer(204)
    idle(call.state, [found.id])
    op = call.state.begin(found.id, "DeleteAzureFirewallOperation", "Microsoft.Network", found.location,
                          call.api, lambda: call.state.drop(found.id), deletes=True, retry_after=10)
    return Answer(202, None, call.operation_headers(op, location=True))


# --- IP groups ---


def render_ip_group(state: State, found: Resource, api: str = "") -> dict[str, Any]:
    """The IP group as ARM shows it, with who uses it; `api` changes nothing here."""
    given = found.body.get("properties") or {}
    policies, firewalls = [], []
    for policy in state.of_kind(POLICY):
        if any(found.id.lower() in _groups_in(g.properties)
               for g in policy.children.get(GROUPS, {}).values()):
            policies.append(ref(policy.id))
    for firewall in state.of_kind(FIREWALL):
        if found.id.lower() in _groups_in(firewall.body.get("properties") or {}):
            firewalls.append(ref(firewall.id))
    return {"properties": {"firewalls": firewalls, "firewallPolicies": policies,
                           "ipAddresses": list(given.get("ipAddresses") or []),
                           "provisioningState": found.state},
            "id": found.id, "name": found.name, "type": IP_GROUP_TYPE, "etag": found.etag,
            **{k: found.body[k] for k in ("location", "tags") if k in found.body}}


def _groups_in(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in ("sourceIpGroups", "destinationIpGroups"):
                yield from (str(one).lower() for one in value or ())
            else:
                yield from _groups_in(value)
    elif isinstance(node, list):
        for one in node:
            yield from _groups_in(one)


def put_ip_group(call: Call) -> Answer:
    """PUT an IP group: its addresses, replaced."""
    body, old = call.replacing()
    if old is not None:
        idle(call.state, [call.id])
    addresses = [str(a) for a in (body.get("properties") or {}).get("ipAddresses") or []]
    for text in addresses:
        try:
            for one in text.split("-"):
                ipaddress.ip_network(one, strict=False)
        except ValueError:
            raise bad("IpGroupInvalidIpAddress", f"{text} is no address of {call.id}.") from None
    found = old or Resource(call.id, IP_GROUP, {})
    found.body = {**{k: body[k] for k in ("location", "tags") if k in body},
                  "properties": {"ipAddresses": addresses}}
    found.etag, found.state = new_guid(), "Updating"
    call.state.put(found)

    def finish() -> None:
        found.state = "Succeeded"

    op = call.state.begin(found.id, "PutIpGroupOperation", "Microsoft.Network", found.location, call.api,
                          finish, retry_after=0)
    op.segment = SEGMENT
    return Answer(201 if old is None else 200, render_ip_group(call.state, found),
                  call.operation_headers(op, retry_after=False))


def get_ip_group(call: Call) -> Answer:
    """GET an IP group."""
    found = there(call, IP_GROUP_TYPE)
    return Answer(200, render_ip_group(call.state, found), {"etag": f'"{found.etag}"'})


def delete_ip_group(call: Call) -> Answer:
    """DELETE an IP group, unless a rule uses it."""
    found = call.state.get(call.id)
    if found is None:
        return Answer(204)
    p = render_ip_group(call.state, found)["properties"]
    if p["firewalls"] or p["firewallPolicies"]:
        raise bad("IpGroupInUse", f"{found.id} is in use.")
    call.state.drop(found.id)
    return Answer(200)


# --- what policies need of this, too ---


def there(call: Call, kind: str) -> Resource:
    """What the path names. 404 if there is none."""
    found = call.state.get(call.id)
    if found is None:
        raise not_found(kind, call.names[0], call.group)
    return found


def firewalls_of(state: State, policy_id: str) -> list[Resource]:
    """The firewalls that enforce a policy."""
    return [one for one in state.of_kind(FIREWALL) if names(one, "firewallPolicy", policy_id)]


def names(one: Resource, what: str, wanted: str) -> bool:
    """Does the reference in this property point there?"""
    reference = (one.body.get("properties") or {}).get(what) or {}
    return str(reference.get("id", "")).lower() == wanted.lower()


def idle(state: State, ids: Iterable[str]) -> None:
    """One update at a time."""
    for one in ids:
        op = state.pending(one)
        if op is not None:
            raise ArmError(
                409, "AnotherOperationInProgress",
                "Another operation on this or dependent resource is in progress. To retrieve status of the "
                f"operation use uri: https://management.azure.com{op.target}/operations/{op.id}.")


def faulted(firewalls: Iterable[Resource], what: str, code: str) -> dict[str, Any] | None:
    """What an update of a firewall that has broken down fails with."""
    broken = sum(bool(f.facts.get("faulted")) for f in firewalls)
    if not broken:
        return None
    return {"code": code, "details": [],
            "message": f"{what} Failed with {broken} faulted referenced firewalls"}


def on_failure(op: Operation, those: Iterable[Resource | Child]) -> None:
    """What was written stays, and says that it failed."""
    if op.error is None:
        return
    held = list(those)

    def failed() -> None:
        for one in held:
            one.state = "Failed"

    op.fail = failed


