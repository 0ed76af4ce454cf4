"""Many machines at once. One by one each costs three reads of ARM, which allows a principal 25 a second;
beyond a few at a time they are read from Resource Graph together, four queries for all.

What the graph says of their guards is believed only where the NSG itself says the same (`survey`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace

from remediation.clock import Clock, Deadline, Pace
from remediation.cloud.cache import Kept
from remediation.cloud.clients import Clients
from remediation.cloud.machines import Machines
from remediation.cloud.members import TOGETHER, Members
from remediation.errors import RemediationError
from remediation.gather import Gather
from remediation.log import say
from remediation.model import Machine, ResourceId
from remediation.topology import VIRTUAL_MACHINE, kind_of

_log = logging.getLogger(__name__)

ONE_BY_ONE, PER_SECOND = 30.0, 2.0
"""Of the reads that ARM allows, what single machines may take: so many at once, and a second. A small burst
is over sooner by GETs than by the graph, whose quota is to be waited for."""
READS_KEPT = 120
"""Reads left for what no graph can answer."""
MOST_EXPECTED, EXPECTED_SECONDS = 1_000, 10.0
TOGETHER_SECONDS = 4.0
SILENT_SECONDS = 5.0
"""Where the graph has not answered in time, machines are read by GET for so long: no alert's budget is spent
on waiting for it twice."""


class Crowd:
    """Finds single machines. One instance serves all threads."""

    def __init__(self, clients: Clients, machines: Machines, members: Members, clock: Clock) -> None:
        self._clients = clients
        self._machines = machines
        self._members = members
        self._pace = Pace(clock, ONE_BY_ONE, PER_SECOND)
        self._lock = threading.Lock()
        self._clock = clock
        self._coming: dict[str, None] = {}
        self._coming_until = 0.0
        self._silent: Kept[str, bool] = Kept(clock, SILENT_SECONDS)
        self._together: Gather[tuple[str, Deadline], Machine | None] = Gather(self._read_together, TOGETHER)

    def expect(self, resources: Sequence[str]) -> None:
        """Alerts that name these are about to come: who is read next is read with them."""
        meant = [str(vm) for r in resources if kind_of(r) == VIRTUAL_MACHINE
                 and (vm := ResourceId.parse(r)) is not None and self._machines.kept(vm) is None]
        with self._lock:
            self._coming = dict.fromkeys(meant[:MOST_EXPECTED])
            self._coming_until = self._clock.monotonic() + EXPECTED_SECONDS

    def one(self, vm: ResourceId, deadline: Deadline) -> Machine:
        """One virtual machine. Raises NotFound."""
        known = self._machines.kept(vm)
        if known is not None:
            return known
        expected = str(vm) in self._coming and self._clock.monotonic() < self._coming_until
        alone = not expected and self._clients.reads_left > READS_KEPT and self._pace.take()
        found = None if alone else self._together((str(vm), deadline.within(TOGETHER_SECONDS)))
        if found is None:  # of what the graph does not know whole, each asker asks for its own
            return self._machines.one(vm, deadline)
        return found

    def _read_together(self, asked: Sequence[tuple[str, Deadline]]) -> list[Machine | None]:
        """Machines; None for those that the graph does not know whole, or cannot tell now."""
        longest = max((deadline for _, deadline in asked), key=lambda d: d.left())
        found: dict[str, Machine] = {}
        if not self._silent.peek(""):
            try:
                found = self._members.known({vm for vm, _ in asked} | self._with(len(asked)), longest)
            except RemediationError as error:  # it is silent, has had enough, or may not be asked
                say(_log, "crowd-unknown", level=logging.WARNING, machines=len(asked), error=str(error))
                self._silent.put("", True)
        named = {vm: replace(machine, path=(vm.rpartition("/")[2],)) for vm, machine in found.items()}
        for machine in named.values():
            self._machines.keep(machine)
        return [named.get(vm) for vm, _ in asked]

    def _with(self, asked: int) -> set[str]:
        """Of those that are expected, as many as go into the query, too."""
        with self._lock:
            if self._clock.monotonic() >= self._coming_until:
                self._coming = {}
            more = list(self._coming)[: max(0, TOGETHER - asked)]
            for one in more:
                del self._coming[one]
        return set(more)
