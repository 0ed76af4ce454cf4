"""Take over a resource as ARM shows it: for seeding from real answers. The inverse of `render`.

What it refers to and nobody has described (a NIC's NSG, its subnet) becomes a stub, so that the
references hold.
"""

from __future__ import annotations

import copy
from typing import Any

from sandbox.arm import compute, firewall, nic, nsg, publicip, vnet
from sandbox.arm.state import Child, Resource, State

_HEAD = ("location", "tags", "zones", "sku", "identity", "plan", "extendedLocation")


def adopt(state: State, body: dict[str, Any]) -> Resource:
    """Store the resource; one that is there already as a stub is completed."""
    resource_id = str(body["id"])
    parts = resource_id.split("/providers/")[-1].split("/")
    kind = "/".join([parts[0], *parts[1::2]]).lower()
    pieces = resource_id.split("/")
    if len(pieces) > 4 and pieces[3].lower() == "resourcegroups":
        state.add_group(pieces[2], pieces[4])
    if kind in _CHILDREN:
        return _CHILDREN[kind](state, resource_id, body)
    old = state.get(resource_id)
    resource = old or Resource(resource_id, kind, {})
    resource.facts.pop("stub", None)
    resource.body = {k: copy.deepcopy(body[k]) for k in _HEAD if k in body}
    properties = copy.deepcopy(body.get("properties") or {})
    resource.state = str(properties.pop("provisioningState", "Succeeded"))
    resource.guid = str(properties.pop("resourceGuid", resource.guid))
    resource.etag = str(body.get("etag", resource.etag))
    resource.body["properties"] = properties
    if kind in _READERS:
        _READERS[kind](state, resource, properties)
    elif kind != compute.KIND:
        resource.body = copy.deepcopy(body)
    state.put(resource)
    return resource


def _nsg(state: State, resource: Resource, p: dict[str, Any]) -> None:
    rules = {}
    for rule in p.pop("securityRules", []):
        rules[rule["name"].lower()] = _rule(rule)
    resource.children["securityrules"] = rules
    p.pop("defaultSecurityRules", None)
    resource.facts["nics"] = [r["id"] for r in p.pop("networkInterfaces", [])]
    resource.facts["subnets"] = [r["id"] for r in p.pop("subnets", [])]


def _rule(rule: dict[str, Any]) -> Child:
    p = {k: v for k, v in rule["properties"].items() if v not in ([], None)}
    return Child(rule["name"], p, str(p.pop("provisioningState", "Succeeded")))


def _vnet(state: State, resource: Resource, p: dict[str, Any]) -> None:
    before = resource.children.get("subnets", {})
    subnets = dict(before)
    for subnet in p.pop("subnets", []):
        subnets[subnet["name"].lower()] = _subnet(subnet)
    resource.children["subnets"] = subnets
    resource.children["virtualnetworkpeerings"] = {
        one["name"].lower(): Child(one["name"], one["properties"])
        for one in p.pop("virtualNetworkPeerings", [])
    }


def _subnet(subnet: dict[str, Any]) -> Child:
    p = copy.deepcopy(subnet.get("properties") or {})
    state = str(p.pop("provisioningState", "Succeeded"))
    users = [c["id"] for c in p.pop("ipConfigurations", [])]
    return Child(subnet["name"], {k: v for k, v in p.items() if v not in ([], None)}, state,
                 extra={"ipConfigurations": users})


def _nic(state: State, resource: Resource, p: dict[str, Any]) -> None:
    dns = p.get("dnsSettings") or {}
    if dns.get("internalDomainNameSuffix"):
        resource.facts["suffix"] = dns["internalDomainNameSuffix"]
    if p.get("macAddress"):
        resource.facts["mac"] = p.pop("macAddress")
    if p.get("virtualMachine"):
        resource.facts["vm"] = p.pop("virtualMachine")["id"]
    if "enableAcceleratedNetworking" not in p:
        resource.facts["plain"] = True
    p.pop("primary", None)
    for config in p.get("ipConfigurations") or []:
        inner = config.get("properties") or {}
        inner.pop("provisioningState", None)
        if inner.get("subnet"):
            _stub_subnet(state, str(inner["subnet"]["id"]), resource)
        if inner.get("publicIPAddress"):
            _stub(state, str(inner["publicIPAddress"]["id"]), publicip.KIND, resource)
    if p.get("networkSecurityGroup"):
        _stub(state, str(p["networkSecurityGroup"]["id"]), nsg.KIND, resource)


