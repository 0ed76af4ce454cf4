"""Network interfaces: defaults by region and api-version, addresses from the subnet, references."""

from __future__ import annotations

import ipaddress
import random
import string
from typing import Any

from sandbox.arm.call import Answer, Call, ref
from sandbox.arm.errors import ArmError, bad, not_found
from sandbox.arm.pointers import pointers
from sandbox.arm.state import Resource, State

KIND = "microsoft.network/networkinterfaces"
TYPE = "Microsoft.Network/networkInterfaces"
_SUFFIX = {"eastus2": "cx", "westus": "dx", "westus2": "xx", "centralus": "gx",
           "southcentralus": "jx", "westcentralus": "yx"}
_NO_ACCELERATION = {"westus", "westcentralus", "eastus2euap"}
"""Regions whose answers leave `enableAcceleratedNetworking` out unless it was sent (recorded)."""
POOLS = ("loadBalancerBackendAddressPools", "loadBalancerInboundNatRules",
         "applicationGatewayBackendAddressPools", "applicationSecurityGroups")


def render(state: State, nic: Resource, api: str = "") -> dict[str, Any]:
    """The NIC as ARM shows it."""
    p = nic.body["properties"]
    modern = not api or api >= "2020-01-01"
    dns = p.get("dnsSettings") or {}
    suffix = nic.facts.setdefault("suffix", _domain(nic.location))
    settings: dict[str, Any] = {"dnsServers": dns.get("dnsServers") or [], "appliedDnsServers":
                                dns.get("appliedDnsServers") or []}
    if dns.get("internalDnsNameLabel"):
        settings["internalDnsNameLabel"] = dns["internalDnsNameLabel"]
        settings["internalFqdn"] = f"{dns['internalDnsNameLabel']}.{suffix}"
    settings["internalDomainNameSuffix"] = suffix
    out: dict[str, Any] = {
        "provisioningState": nic.state, "resourceGuid": nic.guid,
        "ipConfigurations": [_config(nic, c) for c in p.get("ipConfigurations") or []],
        "dnsSettings": settings,
    }
    vm = machine_of(state, nic.id) or nic.facts.get("vm")
    if vm is not None or nic.facts.get("mac"):
        out["macAddress"] = nic.facts.setdefault("mac", _mac())
    if "enableAcceleratedNetworking" in p:
        out["enableAcceleratedNetworking"] = p["enableAcceleratedNetworking"]
    elif nic.location not in _NO_ACCELERATION and not nic.facts.get("plain"):
        out["enableAcceleratedNetworking"] = False
    if modern:
        out["vnetEncryptionSupported"] = False
    out["enableIPForwarding"] = bool(p.get("enableIPForwarding", False))
    if p.get("networkSecurityGroup"):
        out["networkSecurityGroup"] = ref(p["networkSecurityGroup"]["id"])
    if vm is not None:
        out["primary"] = True
        out["virtualMachine"] = ref(vm)
    if modern:
        out.update({"hostedWorkloads": [], "tapConfigurations": [],
                    "nicType": p.get("nicType", "Standard")})
    if api >= "2022-01-01":
        out["allowPort25Out"] = True
    head: dict[str, Any] = {"name": nic.name, "id": nic.id, "etag": nic.etag}
    if "tags" in nic.body:
        head["tags"] = nic.body["tags"]
    tail: dict[str, Any] = {"type": TYPE, "location": nic.body.get("location", "")}
    if api >= "2022-01-01":
        tail["kind"] = "Regular"
    return {**head, "properties": out, **tail}


def _config(nic: Resource, config: dict[str, Any]) -> dict[str, Any]:
    p = config.get("properties") or {}
    out: dict[str, Any] = {
        "provisioningState": nic.state,
        "privateIPAddress": p.get("privateIPAddress"),
        "privateIPAllocationMethod": p.get("privateIPAllocationMethod", "Dynamic"),
    }
    if p.get("publicIPAddress"):
        out["publicIPAddress"] = ref(p["publicIPAddress"]["id"])
    if p.get("subnet"):
        out["subnet"] = ref(p["subnet"]["id"])
    out["primary"] = bool(p.get("primary", True))
    out["privateIPAddressVersion"] = p.get("privateIPAddressVersion", "IPv4")
    out.update({k: [ref(x["id"]) for x in p[k]] for k in POOLS if p.get(k)})
    name = config.get("name")
    return {"name": name, "id": f"{nic.id}/ipConfigurations/{name}", "etag": nic.etag,
            "type": f"{TYPE}/ipConfigurations", "properties": out}


def machine_of(state: State, nic_id: str) -> str | None:
    """The id of the VM that uses the NIC."""
    return pointers(state).machine_of_nic.get(nic_id.lower())


def put(call: Call) -> Answer:
    """PUT the NIC: settled at once unless application gateway pools change."""
    body, old = call.replacing()
    properties = dict(body.get("properties") or {})
    configs = [_accept(call, c, old) for c in properties.get("ipConfigurations") or []]
    if not configs:
        raise bad("NetworkInterfaceMustHaveAtLeastOneIpConfiguration",
                  f"Network interface {call.id} must have at least one IP configuration.")
    properties["ipConfigurations"] = configs
    for field in ("networkSecurityGroup",):
        _exists(call, properties.get(field))
    nic = old or Resource(call.id, KIND, {})
    gateways = _gateway_pools(nic.body.get("properties") or {}) != _gateway_pools(properties)
    nic.body = {k: body[k] for k in ("location", "tags") if k in body}
    nic.body["properties"] = properties
    nic.touch()
    nic.state = "Updating" if gateways else "Succeeded"
    call.state.put(nic)

    def finish() -> None:
        nic.state = "Succeeded"

    op = call.state.begin(nic.id, "PutNicOperation", "Microsoft.Network", nic.location, call.api,
                          finish, seconds=None if gateways else 0, retry_after=0)
    return Answer(201 if old is None else 200, render(call.state, nic, call.api),
                  call.operation_headers(op))


