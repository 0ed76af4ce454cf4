"""Scale sets: stored as they are put or seeded; their instances are seeded (`before.INSTANCE`)."""

from __future__ import annotations

import copy
from typing import Any

from sandbox.arm import before
from sandbox.arm.call import Answer, Call
from sandbox.arm.compute import quota
from sandbox.arm.compute import view_of as instance_view_of
from sandbox.arm.errors import not_found
from sandbox.arm.state import Resource, State

TYPE = "Microsoft.Compute/virtualMachineScaleSets"
KIND = TYPE.lower()


def render(state: State, scale_set: Resource, api: str = "") -> dict[str, Any]:
    """The scale set as ARM shows it. `api` changes nothing here."""
    p = copy.deepcopy(scale_set.body.get("properties") or {})
    return {"name": scale_set.name, "id": scale_set.id, "type": TYPE,
            **{k: scale_set.body[k] for k in ("location", "tags", "sku", "zones") if k in scale_set.body},
            "properties": {**p, "provisioningState": scale_set.state,
                           "uniqueId": p.get("uniqueId") or scale_set.guid}}


def get(call: Call) -> Answer:
    """GET a scale set."""
    return Answer(200, render(call.state, _there(call), call.api), quota("GetVMScaleSet"))


def put(call: Call) -> Answer:
    """PUT a scale set; its instances do not follow."""
    body = call.json()
    old = call.state.get(call.id)
    scale_set = old or Resource(call.id, KIND, {})
    scale_set.body = {k: body[k] for k in ("location", "tags", "sku", "zones", "properties") if k in body}
    scale_set.body.setdefault("properties", {}).setdefault("orchestrationMode", "Uniform")
    scale_set.state = "Creating" if old is None else "Updating"
    call.state.put(scale_set)

    def finish() -> None:
        scale_set.state = "Succeeded"

    op = call.state.begin(scale_set.id, "virtualMachineScaleSets.PUT", "Microsoft.Compute",
                          scale_set.location, call.api, finish, retry_after=10)
    return Answer(201 if old is None else 200, render(call.state, scale_set, call.api),
                  {**call.operation_headers(op), **quota("CreateVMScaleSet")})


def delete(call: Call) -> Answer:
    """DELETE a scale set, with its instances."""
    scale_set = call.state.get(call.id)
    if scale_set is None:
        return Answer(204)
    op = call.state.begin(scale_set.id, "virtualMachineScaleSets.DELETE", "Microsoft.Compute",
                          scale_set.location, call.api, lambda: call.state.drop(scale_set.id), deletes=True,
                          retry_after=10)
    return Answer(202, None, {**call.operation_headers(op, location=True), **quota("DeleteVMScaleSet")})


def instances(call: Call) -> Answer:
    """GET the instances."""
    found = [r.body | {"id": r.id, "name": r.name} for r in call.state.of_kind(
        before.INSTANCE, _there(call).id)]
    return Answer(200, {"value": found}, quota("HighCostGetVMScaleSet"))


def get_instance(call: Call) -> Answer:
    """GET one instance."""
    found = call.state.get(call.id)
    if found is None:
        raise not_found(f"{TYPE}/virtualMachines", "/".join(call.names), call.group)
    body = found.body | {"id": found.id, "name": found.name}
    if "instanceview" in call.query.get("$expand", "").lower():
        body = {
            **body,
            "properties": {**(body.get("properties") or {}), "instanceView": instance_view_of(found)},
        }
    return Answer(200, body, quota("GetVMScaleSet"))


def instance_nics(call: Call) -> Answer:
    """GET the network interfaces of one instance."""
    owner = call.id_of(2)
    if call.state.get(owner) is None:
        raise not_found(f"{TYPE}/virtualMachines", "/".join(call.names), call.group)
    return Answer(200, {"value": [r.body | {"id": r.id, "name": r.name} for r in call.state.of_kind(
        before.INSTANCE_NIC, owner)]})


def _there(call: Call) -> Resource:
    found = call.state.get(call.id_of(1))
    if found is None:
        raise not_found(TYPE, call.names[0], call.group)
    return found
