"""What stands before machines: load balancers, application gateways, NAT gateways.

Each is a resource with parts (frontends, pools, rules, …) that have ids and etags of their own and name each
other; a part shows who names it. The members of a pool are those whose network interfaces say so, as in
Azure, where the pool shows what the interfaces hold. Source of shapes and defaults: the recordings.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.arm import nic
from sandbox.arm.call import Answer, Call, ref
from sandbox.arm.errors import ArmError, bad, not_found
from sandbox.arm.pointers import pointers
from sandbox.arm.state import Resource, State

LOAD_BALANCER, GATEWAY = "microsoft.network/loadbalancers", "microsoft.network/applicationgateways"
NAT_GATEWAY = "microsoft.network/natgateways"
INSTANCE = "microsoft.compute/virtualmachinescalesets/virtualmachines"
INSTANCE_NIC = f"{INSTANCE}/networkinterfaces"
POOLS, ADDRESSES = "backendAddressPools", "loadBalancerBackendAddresses"
MEMBERS = "backendIPConfigurations"
FRONTENDS = "frontendIPConfigurations"

_FIREWALL = {"disabledRuleGroups": [], "requestBodyCheck": True, "maxRequestBodySizeInKb": 128,
             "fileUploadLimitInMb": 100}
_RULE = {"enableFloatingIP": False, "enableTcpReset": False, "allowBackendPortConflict": False,
         "enableDestinationServiceEndpoint": False, "idleTimeoutInMinutes": 4}


@dataclass(frozen=True)
class Form:
    """How a kind is shown: `parts` by name with their defaults, always there; `others`, too, but without
    parts of theirs; `later` come with an api-version. `fixed`: properties of the resource itself. How
    long its operations take Azure shows in Retry-After: `put` and `delete`, in seconds."""

    type: str
    operation: str
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    later: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    sku: Mapping[str, Any] = field(default_factory=dict)
    put: int = 3
    delete: int = 10
    children: tuple[str, ...] = ()


FORMS = {
    LOAD_BALANCER: Form(
        "Microsoft.Network/loadBalancers", "LoadBalancer",
        parts={FRONTENDS: {"privateIPAllocationMethod": "Dynamic"}, POOLS: {},
               "loadBalancingRules": {**_RULE, "loadDistribution": "Default"},
               "probes": {"intervalInSeconds": 15, "numberOfProbes": 2},
               "inboundNatRules": {**_RULE, "protocol": "Tcp"}, "inboundNatPools": _RULE},
        sku={"name": "Basic", "tier": "Regional"}, children=(POOLS, "inboundNatRules")),
    GATEWAY: Form(
        "Microsoft.Network/applicationGateways", "ApplicationGateway",
        parts={"gatewayIPConfigurations": {}, FRONTENDS: {"privateIPAllocationMethod": "Dynamic"},
               "frontendPorts": {}, POOLS: {"backendAddresses": []},
               "backendHttpSettingsCollection": {
                   "protocol": "Http", "cookieBasedAffinity": "Disabled", "requestTimeout": 30,
                   "pickHostNameFromBackendAddress": False},
               "httpListeners": {"protocol": "Http", "hostNames": [], "requireServerNameIndication": False},
               "requestRoutingRules": {"ruleType": "Basic"}, "urlPathMaps": {}},
        others=("sslCertificates", "probes", "rewriteRuleSets", "redirectConfigurations"),
        later={"2022-07-01": ("trustedRootCertificates", "trustedClientCertificates", "sslProfiles",
                              "backendSettingsCollection", "listeners", "routingRules",
                              "loadDistributionPolicies", "privateLinkConfigurations",
                              "privateEndpointConnections")},
        fixed={"operationalState": "Running"}, put=5),
    NAT_GATEWAY: Form("Microsoft.Network/natGateways", "NatGateway", fixed={"idleTimeoutInMinutes": 4},
                      sku={"name": "Standard", "tier": "Regional"}, put=10),
}
TYPES = {kind: form.type for kind, form in FORMS.items()}
CHILDREN = {f"{kind}/{part.lower()}": (kind, part) for kind, form in FORMS.items() for part in form.children}


# --- rendering ---


def render(state: State, resource: Resource, api: str = "") -> dict[str, Any]:
    """The element as ARM shows it; without an api-version, as the graph does."""
    form = FORMS[resource.kind]
    given = resource.body.get("properties") or {}
    p: dict[str, Any] = {"provisioningState": resource.state, "resourceGuid": resource.guid}
    p.update(form.fixed)
    p.update({k: copy.deepcopy(v) for k, v in given.items() if k not in form.parts})
    for part, defaults in form.parts.items():
        p[part] = [_part(resource, part, one, defaults) for one in given.get(part) or []]
    for name in (*form.others, *(n for since, names in form.later.items() if api >= since for n in names)):
        p.setdefault(name, [])
    if resource.kind == GATEWAY:
        family: dict[str, Any] = {"family": "Generation_1"} if api >= "2022-07-01" else {}
        firewall = p.get("webApplicationFirewallConfiguration")
        if firewall:
            p["webApplicationFirewallConfiguration"] = {**_FIREWALL, **firewall}
        p["sku"] = family | dict(given.get("sku") or {})
    if api and api < "2022-01-01" and resource.kind == LOAD_BALANCER:
        p.setdefault("outboundRules", [])
    _show_members(state, resource, p)
    _point_back(resource, p, form)
    if resource.kind == NAT_GATEWAY:
        subnets = pointers(state).subnets_of_nat.get(resource.id.lower())
        if subnets:
            p["subnets"] = [ref(s) for s in subnets]
    head: dict[str, Any] = {
        "name": resource.name, "id": resource.id, "etag": resource.etag, "type": form.type,
        "location": resource.body.get("location", ""),
        **{k: resource.body[k] for k in ("tags", "zones") if k in resource.body}}
    sku = {**form.sku, **(resource.body.get("sku") or {})}
    return {**head, "properties": p, **({"sku": sku} if sku else {})}


def _part(resource: Resource, part: str, one: Mapping[str, Any], defaults: Mapping[str, Any]
          ) -> dict[str, Any]:
    """One frontend, pool, rule or what it be."""
    given = _bare(one.get("properties") or {})
    members = (one.get("properties") or {}).get(MEMBERS)  # of one that was only seen: nobody described them
    inner: dict[str, Any] = {"provisioningState": resource.state, **copy.deepcopy(dict(defaults)), **given,
                             **({MEMBERS: copy.deepcopy(members)} if members else {})}
    part_id = f"{resource.id}/{part}/{one.get('name')}"
    kind = f"{FORMS[resource.kind].type}/{part}"
    if part == FRONTENDS and inner.get("subnet") and resource.kind == LOAD_BALANCER:
        inner.setdefault("privateIPAddressVersion", "IPv4")
    if part == "loadBalancingRules":  # the list is the newer of the two, and wins
        pools = inner.get(POOLS) or ([inner["backendAddressPool"]] if inner.get("backendAddressPool") else [])
        inner |= {"backendAddressPool": pools[0], POOLS: pools} if pools else {}
    if part == POOLS and inner.get(ADDRESSES):
        inner[ADDRESSES] = [{
            "name": a.get("name"), "id": f"{part_id}/{ADDRESSES}/{a.get('name')}", "etag": resource.etag,
            "properties": {"provisioningState": resource.state, **(a.get("properties") or {})},
            "type": f"{kind}/{ADDRESSES}"} for a in inner[ADDRESSES]]
    return {"name": one.get("name"), "id": part_id, "etag": resource.etag, "properties": inner, "type": kind}


def _show_members(state: State, resource: Resource, p: dict[str, Any]) -> None:
    """Of each pool, the configurations of network interfaces that are in it."""
    for pool in p.get(POOLS) or []:
        found = pointers(state).in_pool.get(pool["id"].lower())
        if found:
            pool["properties"][MEMBERS] = [ref(m) for m in found]


def _point_back(resource: Resource, p: dict[str, Any], form: Form) -> None:
    """Each part shows which others name it."""
    by_id = {one["id"].lower(): one for part in form.parts for one in p[part]}
    outward = {"outboundRules": p.get("outboundRules") or []} if resource.kind == LOAD_BALANCER else {}
    for part, those in ({n: p[n] for n in form.parts} | outward).items():
        for one in those:
            mine = one.get("id") or f"{resource.id}/{part}/{one.get('name')}"
            for target in dict.fromkeys(_named(one.get("properties") or {})):
                there = by_id.get(target)
                if there is not None and there is not one:
                    there["properties"].setdefault(part, []).append(ref(mine))


def _named(properties: Mapping[str, Any]) -> Iterator[str]:
    for name, value in properties.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Mapping) and set(one) == {"id"} and not name.endswith("IPConfigurations"):
                yield str(one["id"]).lower()


# --- requests ---


def get(call: Call) -> Answer:
    """GET an element."""
    found = call.state.get(call.id)
    if found is None:
        raise not_found(TYPES[call.kind], call.names[0], call.group)
    return Answer(200, render(call.state, found, call.api), {"etag": found.etag})


def put(call: Call) -> Answer:
    """PUT an element: a full replacement."""
    body, old = call.replacing()
    properties = _clean(body.get("properties") or {}, FORMS[call.kind])
    resource = old or Resource(call.id, call.kind, {})
    before = (old.body.get("properties") or {}) if old else {}
    _check(call, properties, before)
    same = old is not None and before == properties
    resource.body = {**{k: body[k] for k in ("location", "tags", "zones", "sku") if k in body},
                     "properties": properties}
    call.state.put(resource)
    return _begin(call, resource, f"Put{FORMS[call.kind].operation}Operation", new=old is None,
                  at_once=_quick(call.kind, properties, before) or (same and call.kind == NAT_GATEWAY))


def delete(call: Call) -> Answer:
    """DELETE an element."""
    found = call.state.get(call.id)
    if found is None:
        return Answer(204)
    form = FORMS[call.kind]
    op = call.state.begin(found.id, f"Delete{form.operation}Operation", "Microsoft.Network", found.location,
                          call.api, lambda: call.state.drop(found.id), deletes=True, retry_after=form.delete)
    return Answer(202, None, call.operation_headers(op, location=True))


def get_child(call: Call) -> Answer:
    """GET a pool or a NAT rule."""
    owner, part = _owner(call)
    shown = render(call.state, owner, call.api)["properties"][part]
    found = next((one for one in shown if str(one["name"]).lower() == call.names[1].lower()), None)
    if found is None:
        raise ArmError(404, "NotFound", f"Resource {call.id} not found.")
    return Answer(200, found, {"etag": owner.etag})


def list_children(call: Call) -> Answer:
    """GET all pools, or all NAT rules."""
    owner, part = _owner(call)
    return Answer(200, {"value": render(call.state, owner, call.api)["properties"][part]})


def put_child(call: Call) -> Answer:
    """PUT a pool or a NAT rule."""
    owner, part = _owner(call)
    form = FORMS[owner.kind]
    name = call.names[1]
    those = owner.body.setdefault("properties", {}).setdefault(part, [])
    place = next((n for n, one in enumerate(those) if str(one.get("name")).lower() == name.lower()), None)
    inner = _bare(call.json().get("properties") or {})
    if part == POOLS:
        inner.setdefault(ADDRESSES, [])
    made = {"name": name, "properties": inner}
    if place is None:
        those.append(made)
    else:
        those[place] = made
    answer = _begin(call, owner, f"Put{form.operation}Operation", new=place is None, at_once=part != POOLS)
    shown = render(call.state, owner, call.api)["properties"][part]
    answer.body = next(one for one in shown if str(one["name"]).lower() == name.lower())
    return answer


def delete_child(call: Call) -> Answer:
    """DELETE a pool or a NAT rule; 204 where there is none."""
    owner, part = _owner(call)
    those = owner.body.get("properties", {}).get(part) or []
    left = [one for one in those if str(one.get("name")).lower() != call.names[1].lower()]
    if len(left) == len(those):
        return Answer(204)
    form = FORMS[owner.kind]

    def finish() -> None:
        owner.body["properties"][part] = left
        owner.touch()

    op = call.state.begin(call.id, f"Delete{form.operation}Operation", "Microsoft.Network", owner.location,
                          call.api, finish, deletes=True, retry_after=form.delete)
    return Answer(202, None, call.operation_headers(op, location=True))


def _owner(call: Call) -> tuple[Resource, str]:
    kind, part = CHILDREN[call.kind]
    owner = call.state.get(call.id_of(1))
    if owner is None:
        raise not_found(f"{TYPES[kind]}", call.names[0], call.group)
    return owner, part


def _begin(call: Call, resource: Resource, name: str, *, new: bool, at_once: bool) -> Answer:
    """Accept a write; what takes no time shows as done in the answer, and names an operation all the same."""
    resource.touch()
    resource.state = "Succeeded" if at_once else "Updating"

    def finish() -> None:
        if not at_once:
            resource.state = "Succeeded"
            resource.touch()

    op = call.state.begin(resource.id, name, "Microsoft.Network", resource.location, call.api, finish,
                          seconds=0 if at_once else None, retry_after=FORMS[resource.kind].put)
    return Answer(201 if new else 200, render(call.state, resource, call.api),
                  call.operation_headers(op, retry_after=not at_once and new))


def _quick(kind: str, properties: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """A load balancer is there at once, unless an address must be found for it, or members by address come
    or go."""
    if kind != LOAD_BALANCER:
        return False
    inside = any((f.get("properties") or {}).get("subnet") for f in properties.get(FRONTENDS) or [])
    named = any((p.get("properties") or {}).get(ADDRESSES)
                for p in (*(properties.get(POOLS) or []), *(before.get(POOLS) or [])))
    return not (inside or named)


def _clean(properties: Mapping[str, Any], form: Form) -> dict[str, Any]:
    """As it was sent, without what Azure says of it."""
    found = {k: copy.deepcopy(v) for k, v in properties.items()
             if k not in ("provisioningState", "resourceGuid", "operationalState")}
    for part in form.parts:
        if found.get(part):
            found[part] = [{"name": one.get("name"), "properties": _bare(one.get("properties") or {})}
                           for one in found[part]]
    return found


BACKWARD = ("provisioningState", MEMBERS, "loadBalancingRules", "inboundNatRules",
            "inboundNatPools", "outboundRules", "outboundRule", "requestRoutingRules", "httpListeners",
            "urlPathMaps")


def _bare(properties: Mapping[str, Any]) -> dict[str, Any]:
    found = {k: copy.deepcopy(v) for k, v in properties.items() if k not in BACKWARD}
    if found.get(ADDRESSES):
        found[ADDRESSES] = [{"name": a.get("name"), "properties": {
            k: v for k, v in (a.get("properties") or {}).items() if k != "provisioningState"}}
            for a in found[ADDRESSES]]
    return found


def _check(call: Call, properties: dict[str, Any], before: Mapping[str, Any]) -> None:
    """What it names must be there, and settled. What it named before is there."""
    state, known = call.state, str(before)
    frontends = [(p.get("properties") or {}) for p in properties.get(FRONTENDS) or []]
    named = frontends + [(p.get("properties") or {}) for p in properties.get("gatewayIPConfigurations") or []]
    for inner in named:
        subnet = str((inner.get("subnet") or {}).get("id", ""))
        if subnet and subnet not in known and not nic.subnet_there(state, subnet):
            raise _missing(call, subnet)
        fixed = call.kind == LOAD_BALANCER or "_v2" in str((properties.get("sku") or {}).get("tier", ""))
        if subnet and fixed and inner in frontends and "privateIPAddress" not in inner and (
                nic.subnet_there(state, subnet)):
            inner["privateIPAddress"] = nic.free_address(state, subnet)
    addresses = [str((inner.get("publicIPAddress") or {}).get("id", "")) for inner in named]
    addresses += [str(one.get("id", "")) for one in properties.get("publicIpAddresses") or []]
    for address in filter(None, addresses):
        found = state.get(address)
        if found is None and address in known:
            continue
        if found is None:
            raise _missing(call, address)
        if found.state != "Succeeded":
            raise ArmError(429, "RetryableError", "A retryable error occurred.", details=[{
                "code": "ReferencedResourceNotProvisioned",
                "message": f"Cannot proceed with operation because resource {found.id} used by resource "
                           f"{call.id} is not in Succeeded state. Resource is in {found.state} state and the "
                           "last operation that updated/is updating the resource is "
                           "PutPublicIpAddressOperation."}])


def _missing(call: Call, named: str) -> ArmError:
    return bad("InvalidResourceReference",
               f"Resource {named} referenced by resource {call.id} was not found. Please make sure that the "
               "referenced resource exists, and that both resources are in the same region.")
