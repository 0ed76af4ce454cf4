"""Which rules open the internet to one machine? Pure.

A rule is rogue where all of these hold, judged by what the firewall enforces as a whole:

    S  its sources come down to the addresses of exactly one machine
    D  its destinations cover all public addresses of a family
    P  its ports cover 1 to 65535
    T  it lets out TCP and UDP
    A  nobody has approved it

Several rules may do together what none does alone: those that belong to one machine are judged as one, too.
What an earlier Deny stops does not count. docs/firewall.md decides each edge.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Any

from remediation.firewall.rules import BOTH, PORTS, TCP, UDP, FlowRule, Kind, RuleSet, Sides
from remediation.spans import NOTHING, V6, Spans, place, point, shown, spans

MOST, SOME = 0.5, 0.02
"""Who may reach this part of what there is, ports times addresses, may reach most of it."""
ALMOST = 1 - 1e-12
"""What misses one port of one address is not all."""
MOST_PARTS, MOST_HALVES = 30, 50
"""Of more small rules than so many nobody says which few are needed: all of them are shown, to a person."""
WIDEST = 1 << 16
"""Sources of more addresses than these are a network's, whoever is in it today."""
MANAGEMENT = spans((p, p) for p in (22, 23, 135, 445, 1433, 3306, 3389, 5432, 5900, 5985, 5986))
WEB_PORTS = spans(((80, 80), (443, 443)))

_SPECIAL_4 = ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
              "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
              "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4")
"""IANA's special-purpose IPv4 ranges: nobody on the internet has these."""
ALL_4 = Spans(((0, V6 - 1),))
PUBLIC_4 = ALL_4 - spans(r for text in _SPECIAL_4 for r in (place(text) or NOTHING))
PUBLIC_6 = (place("2000::/3") or NOTHING) - (place("2001:db8::/32") or NOTHING)
FAMILIES = (PUBLIC_4, PUBLIC_6)


class Class(StrEnum):
    """What a finding is. Only a `rogue` one is ever taken out."""

    ROGUE = "rogue"
    WIDE = "wide"
    PARTIAL = "partial"
    WEB = "web"
    INBOUND = "inbound"
    SHADOWED = "shadowed"
    UNUSED = "unused"


SEVERITY: Mapping[Class, str] = {
    Class.ROGUE: "High", Class.WIDE: "High", Class.PARTIAL: "Medium", Class.WEB: "Medium",
    Class.INBOUND: "Medium", Class.SHADOWED: "Low", Class.UNUSED: "Low",
}


class Hosts:
    """The machines of the networks that a firewall serves, by address; '' owns what belongs to no machine
    (a private endpoint, an appliance's frontend)."""

    def __init__(self, owners: Iterable[tuple[int, str]]) -> None:
        found = sorted(dict(owners).items())
        self._at = [number for number, _ in found]
        self._owner = [owner for _, owner in found]

    @staticmethod
    def owned(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, str]]:
        """Rows with `address` and `machine`; those without an address that can be read are passed over."""
        for row in rows:
            try:
                yield point(str(row.get("address"))), str(row.get("machine") or "").lower()
            except ValueError:
                continue

    def of(self, machine: str) -> list[int]:
        """The machine's addresses."""
        return [at for at, owner in zip(self._at, self._owner, strict=True) if owner == machine]

    def within(self, places: Spans) -> dict[str, list[int]]:
        """Owner → its addresses in these places. Two machines are enough to know that they are not one's:
        of more nothing is said."""
        found: dict[str, list[int]] = {}
        for first, last in places:
            for i in range(bisect.bisect_left(self._at, first), bisect.bisect_right(self._at, last)):
                found.setdefault(self._owner[i], []).append(self._at[i])
                if len(found) > 1 + ("" in found):
                    return found
        return found


