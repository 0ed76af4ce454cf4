"""A firewall's rules as data, in the order in which it walks them. Pure.

Azure Firewall takes the kinds one after the other: DNAT, network, application. Within a kind the base
policy's rules come before those of the policy that inherits from it, then a group's priority counts, then a
collection's; the first match decides. Classic rules have collections only. Source: Microsoft's documents
on rule processing. What is not deployed (a draft) is no rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from remediation.spans import NOTHING, Spans, place, spans

type Body = Mapping[str, Any]

PORTS = Spans(((1, 65535),))
TCP, UDP = "tcp", "udp"
BOTH = frozenset({TCP, UDP})


HOST = "host"
"""Before a host's name, which is no service tag."""


class Kind(StrEnum):
    """The kinds of rules, in the firewall's order."""

    NAT = "nat"
    NETWORK = "network"
    APPLICATION = "application"


@dataclass(frozen=True, slots=True)
class Where:
    """Where a rule is written: a rule collection group's or a classic firewall's id (lower-cased), its kind,
    its collection and its name."""

    owner: str
    kind: Kind
    collection: str
    rule: str

    @property
    def update(self) -> str:
        """What Azure updates one change at a time: the firewall policy, or the classic firewall."""
        return self.owner.partition("/rulecollectiongroups/")[0]

    def __str__(self) -> str:
        return f"{self.owner.rpartition('/')[2]}/{self.collection}/{self.rule}"


