"""Single virtual machines: their NICs, addresses and guards.

By GETs, for the graph lags: the machine, its NICs, their subnets and public addresses.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from remediation.clock import Clock, Deadline
from remediation.cloud.cache import Kept
from remediation.cloud.clients import Clients
from remediation.cloud.network import Network
from remediation.errors import RemediationError
from remediation.log import say
from remediation.model import Machine, Nic, ResourceId

_log = logging.getLogger(__name__)

COMPUTE_API = "2024-07-01"
ASIDE = 16


class Machines:
    """Finds machines; answers are kept for some minutes and shared between alerts."""

    def __init__(self, clients: Clients, network: Network, clock: Clock, keep_seconds: float) -> None:
        self._clients = clients
        self._network = network
        self._kept: Kept[str, Machine] = Kept(clock, keep_seconds)
        self._subnets: Kept[str, str] = Kept(clock, keep_seconds)
        self._aside = ThreadPoolExecutor(ASIDE, "address")

    def one(self, vm: ResourceId, deadline: Deadline) -> Machine:
        """One virtual machine. Raises NotFound."""
        return self._kept.get(str(vm), lambda: self._virtual_machine(vm, deadline))

    def kept(self, vm: ResourceId) -> Machine | None:
        """The machine, if it was looked at lately."""
        return self._kept.peek(str(vm))

    def keep(self, machine: Machine) -> None:
        """It was looked at by other ways; what is kept already stays."""
        self._kept.get(machine.id, lambda: machine)

    def subnet_guard(self, subnet_id: str, deadline: Deadline) -> str:
        """The NSG of a subnet, '' if it has none."""

        def read() -> str:
            body = self._network.read_subnet(subnet_id, deadline)
            return id_of((body.get("properties") or {}).get("networkSecurityGroup"))

        return self._subnets.get(subnet_id, read)

    def kept_guard(self, subnet_id: str) -> str | None:
        """The same, if it was looked at lately."""
        return self._subnets.peek(subnet_id)

    def keep_guard(self, subnet_id: str, guard: str) -> None:
        """It was looked at by other ways; what is kept already stays."""
        self._subnets.get(subnet_id, lambda: guard)

    def forget(self, machine: Machine) -> None:
        """What is kept of the machine is known to be wrong: the next look reads it anew."""
        self._kept.forget(machine.id)
        for nic in machine.nics:
            self._subnets.forget(nic.subnet_id)

    def forget_id(self, machine_id: str) -> None:
        """The same, of a machine that may not be known."""
        self._kept.forget(machine_id.lower())

    def forget_subnet(self, subnet_id: str) -> None:
        """The same of a subnet."""
        self._subnets.forget(subnet_id)

    def _virtual_machine(self, vm: ResourceId, deadline: Deadline) -> Machine:
        body = self._clients.arm_get(
            vm.subscription,
            f"/subscriptions/{vm.subscription}/resourceGroups/{vm.group}"
            f"/providers/Microsoft.Compute/virtualMachines/{vm.name}",
            COMPUTE_API, deadline, **{"$expand": "instanceView"},
        )
        properties = body.get("properties") or {}
        profile = properties.get("networkProfile") or {}
        ids = [str(n["id"]).lower() for n in profile.get("networkInterfaces") or () if n.get("id")]
        nics = tuple(self._nic(one, deadline) for one in ids)
        return Machine(
            id=str(vm), nics=nics, power=_power(properties), location=str(body.get("location", "")),
            path=(vm.name,), created=str(properties.get("timeCreated") or ""),
        )

    def _nic(self, nic_id: str, deadline: Deadline) -> Nic:
        properties = self._network.read_nic(nic_id, deadline).get("properties") or {}
        private, subnet, direct = [], "", False
        public: list[Future[str]] = []
        hidden: dict[str, None] = {}
        for config in properties.get("ipConfigurations") or ():
            inner = config.get("properties") or {}
            if inner.get("privateIPAddress"):
                private.append(str(inner["privateIPAddress"]))
            hidden |= dict.fromkeys(gateways_of(inner))
            direct = direct or is_direct(inner)
            subnet = subnet or id_of(inner.get("subnet"))
            public_id = id_of(inner.get("publicIPAddress"))
            if public_id:  # read while the subnet is
                public.append(self._aside.submit(self._public_address, public_id, deadline))
        guard = self.subnet_guard(subnet, deadline) if subnet else ""
        return Nic(
            id=nic_id,
            subnet_id=subnet,
            private_addresses=tuple(private),
            public_addresses=tuple(filter(None, (one.result() for one in public))),
            nic_nsg=id_of(properties.get("networkSecurityGroup")),
            subnet_nsg=guard,
            hidden=tuple(hidden),
            direct=direct,
        )


    def _public_address(self, public_id: str, deadline: Deadline) -> str:
        """'' where it cannot be read: it only says once more what the list of our own addresses says, and no
        block waits for it."""
        try:
            return self._network.read_public_address(public_id, deadline)
        except RemediationError as error:
            say(_log, "address-unreadable", level=logging.WARNING, address=public_id, error=str(error))
            return ""


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
