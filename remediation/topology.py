"""What stands before machines, and where it leads: read from ARM's JSON, element by element. Pure.

An element (load balancer, application gateway, public address, scale set, …) gives leads: what to look
at next, and how it is reached. The tracer follows them to network interfaces and machines. Ids are
lower-cased; labels (`via`) are for people and keep Azure's spelling.

Source of the shapes: Microsoft.Network and Microsoft.Compute as recorded; facts/resource-graph.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from remediation.model import Mapped

type Body = Mapping[str, Any]

NET, COMPUTE = "microsoft.network", "microsoft.compute"
VIRTUAL_MACHINE, NIC = f"{COMPUTE}/virtualmachines", f"{NET}/networkinterfaces"
SCALE_SET = f"{COMPUTE}/virtualmachinescalesets"
INSTANCE = f"{SCALE_SET}/virtualmachines"
INSTANCE_NIC = f"{INSTANCE}/networkinterfaces"
INSTANCE_PUBLIC_IP = f"{INSTANCE_NIC}/ipconfigurations/publicipaddresses"
LOAD_BALANCER, GATEWAY = f"{NET}/loadbalancers", f"{NET}/applicationgateways"
PUBLIC_IP, NAT_GATEWAY = f"{NET}/publicipaddresses", f"{NET}/natgateways"
FIREWALL, BASTION = f"{NET}/azurefirewalls", f"{NET}/bastionhosts"
NETWORK_GATEWAY = f"{NET}/virtualnetworkgateways"
WAF_POLICY = f"{NET}/applicationgatewaywebapplicationfirewallpolicies"
UNLISTED = "unlisted"
"""In place of the id of an application gateway: which are before a machine is not known."""
NETWORK, SUBNET = f"{NET}/virtualnetworks", f"{NET}/virtualnetworks/subnets"

_PART = r"[\w.()-]{1,128}"
_ID = re.compile(
    rf"/subscriptions/[0-9a-f-]{{36}}/resourcegroups/{_PART}/providers/(?P<rest>{_PART}(?:/{_PART}){{2,10}})")


EVERY_PORT = (0, 65535)
"""What a rule of an internal load balancer for all ports leads on (`protocol` All, port 0)."""


class Kind(StrEnum):
    """What a lead is: a resource to be read, a private address in a network, or a dead end."""

    RESOURCE = "resource"
    ADDRESS = "address"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class Lead:
    """Where to go on. `target` is an id, an address, or for a dead end the reason why. `network`: the
    virtual network an address is in. `hidden`: the id of what hides clients' addresses from the member.
    `speaks_out`: does the element carry the member's traffic out? None where it does not say."""

    kind: Kind
    target: str
    via: str = ""
    network: str = ""
    hidden: str = ""
    ports: tuple[Mapped, ...] = ()
    speaks_out: bool | None = None


def kind_of(resource_id: str) -> str:
    """`…/providers/Microsoft.Network/virtualNetworks/v/subnets/s` → its type, lower-cased; '' if the text
    is no such id. An alert's text is anyone's: what passes here stays in its path as it is."""
    hit = _ID.fullmatch(resource_id.lower().rstrip("/"))
    parts = hit["rest"].split("/") if hit else []
    if len(parts) < 3 or len(parts) % 2 == 0 or any(not p.strip(".") for p in parts):
        return ""
    return "/".join([parts[0], *parts[1::2]])


def name_of(resource_id: str) -> str:
    """The last part, for people; an instance's with its scale set's."""
    parts = resource_id.rstrip("/").split("/")
    if len(parts) > 3 and parts[-4].lower() == "virtualmachinescalesets":
        return f"{parts[-3]}/{parts[-1]}"
    return parts[-1]


def hider(resource_id: str) -> str:
    """What hides clients' addresses, for people."""
    if resource_id == UNLISTED:
        return "an application gateway that was not to be listed yet, if there is one,"
    kind = {GATEWAY: "application gateway", FIREWALL: "firewall"}.get(kind_of(resource_id), "")
    return f"{kind} {name_of(resource_id)}".strip()


