"""Machines read many at a time from Resource Graph, and what it does not know, one by one from ARM.

The graph lags: a machine, an instance or a NIC that it lacks is asked for by GET; one that seems to have no
guard is looked at again; and a guard is only believed when the NSG itself, read before anything is planned,
names the NIC or its subnet: where none does, the machine is read by GET as well (`survey`).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from remediation.clock import Clock, Deadline
from remediation.cloud.cache import Kept
from remediation.cloud.clients import Clients
from remediation.cloud.graph import Graph, askable
from remediation.cloud.machines import COMPUTE_API, Machines, gateways_of, id_of, is_direct
from remediation.cloud.network import Network
from remediation.errors import NotFound, PermanentError, RemediationError, Unfinished
from remediation.log import say
from remediation.model import Machine, Nic, ResourceId
from remediation.prefixes import PrefixSet, network
from remediation.topology import NIC, canonical, kind_of, pool_addresses

_log = logging.getLogger(__name__)

TOGETHER = 200
"""Ids in one query: its text stays well below the service's limit."""
NOBODY = ["-"]
GONE = "the machine is not there (any more)"
READS_AT_ONCE = 8
INSTANCE_NICS_API = "2018-10-01"
KEEP_OWNERS_SECONDS = 600.0
LATE_SECONDS, KEEP_LATE_SECONDS = 4.0, 60.0
NETWORK_API = "2024-05-01"
LOOKED_THROUGH = 1_000
LOOKED_AT_AGAIN = 20
"""So many machines without a guard are read by GET as well: the graph may lag. Of more, its word is taken:
those with a guard must not wait for them."""


@dataclass(frozen=True, slots=True)
class Behind:
    """What is behind an application gateway by address: of machines in its network or one peered with it."""

    gateway: str
    network: str
    addresses: frozenset[str]


@dataclass
class Found:
    """`machines` by id; `owners`: NIC → machine; `missing`: what is not there, and why."""

    machines: dict[str, Machine] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


