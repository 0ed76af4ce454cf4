"""NSG rules as data: reading them, the rules we want, and the difference to what is there.

Pure. One owned rule per NSG, direction and address family carries all live addresses. We own a
rule if its name is ours *and* our marker stands in its description (the ledger's row is the third
condition, kept by the commit). Everything else in the NSG is someone else's.

Limits and names: Microsoft's NSG limits (1,000 rules; 4,000 addresses per side; priority 100-4096
unique per direction; description up to 140 characters).
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from remediation.model import Direction

MAX_RULES = 1000
MAX_ADDRESSES_PER_SIDE = 4000
LOWEST_PRIORITY, HIGHEST_PRIORITY = 100, 4096

PARKED = {4: "192.0.2.1", 6: "2001:db8::1"}
"""Documentation addresses: what a rule denies when a lock forbids us to delete it."""

PARKED_WORD = "Parked:"

type Family = Literal[4, 6]
type Network = ipaddress.IPv4Network | ipaddress.IPv6Network
type Ports = tuple[tuple[int, int], ...]

ANY_PORT: Ports = ((0, 65535),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One security rule. Prefixes and tags are lower-cased; `*` is any."""

    name: str
    priority: int
    direction: Direction
    allow: bool
    protocol: str = "*"
    sources: tuple[str, ...] = ("*",)
    destinations: tuple[str, ...] = ("*",)
    source_ports: Ports = ANY_PORT
    destination_ports: Ports = ANY_PORT
    source_groups: tuple[str, ...] = ()
    destination_groups: tuple[str, ...] = ()
    description: str = ""
    state: str = "Succeeded"

    @property
    def remote(self) -> tuple[str, ...]:
        """The side away from the machine: where a block's address stands."""
        return self.sources if self.direction is Direction.INBOUND else self.destinations

    @property
    def local(self) -> tuple[str, ...]:
        """The machine's side."""
        return self.destinations if self.direction is Direction.INBOUND else self.sources

    @property
    def remote_groups(self) -> tuple[str, ...]:
        """Application security groups on the remote side."""
        inbound = self.direction is Direction.INBOUND
        return self.source_groups if inbound else self.destination_groups

    @property
    def local_groups(self) -> tuple[str, ...]:
        """Application security groups on the machine's side."""
        inbound = self.direction is Direction.INBOUND
        return self.destination_groups if inbound else self.source_groups


@dataclass(frozen=True, slots=True)
class Nsg:
    """A network security group as read: custom rules, and what it is attached to (ids, lowered)."""

    id: str
    rules: tuple[Rule, ...]
    subnets: frozenset[str] = frozenset()
    nics: frozenset[str] = frozenset()
    location: str = ""


def nsg_from_arm(body: Mapping[str, Any]) -> Nsg:
    """ARM's JSON of a `networkSecurityGroups` resource → Nsg. Default rules are left out:
    all lie at 65000 and above, behind every rule that can be written."""
    properties = body.get("properties") or {}
    return Nsg(
        id=str(body["id"]).lower(),
        rules=tuple(rule_from_arm(r) for r in properties.get("securityRules") or ()),
        subnets=frozenset(str(s["id"]).lower() for s in properties.get("subnets") or ()),
        nics=frozenset(str(n["id"]).lower() for n in properties.get("networkInterfaces") or ()),
        location=str(body.get("location", "")),
    )


def rule_from_arm(body: Mapping[str, Any]) -> Rule:
    """ARM's JSON of a `securityRules` child → Rule; singular and plural fields are merged."""
    p = body.get("properties") or {}

    def side(one: str, many: str) -> tuple[str, ...]:
        values = [*(p.get(many) or ()), *([p[one]] if p.get(one) else ())]
        return tuple(str(v).lower() for v in values)

    def groups(name: str) -> tuple[str, ...]:
        return tuple(str(g["id"]).lower() for g in p.get(name) or ())

    return Rule(
        name=str(body["name"]),
        priority=int(p["priority"]),
        direction=Direction(str(p["direction"]).lower()),
        allow=str(p["access"]).lower() == "allow",
        protocol=str(p.get("protocol", "*")).lower(),
        sources=side("sourceAddressPrefix", "sourceAddressPrefixes"),
        destinations=side("destinationAddressPrefix", "destinationAddressPrefixes"),
        source_ports=ports_from_arm(side("sourcePortRange", "sourcePortRanges")),
        destination_ports=ports_from_arm(side("destinationPortRange", "destinationPortRanges")),
        source_groups=groups("sourceApplicationSecurityGroups"),
        destination_groups=groups("destinationApplicationSecurityGroups"),
        description=str(p.get("description") or ""),
        state=str(p.get("provisioningState") or "Succeeded"),
    )


def ports_from_arm(ranges: Iterable[str]) -> Ports:
    """`*`, `22`, `80-90` → pairs of first and last port."""
    found = []
    for text in ranges:
        if text == "*":
            return ANY_PORT
        low, _, high = text.partition("-")
        found.append((int(low), int(high or low)))
    return tuple(found)


