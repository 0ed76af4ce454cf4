"""Public IP addresses."""

from __future__ import annotations

import ipaddress
from typing import Any

from sandbox.arm.call import Answer, Call, ref
from sandbox.arm.errors import bad, not_found
from sandbox.arm.pointers import pointers
from sandbox.arm.state import Resource, State

KIND = "microsoft.network/publicipaddresses"
TYPE = "Microsoft.Network/publicIPAddresses"
POOL = ipaddress.ip_network("203.0.113.0/24")
"""Addresses handed out: documentation space."""


def render(state: State, pip: Resource, api: str = "") -> dict[str, Any]:
    """The address as ARM shows it."""
    p = pip.body["properties"]
    out: dict[str, Any] = {"provisioningState": pip.state, "resourceGuid": pip.guid}
    if pip.facts.get("address"):
        out["ipAddress"] = pip.facts["address"]
    out["publicIPAddressVersion"] = p.get("publicIPAddressVersion", "IPv4")
    out["publicIPAllocationMethod"] = p.get("publicIPAllocationMethod", "Dynamic")
    out["idleTimeoutInMinutes"] = p.get("idleTimeoutInMinutes", 4)
    out.update({k: p[k] for k in ("dnsSettings", "publicIPPrefix") if k in p})
    out["ipTags"] = p.get("ipTags") or []
    user = user_of(state, pip.id) or pip.facts.get("user")
    if user:
        out["natGateway" if "/natgateways/" in user.lower() else "ipConfiguration"] = ref(user)
    if api >= "2022-06-01":
        out["ddosSettings"] = {"protectionMode": "VirtualNetworkInherited"}
    sku = dict(pip.body.get("sku") or {"name": "Basic"})
    if not api or api >= "2020-01-01":
        sku.setdefault("tier", "Regional")
    head: dict[str, Any] = {"name": pip.name, "id": pip.id, "etag": pip.etag,
                            "location": pip.body.get("location", "")}
    head.update({k: pip.body[k] for k in ("tags", "zones") if k in pip.body})
    return {**head, "properties": out, "type": TYPE, "sku": sku}


def user_of(state: State, pip_id: str) -> str | None:
    """The configuration that uses the address."""
    return pointers(state).user_of_address.get(pip_id.lower())


def put(call: Call) -> Answer:
    """PUT the address."""
    body, old = call.replacing()
    pip = old or Resource(call.id, KIND, {})
    pip.body = {k: body[k] for k in ("location", "tags", "zones", "sku") if k in body}
    pip.body["properties"] = dict(body.get("properties") or {})
    wanted = pip.body["properties"].pop("ipAddress", None)
    pip.state = "Updating"
    pip.touch()
    call.state.put(pip)

    def finish() -> None:
        pip.state = "Succeeded"
        static = str(pip.body["properties"].get("publicIPAllocationMethod", "")).lower() == "static"
        if static and not pip.facts.get("address"):
            pip.facts["address"] = wanted or _free(call.state)
        pip.touch()

    op = call.state.begin(pip.id, "PutPublicIpAddressOperation", "Microsoft.Network", pip.location,
                          call.api, finish)
    return Answer(201 if old is None else 200, render(call.state, pip, call.api),
                  call.operation_headers(op))


def get(call: Call) -> Answer:
    """GET the address."""
    pip = call.state.get(call.id)
    if pip is None:
        raise not_found(TYPE, call.names[0], call.group)
    return Answer(200, render(call.state, pip, call.api), {"etag": pip.etag})


def delete(call: Call) -> Answer:
    """DELETE the address, unless it is in use."""
    pip = call.state.get(call.id)
    if pip is None:
        return Answer(204)
    user = user_of(call.state, pip.id) or pip.facts.get("user")
    if user:
        raise bad(
            "PublicIPAddressCannotBeDeleted",
            f"Public IP address {pip.id} can not be deleted since it is still allocated to resource "
            f"{user}. In order to delete the public IP, disassociate/detach the Public IP address "
            "from the resource.  To learn how to do this, see aka.ms/deletepublicip.",
        )
    op = call.state.begin(pip.id, "DeletePublicIpAddressOperation", "Microsoft.Network",
                          pip.location, call.api, lambda: call.state.drop(pip.id), deletes=True,
                          retry_after=10)
    return Answer(202, None, call.operation_headers(op, location=True))


def _free(state: State) -> str:
    taken = {r.facts.get("address") for r in state.of_kind(KIND)}
    return next(str(h) for h in POOL.hosts() if str(h) not in taken)
