"""Effective rules and routes of a NIC: POST, then the result at the Location."""

from __future__ import annotations

from typing import Any

from sandbox.arm import nsg as nsgs
from sandbox.arm.call import Answer, Call, ref
from sandbox.arm.errors import bad, not_found
from sandbox.arm.nic import machine_of
from sandbox.arm.state import Resource, State

_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")


def start(call: Call) -> Answer:
    """POST …/effectiveNetworkSecurityGroups or …/effectiveRouteTable"""
    nic = call.state.get(call.id_of(1))
    if nic is None:
        raise not_found("Microsoft.Network/networkInterfaces", call.names[0], call.group)
    vm = call.state.get(str(machine_of(call.state, nic.id) or nic.facts.get("vm") or ""))
    if vm is None or vm.facts.get("power", "running") != "running":
        # The status is documented ("running machines only"); the code is a guess of ours.
        raise bad("NetworkInterfaceMustBeAttachedToRunningVm",
                  f"The network interface {nic.id} is not attached to a running virtual machine.")
    rules = call.types[1].lower() == "effectivenetworksecuritygroups"
    op = call.state.begin(f"{nic.id}/effective", "GetEffective", "Microsoft.Network", nic.location,
                          call.api, lambda: None)
    op.result = {"value": _rules(call.state, nic) if rules else _routes(call.state, nic)}
    headers = call.operation_headers(op, location=True)
    headers.pop("azure-asyncoperation")
    return Answer(202, None, headers, text="null")


def _rules(state: State, nic: Resource) -> list[dict[str, Any]]:
    found = []
    p = nic.body["properties"]
    own = (p.get("networkSecurityGroup") or {}).get("id")
    if own and (group := state.get(own)):
        found.append(_effective(state, group, {"networkInterface": ref(nic.id)}))
    for config in p.get("ipConfigurations") or []:
        subnet_id = str(((config.get("properties") or {}).get("subnet") or {}).get("id", ""))
        vnet_id, _, name = subnet_id.partition("/subnets/")
        vnet = state.get(vnet_id)
        subnet = vnet.children.get("subnets", {}).get(name.lower()) if vnet else None
        guard = (subnet.properties.get("networkSecurityGroup") or {}).get("id") if subnet else None
        if guard and (group := state.get(guard)):
            found.append(_effective(state, group, {"subnet": ref(subnet_id)}))
    return found


def _effective(state: State, group: Resource, association: dict[str, Any]) -> dict[str, Any]:
    body = nsgs.render(state, group)["properties"]
    rules = [_rule(r, "securityRules") for r in body["securityRules"]]
    rules += [_rule(r, "defaultSecurityRules") for r in body["defaultSecurityRules"]]
    return {"networkSecurityGroup": ref(group.id), "association": association,
            "effectiveSecurityRules": rules, "tagMap": {"VirtualNetwork": ["10.0.0.0/16"]}}


def _rule(rule: dict[str, Any], part: str) -> dict[str, Any]:
    p = rule["properties"]

    def sides(name: str) -> dict[str, Any]:
        values = [*(p.get(f"{name}AddressPrefixes") or []),
                  *([p[f"{name}AddressPrefix"]] if p.get(f"{name}AddressPrefix") else [])]
        wide = ["0.0.0.0/0" if v == "*" else v for v in values] or ["0.0.0.0/0"]
        out: dict[str, Any] = {f"{name}AddressPrefix": wide[0],
                               f"{name}AddressPrefixes": wide * 2 if wide == ["0.0.0.0/0"] else wide}
        if wide[0][:1].isalpha():
            out[f"expanded{name.title()}AddressPrefix"] = ["10.0.0.0/16"]
        return out

    def ports(name: str) -> list[str]:
        values = [*(p.get(f"{name}PortRanges") or []),
                  *([p[f"{name}PortRange"]] if p.get(f"{name}PortRange") else [])]
        return ["0-65535" if v == "*" else v if "-" in v else f"{v}-{v}" for v in values]

    source, destination = ports("source"), ports("destination")
    return {
        "name": f"{part}/{rule['name']}",
        "protocol": "All" if p["protocol"] == "*" else p["protocol"],
        "sourcePortRange": source[0] if source else "0-65535",
        "destinationPortRange": destination[0] if destination else "0-65535",
        "sourcePortRanges": source, "destinationPortRanges": destination,
        **sides("source"), **sides("destination"),
        "access": p["access"], "priority": p["priority"], "direction": p["direction"],
    }


def _routes(state: State, nic: Resource) -> list[dict[str, Any]]:
    def route(prefix: str, hop: str) -> dict[str, Any]:
        return {"disableBgpRoutePropagation": False, "source": "Default", "state": "Active",
                "hasBgpOverride": False, "addressPrefix": [prefix], "nextHopType": hop,
                "nextHopIpAddress": [], "destinationServiceTags": [], "tagMap": {}}

    return [route("10.0.0.0/16", "VnetLocal"), route("0.0.0.0/0", "Internet"),
            *(route(p, "None") for p in _PRIVATE)]
