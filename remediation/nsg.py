"""NSGs and their rules as data: read from ARM's JSON, compared, written as ARM's JSON. Pure.

Limits and names: Microsoft's NSG limits (1,000 rules; 4,000 addresses per side; priority 100-4096
unique per direction; description up to 140 characters).
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal

from remediation.model import Direction
from remediation.prefixes import PrefixSet, Reach, network, reach

LOWEST_PRIORITY, HIGHEST_PRIORITY = 100, 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """What a guard holds: rules, addresses, priorities from `first` to `last`. `shared`: all rules
    share the room for addresses; else each has its own."""

    rules: int = 1000
    addresses: int = 4000
    first: int = LOWEST_PRIORITY
    last: int = HIGHEST_PRIORITY
    shared: bool = True


NSG_LIMITS = Limits()


type Family = Literal[4, 6]
type Ports = tuple[tuple[int, int], ...]

ANY_PORT: Ports = ((0, 65535),)


@dataclass(frozen=True, kw_only=True)  # without slots: what a rule reaches is kept with it
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

    @cached_property
    def remote_reach(self) -> Reach:
        """What the remote side names, made for being asked often."""
        return reach(self.remote)

    @cached_property
    def local_reach(self) -> Reach:
        """The same of the machine's side."""
        return reach(self.local)

    def names(self, address: str) -> bool:
        """Does the address lie in one of the remote side's prefixes? Tags name nobody here."""
        return address in self.remote_reach.held

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
    """A network security group as read: custom rules, and what it is attached to (ids, lowered).

    A WAF policy is read into one, too (`waf`): its `nics` are the application gateways that it is
    attached to. `trouble`: why nothing in it takes effect, or ''; `partly`: by gateway, what of it no policy
    sees. `flushes`: does a change of its rules end the sessions that they deny?"""

    id: str
    rules: tuple[Rule, ...]
    subnets: frozenset[str] = frozenset()
    nics: frozenset[str] = frozenset()
    location: str = ""
    limits: Limits = NSG_LIMITS
    trouble: str = ""
    partly: Mapping[str, str] = field(default_factory=dict)
    flushes: bool = False


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
        flushes=bool(properties.get("flushConnection")),
    )


READ_ONLY = ("provisioningState", "resourceGuid", "defaultSecurityRules", "networkInterfaces", "subnets",
             "flowLogs")
"""Of an NSG's properties: Azure's to say, not ours to send."""


def with_flush(body: Mapping[str, Any], *, on: bool) -> dict[str, Any]:
    """The NSG to be written: as it was read, but for `flushConnection`."""
    properties = {k: v for k, v in (body.get("properties") or {}).items() if k not in READ_ONLY}
    return {**{k: v for k, v in body.items() if k != "etag"},
            "properties": {**properties, "flushConnection": on}}


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


def family_of(address: str) -> Family:
    """4 or 6."""
    return 6 if ":" in address else 4


def collapse(addresses: Iterable[str]) -> tuple[str, ...]:
    """Canonical, sorted, collapsed without widening: exactly the same addresses, no overlap.

    All must be of one family. A single address stands without its prefix length.
    """
    return _collapsed(tuple(sorted(addresses)))


@lru_cache(maxsize=32)
def _collapsed(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Asked again for the same addresses in every pass of a round."""
    networks = [ipaddress.ip_network(a) for a in addresses]
    merged = ipaddress.collapse_addresses(networks)  # type: ignore[type-var]  # one family by contract
    return tuple(
        str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n) for n in merged
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


REMOTE_NEVER = frozenset({"azureloadbalancer"})
"""Tags that no attacker's address can be in (it is 168.63.129.16, which is never blocked)."""


def may_match_remote(rule: Rule, asked: PrefixSet) -> bool:
    """Could the rule's remote side match one of these public prefixes? Unknown tags could."""
    if rule.remote_groups and not rule.remote:
        return False  # application security groups hold NICs of ours
    theirs = rule.remote_reach
    return bool(theirs.tags - REMOTE_NEVER) or any(asked.overlaps(n) for n in theirs.networks)


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


