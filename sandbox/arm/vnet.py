"""Virtual networks, subnets and peerings."""

from __future__ import annotations

import ipaddress
from typing import Any

from sandbox.arm.call import Answer, Call, check_name, ref
from sandbox.arm.errors import ArmError, bad, not_found
from sandbox.arm.pointers import pointers
from sandbox.arm.state import Child, Resource, State

KIND = "microsoft.network/virtualnetworks"
TYPE = "Microsoft.Network/virtualNetworks"
JOIN = "Microsoft.Network/virtualNetworks/subnets/join/action"


def render(state: State, vnet: Resource, api: str = "") -> dict[str, Any]:
    """The VNet as ARM shows it."""
    p = vnet.body["properties"]
    properties: dict[str, Any] = {
        "provisioningState": vnet.state,
        "resourceGuid": vnet.guid,
        "addressSpace": p.get("addressSpace") or {"addressPrefixes": []},
    }
    if api >= "2024-01-01":
        properties["privateEndpointVNetPolicies"] = p.get("privateEndpointVNetPolicies", "Disabled")
    properties.update({k: p[k] for k in ("dhcpOptions", "encryption", "flowTimeoutInMinutes",
                                         "bgpCommunities") if k in p})
    properties["subnets"] = [render_subnet(state, vnet, s)
                             for s in vnet.children.get("subnets", {}).values()]
    properties["virtualNetworkPeerings"] = [
        _peering(state, vnet, c) for c in vnet.children.get("virtualnetworkpeerings", {}).values()
    ]
    properties["enableDdosProtection"] = bool(p.get("enableDdosProtection", False))
    head = {"name": vnet.name, "id": vnet.id, "etag": vnet.etag, "type": TYPE,
            "location": vnet.body.get("location", "")}
    if "tags" in vnet.body:
        head["tags"] = vnet.body["tags"]
    return {**head, "properties": properties}


def render_subnet(state: State, vnet: Resource, subnet: Child) -> dict[str, Any]:
    """A subnet as ARM shows it, with the ipConfigurations of all that sits in it."""
    p = subnet.properties
    subnet_id = f"{vnet.id}/subnets/{subnet.name}"
    out: dict[str, Any] = {"provisioningState": subnet.state}
    out.update({k: p[k] for k in ("addressPrefix", "addressPrefixes") if k in p})
    out.update({k: ref(p[k]["id"]) for k in ("networkSecurityGroup", "routeTable", "natGateway")
                if p.get(k)})
    users = ip_configurations(state, subnet_id)
    known = {u.lower() for u in users}
    users += [u for u in subnet.extra.get("ipConfigurations") or [] if u.lower() not in known]
    if users:
        out["ipConfigurations"] = [ref(u) for u in users]
    if p.get("serviceEndpoints"):
        out["serviceEndpoints"] = p["serviceEndpoints"]
    out["delegations"] = [
        {
            "name": d.get("name"), "id": f"{subnet_id}/delegations/{d.get('name')}",
            "etag": vnet.etag,
            "properties": {
                "provisioningState": "Succeeded",
                "serviceName": (d.get("properties") or {}).get("serviceName"), "actions": [JOIN],
            },
            "type": f"{TYPE}/subnets/delegations",
        }
        for d in p.get("delegations") or []
    ]
    out["privateEndpointNetworkPolicies"] = p.get("privateEndpointNetworkPolicies", "Disabled")
    out["privateLinkServiceNetworkPolicies"] = p.get("privateLinkServiceNetworkPolicies", "Enabled")
    return {"name": subnet.name, "id": subnet_id, "etag": vnet.etag, "properties": out,
            "type": f"{TYPE}/subnets"}


def _peering(state: State, vnet: Resource, peering: Child) -> dict[str, Any]:
    p = peering.properties
    remote_id = str((p.get("remoteVirtualNetwork") or {}).get("id", ""))
    remote = state.get(remote_id)
    space = remote.body["properties"].get("addressSpace") if remote else None
    return {
        "name": peering.name, "id": f"{vnet.id}/virtualNetworkPeerings/{peering.name}",
        "etag": vnet.etag,
        "properties": {
            "provisioningState": peering.state, "resourceGuid": peering.guid,
            "peeringState": "Initiated", "remoteVirtualNetwork": ref(remote_id),
            "allowVirtualNetworkAccess": p.get("allowVirtualNetworkAccess", True),
            "allowForwardedTraffic": p.get("allowForwardedTraffic", False),
            "allowGatewayTransit": p.get("allowGatewayTransit", False),
            "useRemoteGateways": p.get("useRemoteGateways", False),
            "doNotVerifyRemoteGateways": p.get("doNotVerifyRemoteGateways", False),
            "remoteAddressSpace": space or {"addressPrefixes": []}, "routeServiceVips": {},
        },
        "type": f"{TYPE}/virtualNetworkPeerings",
    }