@dataclass(frozen=True)
class Sides:
    """Addresses that are known as numbers, and what is known by name only: service tags, host names, IP
    groups that cannot be read."""

    known: Spans = NOTHING
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class FlowRule:
    """One rule. `ports` of the destination; `protocols` of TCP and UDP those that it matches; `fqdns` of an
    application rule, `translated` a DNAT rule's goal."""

    where: Where
    allow: bool
    sources: Sides
    destinations: Sides = field(default_factory=Sides)
    protocols: frozenset[str] = BOTH
    ports: Spans = PORTS
    fqdns: tuple[str, ...] = ()
    translated: str = ""

    @property
    def kind(self) -> Kind:
        """DNAT, network or application."""
        return self.where.kind

    @cached_property
    def digest(self) -> str:
        """A fingerprint of what the rule means: its name and its place aside, IP groups as what they hold."""
        said = (
            self.kind.value, self.allow, self.sources.known.ranges, sorted(self.sources.names),
            self.destinations.known.ranges, sorted(self.destinations.names), sorted(self.protocols),
            self.ports.ranges, sorted(self.fqdns), self.translated,
        )
        return hashlib.sha256(repr(said).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class RuleSet:
    """What one firewall enforces, in order; and the ids of IP groups that could not be read."""

    firewall: str
    rules: tuple[FlowRule, ...] = ()
    unread: tuple[str, ...] = ()


type Groups = Mapping[str, Sequence[str] | None]
"""IP groups by id (lower-cased): what they hold; None where it cannot be read."""


def rules_of_policies(firewall: str, chain: Sequence[Sequence[Body]], ip_groups: Groups) -> RuleSet:
    """`chain`: the rule collection groups of the base policy first, then of the policy that inherits."""
    reader = _Reader(ip_groups)
    found: list[FlowRule] = []
    for level in chain:
        for group in sorted(level, key=_priority):
            collections = _list(_properties(group), "ruleCollections")
            for collection in sorted(collections, key=lambda c: int(c.get("priority") or 0)):
                found += reader.of_collection(str(group["id"]).lower(), collection)
    return RuleSet(firewall, tuple(sorted(found, key=_order)), reader.missing())


def rules_of_classic(body: Body, ip_groups: Groups) -> RuleSet:
    """A firewall with rules of its own, as ARM shows it."""
    reader, owner = _Reader(ip_groups), str(body["id"]).lower()
    found: list[FlowRule] = []
    for part, kind in CLASSIC.items():
        for collection in sorted(_list(_properties(body), part), key=_priority):
            found += reader.of_classic(owner, kind, collection)
    return RuleSet(owner, tuple(found), reader.missing())


CLASSIC: Mapping[str, Kind] = {
    "natRuleCollections": Kind.NAT, "networkRuleCollections": Kind.NETWORK,
    "applicationRuleCollections": Kind.APPLICATION,
}


def ip_groups_in(bodies: Iterable[Body]) -> list[str]:
    """The ids (lower-cased) of all IP groups that these groups or firewalls refer to."""
    found: dict[str, None] = {}

    def walk(node: Any) -> None:
        if isinstance(node, Mapping):
            for key, value in node.items():
                if key in ("sourceIpGroups", "destinationIpGroups"):
                    found.update(dict.fromkeys(str(one).lower() for one in value or ()))
                else:
                    walk(value)
        elif isinstance(node, list):
            for one in node:
                walk(one)

    for body in bodies:
        walk(body)
    return list(found)


def _order(rule: FlowRule) -> int:
    return list(Kind).index(rule.kind)


def _properties(body: Body) -> Body:
    return body.get("properties") or {}


def _priority(body: Body) -> int:
    return int(_properties(body).get("priority") or 0)


def _list(body: Body, name: str) -> list[Any]:
    return list(body.get(name) or ())


class _Reader:
    def __init__(self, ip_groups: Groups) -> None:
        self._groups = ip_groups
        self._expanded: dict[str, Sides] = {}
        self._missing: dict[str, None] = {}

    def missing(self) -> tuple[str, ...]:
        return tuple(self._missing)

    def of_collection(self, owner: str, collection: Body) -> Iterator[FlowRule]:
        action = str((collection.get("action") or {}).get("type") or "").lower()
        for rule in _list(collection, "rules"):
            kind = KINDS.get(str(rule.get("ruleType") or "").lower())
            if kind is not None:
                where = Where(owner, kind, str(collection.get("name") or ""), str(rule.get("name") or ""))
                yield self._rule(where, rule, allow=action != "deny")

    def of_classic(self, owner: str, kind: Kind, collection: Body) -> Iterator[FlowRule]:
        p = _properties(collection)
        action = str((p.get("action") or {}).get("type") or "").lower()
        for rule in _list(p, "rules"):
            where = Where(owner, kind, str(collection.get("name") or ""), str(rule.get("name") or ""))
            yield self._rule(where, rule, allow=action != "deny")

    def _rule(self, where: Where, rule: Body, *, allow: bool) -> FlowRule:
        sources = self._sides(_list(rule, "sourceAddresses"), _list(rule, "sourceIpGroups"))
        destinations = self._sides(
            [*_list(rule, "destinationAddresses"),
             *(f"{HOST} {name}" for name in _list(rule, "destinationFqdns"))],
            _list(rule, "destinationIpGroups"))
        if where.kind is Kind.APPLICATION:
            given = [p for p in _list(rule, "protocols") if isinstance(p, Mapping)]
            ports = spans((int(p["port"]), int(p["port"])) for p in given if p.get("port"))
            names = [*_list(rule, "targetFqdns"), *_list(rule, "targetUrls"), *_list(rule, "fqdnTags"),
                     *_list(rule, "webCategories")]
            return FlowRule(where, allow, sources, destinations, frozenset({TCP}), ports,
                            tuple(str(n).lower() for n in names))
        protocols = {str(p).lower() for p in (*_list(rule, "ipProtocols"), *_list(rule, "protocols"))}
        return FlowRule(
            where, allow, sources, destinations,
            BOTH if "any" in protocols else frozenset(protocols & BOTH),
            _ports(_list(rule, "destinationPorts")),
            translated=str(rule.get("translatedAddress") or rule.get("translatedFqdn") or "").lower(),
        )

    def _sides(self, texts: Sequence[Any], groups: Sequence[Any]) -> Sides:
        found, names = _places(texts)
        for group in groups:
            held = self._group(str(group).lower())
            found.append(held.known)
            names += held.names
        return Sides(spans(r for s in found for r in s.ranges), tuple(dict.fromkeys(names)))

    def _group(self, group: str) -> Sides:
        if group not in self._expanded:
            held = self._groups.get(group)
            if held is None:
                self._missing[group] = None
                self._expanded[group] = Sides(names=(group,))
            else:
                known, names = _places(held)
                self._expanded[group] = Sides(spans(r for s in known for r in s.ranges), tuple(names))
        return self._expanded[group]


KINDS: Mapping[str, Kind] = {
    "natrule": Kind.NAT, "networkrule": Kind.NETWORK, "applicationrule": Kind.APPLICATION,
}


def _places(texts: Iterable[Any]) -> tuple[list[Spans], list[str]]:
    known, names = [], []
    for text in texts:
        found = place(str(text))
        if found is None:
            names.append(str(text).strip().lower())
        else:
            known.append(found)
    return known, names


def _ports(texts: Iterable[Any]) -> Spans:
    """`*`, `443`, `80-90`. What is no port is none: an Allow then covers less, a Deny stops less."""
    found = []
    for text in map(str, texts):
        low, _, high = text.strip().partition("-")
        if text.strip() == "*":
            return Spans(((0, 65535),))
        if low.isdigit() and (high or low).isdigit():
            found.append((int(low), int(high or low)))
    return spans(found)
