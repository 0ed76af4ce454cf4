"""The rules we own: how they are named and marked, which there should be, and the difference to what
is there.

Pure. One owned rule per NSG, direction and address family carries all live addresses. We own a
rule if its name is ours *and* our marker stands in its description (the ledger's row is the third
condition, kept by the commit). Everything else in the NSG is someone else's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from remediation.model import Direction
from remediation.nsg import (
    NSG_LIMITS,
    Family,
    Nsg,
    Rule,
    collapse,
    family_of,
    may_match_remote,
    same_effect,
)
from remediation.prefixes import reach
from remediation.topology import WAF_POLICY, kind_of

PARKED = {4: "192.0.2.1", 6: "2001:db8::1"}
"""Documentation addresses: what a rule denies when a lock forbids us to delete it."""
PARKED_WORD = "Parked:"


@dataclass(frozen=True, slots=True)
class Ownership:
    """How this deployment's rules are named and marked."""

    deployment: str

    @property
    def prefix(self) -> str:
        """What all owned names begin with."""
        return f"defender-block-{self.deployment}-"

    @property
    def deny_prefix(self) -> str:
        """What the names of our collections in a firewall begin with."""
        return f"defender-deny-{self.deployment}"

    @property
    def marker(self) -> str:
        """What all owned descriptions hold."""
        return f"[defender-responder:{self.deployment}]"

    def name(self, direction: Direction, family: Family) -> str:
        """`defender-block-<deployment>-inbound`, `…-inbound-v6`, and so on."""
        return f"{self.prefix}{direction}{'-v6' if family == 6 else ''}"

    def waf_name(self, family: Family) -> str:
        """The same for a WAF policy: letters and digits only, and no description to hold a marker."""
        return f"{_waf_prefix(self.deployment)}V{family}"

    def name_on(self, guard_id: str, direction: Direction, family: Family) -> str:
        """The name of our rule on that guard."""
        if kind_of(guard_id) == WAF_POLICY:
            return self.waf_name(family)
        return self.name(direction, family)

    def description(self, token: str) -> str:
        """Says what the rule is, whose, and by which write it came (`token`)."""
        return f"Addresses blocked by Defender alerts, for a limited time. {self.marker} w:{token}"

    def parked_description(self, token: str) -> str:
        """For a rule that a lock forbids us to delete."""
        return f"{PARKED_WORD} a lock forbids deleting it, it denies nothing. {self.marker} w:{token}"

    def owns(self, rule: Rule) -> bool:
        """Name and marker both ours. (A WAF policy's reader marks what is ours by its whole name.)"""
        named = rule.name.lower().startswith(self.prefix) or rule.name in (self.waf_name(4), self.waf_name(6))
        return named and self.marker in rule.description

    def claims_name(self, rule: Rule) -> bool:
        """Ours by name but without our marker: someone's rule in our way. Never touched."""
        return rule.name.lower().startswith(self.prefix) and self.marker not in rule.description

    def token_of(self, rule: Rule) -> str:
        """The token of the write that made the rule as it is."""
        hit = re.search(r" w:([0-9a-f]+)$", rule.description)
        return hit[1] if hit else ""


@lru_cache(maxsize=8)
def _waf_prefix(deployment: str) -> str:
    """The deployment's fingerprint keeps `a-b` and `ab` apart."""
    mark = hashlib.sha256(deployment.encode()).hexdigest()[:8]
    return f"DefenderBlock{re.sub(r'[^a-z0-9]', '', deployment.lower())}{mark}"


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


def wanted_rules(
    nsg: Nsg,
    addresses: Mapping[Direction, Iterable[str]],
    ownership: Ownership,
    window: Window,
) -> tuple[Wanted, ...]:
    """The owned rules this NSG should have: all four slots, empty ones too, the outbound first."""
    wanted: list[Wanted] = []
    if nsg.limits is not NSG_LIMITS:
        window = Window(nsg.limits.first, nsg.limits.last)  # the policy's is meant for NSGs
    for direction in directions_of(nsg):
        given = set(addresses.get(direction, ()))
        for family in (4, 6):
            prefixes = collapse(a for a in given if family_of(a) == family)
            slot = Wanted(ownership.name_on(nsg.id, direction, family), direction, family, prefixes)
            if prefixes:
                taken = [w for w in wanted if w.direction is direction and w.prefixes]
                slot = _with_priority(nsg, slot, taken, window)
            wanted.append(slot)
    return tuple(wanted)


def directions_of(guard: Nsg) -> tuple[Direction, ...]:
    """What passes the guard: a WAF policy sees requests alone."""
    if guard.limits is NSG_LIMITS:
        return Direction.OUTBOUND, Direction.INBOUND
    return (Direction.INBOUND,)


def _with_priority(nsg: Nsg, slot: Wanted, ours: Sequence[Wanted], window: Window) -> Wanted:
    """The lowest free number in the window that beats every Allow which may match; else one below
    the window; else, shadowed, the lowest free one there is. A number once held is kept while it
    is good."""
    others = [r for r in nsg.rules if r.direction is slot.direction and r.name != slot.name]
    taken = {r.priority for r in others} | {w.priority for w in ours}
    asked = reach(slot.prefixes).held
    limit = min(
        (r.priority for r in others if r.allow and may_match_remote(r, asked)),
        default=nsg.limits.last + 1,
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
    numbers = range(nsg.limits.first, nsg.limits.last + 1)
    inside = next((p for p in range(window.first, min(window.last + 1, limit))
                   if p in numbers and p not in taken), None)
    if inside is not None:
        return replace(slot, priority=inside)
    free = [p for p in numbers if p not in taken]
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


def room_for(nsg: Nsg, ownership: Ownership, direction: Direction) -> int:
    """How many prefixes our rules of this direction may hold on the remote side, all families.

    Addresses are counted apart for sources and destinations, over all rules of the NSG, both
    directions. Our own rules are not counted, for they will be replaced; but those of the other
    direction have a `*` on this side, one per family.
    """
    if not nsg.limits.shared:
        return nsg.limits.addresses
    inbound = direction is Direction.INBOUND
    used = sum(
        len(r.sources if inbound else r.destinations) for r in nsg.rules if not ownership.owns(r)
    )
    return max(0, nsg.limits.addresses - used - 2)
