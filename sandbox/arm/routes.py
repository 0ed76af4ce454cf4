"""Which kind of resource is served by which functions, and which api-versions there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.arm import (
    before,
    compute,
    effective,
    firewall,
    guest,
    logic,
    managed,
    nic,
    nsg,
    publicip,
    scaleset,
    security,
    vnet,
    waf,
)
from sandbox.arm import firewallpolicy as policy
from sandbox.arm.call import Answer, Call
from sandbox.arm.state import State

type Handler = Callable[[Call], Answer]

NSG, RULE = nsg.KIND, f"{nsg.KIND}/securityrules"
VNET, SUBNET, PEERING = vnet.KIND, f"{vnet.KIND}/subnets", f"{vnet.KIND}/virtualnetworkpeerings"
VM = compute.KIND
FIREWALLS: dict[str, Callable[..., dict[str, Any]]] = {
    firewall.FIREWALL: firewall.render_firewall, firewall.POLICY: policy.render_policy,
    firewall.IP_GROUP: firewall.render_ip_group,
}
RULES = f"{firewall.POLICY}/{firewall.GROUPS}"


def _list(kind: str, render: Callable[..., dict[str, Any]], headers: str = "") -> Handler:
    def handler(call: Call) -> Answer:
        found = [render(call.state, r, call.api) for r in call.state.of_kind(kind, call.scope)]
        return Answer(200, {"value": found}, compute.quota(headers) if headers else {})

    return handler


ITEMS: dict[tuple[str, str], Handler] = {
    ("PUT", NSG): nsg.put,
    ("GET", NSG): nsg.get,
    ("DELETE", NSG): nsg.delete,
    ("PUT", RULE): nsg.put_rule,
    ("GET", RULE): nsg.get_rule,
    ("DELETE", RULE): nsg.delete_rule,
    ("PUT", VNET): vnet.put,
    ("GET", VNET): vnet.get,
    ("DELETE", VNET): vnet.delete,
    ("PUT", SUBNET): vnet.put_subnet,
    ("GET", SUBNET): vnet.get_subnet,
    ("DELETE", SUBNET): vnet.delete_subnet,
    ("PUT", PEERING): vnet.put_peering,
    ("GET", PEERING): vnet.get_peering,
    ("DELETE", PEERING): vnet.delete_peering,
    ("PUT", nic.KIND): nic.put,
    ("GET", nic.KIND): nic.get,
    ("DELETE", nic.KIND): nic.delete,
    ("PUT", publicip.KIND): publicip.put,
    ("GET", publicip.KIND): publicip.get,
    ("DELETE", publicip.KIND): publicip.delete,
    ("PUT", waf.KIND): waf.put,
    ("GET", waf.KIND): waf.get,
    ("DELETE", waf.KIND): waf.delete,
    ("GET", before.INSTANCE): scaleset.get_instance,
    ("PUT", VM): compute.put,
    ("GET", VM): compute.get,
    ("DELETE", VM): compute.delete,
    **{
        (method, f"{VM}/{child}"): handler
        for child in ("extensions", "runcommands")
        for method, handler in (
            ("PUT", compute.put_child),
            ("GET", compute.get_child),
            ("DELETE", compute.delete_child),
            ("PATCH", compute.patch_child),
        )
    },
    **{
        (method, f"{before.INSTANCE}/runcommands"): handler
        for method, handler in (
            ("PUT", compute.put_child),
            ("GET", compute.get_child),
            ("DELETE", compute.delete_child),
            ("PATCH", compute.patch_child),
        )
    },
    ("PUT", scaleset.KIND): scaleset.put,
    ("GET", scaleset.KIND): scaleset.get,
    ("DELETE", scaleset.KIND): scaleset.delete,
    **{
        (method, kind): handler
        for kind, handlers in {
            firewall.FIREWALL: (firewall.get_firewall, firewall.put_firewall, firewall.delete_firewall),
            firewall.POLICY: (policy.get_policy, policy.put_policy, policy.delete_policy),
            firewall.IP_GROUP: (firewall.get_ip_group, firewall.put_ip_group, firewall.delete_ip_group),
            RULES: (policy.get_group, policy.put_group, policy.delete_group),
            f"{firewall.POLICY}/{policy.DRAFTS}": (policy.get_draft, policy.put_draft, policy.delete_draft),
        }.items()
        for method, handler in zip(("GET", "PUT", "DELETE"), handlers, strict=True)
    },
    ("GET", f"{RULES}/{policy.GROUP_DRAFTS}"): policy.get_group_draft,
    ("PUT", f"{RULES}/{policy.GROUP_DRAFTS}"): policy.put_group_draft,
    ("GET", "microsoft.security/locations/alerts"): security.get_alert,
    ("GET", f"{logic.KIND}/runs"): logic.get_run,
    ("GET", f"{logic.KIND}/runs/actions"): logic.get_action,
    **{
        (method, kind): handler
        for kind in before.TYPES
        for method, handler in (("GET", before.get), ("PUT", before.put), ("DELETE", before.delete))
    },
    **{
        (method, kind): handler
        for kind in before.CHILDREN
        for method, handler in (
            ("GET", before.get_child),
            ("PUT", before.put_child),
            ("DELETE", before.delete_child),
        )
    },
}

LISTS: dict[tuple[str, str], Handler] = {
    ("GET", NSG): _list(NSG, nsg.render), ("GET", RULE): nsg.list_rules,
    ("GET", VNET): _list(VNET, vnet.render), ("GET", SUBNET): vnet.list_subnets,
    ("GET", nic.KIND): _list(nic.KIND, nic.render),
    ("GET", publicip.KIND): _list(publicip.KIND, publicip.render),
    **{("GET", kind): _list(kind, before.render) for kind in before.TYPES},
    **{("GET", kind): before.list_children for kind in before.CHILDREN},
    ("GET", scaleset.KIND): _list(scaleset.KIND, scaleset.render),
    ("GET", before.INSTANCE): scaleset.instances,
    ("GET", before.INSTANCE_NIC): scaleset.instance_nics,
    ("GET", waf.KIND): _list(waf.KIND, waf.render),
    ("GET", VM): _list(VM, compute.render, "HighCostGet"),
    ("GET", f"{VM}/extensions"): compute.list_children,
    ("GET", f"{VM}/runcommands"): compute.list_children,
    ("GET", f"{before.INSTANCE}/runcommands"): compute.list_children,
    ("GET", f"{VM}/vmsizes"): compute.sizes,
    ("POST", f"{VM}/assesspatches"): guest.assess, ("POST", f"{VM}/installpatches"): guest.install,
    ("GET", f"{VM}/instanceview"): compute.instance_view,
    ("POST", f"{nic.KIND}/effectivenetworksecuritygroups"): effective.start,
    ("POST", f"{nic.KIND}/effectiveroutetable"): effective.start,
    ("POST", f"{VNET}/listnetworkmanagereffectivesecurityadminrules"): managed.effective,
    **{("GET", kind): _list(kind, render) for kind, render in FIREWALLS.items()},
    ("GET", RULES): policy.list_groups,
    ("POST", f"{firewall.POLICY}/deploy"): policy.deploy,
    ("GET", "microsoft.security/alerts"): security.list_alerts,
    ("POST", f"{logic.KIND}/triggers/listcallbackurl"): logic.callback,
    ("GET", "microsoft.security/mdeonboardings"): security.onboardings,
    **{("POST", f"microsoft.security/locations/alerts/{a}"): security.act_on_alert
       for a in security.ALERT_ACTIONS},
    ("GET", "microsoft.network/locations/servicetags"): security.service_tags,
    ("GET", "microsoft.insights/eventtypes/values"): security.read_activity,
}

KNOWN = {kind for _, kind in (*ITEMS, *LISTS)} | {"microsoft.security/automations"}

NETWORK_API = frozenset("""
    2015-06-15 2016-03-30 2016-06-01 2016-09-01 2016-12-01 2017-03-01 2017-06-01 2017-08-01
    2017-09-01 2017-10-01 2017-11-01 2018-01-01 2018-02-01 2018-04-01 2018-06-01 2018-07-01
    2018-08-01 2018-10-01 2018-11-01 2018-12-01 2019-02-01 2019-04-01 2019-06-01 2019-07-01
    2019-08-01 2019-09-01 2019-11-01 2019-12-01 2020-03-01 2020-04-01 2020-05-01 2020-06-01
    2020-07-01 2020-08-01 2020-11-01 2021-02-01 2021-03-01 2021-05-01 2021-08-01 2022-01-01
    2022-05-01 2022-07-01 2022-09-01 2022-11-01 2023-02-01 2023-04-01 2023-05-01 2023-06-01
    2023-09-01 2023-11-01 2024-01-01 2024-03-01 2024-05-01 2024-07-01 2025-01-01 2025-03-01
    2025-05-01 2026-01-01 2026-03-01