@dataclass(frozen=True)
class Finding:
    """What was found: the rules that do it together, whose machine it is ('' with several or none), which of
    S, D, P, T hold, and the reasons in words. `exact`: the sources name this machine's addresses and
    nothing else. `beside`: other addresses that the sources name."""

    kind: Class
    firewall: str
    machine: str
    rules: tuple[FlowRule, ...]
    holds: str
    reasons: tuple[str, ...]
    exact: bool = False

    @property
    def severity(self) -> str:
        """High, Medium or Low."""
        return SEVERITY[self.kind]

    @cached_property
    def meaning(self) -> str:
        """What the finding is about, however often it is found, and under whatever name: a machine that may
        go anywhere by this firewall; without a machine, the rules' own meaning."""
        said = self.machine or "|".join(sorted(r.digest for r in self.rules))
        return hashlib.sha256(f"{self.kind}|{self.firewall}|{said}".encode()).hexdigest()[:24]

    @cached_property
    def digest(self) -> str:
        """The rules as they are: equal until one of them means something else, or stands elsewhere."""
        said = sorted((str(r.where), r.where.owner, r.digest) for r in self.rules)
        return hashlib.sha256(repr(said).encode()).hexdigest()[:24]


def find(rules: RuleSet, hosts: Hosts, approved: Collection[str] = ()) -> list[Finding]:
    """Everything worth a word, the worst first. `approved`: digests of rules that people have approved; they
    are as if they were not there."""
    seen = _Seen(rules, hosts, frozenset(approved))
    found = [*seen.outbound(), *seen.web(), *seen.inbound()]
    return sorted(found, key=lambda f: list(Class).index(f.kind))


def ways_out(rules: RuleSet, points: Collection[int]) -> list[FlowRule]:
    """The rules by which these addresses may reach most of the internet all the same, whoever's rules they
    are, approved or not; none if they may not."""
    network = [r for r in rules.rules if r.kind is Kind.NETWORK]
    parts: list[tuple[FlowRule, list[FlowRule], Spans]] = []
    for n, rule in enumerate(network):
        if not rule.allow or _at_most([rule]) < SOME:
            continue
        for at in points:
            if at in rule.sources.known:
                denies = [d for d in network[:n] if not d.allow and at in d.sources.known]
                parts.append((rule, denies, _family(at)))
    parts = parts[:MOST_HALVES]
    if not _reach(parts).most:
        return []
    return list({id(r): r for r, denies, family in parts if _reach([(r, denies, family)]).tcp
                 or _reach([(r, denies, family)]).udp}.values())


@dataclass(frozen=True)
class _Source:
    """Whose a rule's sources are. `machines`: all of them (two are enough to know it is not one's alone)."""

    machines: tuple[str, ...]
    points: tuple[int, ...]
    exact: bool
    wide: bool


@dataclass(frozen=True)
class _Reach:
    """How much of the public addresses, times all ports, TCP and UDP may reach: from 0 to 1."""

    tcp: float
    udp: float
    ports: bool
    places: bool

    @property
    def full(self) -> bool:
        return self.tcp == self.udp == 1

    @property
    def most(self) -> bool:
        return self.tcp >= MOST or self.udp >= MOST

    @property
    def most_of_both(self) -> bool:
        return self.tcp >= MOST and self.udp >= MOST

    @property
    def holds(self) -> str:
        """Which of D, P, T hold."""
        return ("D" if self.places else "") + ("P" if self.ports else "") + (
            "T" if self.tcp and self.udp else "")


