"""Many machines at once. One by one each costs three reads of ARM, which allows a principal 25 a second;
beyond a few at a time they are read from Resource Graph together, four queries for all.

What the graph says of their guards is believed only where the NSG itself says the same (`survey`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from remediation.clock import Clock, Deadline, Pace
from remediation.cloud.clients import Clients
from remediation.cloud.machines import Machines
from remediation.cloud.members import GONE, TOGETHER, Members
from remediation.errors import NotFound, PermanentError, RemediationError
from remediation.gather import Gather
from remediation.model import Machine, ResourceId

ONE_BY_ONE, PER_SECOND = 30.0, 2.0
"""Of the reads that ARM allows, what single machines may take: so many at once, and a second. A small burst
is over sooner by GETs than by the graph, whose quota is to be waited for."""
READS_KEPT = 120
"""Reads left for what no graph can answer."""
TOGETHER_SECONDS = 6.0


class Crowd:
    """Finds single machines. One instance serves all threads."""

    def __init__(self, clients: Clients, machines: Machines, members: Members, clock: Clock) -> None:
        self._clients = clients
        self._machines = machines
        self._members = members
        self._pace = Pace(clock, ONE_BY_ONE, PER_SECOND)
        self._together: Gather[tuple[ResourceId, Deadline], Machine | str] = Gather(
            self._read_together, TOGETHER)

    def one(self, vm: ResourceId, deadline: Deadline) -> Machine:
        """One virtual machine. Raises NotFound."""
        known = self._machines.kept(vm)
        if known is not None:
            return known
        if self._clients.reads_left > READS_KEPT and self._pace.take():
            return self._machines.one(vm, deadline)
        try:
            found = self._together((vm, deadline.within(TOGETHER_SECONDS)))
        except RemediationError:  # the graph is silent, has had enough, or may not be asked
            return self._machines.one(vm, deadline)
        if isinstance(found, str):
            raise NotFound(found) if found == GONE else PermanentError(found)
        self._machines.keep(found)
        return found

    def _read_together(
        self, asked: Sequence[tuple[ResourceId, Deadline]]
    ) -> list[Machine | str]:
        """Machines, or why one cannot be read."""
        longest = max((deadline for _, deadline in asked), key=lambda d: d.left())
        found = self._members.read({str(vm) for vm, _ in asked}, (), (), longest)
        return [replace(machine, path=(vm.name,)) if machine is not None else found.missing.get(str(vm), GONE)
                for vm, _ in asked for machine in [found.machines.get(str(vm))]]