def network(prefix: str) -> Network | None:
    """An address or CIDR → network; None for tags."""
    try:
        return ipaddress.ip_network(prefix, strict=False)
    except ValueError:
        return None


def family_of(address: str) -> Family:
    """4 or 6."""
    return 6 if ":" in address else 4


def collapse(addresses: Iterable[str]) -> tuple[str, ...]:
    """Canonical, sorted, collapsed without widening: exactly the same addresses, no overlap.

    All must be of one family. A single address stands without its prefix length.
    """
    networks = [ipaddress.ip_network(a) for a in addresses]
    merged = ipaddress.collapse_addresses(networks)  # type: ignore[type-var]  # one family by contract
    return tuple(
        str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n) for n in merged
    )


def contains(prefixes: Iterable[str], address: str) -> bool:
    """True if the address lies in one of the prefixes; tags contain nothing here."""
    one = ipaddress.ip_address(address)
    return any(n is not None and one in n for n in map(network, prefixes))


# --- the rules we own -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ownership:
    """How this deployment's rules are named and marked."""

    deployment: str

    @property
    def prefix(self) -> str:
        """What all owned names begin with."""
        return f"defender-block-{self.deployment}-"

    @property
    def marker(self) -> str:
        """What all owned descriptions hold."""
        return f"[defender-responder:{self.deployment}]"

    def name(self, direction: Direction, family: Family) -> str:
        """`defender-block-<deployment>-inbound`, `…-inbound-v6`, and so on."""
        return f"{self.prefix}{direction}{'-v6' if family == 6 else ''}"

    def description(self, token: str) -> str:
        """Says what the rule is, whose, and by which write it came (`token`)."""
        return f"Addresses blocked by Defender alerts, for a limited time. {self.marker} w:{token}"

    def parked_description(self, token: str) -> str:
        """For a rule that a lock forbids us to delete."""
        return f"{PARKED_WORD} a lock forbids deleting it, it denies nothing. {self.marker} w:{token}"

    def owns(self, rule: Rule) -> bool:
        """Name and marker both ours."""
        return rule.name.lower().startswith(self.prefix) and self.marker in rule.description

    def claims_name(self, rule: Rule) -> bool:
        """Ours by name but without our marker: someone's rule in our way. Never touched."""
        return rule.name.lower().startswith(self.prefix) and self.marker not in rule.description

    def token_of(self, rule: Rule) -> str:
        """The token of the write that made the rule as it is."""
        hit = re.search(r" w:([0-9a-f]+)$", rule.description)
        return hit[1] if hit else ""


@dataclass(frozen=True, slots=True)
class Window:
    """Priorities the policy gives to our rules, both ends included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """An owned rule as it should be. No prefixes: it should not be there."""

    name: str
    direction: Direction
    family: Family
    prefixes: tuple[str, ...]
    priority: int = 0
    outside_window: bool = False

    def as_rule(self, description: str = "") -> Rule:
        """The rule that this would be in the NSG."""
        remote = self.prefixes
        inbound = self.direction is Direction.INBOUND
        return Rule(
            name=self.name,
            priority=self.priority,
            direction=self.direction,
            allow=False,
            sources=remote if inbound else ("*",),
            destinations=("*",) if inbound else remote,
            description=description,
        )


def rule_to_arm(rule: Rule) -> dict[str, Any]:
    """The body of the PUT for one of our rules: any protocol, any port, local side any."""
    inbound = rule.direction is Direction.INBOUND
    ours, theirs = ("source", "destination") if inbound else ("destination", "source")
    return {
        "properties": {
            "description": rule.description,
            "protocol": "*",
            "access": "Allow" if rule.allow else "Deny",
            "priority": rule.priority,
            "direction": "Inbound" if inbound else "Outbound",
            "sourcePortRange": "*",
            "destinationPortRange": "*",
            f"{ours}AddressPrefixes": list(rule.remote),
            f"{theirs}AddressPrefix": "*",
        }
    }


def wanted_rules(
    nsg: Nsg,
    addresses: Mapping[Direction, Iterable[str]],
    ownership: Ownership,
    window: Window,
) -> tuple[Wanted, ...]:
    """The owned rules this NSG should have: all four slots, empty ones too, the outbound first."""
    wanted: list[Wanted] = []
    for direction in (Direction.OUTBOUND, Direction.INBOUND):
        given = set(addresses.get(direction, ()))
        for family in (4, 6):
            prefixes = collapse(a for a in given if family_of(a) == family)
            slot = Wanted(ownership.name(direction, family), direction, family, prefixes)
            if prefixes:
                taken = [w for w in wanted if w.direction is direction and w.prefixes]
                slot = _with_priority(nsg, slot, taken, window)
            wanted.append(slot)
    return tuple(wanted)


def _with_priority(nsg: Nsg, slot: Wanted, ours: Sequence[Wanted], window: Window) -> Wanted:
    """The lowest free number in the window that beats every Allow which may match; else one below
    the window; else, shadowed, the lowest free one there is. A number once held is kept while it
    is good."""
    others = [r for r in nsg.rules if r.direction is slot.direction and r.name != slot.name]
    taken = {r.priority for r in others} | {w.priority for w in ours}
    limit = min(
        (r.priority for r in others if r.allow and may_match_remote(r, slot.prefixes)),
        default=HIGHEST_PRIORITY + 1,
    )
    current = next((r for r in nsg.rules if r.name == slot.name), None)
    if (
        current is not None
        and current.direction is slot.direction
        and current.priority < limit
        and current.priority not in taken
    ):
        outside = not window.first <= current.priority <= window.last
        return replace(slot, priority=current.priority, outside_window=outside)
    free = [p for p in range(LOWEST_PRIORITY, HIGHEST_PRIORITY + 1) if p not in taken]
    inside = [p for p in free if window.first <= p <= window.last and p < limit]
    if inside:
        return replace(slot, priority=inside[0])
    before = [p for p in free if p < min(window.first, limit)]
    if before:
        return replace(slot, priority=before[-1], outside_window=True)
    anyway = [p for p in free if p >= window.first] or free
    if current is not None and current.direction is slot.direction:
        anyway = [current.priority]  # moving it would gain nothing
    if not anyway:
        return replace(slot, priority=0)
    outside = not window.first <= anyway[0] <= window.last
    return replace(slot, priority=anyway[0], outside_window=outside)


REMOTE_NEVER = frozenset({"azureloadbalancer"})
"""Tags that no attacker's address can be in (it is 168.63.129.16, which is never blocked)."""