class Members:
    """Reads many machines. One instance serves all threads."""

    def __init__(
        self, clients: Clients, graph: Graph, network: Network, machines: Machines, clock: Clock
    ) -> None:
        self._clients = clients
        self._graph = graph
        self._owners: Kept[str, str] = Kept(clock, KEEP_OWNERS_SECONDS)
        self._late: Kept[tuple[str, frozenset[str]], dict[str, list[str]]] = Kept(clock, KEEP_LATE_SECONDS)
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

    def at_addresses(self, addresses: Iterable[str], deadline: Deadline) -> dict[tuple[str, str], list[str]]:
        """(address, network) → the NICs that have it there, in every network: address spaces repeat. Of
        several in one network all but one are gone, and the graph does not know it yet."""
        found: dict[tuple[str, str], list[str]] = {}
        wanted = sorted({canonical(one) for one in addresses if askable(one)})
        for some in itertools.batched(wanted, TOGETHER, strict=False):
            for query in ("private_addresses", "instance_addresses"):
                _in_time(deadline)
                for row in self._graph.rows(query, deadline, addresses=some):
                    network = str(row["subnetId"]).partition("/subnets/")[0]
                    found.setdefault((str(row["address"]), network), []).append(str(row["id"]).lower())
        return found

    def at_addresses_lately(
        self, network_id: str, addresses: Collection[str], deadline: Deadline
    ) -> dict[str, list[str]]:
        """Address → NICs, of those in a network that the graph does not know yet: the network itself names
        all that sit in it. None of a network that is too large to look through, has no room for any of these
        addresses, or cannot be read now: what else is behind the gateway does not wait for it."""
        wanted, limit = frozenset(map(canonical, addresses)), deadline.within(LATE_SECONDS)
        try:
            return self._late.get((network_id, wanted), lambda: self._late_in(network_id, wanted, limit))
        except RemediationError as error:
            say(_log, "network-unreadable", level=logging.WARNING, network=network_id, error=str(error))
            return {}

    def _late_in(
        self, network_id: str, wanted: Collection[str], deadline: Deadline
    ) -> dict[str, list[str]]:
        body = self._clients.arm_get(network_id.split("/")[2], network_id, NETWORK_API, deadline)
        properties = body.get("properties") or {}
        spaces = PrefixSet(s for p in (properties.get("addressSpace") or {}).get("addressPrefixes") or ()
                           if (s := network(str(p))) is not None)
        if not any(network(one) is not None and one in spaces for one in wanted):
            return {}
        subnets = properties.get("subnets") or ()
        there = {nic for s in subnets for c in (s.get("properties") or {}).get("ipConfigurations") or ()
                 if (nic := id_of(c).partition("/ipconfigurations/")[0]) and kind_of(nic) == NIC}
        if len(there) > LOOKED_THROUGH:
            say(_log, "network-too-large", network=network_id, nics=len(there))
            return {}
        late = sorted(there - set(self._nic_rows(there, set(), deadline)))[:LOOKED_AT_AGAIN]

        def addresses_of(nic: str) -> list[str]:
            _in_time(deadline)
            try:
                properties = self._network.read_nic(nic, deadline).get("properties") or {}
            except PermanentError:
                return []
            return [canonical(str(a)) for c in properties.get("ipConfigurations") or ()
                    if (a := (c.get("properties") or {}).get("privateIPAddress"))]

        found: dict[str, list[str]] = {}
        for nic, addresses in zip(late, self._pool.map(addresses_of, late), strict=True):
            for address in addresses:
                found.setdefault(address, []).append(nic)
        return found

    def gateway_pools(self, deadline: Deadline) -> list[Behind]:
        """What the application gateways of the estate have behind them by address."""
        return [Behind(str(r["id"]).lower(), subnet.partition("/subnets/")[0], frozenset(addresses))
                for r in self._graph.rows("gateway_pools", deadline)
                for subnet, addresses in [pool_addresses(r)] if subnet and addresses]

    def of_cluster(self, cluster: str, deadline: Deadline) -> list[str]:
        """The scale sets that are the node pools of a Kubernetes cluster."""
        return [str(r["setId"]) for r in self._ask("cluster_sets", [cluster], deadline)]

    def instances_of(self, scale_set: str, deadline: Deadline) -> list[str]:
        """The instances of a uniform scale set as ARM has them; none if it has none, or is flexible."""
        try:
            rows = self._clients.arm_pages(
                scale_set.split("/")[2], f"{scale_set}/virtualMachines", COMPUTE_API, {}, deadline)
        except PermanentError:
            return []
        return [str(r.get("id") or "").lower() for r in rows if r.get("id")]

    def again(
        self, machines: Sequence[Machine], deadline: Deadline
    ) -> tuple[dict[str, Machine], dict[str, str]]:
        """Machines read one by one from ARM, whatever the graph says → by id; and why others are not."""
        found = Found()
        for machine in machines:
            self._machines.forget(machine)
        list(self._pool.map(lambda one: self._add_by_itself(one.id, found, deadline), machines))
        return found.machines, found.missing

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
        where = self._machine_rows(wanted, deadline)
        uniform = self._instance_rows(set(instances), found, deadline)
        made = _Made({**rows, **uniform}, self._addresses([*rows.values(), *uniform.values()], deadline),
                     self._guards([*rows.values(), *uniform.values()], deadline))
        bare, again = 0, []
        for machine_id in sorted(wanted):
            machine = _whole(machine_id, where.get(machine_id), made)
            guarded = machine is not None and all(n.guards for n in machine.nics)
            bare += not guarded
            if machine is not None and (guarded or bare > LOOKED_AT_AGAIN):
                found.machines[machine_id] = machine
            else:  # the graph does not know it yet, or not all of it, or no guard of it
                again.append(machine_id)
        list(self._pool.map(lambda one: self._add_by_itself(one, found, deadline), again))
        found.machines = dict(sorted(found.machines.items()))
        self._add_instances(sorted(set(instances)), made, found, deadline)
        return found

    def known(self, machines: Collection[str], deadline: Deadline) -> dict[str, Machine]:
        """Those of these machines that the graph knows whole, with a guard before each interface; by id."""
        rows: dict[str, Mapping[str, Any]] = {}
        where: dict[str, Mapping[str, Any]] = {}
        for some in itertools.batched(sorted(filter(askable, machines)), TOGETHER, strict=False):
            for row in self._graph.rows("machines_whole", deadline, machines=some):
                (rows if kind_of(str(row["id"])) == NIC else where)[str(row["id"]).lower()] = row
        subnets = {s: self._machines.kept_guard(s) for s in _subnets(rows.values())}
        guards = {s: guard for s, guard in subnets.items() if guard}
        fresh = self._guards_known(subnets.keys() - guards.keys(), deadline)
        for subnet, guard in fresh.items():
            self._machines.keep_guard(subnet, guard)
        made = _Made(rows, self._addresses(rows.values(), deadline), {**guards, **fresh})
        found = {one: _whole(one, where.get(one), made) for one in machines}
        return {one: m for one, m in found.items() if m is not None and all(n.guards for n in m.nics)}

    def _machine_rows(self, machines: Iterable[str], deadline: Deadline) -> dict[str, Mapping[str, Any]]:
        return {str(r["vmId"]): r for r in self._ask("machines", sorted(machines), deadline)}

    def _add_instances(
        self, instances: Sequence[str], made: _Made, found: Found, deadline: Deadline
    ) -> None:
        sets = sorted({one.partition("/virtualmachines/")[0] for one in instances})
        known = {str(r["id"]).lower(): r for r in self._ask("scale_set_instances", sets, deadline)}
        unknown = []
        for instance in instances:
            nics, row = made.nics_of(instance), known.get(instance, {})
            if nics:
                found.machines[instance] = Machine(
                    instance, nics, str(row.get("power") or ""), str(row.get("location") or ""),
                    created=str(row.get("created") or ""))
            else:
                unknown.append(instance)
        list(self._pool.map(lambda one: self._add_by_itself(one, found, deadline), unknown))

    def _add_by_itself(self, machine_id: str, found: Found, deadline: Deadline) -> None:
        _in_time(deadline)
        parts = ResourceId.parse(machine_id)
        try:
            if parts is not None:
                found.machines[machine_id] = self._machines.one(parts, deadline)
            else:
                one = self._instance(machine_id, deadline)
                found.machines[one.id] = one
        except NotFound:
            found.missing[machine_id] = GONE
        except PermanentError as error:
            found.missing[machine_id] = str(error)

    def _find_owners(
        self, nics: set[str], rows: Mapping[str, Mapping[str, Any]], found: Found, deadline: Deadline
    ) -> None:
        """Side by side, and kept for a while: a pool too large for one budget is whole at a later try."""

        def owner_of(nic: str) -> str | PermanentError:
            if nic in rows:
                return str(rows[nic].get("vmId") or "")
            _in_time(deadline)
            try:
                return self._owners.get(nic, lambda: id_of(
                    (self._network.read_nic(nic, deadline).get("properties") or {}).get("virtualMachine")))
            except PermanentError as error:
                return error

        for nic, owner in zip(sorted(nics), self._pool.map(owner_of, sorted(nics)), strict=True):
            if isinstance(owner, NotFound):
                found.missing[nic] = "the network interface is not there (any more)"
            elif isinstance(owner, PermanentError):
                found.missing[nic] = str(owner)
            elif owner:
                found.owners[nic] = owner
            else:
                found.missing[nic] = "the network interface belongs to no machine"

    def _instance(self, instance: str, deadline: Deadline) -> Machine:
        """An instance of a scale set that the graph does not know: of a uniform one read as such, of a
        flexible one as the virtual machine it is. Raises NotFound."""
        subscription, name = instance.split("/")[2], instance.rpartition("/")[2]
        try:
            body = self._clients.arm_get(subscription, instance, COMPUTE_API, deadline)
            rows = self._clients.arm_pages(
                subscription, f"{instance}/networkInterfaces", INSTANCE_NICS_API, {}, deadline)
        except NotFound:
            compute = instance.partition("/virtualmachinescalesets/")[0]
            machine = ResourceId.parse(f"{compute}/virtualmachines/{name}")
            if machine is None or not self._is_in(machine, instance, deadline):
                raise
            return self._machines.one(machine, deadline)
        made = {
            str(r["id"]).lower(): {"vmId": instance, "nicNsgId": id_of(p.get("networkSecurityGroup")),
                                   "configurations": p.get("ipConfigurations")}
            for r in rows if r.get("id") for p in [r.get("properties") or {}]}
        guards = {s: self._machines.subnet_guard(s, deadline) for s in sorted(_subnets(made.values()))}
        nics = _Made(made, self._addresses(made.values(), deadline), guards)
        return Machine(instance, nics.nics_of(instance), location=str(body.get("location") or ""),
                       created=str((body.get("properties") or {}).get("timeCreated") or ""))

    def _is_in(self, machine: ResourceId, instance: str, deadline: Deadline) -> bool:
        """Is the machine of that name one of the scale set that the instance is said to be of?"""
        body = self._clients.arm_get(machine.subscription, str(machine), COMPUTE_API, deadline)
        scale_set = id_of((body.get("properties") or {}).get("virtualMachineScaleSet"))
        return scale_set == instance.partition("/virtualmachines/")[0]

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
        subnets = _subnets(rows)
        found = self._guards_known(subnets, deadline)
        for subnet in sorted(subnets - set(found)):
            _in_time(deadline)
            try:
                found[subnet] = self._machines.subnet_guard(subnet, deadline)
            except PermanentError as error:  # its machines have no guard that is known: the plan says so
                say(_log, "subnet-unreadable", level=logging.WARNING, subnet=subnet, error=str(error))
        return found

    def _guards_known(self, subnets: Iterable[str], deadline: Deadline) -> dict[str, str]:
        """Subnet → NSG, of those that have one as far as the graph knows."""
        return {str(r["subnetId"]): str(r["id"]).lower()
                for r in self._ask("subnet_guards", sorted(subnets), deadline)}

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
            hidden=tuple(dict.fromkeys(g for c in configurations for g in gateways_of(c))),
            direct=any(map(is_direct, configurations)),
        )


def _whole(machine_id: str, row: Mapping[str, Any] | None, made: _Made) -> Machine | None:
    """The machine, if its own row is known and the rows of all interfaces that this one names."""
    nics = made.nics_of(machine_id)
    if row is None or not nics:
        return None
    if not {id_of(n) for n in row.get("nics") or ()} <= {n.id for n in nics}:
        return None
    return Machine(machine_id, nics, str(row.get("power") or ""), str(row.get("location") or ""),
                   created=str(row.get("created") or ""))


def _subnets(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    return {s for row in rows for c in _configurations(row) if (s := id_of(c.get("subnet")))}


def _configurations(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [c["properties"] for c in row.get("configurations") or ()
            if isinstance(c, Mapping) and isinstance(c.get("properties"), Mapping)]
