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

import hashlib
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from remediation.firewall.hosts import Hosts
from remediation.firewall.reach import (
    MOST,
    PUBLIC_4,
    Reach,
    at_most,
    families_of,
    family_of,
    reach_of,
    said_by,
)
from remediation.firewall.rules import BOTH, PORTS, TCP, FlowRule, Kind, RuleSet, Sides
from remediation.spans import V6, Spans, place, shown, spans

MOST_PARTS, MOST_HALVES = 30, 50
"""Of more small rules than so many nobody says which few are needed: all of them are shown, to a person."""
WIDEST = 1 << 16
"""Sources of more addresses than these are a network's, whoever is in it today."""
MANAGEMENT = spans((p, p) for p in (22, 23, 135, 445, 1433, 3306, 3389, 5432, 5900, 5985, 5986))
WEB_PORTS = spans(((80, 80), (443, 443)))

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


@dataclass(frozen=True)
class _Source:
    """Whose a rule's sources are. `machines`: all of them (two are enough to know it is not one's alone)."""

    machines: tuple[str, ...]
    points: tuple[int, ...]
    exact: bool
    wide: bool


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
        heavy = [(r, said_by([r])) for r in self._allows if id(r) not in known and at_most([r]) >= MOST]
        by_tcp = [r for r, reach in heavy if reach.tcp >= MOST > reach.udp][:MOST_HALVES]
        by_udp = [r for r, reach in heavy if reach.udp >= MOST > reach.tcp][:MOST_HALVES]
        pairs = []
        for one, other in itertools.product(by_tcp, by_udp):
            common = one.sources.known & other.sources.known
            if not common:
                continue
            first = min(one, other, key=lambda r: self._index[id(r)])
            stopped = [d for d in self._before(first) if d.sources.known.covers(common)]
            reach = said_by([one, other])
            if not reach_of([(r, stopped, families_of(Sides(common))) for r in (one, other)]).most_of_both:
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
            self._finding(Class.PARTIAL, machine, [r], said_by([r]), (why,))
            for r in rules if r.ports.covers(PORTS) and r.protocols >= BOTH
            and any(n.startswith("/subscriptions/") for n in r.destinations.names)]

    def _not_ones(self, rule: FlowRule, whose: _Source) -> list[Finding]:
        """A rule of many, or of none."""
        if at_most([rule]) < MOST:
            return []
        reach = said_by([rule])
        if not reach.most_of_both:
            return []
        over = [d for d in self._before(rule) if d.sources.known.covers(rule.sources.known)]
        left = reach_of([(rule, over, families_of(rule.sources))])
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
            if at_most([rule]) >= MOST and said_by([rule]).full:
                found.append(self._judged(machine, [rule], [whose]))
            else:
                rest.append((rule, whose))
        parts = [r for r, _ in rest]
        if at_most(parts) < MOST:
            return found
        together = said_by(parts)
        if (together.full or together.most) and len(parts) <= MOST_PARTS:
            parts = _needed(parts, (lambda r: r.full) if together.full else (lambda r: r.most))
        if together.full or together.most:
            found.append(self._judged(machine, parts, [w for r, w in rest if any(r is p for p in parts)]))
        return found

    def _judged(self, machine: str, parts: list[FlowRule], whose: Sequence[_Source]) -> Finding:
        """A rule, or several, of one machine that reach far: what do earlier denies leave of it?"""
        said = said_by(parts)
        left = reach_of([(rule, [d for d in self._before(rule) if point in d.sources.known], family_of(point))
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
        self, kind: Class, machine: str, parts: Sequence[FlowRule], reach: Reach, reasons: Sequence[str], *,
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


def _needed(parts: Sequence[FlowRule], wanted: Callable[[Reach], bool]) -> list[FlowRule]:
    """As few of the rules as do it together: the narrowest are left out first, those that are needed stay."""
    kept = list(parts)
    for rule in sorted(parts, key=lambda r: r.ports.size * r.destinations.known.size * len(r.protocols)):
        fewer = [r for r in kept if r is not rule]
        if fewer and wanted(said_by(fewer)):
            kept = fewer
    return kept


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
