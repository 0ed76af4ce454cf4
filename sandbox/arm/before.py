"""What stands before machines: load balancers, application gateways, NAT gateways and their like.

Stored as they were put or seeded; the members of a pool are those whose network interfaces say so, as
in Azure, where the pool shows what the interfaces hold.
"""

from __future__ import annotations

import copy
from typing import Any

from sandbox.arm.call import Answer, Call, ref
from sandbox.arm.errors import not_found
from sandbox.arm.pointers import pointers
from sandbox.arm.state import Resource, State

LOAD_BALANCER, GATEWAY = "microsoft.network/loadbalancers", "microsoft.network/applicationgateways"
NAT_GATEWAY = "microsoft.network/natgateways"
INSTANCE = "microsoft.compute/virtualmachinescalesets/virtualmachines"
INSTANCE_NIC = f"{INSTANCE}/networkinterfaces"
TYPES = {LOAD_BALANCER: "Microsoft.Network/loadBalancers", GATEWAY: "Microsoft.Network/applicationGateways",
         NAT_GATEWAY: "Microsoft.Network/natGateways"}
_SIDE = {LOAD_BALANCER: "loadBalancerBackendAddressPools", GATEWAY: "applicationGatewayBackendAddressPools"}


def render(state: State, resource: Resource, api: str = "") -> dict[str, Any]:
    """The element as ARM shows it. `api` changes nothing here."""
    body = {"name": resource.name, "id": resource.id, "type": TYPES[resource.kind],
            "location": resource.location, **copy.deepcopy(resource.body)}
    properties = body.setdefault("properties", {})
    properties.setdefault("provisioningState", resource.state)
    if resource.kind in _SIDE:
        for pool in properties.get("backendAddressPools") or []:
            _show_members(state, resource, pool)
    if resource.kind == NAT_GATEWAY:
        properties.setdefault("subnets", [
            ref(s) for s in pointers(state).subnets_of_nat.get(resource.id.lower(), ())])
    return body


def _show_members(state: State, resource: Resource, pool: dict[str, Any]) -> None:
    inner = pool.setdefault("properties", {})
    pool.setdefault("id", f"{resource.id}/backendAddressPools/{pool.get('name')}")
    if "backendIPConfigurations" not in inner:
        found = pointers(state).in_pool.get(pool["id"].lower())
        if found:
            inner["backendIPConfigurations"] = [ref(m) for m in found]


def get(call: Call) -> Answer:
    """GET an element."""
    found = call.state.get(call.id)
    if found is None:
        raise not_found(TYPES[call.kind], call.names[0], call.group)
    return Answer(200, render(call.state, found, call.api), {"etag": found.etag})
