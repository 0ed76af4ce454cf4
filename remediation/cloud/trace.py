"""From the resources an alert names to the machines behind them, each with the way that led there.

`topology` says where an element leads; here its body is read, the leads are followed, and the machines
at their ends are read together. What leads nowhere is named, with the reason: others go on.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from remediation.clock import Clock, Deadline
from remediation.cloud.cache import Kept
from remediation.cloud.elements import Elements
from remediation.cloud.fronts import Fronts
from remediation.cloud.machines import Machines
from remediation.cloud.members import Behind, Found, Members
from remediation.errors import NotFound, PermanentError, Unfinished
from remediation.log import say
from remediation.model import Front, Machine, Nic, ResourceId
from remediation.topology import (
    BASTION,
    FIREWALL,
    GATEWAY,
    INSTANCE,
    INSTANCE_NIC,
    INSTANCE_PUBLIC_IP,
    NETWORK_GATEWAY,
    NIC,
    READERS,
    SCALE_SET,
    SUBNET,
    VIRTUAL_MACHINE,
    Kind,
    Lead,
    appliance,
    canonical,
    kind_of,
    leads,
    name_of,
)
from remediation.topology import NETWORK as VNET

READS_AT_ONCE = 8
KEEP_SECONDS = 60.0
"""Pools and scale sets change by themselves: what is behind an element is not kept for longer."""
_log = logging.getLogger(__name__)

DEEPEST, MOST_ELEMENTS, MOST_MACHINES, MOST_TOLD = 6, 60, 2_000, 3
CLUSTER = "microsoft.containerservice/managedclusters"
NOT_TRACED: Mapping[str, str] = {
    "microsoft.hybridcompute/machines": "an Arc machine: its network is not Azure's",
}
MOST_AGAIN = 200
OF_INSTANCES = (INSTANCE, INSTANCE_NIC, INSTANCE_PUBLIC_IP)
"""What names a scale set's instance in its own id."""


@dataclass(frozen=True, slots=True)
class Traced:
    """The machines found, and the resources for which none could be, with the reason."""

    machines: tuple[Machine, ...] = ()
    untraced: tuple[tuple[str, str], ...] = ()
    fronts: tuple[Front, ...] = ()


@dataclass(frozen=True, slots=True)
class _Way:
    """A lead, and how one came to it."""

    lead: Lead
    path: tuple[str, ...]
    hidden: tuple[str, ...] = ()

    def on(self, lead: Lead) -> _Way:
        """A step further."""
        path = (*self.path, lead.via) if lead.via else self.path
        if lead.kind is Kind.RESOURCE and kind_of(lead.target) in READERS:
            path = (*path, name_of(lead.target))
        hidden = (*self.hidden, lead.hidden) if lead.hidden else self.hidden
        return _Way(lead, path, hidden)


@dataclass
class _Ends:
    """Where the ways end: by id, all ways to each, the first one first."""

    machines: dict[str, list[_Way]] = field(default_factory=dict)
    nics: dict[str, list[_Way]] = field(default_factory=dict)
    instances: dict[str, list[_Way]] = field(default_factory=dict)
    sets: dict[str, list[_Way]] = field(default_factory=dict)
    addresses: dict[tuple[str, str], list[_Way]] = field(default_factory=dict)
    dead: list[tuple[_Way, str]] = field(default_factory=list)
    gateways: list[dict[str, Any]] = field(default_factory=list)