""".split())
COMPUTE_API = frozenset("""
    2015-06-15 2016-03-30 2017-03-30 2017-12-01 2018-04-01 2018-06-01 2018-10-01 2019-03-01
    2019-07-01 2019-12-01 2020-06-01 2020-12-01 2021-03-01 2021-04-01 2021-07-01 2021-11-01
    2022-03-01 2022-08-01 2022-11-01 2023-03-01 2023-07-01 2023-09-01 2024-03-01 2024-07-01
    2024-11-01 2025-04-01 2026-04-01
""".split())
OTHER_API = {
    "microsoft.security": frozenset([
        "2019-01-01", "2020-01-01", "2021-01-01", "2021-10-01-preview", "2021-11-01", "2022-01-01",
        "2023-12-01-preview"]),
    "microsoft.logic": frozenset(["2016-06-01", "2018-07-01-preview", "2019-05-01"]),
    "microsoft.insights": frozenset(["2015-04-01"]),
    "microsoft.authorization": frozenset(["2016-09-01", "2017-04-01", "2020-05-01"]),
    "microsoft.resourcegraph": frozenset(
        ["2019-04-01", "2020-09-01", "2021-03-01", "2022-10-01", "2024-04-01"]),
}


def versions(namespace: str) -> frozenset[str]:
    """The api-versions of a provider; none for one we do not know."""
    low = namespace.lower()
    if low == "microsoft.network":
        return NETWORK_API
    if low == "microsoft.compute":
        return COMPUTE_API
    return OTHER_API.get(low, frozenset())


RENDER: dict[str, Callable[..., dict[str, Any]]] = {
    NSG: nsg.render, VNET: vnet.render, nic.KIND: nic.render, publicip.KIND: publicip.render,
    VM: compute.render, waf.KIND: waf.render,
    scaleset.KIND: scaleset.render, **dict.fromkeys(before.TYPES, before.render),
    **FIREWALLS,
}
"""How Resource Graph shows each kind."""


def rows(state: State) -> list[dict[str, Any]]:
    """All resources as the graph's `resources` table sees them."""
    found = []
    for resource in state.resources.values():
        body = RENDER[resource.kind](state, resource) if resource.kind in RENDER else {
            "id": resource.id, "name": resource.name, "type": resource.kind,
            "location": resource.location, "properties": resource.body.get("properties") or {},
        }
        body = {**body, "type": str(body["type"]).lower()}
        if resource.kind in (VM, before.INSTANCE):
            properties: dict[str, Any] = dict(body["properties"])
            power = resource.facts.get("power", "running")
            properties["extended"] = {"instanceView": {"powerState": {
                "code": f"PowerState/{power}", "displayStatus": f"VM {power}", "level": "Info"}}}
            body["properties"] = properties
        found.append(body)
    found += policy.graph_rows(state)
    return found