def ip_configurations(state: State, subnet_id: str) -> list[str]:
    """The ids of all that points to the subnet: NICs, load balancer frontends, gateways."""
    return list(pointers(state).in_subnet.get(subnet_id.lower(), ()))


# --- requests ---


def put(call: Call) -> Answer:
    """PUT the VNet: subnets named in it replace those there are."""
    check_name(call.names[0])
    body = call.json()
    properties = dict(body.get("properties") or {})
    properties.pop("enableVmProtection", None)
    for prefix in (properties.get("addressSpace") or {}).get("addressPrefixes") or []:
        _prefix(call.id, prefix)
    given = properties.pop("subnets", None) or []
    old = call.state.get(call.id)
    if old is not None:
        call.check_match(old)
    before = old.children.get("subnets", {}) if old else {}
    subnets: dict[str, Child] = {}
    for one in given:
        name = str(one.get("name", ""))
        check_name(name)
        subnets[name.lower()] = Child(name, dict(one.get("properties") or {}),
                                      extra=before[name.lower()].extra if name.lower() in before else {})
    for name in set(before) - set(subnets):
        _refuse_in_use(call.state, f"{call.id}/subnets/{before[name].name}", before[name].name)
    kept: dict[str, Any] = {k: body[k] for k in ("location", "tags", "extendedLocation") if k in body}
    kept["properties"] = properties
    same = (
        old is not None
        and {k: v for k, v in old.body.items() if k != "properties"}
        == {k: v for k, v in kept.items() if k != "properties"}
        and _essence(old.body["properties"]) == _essence(properties)
        and {k: _essence(s.properties) for k, s in before.items()}
        == {k: _essence(s.properties) for k, s in subnets.items()}
    )
    vnet = old or Resource(call.id, KIND, {})
    if same:
        op = call.state.begin(vnet.id, "PutVirtualNetworkOperation", "Microsoft.Network",
                              vnet.location, call.api, lambda: None, seconds=0)
        return Answer(200, render(call.state, vnet, call.api),
                      call.operation_headers(op, retry_after=False))
    vnet.body = kept
    vnet.children["subnets"] = subnets
    vnet.touch()
    vnet.state = "Updating"
    for s in subnets.values():
        s.state = "Updating"
    call.state.put(vnet)

    def finish() -> None:
        vnet.state = "Succeeded"
        for s in subnets.values():
            s.state = "Succeeded"
        vnet.touch()

    op = call.state.begin(vnet.id, "PutVirtualNetworkOperation", "Microsoft.Network", vnet.location,
                          call.api, finish, retry_after=3)
    return Answer(201 if old is None else 200, render(call.state, vnet, call.api),
                  call.operation_headers(op))


def get(call: Call) -> Answer:
    """GET the VNet."""
    vnet = _vnet(call)
    return Answer(200, render(call.state, vnet, call.api), {"etag": vnet.etag})


def delete(call: Call) -> Answer:
    """DELETE the VNet, unless a subnet is in use."""
    vnet = call.state.get(call.id)
    if vnet is None:
        return Answer(204)
    for subnet in vnet.children.get("subnets", {}).values():
        _refuse_in_use(call.state, f"{vnet.id}/subnets/{subnet.name}", subnet.name)
    op = call.state.begin(vnet.id, "DeleteVirtualNetworkOperation", "Microsoft.Network",
                          vnet.location, call.api, lambda: call.state.drop(vnet.id), deletes=True,
                          retry_after=10)
    return Answer(202, None, call.operation_headers(op, location=True))


def put_subnet(call: Call) -> Answer:
    """PUT a subnet."""
    vnet = _vnet(call)
    call.check_match(vnet)
    name = call.names[1]
    check_name(name)
    subnets = vnet.children.setdefault("subnets", {})
    old = subnets.get(name.lower())
    properties = dict(call.json().get("properties") or {})
    for prefix in [properties.get("addressPrefix"), *(properties.get("addressPrefixes") or [])]:
        if prefix:
            _prefix(call.id, prefix)
    unchanged = old is not None and _essence(old.properties) == _essence(properties)
    if old is not None and unchanged and old.state == "Succeeded":
        vnet.touch()
        op = call.state.begin(call.id, "PutSubnetOperation", "Microsoft.Network", vnet.location,
                              call.api, lambda: None, seconds=0)
        return Answer(200, render_subnet(call.state, vnet, old),
                      call.operation_headers(op, retry_after=False))
    subnet = old or Child(name, {})
    subnet.properties = properties
    subnet.state = "Updating"
    subnets[name.lower()] = subnet
    vnet.touch()
    call.state.version += 1

    def finish() -> None:
        subnet.state = "Succeeded"
        vnet.touch()

    op = call.state.begin(call.id, "PutSubnetOperation", "Microsoft.Network", vnet.location,
                          call.api, finish, retry_after=3)
    return Answer(201 if old is None else 200, render_subnet(call.state, vnet, subnet),
                  call.operation_headers(op))