class Tracer:
    """Finds machines; answers are kept for a while and shared between alerts."""

    def __init__(
        self, elements: Elements, fronts: Fronts, machines: Machines, members: Members, clock: Clock,
        keep_seconds: float,
    ) -> None:
        self._elements = elements
        self._fronts = fronts
        self._machines = machines
        self._members = members
        self._kept: Kept[str, Traced] = Kept(clock, keep_seconds)
        self._pool = ThreadPoolExecutor(READS_AT_ONCE, "trace")

    def trace(self, resource_ids: Sequence[str], deadline: Deadline, at: Sequence[str] = ()) -> Traced:
        """Machines behind these resources, each once. `at`: addresses that the alert calls ours; of a whole
        network only the machines that have one of them are meant, if there are any. Temporary errors are
        raised: a later try may find all."""
        machines: dict[str, Machine] = {}
        fronts: dict[str, Front] = {}
        untraced: list[tuple[str, str]] = []
        listed = self._fronts.by_address(deadline)
        for resource in resource_ids:
            if deadline.over:
                raise Unfinished(f"{len(resource_ids)} resources could not be looked at in time")
            found = self._one(resource, at, deadline)
            untraced += found.untraced
            for machine in found.machines:
                there = machines.get(machine.id)
                machines[machine.id] = machine if there is None else there.merged(machine)
            fronts.update({f.id: f for f in found.fronts})
        found = Traced(tuple(machines.values()), tuple(dict.fromkeys(untraced)), tuple(fronts.values()))
        return self._with_fronts(found, listed, deadline)

    def _subnets_again(self, subnets: Collection[str], deadline: Deadline) -> dict[str, str]:
        """Subnet → its guard as ARM has it now; those that cannot be read are left out."""
        found = {}
        for subnet in sorted(filter(None, subnets)):
            self._machines.forget_subnet(subnet)
            try:
                found[subnet] = self._machines.subnet_guard(subnet, deadline)
            except PermanentError as error:
                say(_log, "subnet-unreadable", level=logging.WARNING, subnet=subnet, error=str(error))
        return found

    def _with_fronts(self, traced: Traced, listed: Sequence[Behind], deadline: Deadline) -> Traced:
        """With the gateways that stand before these machines, whatever led to them."""
        fronts = {f.id: f for f in traced.fronts}
        shown = [self._fronts.before(machine, listed, deadline) for machine in traced.machines]
        for one in sorted({h for m in shown for n in m.nics for h in n.hidden} - set(fronts)):
            if kind_of(one) == GATEWAY:
                fronts[one] = self._fronts.of(one, deadline, named=False)
        return Traced(tuple(shown), traced.untraced, tuple(fronts.values()))

    def confirmed(self, traced: Traced, doubted: Collection[str], deadline: Deadline) -> Traced:
        """The same with the guards of these machines' subnets read anew from ARM, and where those are as they
        were, the machines one by one: what the graph says of them is out of date. And the fronts' guards."""
        wrong = [m for m in traced.machines if m.id in doubted]
        guards = self._subnets_again({n.subnet_id for m in wrong for n in m.nics}, deadline)
        repaired = {m.id: replace(m, nics=tuple(
            replace(n, subnet_nsg=guards.get(n.subnet_id, n.subnet_nsg)) for n in m.nics)) for m in wrong}
        same = [m for m in wrong if repaired[m.id] == m][:MOST_AGAIN]
        fresh, missing = self._members.again(same, deadline)
        machines = []
        for old in (repaired.get(m.id, m) for m in traced.machines):
            new = fresh.get(old.id)
            if new is not None:
                machines.append(replace(new.merged(replace(old, nics=tuple(
                    n for n in old.nics if n.id in {f.id for f in new.nics}))), path=old.path,
                    power=new.power or old.power))
            elif old.id not in missing:
                machines.append(old)
        for front in traced.fronts:
            self._fronts.forget(front)
        untraced = [*traced.untraced, *((m, f"not traced: {why}") for m, why in missing.items())]
        fronts = tuple(self._fronts.of(f.id, deadline, named=f.named) for f in traced.fronts)
        return self._with_fronts(
            Traced(tuple(machines), tuple(untraced), fronts), self._fronts.by_address(deadline), deadline)

    def forget(self, resource_ids: Iterable[str], traced: Traced) -> None:
        """What is kept of these is known to be wrong: the next look reads it anew."""
        for resource in resource_ids:
            self._kept.forget(resource.lower().rstrip("/"))
        self._fronts.forget_list()
        for machine in traced.machines:
            self._machines.forget(machine)
        for front in traced.fronts:
            self._fronts.forget(front)

    def _one(self, resource: str, at: Sequence[str], deadline: Deadline) -> Traced:
        kind = kind_of(resource)
        parts = ResourceId.parse(resource)
        try:
            meant = self._at(resource, at, deadline)
            if meant is not None:
                return meant
            if kind == CLUSTER:
                return self._cluster(resource.lower().rstrip("/"), deadline)
            if kind == VIRTUAL_MACHINE and parts is not None:
                return Traced((self._machines.one(parts, deadline),))
            if kind not in (*READERS, *OF_INSTANCES, NIC, SCALE_SET):
                return Traced(untraced=((resource, f"not traced: {_why_not(resource, kind)}"),))
            key = resource.lower().rstrip("/")
            return self._kept.get(key, lambda: self._walk(key, deadline))
        except NotFound:
            what = "the machine" if kind == VIRTUAL_MACHINE else "it"
            return Traced(untraced=((resource, f"not traced: {what} is not there (any more)"),))
        except PermanentError as error:
            return Traced(untraced=((resource, f"not traced: {error}"),))

    def _at(self, resource: str, addresses: Sequence[str], deadline: Deadline) -> Traced | None:
        """The machines of a network, or of a subnet, that have one of these addresses there; read anew each
        time. None: there are no such, or it is no network."""
        place = resource.lower().rstrip("/")
        if kind_of(place) not in (VNET, SUBNET) or not addresses:
            return None
        network = place.partition("/subnets/")[0]
        nics = self._members.at_addresses(addresses, deadline)
        machines: dict[str, Machine] = {}
        nowhere = []
        for address in addresses:
            there = nics.get((canonical(address), network), ())
            here = [m for nic in there for m in self._machines_of(nic, deadline)
                    if place == network or any(n.subnet_id == place for n in m.nics)]
            for machine in here:
                way = (name_of(place), f"at {address}", *machine.path)
                machines.setdefault(machine.id, replace(machine, path=way))
            if not here and ipaddress.ip_address(address).is_private:
                nowhere.append((
                    resource, f"not traced: {address} in {name_of(place)} is the address of no machine"))
        return Traced(tuple(machines.values()), tuple(nowhere)) if machines else None

    def _machines_of(self, nic: str, deadline: Deadline) -> Sequence[Machine]:
        try:
            return self._walk(nic, deadline).machines
        except PermanentError:  # it went, or may not be read: then the whole network is looked at
            return ()

    def _cluster(self, cluster: str, deadline: Deadline) -> Traced:
        """The machines of a Kubernetes cluster: the instances of its node pools."""
        sets = self._members.of_cluster(cluster, deadline)
        if not sets:
            return Traced(untraced=((cluster, "not traced: no node pool of the cluster is known"),))
        found = [self._kept.get(one, lambda one=one: self._walk(one, deadline)) for one in sets]  # type: ignore[misc]
        machines = [replace(m, path=(name_of(cluster), *m.path)) for one in found for m in one.machines]
        return Traced(tuple(machines), tuple(u for one in found for u in one.untraced))

    # --- the walk ---

    def _walk(self, root: str, deadline: Deadline) -> Traced:
        """Level by level; the root itself must be there."""
        ends = _Ends()
        first = _Way(Lead(Kind.RESOURCE, root), (name_of(root),))
        level, seen = self._put(ends, [first], set()), {root}
        for depth in range(DEEPEST):
            bodies = self._pool.map(
                lambda way, must=not depth: self._elements.read(way.lead.target, deadline, must=must), level)
            found = [way for one, body in zip(level, bodies, strict=True)
                     for way in self._beyond(one, body, ends, deadline)]
            level = self._put(ends, found, seen)
            seen |= {way.lead.target for way in level}
            if not level:
                break
        for way in level:
            ends.dead.append((way, f"{name_of(way.lead.target)} lies too far behind: it was not followed"))
        self._open_sets(ends, deadline)
        self._find_addresses(ends, deadline)
        return self._machines_at(root, ends, deadline)

    def _put(self, ends: _Ends, ways: Iterable[_Way], seen: Collection[str]) -> list[_Way]:
        """Put ways where they end → those that go on, to elements not seen yet, the first way to each."""
        further: dict[str, _Way] = {}
        for way in ways:
            if not self._ends_here(way, ends) and way.lead.target not in seen:
                further.setdefault(way.lead.target, way)
        kept, left = list(further.values())[:MOST_ELEMENTS], list(further.values())[MOST_ELEMENTS:]
        if left:
            ends.dead.append((left[0], f"{len(left)} elements beyond {MOST_ELEMENTS} were not followed"))
        return kept

    def _beyond(
        self, way: _Way, body: dict[str, Any] | str, ends: _Ends, deadline: Deadline
    ) -> list[_Way]:
        """Where the element at the end of the way leads."""
        if isinstance(body, str):
            ends.dead.append((way, body))
            return []
        if kind_of(way.lead.target) == GATEWAY:
            ends.gateways.append(body)
        kind = kind_of(way.lead.target)
        routed = self._routed(way, body, deadline) if kind == FIREWALL else []
        found = routed or [way.on(lead) for lead in leads(body)]
        if kind in (BASTION, NETWORK_GATEWAY):  # networks peered with its own use it, too
            found += [way.on(Lead(Kind.RESOURCE, p, "peered with its network"))
                      for n in appliance(body)[1] for p in self._elements.peers(
                          n, deadline, through_gateway=kind == NETWORK_GATEWAY)]
        return found

    def _routed(self, way: _Way, firewall: dict[str, Any], deadline: Deadline) -> list[_Way]:
        """The subnets that routes send through a firewall, in its own network or one peered with it."""
        addresses, networks = appliance(firewall)
        subnets = self._members.routed(addresses, deadline)
        if not subnets:
            return []
        near = {*networks, *(p for n in networks for p in self._elements.peers(n, deadline))}
        return [way.on(Lead(Kind.RESOURCE, s, "routes to it", hidden=way.lead.target, speaks_out=True))
                for s in subnets
                if s.partition("/subnets/")[0] in near]

    def _ends_here(self, way: _Way, ends: _Ends) -> bool:
        """Put the way where it ends; False if it goes on."""
        target, kind = way.lead.target, kind_of(way.lead.target)
        if way.lead.kind is Kind.NOWHERE:
            ends.dead.append((way, target))
        elif way.lead.kind is Kind.ADDRESS:
            ends.addresses.setdefault((target, way.lead.network), []).append(way)
        elif kind == VIRTUAL_MACHINE:
            ends.machines.setdefault(target, []).append(way)
        elif kind == NIC:
            ends.nics.setdefault(target, []).append(way)
        elif kind in OF_INSTANCES:
            ends.instances.setdefault(target.partition("/networkinterfaces/")[0], []).append(way)
        elif kind == SCALE_SET:
            ends.sets.setdefault(target, []).append(way)
        elif kind not in READERS:
            ends.dead.append((way, _why_not(target, kind)))
        else:
            return False
        return True

    def _open_sets(self, ends: _Ends, deadline: Deadline) -> None:
        if not ends.sets:
            return
        flexible, uniform = self._members.of_scale_sets(sorted(ends.sets), deadline)
        for found, where in ((flexible, ends.machines), (uniform, ends.instances)):
            for one, scale_set in found.items():
                where.setdefault(one, []).extend(ends.sets[scale_set])
        for scale_set in sorted(set(ends.sets) - {*flexible.values(), *uniform.values()}):
            instances = self._members.instances_of(scale_set, deadline)  # the graph lags
            for one in instances:
                ends.instances.setdefault(one, []).extend(ends.sets[scale_set])
            if not instances:
                ends.dead.append((ends.sets[scale_set][0], "the scale set has no instance that is known"))

    def _find_addresses(self, ends: _Ends, deadline: Deadline) -> None:
        if not ends.addresses:
            return
        nics = self._members.at_addresses((a for a, _ in ends.addresses), deadline)
        near: dict[str, Sequence[str]] = {}
        for key, ways in ends.addresses.items():
            address, network = key
            here = nics.get(key, [])
            if not here and any(a == address for a, _ in nics):  # a backend may be in a peered network
                near[network] = near[network] if network in near else self._elements.peers(network, deadline)
                here = next((nics[address, n] for n in near[network] if (address, n) in nics), [])
            for nic in here:
                if kind_of(nic) == INSTANCE_NIC:
                    ends.instances.setdefault(nic.partition("/networkinterfaces/")[0], []).extend(ways)
                else:
                    ends.nics.setdefault(nic, []).extend(ways)
            if not here:
                network = f" in {name_of(key[1])}" if key[1] else ""
                ends.dead.append((
                    ways[0], f"{ways[0].lead.via}: {key[0]}{network} is the address of no machine"))

    # --- the machines at the ends ---

    def _machines_at(self, root: str, ends: _Ends, deadline: Deadline) -> Traced:
        found = Found()
        more = _cut(ends)
        if ends.machines or ends.nics or ends.instances:
            found = self._members.read(ends.machines, ends.nics, ends.instances, deadline)
        machines = [self._arrived(machine, ends, found) for machine in found.machines.values()]
        dead = [(root, f"not traced: {_shown(way)}{why}") for way, why in ends.dead]
        dead += _told(found.missing, root)
        if more:
            dead.append((root, f"not traced: {more} machines beyond the {MOST_MACHINES} of one alert"))
        if not machines and not dead:
            dead.append((root, f"not traced: no machine is behind {name_of(root)}"))
        fronts = tuple(self._fronts.read(g, deadline) for g in ends.gateways)
        return Traced(tuple(machines), tuple(dead), fronts)

    @staticmethod
    def _arrived(machine: Machine, ends: _Ends, found: Found) -> Machine:
        """The machine with what all ways to it say: the first tells the path."""
        whole = [*ends.machines.get(machine.id, ()), *ends.instances.get(machine.id, ())]
        by_nic = {n.id: ends.nics.get(n.id, []) for n in machine.nics}
        first = next((nic for nic, ways in by_nic.items() if ways), "")
        if whole:
            path = whole[0].path
        elif first:
            path = _onto(by_nic[first][0].path, first)
        else:  # by a NIC that is no longer among its NICs
            path = next((_onto(ways[0].path, nic) for nic, ways in ends.nics.items()
                         if found.owners.get(nic) == machine.id), ())
        every = [*whole, *(w for ways in by_nic.values() for w in ways)]
        said = [w.lead.speaks_out for w in every if w.lead.speaks_out is not None]

        def seen(nic: Nic) -> Nic:
            ways = [*whole, *by_nic[nic.id]]
            hidden = dict.fromkeys((*nic.hidden, *(h for w in ways for h in w.hidden)))
            by_element = [w for w in ways if len(w.path) > 1]  # not the machine as the alert names it
            return replace(nic, hidden=tuple(hidden),
                           direct=nic.direct or any(not w.hidden for w in by_element))

        return replace(
            machine, path=_onto(path, machine.id), nics=tuple(map(seen, machine.nics)),
            ports=tuple(dict.fromkeys(p for w in every for p in w.lead.ports)),
            speaks_out=any(said) if said else None)