class _Seen:
    """One rule set, looked at once."""

    def __init__(self, rules: RuleSet, hosts: Hosts, approved: frozenset[str]) -> None:
        self._set = rules
        self._hosts = hosts
        network = [r for r in rules.rules if r.kind is Kind.NETWORK]
        self._index = {id(r): n for n, r in enumerate(network)}
        self._denies = [r for r in network if not r.allow]
        self._allows = [r for r in network if r.allow and r.digest not in approved]
        self._applications = [r for r in rules.rules if r.kind is Kind.APPLICATION]
        self._nat = [r for r in rules.rules if r.kind is Kind.NAT and r.digest not in approved]
        self._approved = approved

    def _whose(self, rule: FlowRule) -> _Source:
        known = rule.sources.known
        if known.size > WIDEST or (rule.sources.names and not known):
            return _Source((), (), exact=False, wide=True)
        owners = self._hosts.within(known)
        others = owners.pop("", [])
        points = tuple(p for numbers in owners.values() for p in numbers)
        named = known.size == len(points) and not others and not rule.sources.names
        return _Source(tuple(owners), points, exact=named, wide=len(owners) > 1)

    # --- out, by network rules ---

    def outbound(self) -> list[Finding]:
        found: list[Finding] = []
        of_machine: dict[str, list[tuple[FlowRule, _Source]]] = {}
        for rule in self._allows:
            whose = self._whose(rule)
            if whose.wide or not whose.machines:
                found += self._not_ones(rule, whose)
            else:
                of_machine.setdefault(whose.machines[0], []).append((rule, whose))
        for machine, those in of_machine.items():
            found += self._of_machine(machine, those)
            found += self._unreadable(machine, [r for r, _ in those])
        return found + self._halves(found)

    def _halves(self, found: Sequence[Finding]) -> list[Finding]:
        """TCP by one rule and UDP by another, where they are not one machine's own rules: told, whoever they
        have in common."""
        known = {id(r) for f in found if f.kind is not Class.PARTIAL for r in f.rules}
        heavy = [(r, _said([r])) for r in self._allows if id(r) not in known and _at_most([r]) >= MOST]
        by_tcp = [r for r, reach in heavy if reach.tcp >= MOST > reach.udp][:MOST_HALVES]
        by_udp = [r for r, reach in heavy if reach.udp >= MOST > reach.tcp][:MOST_HALVES]
        pairs = []
        for one, other in itertools.product(by_tcp, by_udp):
            common = one.sources.known & other.sources.known
            if not common:
                continue
            first = min(one, other, key=lambda r: self._index[id(r)])
            stopped = [d for d in self._before(first) if d.sources.known.covers(common)]
            reach = _said([one, other])
            if not _reach([(r, stopped, _families(Sides(common))) for r in (one, other)]).most_of_both:
                continue
            owners = [o for o in self._hosts.within(common) if o] if common.size <= WIDEST else []
            machine = owners[0] if len(owners) == 1 else ""
            whom = machine.rpartition("/")[2] or _sides(Sides(common))
            pairs.append(self._finding(
                Class.PARTIAL if machine else Class.WIDE, machine, [one, other], reach,
                (f"two rules, which are not one server's own, together open the internet to {whom}",)))
        return pairs

    def _unreadable(self, machine: str, rules: Sequence[FlowRule]) -> list[Finding]:
        """An Allow for all ports to what cannot be read may let out anywhere: told."""
        why = f"where it leads cannot be read: it may open the internet to {machine.rpartition('/')[2]}"
        return [
            self._finding(Class.PARTIAL, machine, [r], _said([r]), (why,))
            for r in rules if r.ports.covers(PORTS) and r.protocols >= BOTH
            and any(n.startswith("/subscriptions/") for n in r.destinations.names)]

    def _not_ones(self, rule: FlowRule, whose: _Source) -> list[Finding]:
        """A rule of many, or of none."""
        if _at_most([rule]) < MOST:
            return []
        reach = _said([rule])
        if not reach.most_of_both:
            return []
        over = [d for d in self._before(rule) if d.sources.known.covers(rule.sources.known)]
        left = _reach([(rule, over, _families(rule.sources))])
        if not left.most_of_both:
            return []
        if whose.wide:
            text = "any address" if rule.sources.known.size > V6 - 1 else _sides(rule.sources)
            return [self._finding(Class.WIDE, "", [rule], reach, (
                f"it lets out {text}: worse than one server, and no one server's rule",))]
        return [self._finding(Class.UNUSED, "", [rule], reach, (
            f"its sources ({_sides(rule.sources)}) belong to no machine (any more)",))]

    def _of_machine(self, machine: str, those: Sequence[tuple[FlowRule, _Source]]) -> list[Finding]:
        """The rules of one machine: each by itself, then what is left of them together."""
        found, rest = [], []
        for rule, whose in those:
            if _at_most([rule]) >= MOST and _said([rule]).full:
                found.append(self._judged(machine, [rule], [whose]))
            else:
                rest.append((rule, whose))
        parts = [r for r, _ in rest]
        if _at_most(parts) < MOST:
            return found
        together = _said(parts)
        if (together.full or together.most) and len(parts) <= MOST_PARTS:
            parts = _needed(parts, (lambda r: r.full) if together.full else (lambda r: r.most))
        if together.full or together.most:
            found.append(self._judged(machine, parts, [w for r, w in rest if any(r is p for p in parts)]))
        return found

    def _judged(self, machine: str, parts: list[FlowRule], whose: Sequence[_Source]) -> Finding:
        """A rule, or several, of one machine that reach far: what do earlier denies leave of it?"""
        said = _said(parts)
        left = _reach([(rule, [d for d in self._before(rule) if point in d.sources.known], _family(point))
                       for rule, w in zip(parts, whose, strict=True) for point in w.points])
        reasons = [f"it opens the internet to {machine.rpartition('/')[2]} alone"
                   if len(parts) == 1 else
                   f"{len(parts)} rules together open the internet to {machine.rpartition('/')[2]} alone"]
        exact = all(w.exact for w in whose) and left.full and len(parts) <= MOST_PARTS
        if not all(w.exact for w in whose):
            reasons.append("its sources name more addresses than this machine's own")
        points = {p for w in whose for p in w.points}
        vague = [d for r in parts for d in self._before(r) if _may_stop(d, points)]
        if vague:
            exact = False
            reasons.append(f"what the Deny {vague[0].where} stops cannot be read in full")
        if left.tcp == left.udp == 0:
            reasons.append("an earlier Deny stops all of it; it opens when that goes")
            return self._finding(Class.SHADOWED, machine, parts, said, reasons, exact=exact)
        if left.tcp < said.tcp or left.udp < said.udp:
            reasons.append(f"earlier denies leave {left.tcp:.0%} of TCP and {left.udp:.0%} of UDP")
        if said.full and left.most_of_both:
            return self._finding(Class.ROGUE, machine, parts, said, reasons, exact=exact)
        reasons.append(f"it reaches {said.tcp:.0%} of the internet by TCP and {said.udp:.0%} by UDP")
        return self._finding(Class.PARTIAL, machine, parts, said, reasons, exact=exact)

    def _before(self, rule: FlowRule) -> list[FlowRule]:
        at = self._index[id(rule)]
        return [d for d in self._denies if self._index[id(d)] < at]

    def _finding(
        self, kind: Class, machine: str, parts: Sequence[FlowRule], reach: _Reach, reasons: Sequence[str], *,
        exact: bool = False,
    ) -> Finding:
        holds = ("S" if machine else "") + reach.holds
        return Finding(kind, self._set.firewall, machine, tuple(parts), holds, tuple(reasons), exact)

    # --- out, by application rules ---

    def web(self) -> list[Finding]:
        """A machine's own application rule for every name: the web, and nothing else."""
        found = []
        for at, rule in enumerate(self._applications):
            if not rule.allow or rule.digest in self._approved or not _any_name(rule):
                continue
            whose = self._whose(rule)
            if whose.wide or not whose.machines:
                continue  # the web for a whole network is what such a firewall is for
            machine = whose.machines[0]
            stopped = any(not d.allow and _any_name(d) and d.ports.covers(rule.ports)
                          and all(p in d.sources.known for p in whose.points)
                          for d in self._applications[:at])
            stopped = stopped or all(self._web_denied(p) for p in whose.points)
            kind = Class.SHADOWED if stopped else Class.WEB
            reasons = (f"it opens every web site to {machine.rpartition('/')[2]} alone",) + (
                ("an earlier Deny stops all of it; it opens when that goes",) if stopped else ())
            found.append(Finding(kind, self._set.firewall, machine, (rule,), "SD", reasons, whose.exact))
        return found

    def _web_denied(self, source: int) -> bool:
        """Do network rules, which come first, deny the web to this address?"""
        denies = [d for d in self._denies if source in d.sources.known and TCP in d.protocols
                  and d.ports.covers(WEB_PORTS)]
        return spans(r for d in denies for r in d.destinations.known).covers(PUBLIC_4)

    # --- in ---

    def inbound(self) -> list[Finding]:
        """DNAT from anywhere: all ports, or those by which machines are managed."""
        found = []
        for rule in self._nat:
            if not rule.sources.known.covers(PUBLIC_4):
                continue
            every = rule.ports.covers(PORTS)
            if not every and not rule.ports & MANAGEMENT:
                continue
            goal = place(rule.translated)
            owners = [o for o in self._hosts.within(goal) if o] if goal else []
            what = "every port" if every else f"a management port ({_ports(rule.ports & MANAGEMENT)})"
            found.append(Finding(
                Class.INBOUND, self._set.firewall, owners[0] if len(owners) == 1 else "", (rule,),
                "P" if every else "", (f"it lets everybody in to {rule.translated or 'nowhere'} on {what}",)))
        return found