def get_subnet(call: Call) -> Answer:
    """GET a subnet."""
    vnet = _vnet(call)
    subnet = vnet.children.get("subnets", {}).get(call.names[1].lower())
    if subnet is None:
        raise ArmError(404, "NotFound", f"Resource {call.id} not found.")
    return Answer(200, render_subnet(call.state, vnet, subnet), {"etag": vnet.etag})


def delete_subnet(call: Call) -> Answer:
    """DELETE a subnet, unless it is in use."""
    vnet = _vnet(call)
    subnets = vnet.children.get("subnets", {})
    subnet = subnets.get(call.names[1].lower())
    if subnet is None:
        return Answer(204)
    _refuse_in_use(call.state, f"{vnet.id}/subnets/{subnet.name}", subnet.name)

    def finish() -> None:
        subnets.pop(subnet.name.lower(), None)
        vnet.touch()

    op = call.state.begin(call.id, "DeleteSubnetOperation", "Microsoft.Network", vnet.location,
                          call.api, finish, deletes=True, retry_after=10)
    return Answer(202, None, call.operation_headers(op, location=True))


def list_subnets(call: Call) -> Answer:
    """GET all subnets of the VNet."""
    vnet = _vnet(call)
    return Answer(200, {"value": [render_subnet(call.state, vnet, s)
                                  for s in vnet.children.get("subnets", {}).values()]})


def put_peering(call: Call) -> Answer:
    """PUT a peering."""
    vnet = _vnet(call)
    peerings = vnet.children.setdefault("virtualnetworkpeerings", {})
    name = call.names[1]
    old = peerings.get(name.lower())
    peering = old or Child(name, {})
    peering.properties = dict(call.json().get("properties") or {})
    peering.state = "Updating"
    peerings[name.lower()] = peering
    vnet.touch()
    call.state.version += 1

    def finish() -> None:
        peering.state = "Succeeded"
        vnet.touch()

    op = call.state.begin(call.id, "PutVirtualNetworkPeeringOperation", "Microsoft.Network",
                          vnet.location, call.api, finish, retry_after=10)
    return Answer(201 if old is None else 200, _peering(call.state, vnet, peering),
                  call.operation_headers(op))


def get_peering(call: Call) -> Answer:
    """GET a peering."""
    vnet = _vnet(call)
    peering = vnet.children.get("virtualnetworkpeerings", {}).get(call.names[1].lower())
    if peering is None:
        raise ArmError(404, "NotFound", f"Resource {call.id} not found.")
    return Answer(200, _peering(call.state, vnet, peering), {"etag": vnet.etag})


def delete_peering(call: Call) -> Answer:
    """DELETE a peering."""
    vnet = _vnet(call)
    peerings = vnet.children.get("virtualnetworkpeerings", {})
    if call.names[1].lower() not in peerings:
        return Answer(204)

    def finish() -> None:
        peerings.pop(call.names[1].lower(), None)

    op = call.state.begin(call.id, "DeleteVirtualNetworkPeeringOperation", "Microsoft.Network",
                          vnet.location, call.api, finish, deletes=True, retry_after=10)
    return Answer(202, None, call.operation_headers(op, location=True))


_DEFAULTS = {"privateEndpointNetworkPolicies": "Disabled", "enableDdosProtection": False,
             "privateLinkServiceNetworkPolicies": "Enabled"}
_ANSWERED = ("provisioningState", "ipConfigurations", "virtualNetworkPeerings", "subnets",
             "resourceGuid")


def _essence(properties: dict[str, Any]) -> dict[str, Any]:
    """What a PUT says, defaults and read-only parts aside: is it a change at all?"""
    return {
        k: ref(v["id"].lower()) if isinstance(v, dict) and "id" in v else v
        for k, v in properties.items()
        if k not in _ANSWERED and v not in ([], None) and _DEFAULTS.get(k) != v
    }


def _vnet(call: Call) -> Resource:
    vnet = call.state.get(call.id_of(1))
    if vnet is None:
        raise not_found(TYPE, call.names[0], call.group)
    return vnet


def _refuse_in_use(state: State, subnet_id: str, name: str) -> None:
    users = ip_configurations(state, subnet_id)
    if users:
        raise bad(
            "InUseSubnetCannotBeDeleted",
            f"Subnet {name} is in use by {users[0]} and cannot be deleted. In order to delete the "
            "subnet, delete all the resources within the subnet. See aka.ms/deletesubnet.",
        )


def _prefix(resource_id: str, text: Any) -> None:
    try:
        ipaddress.ip_network(str(text))
    except ValueError:
        raise bad("InvalidCIDRNotation", f"The address prefix {text} in resource {resource_id} has "
                  "an invalid CIDR notation. For the given prefix length, the address prefix should "
                  "be its network address.") from None
