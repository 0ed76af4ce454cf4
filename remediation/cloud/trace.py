"""From the resources an alert names to the machines behind them, each with the way that led there.

`topology` says where an element leads; here its body is read, the leads are followed, and the machines
at their ends are read together. What leads nowhere is named, with the reason: others go on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from remediation.clock import Clock, Deadline
from remediation.cloud.cache import Kept
from remediation.cloud.clients import Clients
from remediation.cloud.machines import Machines
from remediation.cloud.members import Found, Members
from remediation.errors import NotFound, PermanentError, Unfinished
from remediation.model import Front, Machine, Nic, ResourceId
from remediation.topology import (
    FIREWALL,
    GATEWAY,
    INSTANCE,
    INSTANCE_NIC,
    NIC,
    READERS,
    SCALE_SET,
    SUBNET,
    VIRTUAL_MACHINE,
    Kind,
    Lead,
    appliance,
    gateway_subnet,
    kind_of,
    leads,
    name_of,
    peers,
    waf_policies,
)
from remediation.topology import NETWORK as VNET

NETWORK_API = "2024-05-01"
READS_AT_ONCE = 8
KEEP_SECONDS = 60.0
"""Pools and scale sets change by themselves: what is behind an element is not kept for longer."""
DEEPEST, MOST_ELEMENTS, MOST_MACHINES, MOST_TOLD = 6, 60, 2_000, 3
NOT_TRACED: Mapping[str, str] = {
    "microsoft.hybridcompute/machines": "an Arc machine: its network is not Azure's",
    "microsoft.containerservice/managedclusters": "a cluster: its node pools are scale sets",
}


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
    hidden: str = ""

    def on(self, lead: Lead) -> _Way:
        """A step further."""
        path = (*self.path, lead.via) if lead.via else self.path
        if lead.kind is Kind.RESOURCE and kind_of(lead.target) in READERS:
            path = (*path, name_of(lead.target))
        return _Way(lead, path, lead.hidden or self.hidden)


@dataclass
class _Ends:
    """Where the ways end: by id, the first way to each."""

    machines: dict[str, _Way] = field(default_factory=dict)
    nics: dict[str, _Way] = field(default_factory=dict)
    instances: dict[str, _Way] = field(default_factory=dict)
    sets: dict[str, _Way] = field(default_factory=dict)
    addresses: dict[tuple[str, str], _Way] = field(default_factory=dict)
    dead: list[tuple[_Way, str]] = field(default_factory=list)
    gateways: list[dict[str, Any]] = field(default_factory=list)
    direct: set[str | tuple[str, str]] = field(default_factory=set)
    """Reached otherwise than through an application gateway."""


class Tracer:
    """Finds machines; answers are kept for a while and shared between alerts."""

    def __init__(
        self, clients: Clients, machines: Machines, members: Members, clock: Clock, keep_seconds: float
    ) -> None:
        self._clients = clients
        self._machines = machines
        self._members = members
        self._kept: Kept[str, Traced] = Kept(clock, min(KEEP_SECONDS, keep_seconds))
        self._pool = ThreadPoolExecutor(READS_AT_ONCE, "trace")

    def trace(self, resource_ids: Sequence[str], deadline: Deadline, at: Sequence[str] = ()) -> Traced:
        """Machines behind these resources, each once. `at`: addresses that the alert calls ours; of a whole
        network only the machines that have one of them are meant, if there are any. Temporary errors are
        raised: a later try may find all."""
        machines: dict[str, Machine] = {}
        fronts: dict[str, Front] = {}
        untraced: list[tuple[str, str]] = []
        for resource in resource_ids:
            if deadline.over:
                raise Unfinished(f"{len(resource_ids)} resources could not be looked at in time")
            found = self._at(resource, at, deadline) or self._one(resource, deadline)
            untraced += found.untraced
            for machine in found.machines:
                machines.setdefault(machine.id, machine)
            fronts.update({f.id: f for f in found.fronts})
        return Traced(
            tuple(machines.values()), tuple(dict.fromkeys(untraced)), tuple(fronts.values()))

    def forget(self, resource_ids: Iterable[str], traced: Traced) -> None:
        """What is kept of these is known to be wrong: the next look reads it anew."""
        for resource in resource_ids:
            self._kept.forget(resource.lower().rstrip("/"))
        for machine in traced.machines:
            self._machines.forget(machine)
        for front in traced.fronts:
            self._machines.forget_subnet(front.subnet_id)

    def _one(self, resource: str, deadline: Deadline) -> Traced:
        kind = kind_of(resource)
        parts = ResourceId.parse(resource)
        try:
            if kind == VIRTUAL_MACHINE and parts is not None:
                return Traced((self._machines.one(parts, deadline),))
            if kind not in (*READERS, NIC, INSTANCE, INSTANCE_NIC, SCALE_SET):
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
        meant = [(address, nics[address, network]) for address in addresses if (address, network) in nics]
        machines: dict[str, Machine] = {}
        for address, nic in meant:
            for machine in self._machines_of(nic, deadline):
                if place == network or any(n.subnet_id == place for n in machine.nics):
                    way = (name_of(place), f"at {address}", *machine.path)
                    machines.setdefault(machine.id, replace(machine, path=way))
        return Traced(tuple(machines.values())) if machines else None

    def _machines_of(self, nic: str, deadline: Deadline) -> Sequence[Machine]:
        try:
            return self._walk(nic, deadline).machines
        except PermanentError:  # it went, or may not be read: then the whole network is looked at
            return ()

    # --- the walk ---

    def _walk(self, root: str, deadline: Deadline) -> Traced:
        """Level by level; the root itself must be there."""
        ends = _Ends()
        first = _Way(Lead(Kind.RESOURCE, root), (name_of(root),))
        level, seen = self._put(ends, [first], set()), {root}
        for depth in range(DEEPEST):
            bodies = self._pool.map(partial(self._body, deadline=deadline, must=not depth), level)
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
        routed = self._routed(way, body, deadline) if kind_of(way.lead.target) == FIREWALL else []
        return routed or [way.on(lead) for lead in leads(body)]

    def _routed(self, way: _Way, firewall: dict[str, Any], deadline: Deadline) -> list[_Way]:
        """The subnets that routes send through a firewall, in its own network or one peered with it."""
        addresses, networks = appliance(firewall)
        subnets = self._members.routed(addresses, deadline)
        if not subnets:
            return []
        near = {*networks, *(p for n in networks for p in self._peers(n, deadline))}
        return [way.on(Lead(Kind.RESOURCE, s, "routes to it", speaks_out=True)) for s in subnets
                if s.partition("/subnets/")[0] in near]

    def _peers(self, network: str, deadline: Deadline) -> Sequence[str]:
        """The networks peered with this one; none where it cannot be read."""
        if not network:
            return ()
        body = self._body(_Way(Lead(Kind.RESOURCE, network), ()), deadline=deadline, must=False)
        return () if isinstance(body, str) else peers(body)

    def _ends_here(self, way: _Way, ends: _Ends) -> bool:
        """Put the way where it ends; False if it goes on."""
        target, kind = way.lead.target, kind_of(way.lead.target)
        if way.lead.kind is Kind.NOWHERE:
            ends.dead.append((way, target))
        elif way.lead.kind is Kind.ADDRESS:
            key = (target, way.lead.network)
            ends.addresses.setdefault(key, way)
            ends.direct |= set() if way.hidden else {key}
        elif kind == VIRTUAL_MACHINE:
            ends.machines.setdefault(target, way)
        elif kind == NIC:
            ends.nics.setdefault(target, way)
            ends.direct |= set() if way.hidden else {target}
        elif kind == INSTANCE:
            ends.instances.setdefault(target, way)
        elif kind == INSTANCE_NIC:
            ends.instances.setdefault(target.partition("/networkinterfaces/")[0], way)
        elif kind == SCALE_SET:
            ends.sets.setdefault(target, way)
        elif kind not in READERS:
            ends.dead.append((way, _why_not(target, kind)))
        else:
            return False
        return True

    def _body(self, way: _Way, *, deadline: Deadline, must: bool) -> dict[str, Any] | str:
        """The element as ARM has it, or why it cannot be read; `must`: then that is raised."""
        element = way.lead.target
        subscription = element.split("/")[2]
        try:
            return self._clients.arm_get(subscription, element, NETWORK_API, deadline)
        except NotFound:
            if must:
                raise
            return f"{name_of(element)} is not there (any more)"
        except PermanentError as error:
            if must:
                raise
            return f"{name_of(element)}: {error}"

    def _open_sets(self, ends: _Ends, deadline: Deadline) -> None:
        if not ends.sets:
            return
        flexible, uniform = self._members.of_scale_sets(sorted(ends.sets), deadline)
        for found, where in ((flexible, ends.machines), (uniform, ends.instances)):
            for one, scale_set in found.items():
                where.setdefault(one, ends.sets[scale_set])
        for scale_set in set(ends.sets) - {*flexible.values(), *uniform.values()}:
            ends.dead.append((ends.sets[scale_set], "the scale set has no instance that is known"))

    def _find_addresses(self, ends: _Ends, deadline: Deadline) -> None:
        if not ends.addresses:
            return
        nics = self._members.at_addresses((a for a, _ in ends.addresses), deadline)
        near: dict[str, Sequence[str]] = {}
        for key, way in ends.addresses.items():
            address, network = key
            nic = nics.get(key)
            if nic is None and any(a == address for a, _ in nics):  # a backend may be in a peered network
                near[network] = near[network] if network in near else self._peers(network, deadline)
                nic = next((nics[address, n] for n in near[network] if (address, n) in nics), None)
            if nic is not None and kind_of(nic) == INSTANCE_NIC:
                ends.instances.setdefault(nic.partition("/networkinterfaces/")[0], way)
            elif nic is not None:
                ends.nics.setdefault(nic, way)
            if nic is not None:
                ends.direct |= {nic} if key in ends.direct else set()
            else:
                network = f" in {name_of(key[1])}" if key[1] else ""
                ends.dead.append((way, f"{way.lead.via}: {key[0]}{network} is the address of no machine"))

    # --- the machines at the ends ---

    def _machines_at(self, root: str, ends: _Ends, deadline: Deadline) -> Traced:
        found = Found()
        more = _cut(ends)
        if ends.machines or ends.nics or ends.instances:
            found = self._members.read(ends.machines, ends.nics, ends.instances, deadline)
        ways = {**ends.machines, **ends.instances}
        by_machine: dict[str, list[tuple[str, _Way]]] = {}
        for nic, owner in found.owners.items():
            if nic in ends.nics:
                by_machine.setdefault(owner, []).append((nic, ends.nics[nic]))
        machines = []
        for machine in found.machines.values():
            through = by_machine.get(machine.id, [])
            if machine.id in ways:
                path, hidden = ways[machine.id].path, {n.id: ways[machine.id].hidden for n in machine.nics}
                through = [(machine.id, ways[machine.id])]
            else:
                path, hidden = _onto(through[0][1].path, through[0][0]), {
                    nic: way.hidden for nic, way in through}
            path = _onto(path, machine.id)
            said = [way.lead.speaks_out for _, way in through if way.lead.speaks_out is not None]
            machines.append(replace(
                machine, path=path, nics=_hidden(machine.nics, hidden, ends.direct),
                ports=tuple(dict.fromkeys(p for _, way in through for p in way.lead.ports)),
                speaks_out=any(said) if said else None,
            ))
        dead = [(root, f"not traced: {_shown(way)}{why}") for way, why in ends.dead]
        dead += _told(found.missing, root)
        if more:
            dead.append((root, f"not traced: {more} machines beyond the {MOST_MACHINES} of one alert"))
        if not machines and not dead:
            dead.append((root, f"not traced: no machine is behind {name_of(root)}"))
        return Traced(tuple(machines), tuple(dead), tuple(self._front(g, deadline) for g in ends.gateways))

    def _front(self, gateway: Mapping[str, Any], deadline: Deadline) -> Front:
        gateway_id, subnet = str(gateway["id"]).lower(), gateway_subnet(gateway)
        guard = trouble = ""
        try:
            guard = self._machines.subnet_guard(subnet, deadline) if subnet else ""
        except PermanentError as error:
            trouble = f"its subnet cannot be read ({error})"
        return Front(gateway_id, name_of(gateway_id), subnet, guard, trouble, *waf_policies(gateway))


def _onto(path: tuple[str, ...], one: str) -> tuple[str, ...]:
    """A step further, unless the way stands there already."""
    return path if path[-1:] == (name_of(one),) else (*path, name_of(one))


def _hidden(
    nics: Iterable[Nic], hidden: Mapping[str, str], direct: Collection[object]
) -> tuple[Nic, ...]:
    return tuple(replace(n, hidden=n.hidden or hidden.get(n.id, ""), direct=n.direct or n.id in direct)
                 for n in nics)


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