type _Part = tuple[FlowRule, Sequence[FlowRule], Spans]
"""A rule, the denies before it that stop some of what it lets out, and the addresses of the families that its
sources are of: nobody speaks to the other family."""


def _family(address: int) -> Spans:
    return PUBLIC_4 if address < V6 else PUBLIC_6


def _families(sources: Sides) -> Spans:
    """What is known by name only may be of both."""
    of_4 = sources.names or sources.known & ALL_4
    of_6 = sources.names or sources.known - ALL_4
    return (PUBLIC_4 if of_4 else NOTHING) | (PUBLIC_6 if of_6 else NOTHING)


def _needed(parts: Sequence[FlowRule], wanted: Callable[[_Reach], bool]) -> list[FlowRule]:
    """As few of the rules as do it together: the narrowest are left out first, those that are needed stay."""
    kept = list(parts)
    for rule in sorted(parts, key=lambda r: r.ports.size * r.destinations.known.size * len(r.protocols)):
        fewer = [r for r in kept if r is not rule]
        if fewer and wanted(_said(fewer)):
            kept = fewer
    return kept


def _at_most(parts: Iterable[FlowRule]) -> float:
    """No protocol can reach more than this by these rules: cheap to say, and for most rules enough."""
    return max(
        sum((r.ports & PORTS).size * (_public(r.destinations) & family).size for r in parts)
        / (PORTS.size * family.size) for family in FAMILIES)


