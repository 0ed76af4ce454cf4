"""Who refers to whom, read backwards: made once for every state of things, however often it is asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sandbox.arm.state import Resource, State

NIC, NETWORK = "microsoft.network/networkinterfaces", "microsoft.network/virtualnetworks"
MACHINE = "microsoft.compute/virtualmachines"
PARTS = ("ipConfigurations", "frontendIPConfigurations", "gatewayIPConfigurations")
POOLS = ("loadBalancerBackendAddressPools", "applicationGatewayBackendAddressPools")


def _lists() -> dict[str, list[str]]:
    return defaultdict(list)


@dataclass
class Pointers:
    """All keys are lower-cased ids; the values are ids as they are written."""

    nics_of_nsg: dict[str, list[str]] = field(default_factory=_lists)
    subnets_of_nsg: dict[str, list[str]] = field(default_factory=_lists)
    subnets_of_nat: dict[str, list[str]] = field(default_factory=_lists)
    in_subnet: dict[str, list[str]] = field(default_factory=_lists)
    in_pool: dict[str, list[str]] = field(default_factory=_lists)
    user_of_address: dict[str, str] = field(default_factory=dict)
    machine_of_nic: dict[str, str] = field(default_factory=dict)


def pointers(state: State) -> Pointers:
    """As things are now."""
    if state.pointers is None or state.pointers[0] != state.version:
        state.pointers = (state.version, _read(state))
    found: Pointers = state.pointers[1]
    return found


def _read(state: State) -> Pointers:
    found = Pointers()
    for resource in state.resources.values():
        p = resource.body.get("properties") or {}
        if resource.kind == NETWORK:
            for subnet in resource.children.get("subnets", {}).values():
                subnet_id = f"{resource.id}/subnets/{subnet.name}"
                found.subnets_of_nsg[_low(subnet.properties.get("networkSecurityGroup"))].append(subnet_id)
                found.subnets_of_nat[_low(subnet.properties.get("natGateway"))].append(subnet_id)
            continue
        if resource.kind == NIC:
            found.nics_of_nsg[_low(p.get("networkSecurityGroup"))].append(resource.id)
        if resource.kind == MACHINE:
            for nic in (p.get("networkProfile") or {}).get("networkInterfaces") or []:
                found.machine_of_nic.setdefault(_low(nic), resource.id)
        for config_id, inner in _configurations(resource, p):
            found.in_subnet[_low(inner.get("subnet"))].append(config_id)
            found.user_of_address.setdefault(_low(inner.get("publicIPAddress")), config_id)
            for pool in (one for side in POOLS for one in inner.get(side) or []):
                found.in_pool[_low(pool)].append(config_id)
        for one in p.get("publicIpAddresses") or []:
            found.user_of_address.setdefault(_low(one), resource.id)
    return found


def _configurations(resource: Resource, p: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in PARTS:
        for config in p.get(part) or []:
            yield f"{resource.id}/{part}/{config.get('name')}", config.get("properties") or {}


def _low(reference: Any) -> str:
    return str(reference.get("id", "")).lower() if isinstance(reference, dict) else ""
