"""Machines read many at a time from Resource Graph, and what it does not know, one by one from ARM.

The graph lags: a machine or NIC that it lacks is asked for by GET; one that seems to have no guard is looked
at again; and a guard is only believed when the NSG itself, read before anything is planned, names
the NIC or its subnet (`survey`).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from remediation.clock import Deadline
from remediation.cloud.graph import Graph, askable
from remediation.cloud.machines import Machines, hiding_gateway, id_of, is_direct
from remediation.cloud.network import Network
from remediation.errors import NotFound, PermanentError, Unfinished
from remediation.log import say
from remediation.model import Machine, Nic, ResourceId

_log = logging.getLogger(__name__)

TOGETHER = 200
"""Ids in one query: its text stays well below the service's limit."""
NOBODY = ["-"]
READS_AT_ONCE = 8
LOOKED_AT_AGAIN = 20
"""So many machines without a guard are read by GET as well: the graph may lag. Of more, its word is taken:
those with a guard must not wait for them."""


@dataclass
class Found:
    """`machines` by id; `owners`: NIC → machine; `missing`: what is not there, and why."""

    machines: dict[str, Machine] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


class Members:
    """Reads many machines. One instance serves all threads."""

    def __init__(self, graph: Graph, network: Network, machines: Machines) -> None:
        self._graph = graph
        self._network = network
        self._machines = machines
        self._pool = ThreadPoolExecutor(READS_AT_ONCE, "member")

    # --- who is meant ---

    def of_scale_sets(self, sets: Sequence[str], deadline: Deadline) -> tuple[dict[str, str], dict[str, str]]:
        """Machines of flexible scale sets and instances of uniform ones, each → its scale set."""
        flexible = {str(r["id"]).lower(): str(r["setId"])
                    for r in self._ask("scale_set_machines", sets, deadline)}
        uniform = {str(r["id"]).lower(): str(r["setId"])
                   for r in self._ask("scale_set_instances", sets, deadline)}
        return flexible, uniform

    def at_addresses(self, addresses: Iterable[str], deadline: Deadline) -> dict[tuple[str, str], str]:
        """(address, network) → the NIC that has it there, in every network: address spaces repeat."""
        found: dict[tuple[str, str], str] = {}
        for some in itertools.batched(sorted(filter(askable, set(addresses))), TOGETHER, strict=False):
            for query in ("private_addresses", "instance_addresses"):
                _in_time(deadline)
                for row in self._graph.rows(query, deadline, addresses=some):
                    network = str(row["subnetId"]).partition("/subnets/")[0]
                    found[(str(row["address"]), network)] = str(row["id"]).lower()
        return found

    def routed(self, addresses: Iterable[str], deadline: Deadline) -> list[str]:
        """The subnets with a route to one of these addresses, wherever they are: address spaces repeat."""
        wanted = [a for a in addresses if askable(a)]
        if not wanted:
            return []
        _in_time(deadline)
        rows = self._graph.rows("routes_to", deadline, addresses=wanted)
        return list(dict.fromkeys(str(r["subnetId"]) for r in rows if r.get("subnetId")))

    # --- what they are ---

    def read(
        self, machines: Iterable[str], nics: Iterable[str], instances: Iterable[str], deadline: Deadline
    ) -> Found:
        """Machines named by themselves, or by a NIC of theirs, with all their NICs."""
        found = Found()
        rows = self._nic_rows(set(nics), set(machines), deadline)
        self._find_owners(set(nics), rows, found, deadline)
        wanted = set(machines) | set(found.owners.values())
        others = wanted - set(machines)
        if others:  # of a machine in a pool, its other NICs speak, too
            rows |= self._nic_rows(set(), others, deadline)
        where = {str(r["vmId"]): r for r in self._ask("machines", sorted(wanted), deadline)}
        uniform = self._instance_rows(set(instances), found, deadline)
        made = _Made({**rows, **uniform}, self._addresses([*rows.values(), *uniform.values()], deadline),
                     self._guards([*rows.values(), *uniform.values()], deadline))
        bare, again = 0, []
        for machine_id in sorted(wanted):
            row, here = where.get(machine_id), made.nics_of(machine_id)
            guarded = all(n.guards for n in here)
            bare += not guarded
            if row is not None and here and (guarded or bare > LOOKED_AT_AGAIN):
                found.machines[machine_id] = Machine(
                    machine_id, here, str(row.get("power") or ""), str(row.get("location") or ""))
            else:  # the graph does not know it yet, or no guard of it
                again.append(machine_id)
        list(self._pool.map(lambda one: self._add_by_itself(one, found, deadline), again))
        found.machines = dict(sorted(found.machines.items()))
        self._add_instances(sorted(set(instances)), made, found, deadline)
        return found

    def _add_instances(
        self, instances: Sequence[str], made: _Made, found: Found, deadline: Deadline
    ) -> None:
        sets = sorted({one.partition("/virtualmachines/")[0] for one in instances})
        known = {str(r["id"]).lower(): r for r in self._ask("scale_set_instances", sets, deadline)}
        for instance in instances:
            nics, row = made.nics_of(instance), known.get(instance, {})
            if nics:
                found.machines[instance] = Machine(
                    instance, nics, str(row.get("power") or ""), str(row.get("location") or ""))
            else:
                found.missing[instance] = "the scale set's instance is not known (any more)"

    def _add_by_itself(self, machine_id: str, found: Found, deadline: Deadline) -> None:
        _in_time(deadline)
        parts = ResourceId.parse(machine_id)
        try:
            if parts is None:
                raise NotFound(f"{machine_id} is no machine's id")
            found.machines[machine_id] = self._machines.one(parts, deadline)
        except NotFound:
            found.missing[machine_id] = "the machine is not there (any more)"
        except PermanentError as error:
            found.missing[machine_id] = str(error)

    def _find_owners(
        self, nics: set[str], rows: Mapping[str, Mapping[str, Any]], found: Found, deadline: Deadline
    ) -> None:
        for nic in sorted(nics):
            _in_time(deadline)
            try:
                owner = str(rows[nic].get("vmId") or "") if nic in rows else id_of(
                    (self._network.read_nic(nic, deadline).get("properties") or {}).get("virtualMachine"))
            except NotFound:
                found.missing[nic] = "the network interface is not there (any more)"
                continue
            except PermanentError as error:
                found.missing[nic] = str(error)
                continue
            if owner:
                found.owners[nic] = owner
            else:
                found.missing[nic] = "the network interface belongs to no machine"

    def _nic_rows(
        self, nics: set[str], machines: set[str], deadline: Deadline
    ) -> dict[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        for some_nics, some_machines in itertools.zip_longest(
                itertools.batched(sorted(filter(askable, nics)), TOGETHER, strict=False),
                itertools.batched(sorted(filter(askable, machines)), TOGETHER, strict=False)):
            _in_time(deadline)
            rows = self._graph.rows(
                "nics", deadline, nics=some_nics or NOBODY, machines=some_machines or NOBODY)
            found.update({str(r["id"]).lower(): r for r in rows})
        return found

    def _instance_rows(
        self, instances: set[str], found: Found, deadline: Deadline
    ) -> dict[str, Mapping[str, Any]]:
        rows: dict[str, Mapping[str, Any]] = {
            str(r["id"]).lower(): r for r in self._ask("instance_nics", sorted(instances), deadline)}
        found.owners.update({nic: str(row["vmId"]) for nic, row in rows.items()})
        return rows

    def _addresses(self, rows: Iterable[Mapping[str, Any]], deadline: Deadline) -> dict[str, str]:
        ids = {p for row in rows for c in _configurations(row) if (p := id_of(c.get("publicIPAddress")))}
        return {str(r["low"]): str(r["address"]) for r in self._ask("public_addresses", sorted(ids), deadline)
                if r.get("address")}

    def _guards(self, rows: Iterable[Mapping[str, Any]], deadline: Deadline) -> dict[str, str]:
        subnets = {s for row in rows for c in _configurations(row) if (s := id_of(c.get("subnet")))}
        found = {str(r["subnetId"]): str(r["id"]).lower()
                 for r in self._ask("subnet_guards", sorted(subnets), deadline)}
        for subnet in sorted(subnets - set(found)):
            _in_time(deadline)
            try:
                found[subnet] = self._machines.subnet_guard(subnet, deadline)
            except PermanentError as error:  # its machines have no guard that is known: the plan says so
                say(_log, "subnet-unreadable", level=logging.WARNING, subnet=subnet, error=str(error))
        return found

    def _ask(self, query: str, ids: Sequence[str], deadline: Deadline) -> Iterator[dict[str, Any]]:
        for some in itertools.batched(filter(askable, ids), TOGETHER, strict=False):
            _in_time(deadline)
            yield from self._graph.rows(query, deadline, ids=some)


def _in_time(deadline: Deadline) -> None:
    if deadline.over:
        raise Unfinished("the budget ended before all machines were looked at")


@dataclass(frozen=True)
class _Made:
    """NIC rows, and what they refer to."""

    rows: Mapping[str, Mapping[str, Any]]
    addresses: Mapping[str, str]
    guards: Mapping[str, str]

    @cached_property
    def _by_machine(self) -> dict[str, list[tuple[str, Mapping[str, Any]]]]:
        found: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
        for nic_id, row in sorted(self.rows.items()):
            found.setdefault(str(row.get("vmId") or ""), []).append((nic_id, row))
        return found

    def nics_of(self, machine_id: str) -> tuple[Nic, ...]:
        """In the order of their ids."""
        return tuple(self._nic(nic_id, row) for nic_id, row in self._by_machine.get(machine_id, ()))

    def _nic(self, nic_id: str, row: Mapping[str, Any]) -> Nic:
        configurations = _configurations(row)
        subnet = next((s for c in configurations if (s := id_of(c.get("subnet")))), "")
        public = (self.addresses.get(id_of(c.get("publicIPAddress"))) for c in configurations)
        return Nic(
            id=nic_id, subnet_id=subnet,
            private_addresses=tuple(
                str(c["privateIPAddress"]) for c in configurations if c.get("privateIPAddress")),
            public_addresses=tuple(a for a in public if a),
            nic_nsg=str(row.get("nicNsgId") or ""),
            subnet_nsg=self.guards.get(subnet, ""),
            hidden=next((h for c in configurations if (
                h := hiding_gateway(c.get("applicationGatewayBackendAddressPools")))), ""),
            direct=any(map(is_direct, configurations)),
        )


def _configurations(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [c["properties"] for c in row.get("configurations") or ()
            if isinstance(c, Mapping) and isinstance(c.get("properties"), Mapping)]