def _said(parts: Iterable[FlowRule]) -> _Reach:
    """How far rules reach together by what they say, denies aside."""
    return _reach([(rule, (), _families(rule.sources)) for rule in parts])


def _reach(parts: Sequence[_Part]) -> _Reach:
    """How far rules reach together, in the family they reach furthest."""
    return max((_in_family(parts, family) for family in FAMILIES), key=lambda r: r.tcp + r.udp)


def _in_family(parts: Sequence[_Part], family: Spans) -> _Reach:
    goals = [(rule, denies, goal) for rule, denies, sources in parts
             if (goal := _public(rule.destinations) & sources & family)]
    whole, shares = PORTS.size * family.size, {}
    for protocol in BOTH:
        here = [(rule, [d for d in denies if protocol in d.protocols], goal)
                for rule, denies, goal in goals if protocol in rule.protocols]
        measure = sum(size * _open(first, here).size for first, size in _elementary(here))
        shares[protocol] = 1.0 if measure == whole else min(measure / whole, ALMOST)
    ports = spans(r for rule, _, _ in goals for r in rule.ports)
    places = spans(r for _, _, goal in goals for r in goal)
    return _Reach(shares[TCP], shares[UDP], ports.covers(PORTS), places.covers(family))


def _elementary(parts: Iterable[tuple[FlowRule, Sequence[FlowRule], Spans]]) -> list[tuple[int, int]]:
    """Ranges of ports, first and size, within which all of these rules say the same."""
    edges = {PORTS.ranges[0][0], PORTS.ranges[0][1] + 1}
    for rule, denies, _ in parts:
        for one in (rule, *denies):
            for first, last in one.ports & PORTS:
                edges |= {first, last + 1}
    return [(a, b - a) for a, b in pairwise(sorted(edges))]


def _open(port: int, parts: Iterable[tuple[FlowRule, Sequence[FlowRule], Spans]]) -> Spans:
    """The public addresses that these rules let out to on a port."""
    found: list[tuple[int, int]] = []
    for rule, denies, goal in parts:
        if port in rule.ports:
            stopped = spans(r for d in denies if port in d.ports for r in _public(d.destinations))
            found += (goal - stopped).ranges
    return spans(found)


def _public(sides: Sides) -> Spans:
    """The addresses on a rule's far side; the tag Internet is all public ones."""
    return sides.known | (PUBLIC_4 | PUBLIC_6) if "internet" in sides.names else sides.known


def _may_stop(deny: FlowRule, points: Collection[int]) -> bool:
    """A Deny whose sides are partly known by name only, and that may be about these sources."""
    hidden = [n for n in (*deny.sources.names, *deny.destinations.names) if n != "internet"]
    about = bool(deny.sources.names) or any(p in deny.sources.known for p in points)
    return bool(hidden) and about


def _any_name(rule: FlowRule) -> bool:
    return "*" in rule.fqdns


def _sides(sides: Sides) -> str:
    return ", ".join([*shown(sides.known, 3), *(n.rpartition("/")[2] for n in sides.names[:3])])


def _ports(ports: Spans) -> str:
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ports)