def owner_of(configuration_id: str) -> str:
    """The resource an IP configuration or frontend belongs to: its id up to that part."""
    low = configuration_id.lower()
    for part in ("/ipconfigurations/", "/frontendipconfigurations/", "/gatewayipconfigurations/",
                 "/azurefirewallipconfigurations/", "/bastionhostipconfigurations/"):
        head, found, _ = low.partition(part)
        if found:
            return head
    return low


def leads(body: Body) -> tuple[Lead, ...]:
    """Where the element leads, nothing twice. Elements of an unknown type lead nowhere, with the reason."""
    kind = kind_of(str(body.get("id", "")))
    read = READERS.get(kind)
    if read is None:
        return (Lead(Kind.NOWHERE, f"machines behind {kind or 'it'} cannot be found"),)
    return tuple(_once(read(body)))


def _once(found: Iterable[Lead]) -> Iterator[Lead]:
    """A member of several pools, or listed twice in one, is one lead with all its ports."""
    by_target: dict[tuple[Kind, str, str], Lead] = {}
    for lead in found:
        key = (lead.kind, lead.target, lead.network)
        before = by_target.get(key)
        by_target[key] = lead if before is None else replace(
            before, ports=tuple(dict.fromkeys((*before.ports, *lead.ports))),
            speaks_out=before.speaks_out or lead.speaks_out if lead.speaks_out is not None
            else before.speaks_out)
    yield from by_target.values()


