"""Estates as they grow in real life, made from a seed: mixed kinds, shared guards, address spaces that
repeat, ids in odd casing, rows of the graph that are late or of what is gone. It makes a description for
`sandbox.seed`.

Each virtual network has its own resource group, with some two hundred machines; a tenth of them are instances
of scale sets. Half of the subnets share their guard with another one; some machines have a guard on the
interface, some have none at all.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator
from typing import Any

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
PER_NETWORK = 200
SUBNETS = ("web", "app", "data", "batch")
FIREWALL, ROUTED = "10.0.254.4", "web"
FIRST_PUBLIC = ipaddress.ip_address("20.0.0.0")
LATE, ODD, OFF, TWO_NICS, OWN_GUARD, PUBLIC = 0.02, 0.3, 0.15, 0.15, 0.2, 0.05


def generate(machines: int, seed: int = 1, subscription: str = SUBSCRIPTION) -> dict[str, Any]:
    """A description of an estate with about so many machines; the same seed makes the same."""
    chance = random.Random(seed)  # noqa: S311 - a repeatable estate, not a secret
    estate = _Estate(chance, subscription)
    left = machines
    while left > 0:
        estate.network(min(left, PER_NETWORK))
        left -= PER_NETWORK
    return {"subscription": subscription, "groups": estate.groups, "odd": ODD,
            "resources": estate.appliances(),
            "graph": {"unseen": estate.late(), "ghosts": estate.gone()}}


class _Estate:
    """Group by group."""

    def __init__(self, chance: random.Random, subscription: str) -> None:
        self._chance = chance
        self._subscription = subscription
        self._publics = 0
        self.groups: list[dict[str, Any]] = []

    def network(self, machines: int) -> None:
        """One more resource group with a virtual network and what is in it."""
        n = len(self.groups)
        group: dict[str, Any] = {"name": f"rg-{n}", "nsgs": [], "publicIps": [], "vms": []}
        self.groups.append(group)
        group["nsgs"] = [{"name": name} for name in ("nsg-front", "nsg-back", "nsg-own")]
        group["natGateways"] = [{"name": "nat", "publicIp": self._public(group, "pip-nat")}]
        guards = {"web": "nsg-front", "app": "nsg-back", "data": "nsg-back", "batch": ""}
        group["vnets"] = [{"name": f"vnet-{n}", "prefix": "10.0.0.0/16", "subnets": [
            *({"name": s, "prefix": f"10.0.{32 * i}.0/19", "nsg": guards[s],
               **({"natGateway": "nat"} if s == "batch" else {})} for i, s in enumerate(SUBNETS)),
            {"name": "appliances", "prefix": "10.0.254.0/24"},
            {"name": "gateway", "prefix": "10.0.255.0/24", "nsg": "nsg-front" if n % 2 else ""}]}]
        self._addresses = {s: _hosts(f"10.0.{32 * i}.0/19") for i, s in enumerate(SUBNETS)}
        sets = self._sets(machines // 10, n)
        group["scaleSets"] = sets
        for m in range(machines - sum(s["instances"] for s in sets)):
            group["vms"].append(self._machine(group, m, n))
        group["loadBalancers"] = [self._balancer(group, b, n) for b in range(3)]
        group["gateways"] = [{"name": "agw", "subnet": f"vnet-{n}/gateway",
                              "publicIp": self._public(group, "pip-agw"), "pools": [
                                  {"name": "app"}, {"name": "byaddress", "addresses": self._some(group, 4),
                                                    "fqdns": ["app.contoso.example"]}]}]

    def appliances(self) -> list[dict[str, Any]]:
        """In each network a firewall, a Bastion and a network gateway; in each second one, routes lead
        what is in one subnet through the firewall."""
        found: list[dict[str, Any]] = []
        for n, group in enumerate(self.groups):
            base = f"/subscriptions/{self._subscription}/resourceGroups/{group['name']}/providers"
            vnet = f"{base}/Microsoft.Network/virtualNetworks/vnet-{n}"

            def add(kind: str, base: str = base, **properties: Any) -> None:
                found.append({"id": f"{base}/Microsoft.Network/{kind}/one", "name": "one",
                              "location": "westeurope", "properties": properties})

            for kind in ("azureFirewalls", "bastionHosts", "virtualNetworkGateways"):
                add(kind, ipConfigurations=[{"name": "c", "properties": {
                    "privateIPAddress": FIREWALL if kind == "azureFirewalls" else "10.0.254.5",
                    "subnet": {"id": f"{vnet}/subnets/appliances"}}}])
            if n % 2 == 0:
                add("routeTables", subnets=[{"id": f"{vnet}/subnets/{ROUTED}"}], routes=[
                    {"name": "out", "properties": {
                        "addressPrefix": "0.0.0.0/0", "nextHopType": "VirtualAppliance",
                        "nextHopIpAddress": FIREWALL}}])
        return found

    def late(self) -> list[str]:
        """Machines that the graph does not know yet."""
        base = f"/subscriptions/{self._subscription}/resourceGroups"
        return [f"{base}/{g['name']}/providers/Microsoft.Compute/virtualMachines/{vm['name']}"
                for g in self.groups for vm in g["vms"] if self._chance.random() < LATE]

    def gone(self) -> list[dict[str, Any]]:
        """Interfaces that the graph still shows, of machines that are deleted: another has their address."""
        rows = []
        for n, group in enumerate(self.groups):
            base = f"/subscriptions/{self._subscription}/resourceGroups/{group['name']}/providers"
            for vm in group["vms"]:
                nic = vm["nics"][0]
                if self._chance.random() >= LATE:
                    continue
                name, subnet = f"{nic['name']}-gone", nic["subnet"].partition("/")[2]
                rows.append({
                    "id": f"{base}/Microsoft.Network/networkInterfaces/{name}", "name": name,
                    "type": "microsoft.network/networkinterfaces", "location": "westeurope", "properties": {
                        "virtualMachine": {
                            "id": f"{base}/Microsoft.Compute/virtualMachines/{vm['name']}-gone"},
                        "ipConfigurations": [{"name": "c", "properties": {
                            "privateIPAddress": nic["address"], "subnet": {"id": (
                                f"{base}/Microsoft.Network/virtualNetworks/vnet-{n}/subnets/{subnet}")}}}]}})
        return rows

    def _public(self, group: dict[str, Any], name: str) -> str:
        self._publics += 1
        group["publicIps"].append({"name": name, "address": str(FIRST_PUBLIC + self._publics)})
        return name

    def _sets(self, instances: int, n: int) -> list[dict[str, Any]]:
        half = instances // 2
        where = {"subnet": f"vnet-{n}/batch", "pools": ["lb-0/web"]}
        return [{"name": f"ss-{mode.lower()}", "mode": mode, "instances": count, **where,
                 "addresses": [next(self._addresses["batch"]) for _ in range(count)]}
                for mode, count in (("Uniform", half), ("Flexible", instances - half)) if count]

    def _machine(self, group: dict[str, Any], m: int, n: int) -> dict[str, Any]:
        chance = self._chance
        nics = [self._nic(f"nic-{m}", n)]
        if chance.random() < PUBLIC:
            nics[0]["publicIp"] = self._public(group, f"pip-{m}")
        if chance.random() < TWO_NICS:
            nics.append(self._nic(f"nic-{m}-b", n))
        power = "deallocated" if chance.random() < OFF else "running"
        return {"name": f"vm-{m}", "power": power, "nics": nics}

    def _nic(self, name: str, n: int) -> dict[str, Any]:
        chance = self._chance
        subnet = chance.choice(SUBNETS)
        nic: dict[str, Any] = {"name": name, "subnet": f"vnet-{n}/{subnet}",
                               "address": next(self._addresses[subnet])}
        if chance.random() < OWN_GUARD:
            nic["nsg"] = "nsg-own"
        pools = [f"lb-{b}/{p}" for b in range(3) for p in ("web", "api") if chance.random() < 0.1]
        if pools:
            nic["pools"] = pools
        if chance.random() < 0.05:
            nic["gatewayPools"] = ["agw/app"]
        return nic

    def _balancer(self, group: dict[str, Any], b: int, n: int) -> dict[str, Any]:
        nics = [nic["name"] for vm in group["vms"] for nic in vm["nics"]]
        return {
            "name": f"lb-{b}", "publicIp": self._public(group, f"pip-lb-{b}"),
            "pools": [{"name": "web"}, {"name": "api"}, {"name": "byaddress", "addresses": [
                {"address": a, "vnet": f"vnet-{n}"} for a in self._some(group, 3)]}],
            "rules": [{"frontendPort": 443, "backendPort": 8443, "pool": "web"}],
            "natRules": [{"name": "ssh", "frontendPort": 50_000 + b, "backendPort": 22,
                          "nic": self._chance.choice(nics)}] if nics else [],
            "outbound": ["api"] if b % 2 else [],
        }

    def _some(self, group: dict[str, Any], most: int) -> list[str]:
        addresses = [nic["address"] for vm in group["vms"] for nic in vm["nics"]]
        return self._chance.sample(addresses, min(most, len(addresses)))


def _hosts(prefix: str) -> Iterator[str]:
    net = ipaddress.ip_network(prefix)
    return (str(net.network_address + n) for n in range(4, net.num_addresses - 1))