def _onto(path: tuple[str, ...], one: str) -> tuple[str, ...]:
    """A step further, unless the way stands there already."""
    return path if path[-1:] == (name_of(one),) else (*path, name_of(one))


def _told(missing: Mapping[str, str], root: str) -> Iterator[tuple[str, str]]:
    """What is missing, and why: of many with one reason, how many."""
    by_reason: dict[str, list[str]] = {}
    for one, why in missing.items():
        by_reason.setdefault(why, []).append(one)
    for why, those in by_reason.items():
        if len(those) > MOST_TOLD:
            yield root, f"not traced: {len(those)} times: {why}"
        else:
            yield from ((one, f"not traced: {why}") for one in those)


def _cut(ends: _Ends) -> int:
    """Leave no more ends than may be read → how many are left out."""
    more = 0
    for kept in (ends.machines, ends.nics, ends.instances):
        for one in list(kept)[MOST_MACHINES:]:
            del kept[one]
            more += 1
    return more


def _shown(way: _Way) -> str:
    return f"{' → '.join(way.path[1:-1])}: " if len(way.path) > 2 else ""


def _why_not(resource: str, kind: str) -> str:
    if kind in NOT_TRACED:
        return NOT_TRACED[kind]
    if resource.lower().rstrip("/").count("/") == 2 and resource.lower().startswith("/subscriptions/"):
        return "a whole subscription is no place to look"
    return f"{kind} has no machines that are known" if kind else "this is no resource of Azure's"