def _properties(body: Any) -> Body:
    found = body.get("properties") if isinstance(body, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _list(body: Body, name: str) -> list[Body]:
    found = body.get(name)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _id(reference: Any) -> str:
    return str(reference.get("id") or "").lower().rstrip("/") if isinstance(reference, Mapping) else ""


def _ids(body: Body, name: str) -> list[str]:
    return [one for one in (_id(r) for r in _list(body, name)) if one]


def _number(value: Any) -> int:
    return value if isinstance(value, int) else int(value) if str(value).isdigit() else 0


def _network_of(subnet_id: str) -> str:
    return subnet_id.lower().partition("/subnets/")[0]


# --- load balancers ---


def _load_balancer(body: Body) -> Iterator[Lead]:
    """Members by NIC, by address with network, and regional load balancers of a cross-region one; the
    targets of inbound NAT rules, which need be in no pool."""
    p = _properties(body)
    outward = _outward_pools(p)
    for pool in _list(p, "backendAddressPools"):
        inner = _properties(pool)
        pool_id, via = _id(pool), f"pool {pool.get('name', '')}"
        ports = tuple(_pool_ports(p, pool_id))
        speaks = None if outward is None else pool_id in outward
        for config in _ids(inner, "backendIPConfigurations"):
            yield Lead(Kind.RESOURCE, owner_of(config), via, ports=ports, speaks_out=speaks)
        for member in _list(inner, "loadBalancerBackendAddresses"):
            yield from _pool_address(member, inner, via, ports, speaks_out=speaks)
    for rule in _list(p, "inboundNatRules"):
        inner = _properties(rule)
        config = _id(inner.get("backendIPConfiguration"))
        if config:
            yield Lead(Kind.RESOURCE, owner_of(config), f"NAT rule {rule.get('name', '')}", ports=(
                _mapping(inner, alone=True),))


def _pool_address(
    member: Body, pool: Body, via: str, ports: tuple[Mapped, ...], *, speaks_out: bool | None
) -> Iterator[Lead]:
    p = _properties(member)
    config = _id(p.get("networkInterfaceIPConfiguration"))
    regional = _id(p.get("loadBalancerFrontendIPConfiguration"))
    address = canonical(str(p.get("ipAddress") or ""))
    network = _id(p.get("virtualNetwork")) or _network_of(_id(p.get("subnet"))) or _id(
        pool.get("virtualNetwork"))
    if config:
        yield Lead(Kind.RESOURCE, owner_of(config), via, ports=ports, speaks_out=speaks_out)
    elif regional:
        yield Lead(Kind.RESOURCE, owner_of(regional), via, ports=ports, speaks_out=speaks_out)
    elif address and network:
        yield Lead(Kind.ADDRESS, address, via, network, ports=ports, speaks_out=speaks_out)
    elif address:
        yield Lead(Kind.NOWHERE, f"{via}: {address} is in no network that is named")


def _outward_pools(p: Body) -> set[str] | None:
    """Pools whose members speak out through the load balancer: by an outbound rule, or by a rule that
    does not forbid it. None: it is internal, and says nothing of how its members speak out."""
    public = {_id(f) for f in _list(p, "frontendIPConfigurations")
              if _id(_properties(f).get("publicIPAddress")) or _id(_properties(f).get("publicIPPrefix"))}
    found = {_id(_properties(rule).get("backendAddressPool")) for rule in _list(p, "outboundRules")}
    if not public and not found:
        return None
    for rule in _list(p, "loadBalancingRules"):
        inner = _properties(rule)
        if not inner.get("disableOutboundSnat") and _id(inner.get("frontendIPConfiguration")) in public:
            found |= {_id(inner.get("backendAddressPool")), *_ids(inner, "backendAddressPools")}
    return found - {""}


def _pool_ports(p: Body, pool_id: str) -> Iterator[Mapped]:
    for name in ("loadBalancingRules", "inboundNatRules"):
        for rule in _list(p, name):
            inner = _properties(rule)
            pools = {_id(inner.get("backendAddressPool")), *_ids(inner, "backendAddressPools")}
            if pool_id in pools:
                yield _mapping(inner)


def _mapping(rule: Body, *, alone: bool = False) -> Mapped:
    if str(rule.get("protocol", "")).lower() == "all" and not _number(rule.get("frontendPort")):
        return Mapped(EVERY_PORT, 0, alone)
    first = _number(rule.get("frontendPort")) or _number(rule.get("frontendPortRangeStart"))
    last = _number(rule.get("frontendPortRangeEnd")) or first
    return Mapped((first, last), _number(rule.get("backendPort")), alone)


# --- application gateways ---


def _gateway(body: Body) -> Iterator[Lead]:
    """Pools by NIC, by address in the gateway's network, by name: a name is reported, not guessed."""
    p = _properties(body)
    hidden = _id(body)
    networks = [_network_of(s) for s in _gateway_subnets(p)]
    for pool in _list(p, "backendAddressPools"):
        inner, via = _properties(pool), f"pool {pool.get('name', '')}"
        for config in _ids(inner, "backendIPConfigurations"):
            yield Lead(Kind.RESOURCE, owner_of(config), via, hidden=hidden)
        for member in _list(inner, "backendAddresses"):
            if member.get("ipAddress"):
                address = canonical(str(member["ipAddress"]))
                yield Lead(Kind.ADDRESS, address, via, (networks or [""])[0], hidden)
            elif member.get("fqdn"):
                yield Lead(Kind.NOWHERE, f"{via}: the name {member['fqdn']} is not resolved", via)


def _gateway_subnets(p: Body) -> list[str]:
    return [s for s in (_id(_properties(c).get("subnet")) for c in _list(p, "gatewayIPConfigurations"))
            if s]


def canonical(address: str) -> str:
    """An address as Azure writes it: IPv6 has many spellings. What is none stays as it is."""
    try:
        return str(ipaddress.ip_address(address.strip()))
    except ValueError:
        return address


def pool_addresses(row: Body) -> tuple[str, set[str]]:
    """The subnet of a gateway, and the addresses behind it, from a row of the graph."""
    p = {"gatewayIPConfigurations": row.get("configurations"), "backendAddressPools": row.get("pools")}
    found = {canonical(str(member["ipAddress"])) for pool in _list(p, "backendAddressPools")
             for member in _list(_properties(pool), "backendAddresses") if member.get("ipAddress")}
    return next(iter(_gateway_subnets(p)), ""), found


def gateway_subnet(body: Body) -> str:
    """The subnet an application gateway sits in; '' if it does not say."""
    return next(iter(_gateway_subnets(_properties(body))), "")


def waf_policies(body: Body) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The WAF policies that together see all requests to an application gateway (its own, a listener's,
    a path's: the nearest counts alone), and what no policy sees, for people."""
    p = _properties(body)
    own = _id(p.get("firewallPolicy"))
    found: dict[str, None] = {}
    unseen = []
    for listener in _list(p, "httpListeners"):
        policy = _id(_properties(listener).get("firewallPolicy")) or own
        if policy:
            found[policy] = None
        else:
            unseen.append(f"listener {listener.get('name', '')}")
    for paths in _list(p, "urlPathMaps"):
        for rule in _list(_properties(paths), "pathRules"):
            found |= dict.fromkeys(filter(None, [_id(_properties(rule).get("firewallPolicy"))]))
    unseen += [f"listener {one.get('name', '')} (no HTTP)" for one in _list(p, "listeners")]
    return tuple(found), tuple(unseen)


# --- what has an address, and what lies in a network ---


def _public_ip(body: Body) -> Iterator[Lead]:
    p = _properties(body)
    owner = _id(p.get("natGateway")) or owner_of(_id(p.get("ipConfiguration")))
    if owner:
        yield Lead(Kind.RESOURCE, owner)
    else:
        yield Lead(Kind.NOWHERE, "the public address belongs to nothing")


def _nat_gateway(body: Body) -> Iterator[Lead]:
    for subnet in _ids(_properties(body), "subnets"):
        yield Lead(Kind.RESOURCE, subnet, "outbound", speaks_out=True)


def _network(body: Body) -> Iterator[Lead]:
    for subnet in _list(_properties(body), "subnets"):
        for lead in _subnet(subnet):
            yield replace(lead, via=f"subnet {subnet.get('name', '')}")


def _subnet(body: Body) -> Iterator[Lead]:
    """The NICs in it; what else has an address there is no machine."""
    for config in _ids(_properties(body), "ipConfigurations"):
        owner = owner_of(config)
        if kind_of(owner) in (NIC, INSTANCE_NIC):
            yield Lead(Kind.RESOURCE, owner)


def _placed(body: Body) -> Iterator[Lead]:
    """A firewall that no route names, a Bastion or network gateway: the network around it, whose machines
    may be behind it. What a firewall lets in bears its own address behind it."""
    p, own = _properties(body), _id(body)
    hidden = own if kind_of(own) == FIREWALL else ""
    subnets = [_id(_properties(c).get("subnet")) for c in _list(p, "ipConfigurations")]
    networks = dict.fromkeys(_network_of(s) for s in subnets if s)
    if not networks:
        yield Lead(Kind.NOWHERE, "it does not say which network it is in")
    for network in networks:
        yield Lead(Kind.RESOURCE, network, "its network", hidden=hidden)


def appliance(body: Body) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A firewall's private addresses, which routes may name, and the networks it is in."""
    configurations = [_properties(c) for c in _list(_properties(body), "ipConfigurations")]
    addresses = [str(c.get("privateIPAddress") or "") for c in configurations]
    networks = [_network_of(_id(c.get("subnet"))) for c in configurations]
    return tuple(dict.fromkeys(filter(None, addresses))), tuple(dict.fromkeys(filter(None, networks)))


def peers(body: Body, *, through_gateway: bool = False) -> tuple[str, ...]:
    """The networks that a virtual network is peered with; or those that may use its network gateway."""
    found = (_id(_properties(one).get("remoteVirtualNetwork"))
             for one in _list(_properties(body), "virtualNetworkPeerings")
             if not through_gateway or _properties(one).get("allowGatewayTransit"))
    return tuple(filter(None, found))


READERS: Mapping[str, Callable[[Body], Iterator[Lead]]] = {
    LOAD_BALANCER: _load_balancer, GATEWAY: _gateway, PUBLIC_IP: _public_ip, NAT_GATEWAY: _nat_gateway,
    NETWORK: _network, SUBNET: _subnet, FIREWALL: _placed, BASTION: _placed, NETWORK_GATEWAY: _placed,
}
