"""How much of the internet do firewall rules let out to, ports times addresses? Pure arithmetic."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from remediation.firewall.rules import BOTH, PORTS, TCP, UDP, FlowRule, Kind, RuleSet, Sides
from remediation.spans import NOTHING, V6, Spans, place, spans

MOST = 0.5
"""Who may reach this part of what there is, ports times addresses, may reach most of it."""
ALMOST = 1 - 1e-12
"""What misses one port of one address is not all."""
MEASURED = 50
"""So many parts are measured exactly; what is beyond them counts as if it overlapped with nothing."""

_SPECIAL_4 = ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
              "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
              "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4")
"""IANA's special-purpose IPv4 ranges: nobody on the internet has these."""
ALL_4 = Spans(((0, V6 - 1),))
PUBLIC_4 = ALL_4 - spans(r for text in _SPECIAL_4 for r in (place(text) or NOTHING))
PUBLIC_6 = (place("2000::/3") or NOTHING) - (place("2001:db8::/32") or NOTHING)
FAMILIES = (PUBLIC_4, PUBLIC_6)


@dataclass(frozen=True)
class Reach:
    """How much of the public addresses, times all ports, TCP and UDP may reach: from 0 to 1."""

    tcp: float
    udp: float
    ports: bool
    places: bool

    @property
    def full(self) -> bool:
        """All of it, by both protocols."""
        return self.tcp == self.udp == 1

    @property
    def most(self) -> bool:
        """Most of it, by one protocol at least."""
        return self.tcp >= MOST or self.udp >= MOST

    @property
    def most_of_both(self) -> bool:
        """Most of it by TCP, and most of it by UDP."""
        return self.tcp >= MOST and self.udp >= MOST

    @property
    def holds(self) -> str:
        """Which of D, P, T hold."""
        return ("D" if self.places else "") + ("P" if self.ports else "") + (
            "T" if self.tcp and self.udp else "")


type Way = tuple[FlowRule, Sequence[FlowRule], Spans]
"""A rule, the denies before it that stop some of what it lets out, and the addresses of the families that its
sources are of: nobody speaks to the other family."""


def family_of(address: int) -> Spans:
    """The public addresses that this one can speak to."""
    return PUBLIC_4 if address < V6 else PUBLIC_6


def families_of(sources: Sides) -> Spans:
    """What is known by name only may be of both."""
    of_4 = sources.names or sources.known & ALL_4
    of_6 = sources.names or sources.known - ALL_4
    return (PUBLIC_4 if of_4 else NOTHING) | (PUBLIC_6 if of_6 else NOTHING)


def at_most(rules: Collection[FlowRule]) -> float:
    """No protocol can reach more than this by these rules: cheap to say, and for most rules enough."""
    return max(
        sum((r.ports & PORTS).size * (public(r.destinations) & family).size for r in rules)
        / (PORTS.size * family.size) for family in FAMILIES)


def said_by(rules: Iterable[FlowRule]) -> Reach:
    """How far rules reach together by what they say, denies aside."""
    return reach_of([(rule, (), families_of(rule.sources)) for rule in rules])


def reach_of(parts: Sequence[Way]) -> Reach:
    """How far rules reach together, in the family they reach furthest."""
    return max((_in_family(parts, family) for family in FAMILIES),
               key=lambda r: (r.most_of_both, r.most, r.tcp + r.udp))


def _in_family(parts: Sequence[Way], family: Spans) -> Reach:
    goals = [(rule, denies, goal) for rule, denies, sources in parts
             if (goal := public(rule.destinations) & sources & family)]
    whole, shares = PORTS.size * family.size, {}
    for protocol in BOTH:
        here = [(rule, [d for d in denies if protocol in d.protocols], goal)
                for rule, denies, goal in goals if protocol in rule.protocols]
        measure = sum(size * _open(first, here).size for first, size in _elementary(here))
        shares[protocol] = 1.0 if measure == whole else min(measure / whole, ALMOST)
    ports = spans(r for rule, _, _ in goals for r in rule.ports)
    places = spans(r for _, _, goal in goals for r in goal)
    return Reach(shares[TCP], shares[UDP], ports.covers(PORTS), places.covers(family))


def _elementary(parts: Iterable[Way]) -> list[tuple[int, int]]:
    """Ranges of ports, first and size, within which all of these rules say the same."""
    edges = {PORTS.ranges[0][0], PORTS.ranges[0][1] + 1}
    for rule, denies, _ in parts:
        for one in (rule, *denies):
            for first, last in one.ports & PORTS:
                edges |= {first, last + 1}
    return [(a, b - a) for a, b in pairwise(sorted(edges))]


def _open(port: int, parts: Iterable[Way]) -> Spans:
    """The public addresses that these rules let out to on a port."""
    found: list[tuple[int, int]] = []
    for rule, denies, goal in parts:
        if port in rule.ports:
            stopped = spans(r for d in denies if port in d.ports for r in public(d.destinations))
            found += (goal - stopped).ranges
    return spans(found)


def public(sides: Sides) -> Spans:
    """The addresses on a rule's far side; the tag Internet is all public ones."""
    return sides.known | (PUBLIC_4 | PUBLIC_6) if "internet" in sides.names else sides.known


def ways_out(rules: RuleSet, points: Collection[int]) -> list[FlowRule]:
    """The rules by which these addresses may reach most of the internet all the same, whoever's rules they
    are, approved or not; none if they may not. Where there are too many to measure, they may."""
    network = [r for r in rules.rules if r.kind is Kind.NETWORK]
    theirs = [(n, r) for n, r in enumerate(network) if r.allow and any(p in r.sources.known for p in points)]
    if at_most([r for _, r in theirs]) < MOST:
        return []
    theirs.sort(key=lambda one: at_most([one[1]]), reverse=True)
    ways: dict[tuple[int, Spans, tuple[int, ...]], Way] = {}
    taken = 0
    while taken < len(theirs) and len(ways) < MEASURED:
        n, rule = theirs[taken]
        taken += 1
        for at in (p for p in points if p in rule.sources.known):
            denies = [d for d in network[:n] if not d.allow and at in d.sources.known]
            ways[n, family_of(at), tuple(id(d) for d in denies)] = (rule, denies, family_of(at))
    reach, rest = reach_of(list(ways.values())), [r for _, r in theirs[taken:]]
    if max(reach.tcp, reach.udp) + at_most(rest) < MOST:
        return []
    open_ = [way[0] for way in ways.values() if (one := reach_of([way])).tcp or one.udp]
    return list({id(r): r for r in (*open_, *rest)}.values())