def get(call: Call) -> Answer:
    """GET the NIC."""
    nic = call.state.get(call.id)
    if nic is None:
        raise not_found(TYPE, call.names[0], call.group)
    return Answer(200, render(call.state, nic, call.api), {"etag": nic.etag})


def delete(call: Call) -> Answer:
    """DELETE the NIC, unless a machine uses it."""
    nic = call.state.get(call.id)
    if nic is None:
        return Answer(204)
    vm = machine_of(call.state, nic.id) or nic.facts.get("vm")
    if vm is not None:
        raise bad(
            "NicInUse",
            f"Network Interface {nic.id} is used by existing resource {vm}. In order to delete the "
            "network interface, it must be dissociated from the resource. To learn more, see "
            "aka.ms/deletenic.",
        )
    op = call.state.begin(nic.id, "DeleteNicOperation", "Microsoft.Network", nic.location, call.api,
                          lambda: call.state.drop(nic.id), deletes=True, retry_after=0)
    # One that never served a machine is gone at once (recorded: 200); else it takes its time.
    return Answer(202 if nic.facts.get("mac") else 200, None,
                  call.operation_headers(op, location=True))


def _accept(call: Call, config: dict[str, Any], old: Resource | None) -> dict[str, Any]:
    p = dict(config.get("properties") or {})
    name = str(config.get("name", ""))
    if p.get("subnet"):
        p["subnet"] = ref(str(p["subnet"].get("id", "")))
        if _subnet(call.state, p["subnet"]["id"]) is None:
            raise bad(
                "InvalidResourceReference",
                f"Resource {p['subnet']['id']} referenced by resource {call.id} was not found. "
                "Please make sure that the referenced resource exists, and that both resources are "
                "in the same region.",
            )
    _exists(call, p.get("publicIPAddress"))
    if p.get("primary") is False and p.get("applicationGatewayBackendAddressPools"):
        raise bad(
            "ApplicationGatewayLoadBalancingNotSupportedOnSecondaryIpConfigurations",
            f"Network Interface with Id: {call.id} has a secondary IpConfigurations {name} is using "
            "ApplicationGatewayAddressPools. ApplicationGateway loadbalancing is not supported for "
            "secondary IpConfigurations.",
        )
    before = {
        str(c.get("name")).lower(): (c.get("properties") or {}).get("privateIPAddress")
        for c in ((old.body.get("properties") or {}).get("ipConfigurations") or [] if old else [])
    }
    static = str(p.get("privateIPAllocationMethod", "")).lower() == "static"
    if not (static and p.get("privateIPAddress")):
        p["privateIPAddress"] = before.get(name.lower()) or free_address(
            call.state, str((p.get("subnet") or {}).get("id", "")))
    return {"name": name, "properties": p}


def _exists(call: Call, reference: Any) -> None:
    if not isinstance(reference, dict) or not reference.get("id"):
        return
    if call.state.get(str(reference["id"])) is None:
        raise bad(
            "InvalidResourceReference",
            f"Resource {reference['id']} referenced by resource {call.id} was not found. Please make "
            "sure that the referenced resource exists, and that both resources are in the same "
            "region.",
        )


def _subnet(state: State, subnet_id: str) -> Any:
    vnet_id, _, name = subnet_id.lower().partition("/subnets/")
    vnet = state.get(vnet_id)
    return vnet.children.get("subnets", {}).get(name) if vnet else None


def subnet_there(state: State, subnet_id: str) -> bool:
    """Is there such a subnet?"""
    return _subnet(state, subnet_id) is not None


def free_address(state: State, subnet_id: str) -> str:
    """The first free host of the subnet; Azure keeps the first four."""
    subnet = _subnet(state, subnet_id)
    prefix = None
    if subnet is not None:
        prefix = subnet.properties.get("addressPrefix") or next(
            iter(subnet.properties.get("addressPrefixes") or []), None)
    net = ipaddress.ip_network(prefix or "10.0.0.0/24")
    taken = {
        (c.get("properties") or {}).get("privateIPAddress")
        for nic in state.of_kind(KIND)
        for c in (nic.body.get("properties") or {}).get("ipConfigurations") or []
        if str(((c.get("properties") or {}).get("subnet") or {}).get("id", "")).lower()
        == subnet_id.lower()
    }
    for n in range(4, net.num_addresses - 1):
        one = str(net.network_address + n)
        if one not in taken:
            return one
    raise ArmError(400, "SubnetIsFull", f"Subnet {subnet_id} has no free address.")


def _gateway_pools(properties: dict[str, Any]) -> set[str]:
    return {
        str(pool.get("id", "")).lower()
        for c in properties.get("ipConfigurations") or []
        for pool in (c.get("properties") or {}).get("applicationGatewayBackendAddressPools") or []
    }


def _domain(location: str) -> str:
    word = "".join(random.choices(string.ascii_lowercase + string.digits, k=26))  # noqa: S311 - a name, not a secret
    return f"{word}.{_SUFFIX.get(location, 'ax')}.internal.cloudapp.net"


def _mac() -> str:
    return "00-0D-3A-" + "-".join(f"{random.randrange(256):02X}" for _ in range(3))  # noqa: S311 - a name, not a secret