def may_match_remote(rule: Rule, prefixes: Iterable[str]) -> bool:
    """Could the rule's remote side match one of these public prefixes? Unknown tags could."""
    if rule.remote_groups and not rule.remote:
        return False  # application security groups hold NICs of ours
    nets = [n for n in map(network, prefixes) if n is not None]
    for text in rule.remote:
        theirs = network(text)
        if theirs is None:
            if text not in REMOTE_NEVER:
                return True
        elif any(n.version == theirs.version and n.overlaps(theirs) for n in nets):
            return True
    return False


@dataclass(frozen=True, slots=True)
class Write:
    """One ARM call: PUT the rule, or DELETE the rule of that name. `before` is what was there."""

    name: str
    direction: Direction
    rule: Rule | None
    before: Rule | None

    @property
    def kind(self) -> str:
        """`put` or `delete`."""
        return "delete" if self.rule is None else "put"


def difference(nsg: Nsg, wanted: Iterable[Wanted], ownership: Ownership) -> tuple[Write, ...]:
    """What must be written so that the owned rules are as wanted. Equal rules cost nothing.

    A rule whose last write failed is written again. A parked rule (docs: locks) counts as absent.
    A rule of our name without our marker is left alone: the commit reports it.
    """
    writes = []
    present = {r.name: r for r in nsg.rules}
    for slot in wanted:
        current = present.get(slot.name)
        if current is not None and not ownership.owns(current):
            continue
        if not slot.prefixes:
            if current is not None and not is_parked(current):
                writes.append(Write(slot.name, slot.direction, None, current))
        elif slot.priority and (
            current is None or current.state == "Failed" or not same_effect(current, slot.as_rule())
        ):
            writes.append(Write(slot.name, slot.direction, slot.as_rule(), current))
    return tuple(writes)


def is_parked(rule: Rule) -> bool:
    """True for a rule that was left as a Deny of a documentation address, and says so.

    The description tells it from a real block of that address."""
    denies_nothing = not rule.allow and rule.remote in {(a,) for a in PARKED.values()}
    return denies_nothing and rule.description.startswith(PARKED_WORD)


def same_effect(one: Rule, other: Rule) -> bool:
    """Equal in all that decides traffic; description, order and spelling of prefixes aside."""
    return _shape(one) == _shape(other)


def digest(rule: Rule) -> str:
    """A short fingerprint of all that decides traffic: equal for rules of the same effect."""
    return hashlib.sha256(repr(_shape(rule)).encode()).hexdigest()[:16]


def _shape(r: Rule) -> tuple[object, ...]:
    return (
        r.priority, r.direction.value, r.allow, r.protocol, _spelled(r.sources),
        _spelled(r.destinations), sorted(r.source_ports), sorted(r.destination_ports),
        sorted(r.source_groups), sorted(r.destination_groups),
    )


def _spelled(prefixes: Iterable[str]) -> list[str]:
    return sorted({str(network(p) or p) for p in prefixes})


def room_for(nsg: Nsg, ownership: Ownership, direction: Direction) -> int:
    """How many prefixes our rules of this direction may hold on the remote side, all families.

    Addresses are counted apart for sources and destinations, over all rules of the NSG, both
    directions. Our own rules are not counted, for they will be replaced; but those of the other
    direction have a `*` on this side, one per family.
    """
    inbound = direction is Direction.INBOUND
    used = sum(
        len(r.sources if inbound else r.destinations) for r in nsg.rules if not ownership.owns(r)
    )
    return max(0, MAX_ADDRESSES_PER_SIDE - used - 2)
