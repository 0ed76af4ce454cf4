"""From the resources an alert names to the machines behind them, each with the way that led there.

`walk` goes from an element to where its traffic ends; here the machines at the ends are read together, and
what stands before them. What leads nowhere is named, with the reason: others go on.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from remediation.clock import Clock, Deadline
from remediation.cloud.cache import Kept
from remediation.cloud.crowd import Crowd
from remediation.cloud.fronts import Fronts
from remediation.cloud.machines import Machines
from remediation.cloud.members import Behind, Found, Members
from remediation.cloud.walk import OF_INSTANCES, Ends, Walk, Way, why_not
from remediation.errors import NotFound, PermanentError, Unfinished
from remediation.log import say
from remediation.model import Front, Machine, Nic, ResourceId, Target
from remediation.topology import (
    GATEWAY,
    NIC,
    READERS,
    SCALE_SET,
    SUBNET,
    UNLISTED,
    VIRTUAL_MACHINE,
    canonical,
    hider,
    kind_of,
    name_of,
)
from remediation.topology import NETWORK as VNET

KEEP_SECONDS = 60.0
"""Pools and scale sets change by themselves: what is behind an element is not kept for longer."""
_log = logging.getLogger(__name__)

MOST_MACHINES, MOST_TOLD = 2_000, 3
UNKNOWN = ("which application gateways have these machines behind them by address is not known now: a client "
           "may be hidden from their guards; it is looked for again when Resource Graph answers")
CLUSTER = "microsoft.containerservice/managedclusters"
MOST_AGAIN = 200


@dataclass(frozen=True, slots=True)
class Traced:
    """The machines found, and the resources for which none could be, with the reason. `blind`: what was not
    to be learnt of the machines that are found, '' if all was."""

    machines: tuple[Machine, ...] = ()
    untraced: tuple[tuple[str, str], ...] = ()
    fronts: tuple[Front, ...] = ()
    blind: str = ""


class Tracer:
    """Finds machines; answers are kept for a while and shared between alerts."""

    def __init__(
        self, walk: Walk, fronts: Fronts, machines: Machines, members: Members, crowd: Crowd, clock: Clock,
        keep_seconds: float,
    ) -> None:
        self._crowd = crowd
        self._ways = walk
        self._fronts = fronts
        self._machines = machines
        self._members = members
        self._kept: Kept[str, Traced] = Kept(clock, keep_seconds)

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

    def _with_fronts(self, traced: Traced, listed: Sequence[Behind] | None, deadline: Deadline) -> Traced:
        """With the gateways that stand before these machines, whatever led to them."""
        fronts = {f.id: f for f in traced.fronts}
        plain = [replace(m, nics=tuple(replace(n, hidden=tuple(h for h in n.hidden if h != UNLISTED))
                                       for n in m.nics)) for m in traced.machines]
        shown = [self._fronts.before(machine, listed or (), deadline) for machine in plain]
        for one in sorted({h for m in shown for n in m.nics for h in n.hidden} - set(fronts)):
            if kind_of(one) == GATEWAY:
                fronts[one] = self._fronts.of(one, deadline, named=False)
        blind = ""
        if listed is None:  # what may be hidden is not called stopped
            blind = UNKNOWN
            shown = [replace(m, nics=tuple(replace(n, hidden=(*n.hidden, UNLISTED)) for n in m.nics))
                     for m in shown]
        return Traced(tuple(shown), traced.untraced, tuple(fronts.values()), blind)

    def fronts_of(self, targets: Sequence[Target], deadline: Deadline) -> tuple[Target, ...] | None:
        """Of those that were seen while gateways were not to be listed, what stands before them now that they
        are; None while they are not."""
        listed = self._fronts.by_address(deadline)
        if listed is None:
            return None
        missing = hider(UNLISTED)

        def again(target: Target) -> Target:
            if missing not in target.hidden:
                return target
            nic = Nic(target.nic_id, target.subnet_id, target.addresses)
            (seen,) = self._fronts.before(Machine(target.machine_id, (nic,)), listed, deadline).nics
            known = (target.hidden.replace(missing, "").strip(", "), *map(hider, seen.hidden))
            return replace(target, hidden=", ".join(dict.fromkeys(filter(None, known))))

        return tuple(map(again, targets))

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
            self._machines.forget_id(resource.rstrip("/"))
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
                return Traced((self._crowd.one(parts, deadline),))
            if kind not in (*READERS, *OF_INSTANCES, NIC, SCALE_SET):
                return Traced(untraced=((resource, f"not traced: {why_not(resource, kind)}"),))
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

    # --- the machines at the ends ---

    def _walk(self, root: str, deadline: Deadline) -> Traced:
        ends, found = self._ways.to_ends(root, deadline), Found()
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
    def _arrived(machine: Machine, ends: Ends, found: Found) -> Machine:
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


def _cut(ends: Ends) -> int:
    """Leave no more ends than may be read → how many are left out."""
    more = 0
    for kept in (ends.machines, ends.nics, ends.instances):
        for one in list(kept)[MOST_MACHINES:]:
            del kept[one]
            more += 1
    return more


def _shown(way: Way) -> str:
    return f"{' → '.join(way.path[1:-1])}: " if len(way.path) > 2 else ""