def _stub(state: State, resource_id: str, kind: str, like: Resource) -> Resource:
    found = state.get(resource_id)
    if found is None:
        found = Resource(resource_id, kind, {"location": like.body.get("location", ""),
                                             "properties": {}}, facts={"stub": True})
        state.put(found)
    return found


def _stub_subnet(state: State, subnet_id: str, like: Resource) -> None:
    vnet_id, _, name = subnet_id.partition("/subnets/")
    net = _stub(state, vnet_id, vnet.KIND, like)
    net.body["properties"].setdefault("addressSpace", {"addressPrefixes": ["10.0.0.0/16"]})
    net.children.setdefault("subnets", {}).setdefault(
        name.lower(), Child(name, {"addressPrefix": "10.0.0.0/24"}))


def _public_ip(state: State, resource: Resource, p: dict[str, Any]) -> None:
    if p.get("ipAddress"):
        resource.facts["address"] = p.pop("ipAddress")
    for field in ("ipConfiguration", "natGateway"):
        if p.get(field):
            resource.facts["user"] = p.pop(field)["id"]


def _vm(state: State, resource: Resource, p: dict[str, Any]) -> None:
    view = p.pop("instanceView", None)
    if view:
        resource.facts["view"] = view
    if p.get("timeCreated"):
        resource.facts["created"] = p["timeCreated"]
    for one in (p.get("networkProfile") or {}).get("networkInterfaces") or []:
        found = state.get(str(one.get("id", "")))
        if found is not None:
            found.facts.setdefault("mac", "00-0D-3A-00-00-00")


def _adopt_rule(state: State, resource_id: str, body: dict[str, Any]) -> Resource:
    parent = state.get(resource_id.rsplit("/", 2)[0]) or adopt(
        state, {"id": resource_id.rsplit("/", 2)[0], "properties": {}})
    parent.children.setdefault("securityrules", {})[body["name"].lower()] = _rule(body)
    return parent


def _adopt_subnet(state: State, resource_id: str, body: dict[str, Any]) -> Resource:
    parent_id = resource_id.rsplit("/", 2)[0]
    parent = state.get(parent_id) or adopt(state, {"id": parent_id, "properties": {}})
    parent.children.setdefault("subnets", {})[body["name"].lower()] = _subnet(body)
    return parent


def _policy(state: State, resource: Resource, p: dict[str, Any]) -> None:
    resource.etag = resource.etag.strip('"')
    for name in ("childPolicies", "ruleCollectionGroups", "firewalls", "size"):
        p.pop(name, None)


def _firewall(state: State, resource: Resource, p: dict[str, Any]) -> None:
    for part in firewall.PARTS:
        if part in p:
            p[part] = [firewall.bare_collection(c) for c in p[part]]


def _adopt_rule_group(state: State, resource_id: str, body: dict[str, Any]) -> Resource:
    parent_id = resource_id.rsplit("/", 2)[0]
    parent = state.get(parent_id) or adopt(
        state, {"id": parent_id, "location": body.get("location", "westeurope"), "properties": {}})
    p = {k: v for k, v in (body.get("properties") or {}).items() if k not in ("provisioningState", "size")}
    name = str(body.get("name") or resource_id.rpartition("/")[2])
    parent.children.setdefault(firewall.GROUPS, {})[name.lower()] = Child(
        name, copy.deepcopy(p), extra={"etag": str(body.get("etag") or firewall.new_guid())})
    return parent


_READERS = {firewall.POLICY: _policy, firewall.FIREWALL: _firewall,
            nsg.KIND: _nsg, vnet.KIND: _vnet, nic.KIND: _nic, publicip.KIND: _public_ip,
            compute.KIND: _vm}
_CHILDREN = {f"{firewall.POLICY}/{firewall.GROUPS}": _adopt_rule_group,
             f"{nsg.KIND}/securityrules": _adopt_rule, f"{vnet.KIND}/subnets": _adopt_subnet}
