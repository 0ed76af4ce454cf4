"""In estates made at random, whatever an alert names, the machines found are those a plain walk finds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from remediation.cloud import graph
from sandbox.estates import ROUTED, generate
from tests.azure import Azure

ASKED_OF_A_KIND = 6


def base(group: dict[str, Any], provider: str = "Network") -> str:
    return (f"/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/{group['name']}"
            f"/providers/Microsoft.{provider}")


class Walk:
    """The description read naively, group by group: no ARM, no graph, none of the product's code."""

    def __init__(self, estate: dict[str, Any]) -> None:
        self._groups = estate["groups"]

    def elements(self) -> Iterator[tuple[str, set[str]]]:
        """Everything an alert may name → the machines behind it, as lower-cased ids."""
        for group in self._groups:
            net, seats = base(group), list(self._seats(group))
            for vm in group["vms"]:
                me = {m for m, _ in seats if m.endswith(f"/virtualmachines/{vm['name']}")}
                yield f"{base(group, 'Compute')}/virtualMachines/{vm['name']}", me
                for nic in vm["nics"]:
                    yield f"{net}/networkInterfaces/{nic['name']}", me
                    if nic.get("publicIp"):
                        yield f"{net}/publicIPAddresses/{nic['publicIp']}", me
            for one in group["scaleSets"]:
                yield (f"{base(group, 'Compute')}/virtualMachineScaleSets/{one['name']}",
                       {m for m, seat in seats if seat.get("set") == one["name"]})
            for lb in group["loadBalancers"]:
                found = self._behind_balancer(lb, seats)
                yield f"{net}/loadBalancers/{lb['name']}", found
                yield f"{net}/publicIPAddresses/{lb['publicIp']}", found
            for gateway in group["gateways"]:
                found = self._behind_gateway(gateway, seats)
                yield f"{net}/applicationGateways/{gateway['name']}", found
                yield f"{net}/publicIPAddresses/{gateway['publicIp']}", found
            yield from self._by_place(group, net, seats)

    @staticmethod
    def _seats(group: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each machine with each of its interfaces."""
        compute = base(group, "Compute").lower()
        for vm in group["vms"]:
            for nic in vm["nics"]:
                yield f"{compute}/virtualmachines/{vm['name']}", nic
        for one in group["scaleSets"]:
            for n in range(one["instances"]):
                flexible = one["mode"] == "Flexible"
                machine = f"{compute}/virtualmachines/{one['name']}_{n}" if flexible else (
                    f"{compute}/virtualmachinescalesets/{one['name']}/virtualmachines/{n}")
                yield machine, {"name": "", "subnet": one["subnet"], "pools": one["pools"],
                                "address": one["addresses"][n], "set": one["name"]}

    @staticmethod
    def _behind_balancer(lb: dict[str, Any], seats: list[tuple[str, dict[str, Any]]]) -> set[str]:
        addresses = {(a["address"], a["vnet"]) for p in lb["pools"] for a in p.get("addresses") or ()}
        by_rule = {r["nic"] for r in lb["natRules"]}
        return {m for m, seat in seats
                if any(p.startswith(f"{lb['name']}/") for p in seat.get("pools") or ())
                or (seat["address"], seat["subnet"].partition("/")[0]) in addresses
                or seat["name"] in by_rule}

    @staticmethod
    def _behind_gateway(gateway: dict[str, Any], seats: list[tuple[str, dict[str, Any]]]) -> set[str]:
        addresses = {a for p in gateway["pools"] for a in p.get("addresses") or ()}
        network = gateway["subnet"].partition("/")[0]
        return {m for m, seat in seats
                if any(p.startswith(f"{gateway['name']}/") for p in seat.get("gatewayPools") or ())
                or (seat["address"] in addresses and seat["subnet"].startswith(f"{network}/"))}

    @staticmethod
    def _by_place(
        group: dict[str, Any], net: str, seats: list[tuple[str, dict[str, Any]]]
    ) -> Iterator[tuple[str, set[str]]]:
        for vnet in group["vnets"]:
            inside = {m for m, seat in seats if seat["subnet"].startswith(f"{vnet['name']}/")}
            routed = {m for m, seat in seats if seat["subnet"] == f"{vnet['name']}/{ROUTED}"}
            yield f"{net}/bastionHosts/one", inside
            yield f"{net}/virtualNetworkGateways/one", inside
            even = int(vnet["name"].partition("-")[2]) % 2 == 0
            yield f"{net}/azureFirewalls/one", routed if even else inside
            vnet_id = f"{net}/virtualNetworks/{vnet['name']}"
            yield vnet_id, {m for m, seat in seats if seat["subnet"].startswith(f"{vnet['name']}/")}
            for subnet in vnet["subnets"]:
                inside = {m for m, seat in seats if seat["subnet"] == f"{vnet['name']}/{subnet['name']}"}
                yield f"{vnet_id}/subnets/{subnet['name']}", inside
                if subnet.get("natGateway"):
                    yield f"{net}/natGateways/{subnet['natGateway']}", inside
                    yield f"{net}/publicIPAddresses/pip-nat", inside


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_machines_found_are_those_of_a_plain_walk(
    azure: Azure, seed: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(graph, "QUERIES_PER_SECOND", 1_000.0)  # this Azure has no quota
    estate = generate(300, seed)
    azure.world.seed(estate)
    chance = random.Random(seed)
    by_kind: dict[str, list[tuple[str, set[str]]]] = {}
    for element, machines in Walk(estate).elements():
        by_kind.setdefault(element.split("/")[-2], []).append((element, machines))
    assert len(by_kind) == 12
    tracer = azure.app.responder._survey._tracer
    for kind in by_kind.values():
        for element, machines in chance.sample(kind, min(ASKED_OF_A_KIND, len(kind))):
            found = tracer.trace([element], azure.app.budget())
            assert {m.id for m in found.machines} == machines, element
            assert all(m.path for m in found.machines)


def test_the_same_seed_makes_the_same_estate_and_another_another():
    assert generate(300, 7) == generate(300, 7) != generate(300, 8)
    assert sum(len(g["vms"]) + sum(s["instances"] for s in g["scaleSets"])
               for g in generate(1000)["groups"]) == 1000
