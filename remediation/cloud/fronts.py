"""Application gateways before machines: those that a machine's interface names, and those that know it by its
address alone, which one query for the whole estate tells."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from remediation.clock import Clock, Deadline
from remediation.cloud.cache import Kept
from remediation.cloud.elements import Elements
from remediation.cloud.machines import Machines
from remediation.cloud.members import Behind, Members
from remediation.errors import PermanentError, RemediationError, TemporaryError, Unfinished
from remediation.log import say
from remediation.model import Front, Machine, Nic
from remediation.topology import canonical, gateway_subnet, name_of, waf_policies

_log = logging.getLogger(__name__)

LIST_SECONDS, SILENT_SECONDS, PEERS_SECONDS = 4.0, 5.0, 300.0
"""What stands before a machine by its address may not eat the budget: the block comes first."""


class Fronts:
    """Reads gateways as what stands before machines, and keeps them for a while."""

    def __init__(
        self, elements: Elements, machines: Machines, members: Members, clock: Clock, keep_seconds: float
    ) -> None:
        self._elements = elements
        self._machines = machines
        self._members = members
        self._list: Kept[str, list[Behind]] = Kept(clock, keep_seconds)
        self._silent: Kept[str, bool] = Kept(clock, SILENT_SECONDS)
        self._peers: Kept[str, Sequence[str]] = Kept(clock, PEERS_SECONDS)
        self._kept: Kept[str, Front] = Kept(clock, keep_seconds)

    def by_address(self, deadline: Deadline) -> list[Behind] | None:
        """The application gateways with backends by address; None where the graph does not say in time."""
        if self._silent.peek(""):
            return None
        limit = deadline.within(LIST_SECONDS)

        def ask() -> list[Behind]:
            if self._silent.peek(""):  # who waited for the same answer asks no more for a while
                raise Unfinished("the graph has just not answered")
            try:
                return self._members.gateway_pools(limit)
            except RemediationError as error:
                say(_log, "gateways-unknown", level=logging.WARNING, error=str(error))
                self._silent.put("", True)
                raise

        try:
            return self._list.get("", ask)
        except RemediationError:
            return None

    def before(self, machine: Machine, gateways: Sequence[Behind], deadline: Deadline) -> Machine:
        """The machine with the gateways before it that know it by its address alone."""

        def of(nic: Nic) -> Iterator[str]:
            network, own = nic.subnet_id.partition("/subnets/")[0], set(map(canonical, nic.private_addresses))
            for one in gateways:
                if one.gateway not in nic.hidden and own & one.addresses and (
                        network == one.network or network in self._peered(one.network, deadline)):
                    yield one.gateway

        return replace(machine, nics=tuple(
            replace(n, hidden=tuple(dict.fromkeys((*n.hidden, *of(n))))) for n in machine.nics))

    def _peered(self, network: str, deadline: Deadline) -> Sequence[str]:
        """Kept for some minutes, and where nobody answers, unknown: the block does not wait for it."""
        try:
            return self._peers.get(network, lambda: self._elements.peers(network, deadline))
        except TemporaryError as error:
            say(_log, "peers-unknown", level=logging.WARNING, network=network, error=str(error))
            return ()

    def of(self, gateway: str, deadline: Deadline, *, named: bool) -> Front:
        """A gateway by its id. `named`: the alert led to it."""

        def make() -> Front:
            body = self._elements.read(gateway, deadline)
            if isinstance(body, str):
                return Front(gateway, name_of(gateway), "", trouble=f"it cannot be read ({body})")
            return self.read({**body, "id": gateway}, deadline)

        return replace(self._kept.get(gateway, make), named=named)

    def read(self, gateway: Mapping[str, Any], deadline: Deadline) -> Front:
        """A gateway from its body: the guard of its subnet, and its WAF policies."""
        gateway_id, subnet = str(gateway["id"]).lower(), gateway_subnet(gateway)
        guard = trouble = ""
        try:
            guard = self._machines.subnet_guard(subnet, deadline) if subnet else ""
        except PermanentError as error:
            trouble = f"its subnet cannot be read ({error})"
        return Front(gateway_id, name_of(gateway_id), subnet, guard, trouble, *waf_policies(gateway))

    def forget(self, front: Front) -> None:
        """What is kept of it is known to be wrong."""
        self._kept.forget(front.id)
        self._machines.forget_subnet(front.subnet_id)

    def forget_list(self) -> None:
        """The same of what is known by address."""
        self._list.forget("")
