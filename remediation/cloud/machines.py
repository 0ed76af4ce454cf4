"""Single virtual machines: their NICs, addresses and guards.

Resource Graph gives the first view, with public addresses; GETs of the
machine, its NICs and their subnets are the truth about guards, for the graph lags.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from remediation.clock import Clock, Deadline
from remediation.cloud.cache import Kept
from remediation.cloud.clients import Clients
from remediation.cloud.graph import Graph
from remediation.cloud.network import Network
from remediation.errors import RemediationError
from remediation.gather import Gather
from remediation.log import say
from remediation.model import Machine, Nic, ResourceId

_log = logging.getLogger(__name__)

COMPUTE_API = "2024-07-01"
FIRST_VIEW_SECONDS = 4.0
"""A throttled graph may not eat the budget: GETs give the rest of the view."""
VIEWS_TOGETHER = 100
VIEWS_AT_ONCE = 32


class Machines:
    """Finds machines; answers are kept for some minutes and shared between alerts."""

    def __init__(
        self, clients: Clients, graph: Graph, network: Network, clock: Clock, keep_seconds: float
    ) -> None:
        self._clients = clients
        self._graph = graph
        self._network = network
        self._kept: Kept[str, Machine] = Kept(clock, keep_seconds)
        self._views: Gather[tuple[str, Deadline], dict[str, str]] = Gather(
            self._views_together, VIEWS_TOGETHER
        )
        self._subnets: Kept[str, str] = Kept(clock, keep_seconds)
        self._aside = ThreadPoolExecutor(VIEWS_AT_ONCE, "view")

    def one(self, vm: ResourceId, deadline: Deadline) -> Machine:
        """One virtual machine. Raises NotFound."""
        return self._kept.get(str(vm), lambda: self._virtual_machine(vm, deadline))

    def subnet_guard(self, subnet_id: str, deadline: Deadline) -> str:
        """The NSG of a subnet, '' if it has none."""

        def read() -> str:
            body = self._network.read_subnet(subnet_id, deadline)
            return id_of((body.get("properties") or {}).get("networkSecurityGroup"))

        return self._subnets.get(subnet_id, read)

    def forget(self, machine: Machine) -> None:
        """What is kept of the machine is known to be wrong: the next look reads it anew."""
        self._kept.forget(machine.id)
        for nic in machine.nics:
            self._subnets.forget(nic.subnet_id)

    def forget_subnet(self, subnet_id: str) -> None:
        """The same of a subnet."""
        self._subnets.forget(subnet_id)

    def _virtual_machine(self, vm: ResourceId, deadline: Deadline) -> Machine:
        view = self._aside.submit(self._first_view, str(vm), deadline)
        body = self._clients.arm_get(
            vm.subscription,
            f"/subscriptions/{vm.subscription}/resourceGroups/{vm.group}"
            f"/providers/Microsoft.Compute/virtualMachines/{vm.name}",
            COMPUTE_API, deadline, **{"$expand": "instanceView"},
        )
        properties = body.get("properties") or {}
        profile = properties.get("networkProfile") or {}
        ids = [str(n["id"]).lower() for n in profile.get("networkInterfaces") or () if n.get("id")]
        nics = tuple(self._nic(one, view, deadline) for one in ids)
        return Machine(
            id=str(vm), nics=nics, power=_power(properties), location=str(body.get("location", "")),
            path=(vm.name,), created=str(properties.get("timeCreated") or ""),
        )

    def _first_view(self, vm_id: str, deadline: Deadline) -> Mapping[str, str]:
        """Public addresses by the id of their resource, from the graph; it may know none yet."""
        try:
            return self._views((vm_id, deadline.within(FIRST_VIEW_SECONDS)))
        except RemediationError as error:
            say(_log, "graph-silent", level=logging.WARNING, machine=vm_id, error=str(error))
            return {}

    def _views_together(self, asked: Sequence[tuple[str, Deadline]]) -> list[dict[str, str]]:
        """One query for all machines at hand."""
        shortest = min((deadline for _, deadline in asked), key=lambda d: d.left())
        rows = self._graph.rows("machine_nics", shortest, ids=sorted({vm for vm, _ in asked}))
        views: dict[str, dict[str, str]] = {vm: {} for vm, _ in asked}
        for r in rows:
            if r.get("publicIpId") and r.get("publicIp"):
                views.get(str(r["vmId"]), {})[str(r["publicIpId"])] = str(r["publicIp"])
        return [views[vm] for vm, _ in asked]

    def _nic(self, nic_id: str, view: Future[Mapping[str, str]], deadline: Deadline) -> Nic:
        properties = self._network.read_nic(nic_id, deadline).get("properties") or {}
        private, public, subnet, direct = [], [], "", False
        hidden: dict[str, None] = {}
        for config in properties.get("ipConfigurations") or ():
            inner = config.get("properties") or {}
            if inner.get("privateIPAddress"):
                private.append(str(inner["privateIPAddress"]))
            hidden |= dict.fromkeys(gateways_of(inner))
            direct = direct or is_direct(inner)
            subnet = subnet or id_of(inner.get("subnet"))
            public_id = id_of(inner.get("publicIPAddress"))
            if public_id:
                address = view.result().get(public_id) or self._network.read_public_address(
                    public_id, deadline
                )
                public += [address] if address else []
        return Nic(
            id=nic_id,
            subnet_id=subnet,
            private_addresses=tuple(private),
            public_addresses=tuple(public),
            nic_nsg=id_of(properties.get("networkSecurityGroup")),
            subnet_nsg=self.subnet_guard(subnet, deadline) if subnet else "",
            hidden=tuple(hidden),
            direct=direct,
        )


def id_of(reference: Any) -> str:
    """The id in a reference, lower-cased; '' if there is none."""
    return str(reference.get("id") or "").lower() if isinstance(reference, Mapping) else ""


def is_direct(configuration: Mapping[str, Any]) -> bool:
    """May clients reach this IP configuration otherwise than through an application gateway?"""
    return any(configuration.get(name) for name in (
        "publicIPAddress", "loadBalancerBackendAddressPools", "loadBalancerInboundNatRules"))


def gateways_of(configuration: Mapping[str, Any]) -> list[str]:
    """The application gateways that an IP configuration is a backend of, by id."""
    pools = (id_of(pool) for pool in configuration.get("applicationGatewayBackendAddressPools") or ())
    return list(dict.fromkeys(
        one.partition("/backendaddresspools/")[0] for one in pools if "/applicationgateways/" in one))


def _power(properties: Mapping[str, Any]) -> str:
    view = properties.get("instanceView") or {}
    codes = [str(s.get("code", "")) for s in view.get("statuses") or ()]
    return next((c for c in codes if c.lower().startswith("powerstate/")), "")
