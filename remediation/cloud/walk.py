"""From one element to where its traffic ends: leads are followed, level by level, all ways at once.

`topology` says where an element leads; here its body is read. `trace` reads the machines at the ends.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from remediation.clock import Deadline
from remediation.cloud.elements import Elements
from remediation.cloud.members import Members
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
    VIRTUAL_MACHINE,
    Kind,
    Lead,
    appliance,
    kind_of,
    leads,
    name_of,
)

READS_AT_ONCE = 8
DEEPEST, MOST_ELEMENTS = 6, 60
NOT_TRACED: Mapping[str, str] = {
    "microsoft.hybridcompute/machines": "an Arc machine: its network is not Azure's",
}
OF_INSTANCES = (INSTANCE, INSTANCE_NIC, INSTANCE_PUBLIC_IP)
"""What names a scale set's instance in its own id."""


@dataclass(frozen=True, slots=True)
class Way:
    """A lead, and how one came to it."""

    lead: Lead
    path: tuple[str, ...]
    hidden: tuple[str, ...] = ()

    def on(self, lead: Lead) -> Way:
        """A step further."""
        path = (*self.path, lead.via) if lead.via else self.path
        if lead.kind is Kind.RESOURCE and kind_of(lead.target) in READERS:
            path = (*path, name_of(lead.target))
        hidden = (*self.hidden, lead.hidden) if lead.hidden else self.hidden
        return Way(lead, path, hidden)


@dataclass
class Ends:
    """Where the ways end: by id, all ways to each, the first one first."""

    machines: dict[str, list[Way]] = field(default_factory=dict)
    nics: dict[str, list[Way]] = field(default_factory=dict)
    instances: dict[str, list[Way]] = field(default_factory=dict)
    sets: dict[str, list[Way]] = field(default_factory=dict)
    addresses: dict[tuple[str, str], list[Way]] = field(default_factory=dict)
    dead: list[tuple[Way, str]] = field(default_factory=list)
    gateways: list[dict[str, Any]] = field(default_factory=list)


class Walk:
    """Follows leads. One instance serves all threads."""

    def __init__(self, elements: Elements, members: Members) -> None:
        self._elements = elements
        self._members = members
        self._pool = ThreadPoolExecutor(READS_AT_ONCE, "walk")

    def to_ends(self, root: str, deadline: Deadline) -> Ends:
        """Level by level; the root itself must be there. Raises NotFound, and temporary errors."""
        ends = Ends()
        first = Way(Lead(Kind.RESOURCE, root), (name_of(root),))
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
        return ends

    def _put(self, ends: Ends, ways: Iterable[Way], seen: Collection[str]) -> list[Way]:
        """Put ways where they end → those that go on, to elements not seen yet, the first way to each."""
        further: dict[str, Way] = {}
        for way in ways:
            if not self._ends_here(way, ends) and way.lead.target not in seen:
                further.setdefault(way.lead.target, way)
        kept, left = list(further.values())[:MOST_ELEMENTS], list(further.values())[MOST_ELEMENTS:]
        if left:
            ends.dead.append((left[0], f"{len(left)} elements beyond {MOST_ELEMENTS} were not followed"))
        return kept

    def _beyond(
        self, way: Way, body: dict[str, Any] | str, ends: Ends, deadline: Deadline
    ) -> list[Way]:
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

    def _routed(self, way: Way, firewall: dict[str, Any], deadline: Deadline) -> list[Way]:
        """The subnets that routes send through a firewall, in its own network or one peered with it."""
        addresses, networks = appliance(firewall)
        subnets = self._members.routed(addresses, deadline)
        if not subnets:
            return []
        near = {*networks, *(p for n in networks for p in self._elements.peers(n, deadline))}
        return [way.on(Lead(Kind.RESOURCE, s, "routes to it", hidden=way.lead.target, speaks_out=True))
                for s in subnets
                if s.partition("/subnets/")[0] in near]

    def _ends_here(self, way: Way, ends: Ends) -> bool:
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
            ends.dead.append((way, why_not(target, kind)))
        else:
            return False
        return True

    def _open_sets(self, ends: Ends, deadline: Deadline) -> None:
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

    def _find_addresses(self, ends: Ends, deadline: Deadline) -> None:
        if not ends.addresses:
            return
        nics = self._members.at_addresses((a for a, _ in ends.addresses), deadline)
        near: dict[str, Sequence[str]] = {}
        late: dict[str, dict[str, list[str]]] = {}
        for key, ways in ends.addresses.items():
            address, network = key
            here = nics.get(key, [])
            if not here and any(a == address for a, _ in nics):  # a backend may be in a peered network
                near[network] = near[network] if network in near else self._elements.peers(network, deadline)
                here = next((nics[address, n] for n in near[network] if (address, n) in nics), [])
            if not here and network:  # the graph lags
                if network not in late:
                    late[network] = self._members.at_addresses_lately(
                        network, {a for a, n in ends.addresses if n == network}, deadline)
                here = late[network].get(address, [])
            for nic in here:
                if kind_of(nic) == INSTANCE_NIC:
                    ends.instances.setdefault(nic.partition("/networkinterfaces/")[0], []).extend(ways)
                else:
                    ends.nics.setdefault(nic, []).extend(ways)
            if not here:
                network = f" in {name_of(key[1])}" if key[1] else ""
                ends.dead.append((
                    ways[0], f"{ways[0].lead.via}: {key[0]}{network} is the address of no machine"))


def why_not(resource: str, kind: str) -> str:
    """Why such a resource leads to no machine."""
    if kind in NOT_TRACED:
        return NOT_TRACED[kind]
    if resource.lower().rstrip("/").count("/") == 2 and resource.lower().startswith("/subscriptions/"):
        return "a whole subscription is no place to look"
    return f"{kind} has no machines that are known" if kind else "this is no resource of Azure's"
