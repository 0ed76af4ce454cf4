"""The security admin rules that Virtual Network Manager lays over a virtual network. Pure.

They come before every NSG, in their own priorities, and the first that matches decides: `Deny` stops,
`Allow` leaves it to the NSGs, `AlwaysAllow` delivers, and no NSG is asked. So what matters to a block is
whether an `AlwaysAllow` meets the attacker's packets first. Source: Azure's documents on security admin
rules; ARM's shape: POST `virtualNetworks/{n}/listNetworkManagerEffectiveSecurityAdminRules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from remediation.model import Direction
from remediation.nsg import Rule, ports_from_arm

ALWAYS = "alwaysallow"
NAMED_BY_ID = "networkgroup"

type Managed = Mapping[str, tuple[Rule, ...]]
"""By virtual network (lower-cased id) the rules in effect; those of other networks are not known."""


def rules_from_arm(bodies: Iterable[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """ARM's effective security admin rules → rules in which `allow` means: delivered whatever an NSG
    says. All others (`Deny`, and `Allow`, which passes on to the NSGs) keep an AlwaysAllow behind them
    from being reached. A rule that is being taken away or has failed still counts while it is shown. One that
    does not say its direction, or what it does, may be an AlwaysAllow of either."""
    return tuple(r for b in bodies for r in _rules(b))


def _rules(body: Mapping[str, Any]) -> Iterator[Rule]:
    p = body.get("properties") or {}
    said = str(p.get("direction") or "").lower()
    for direction in [Direction(said)] if said in set(Direction) else Direction:
        yield _rule(body, p, direction)


def _rule(body: Mapping[str, Any], p: Mapping[str, Any], direction: Direction) -> Rule:
    sources, source_groups = _side(p.get("sources") or ())
    destinations, destination_groups = _side(p.get("destinations") or ())
    protocol = str(p.get("protocol") or "any").lower()
    return Rule(
        name=str(body.get("id") or "").rpartition("/")[2],
        priority=int(p.get("priority") or 0),
        direction=direction,
        allow=str(p.get("access") or ALWAYS).lower() == ALWAYS,
        protocol="*" if protocol == "any" else protocol,
        sources=sources,
        destinations=destinations,
        source_ports=ports_from_arm(p.get("sourcePortRanges") or ["*"]),
        destination_ports=ports_from_arm(p.get("destinationPortRanges") or ["*"]),
        source_groups=source_groups,
        destination_groups=destination_groups,
    )


def _side(items: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Prefixes and tags; and network groups, which hold our networks, as application security groups hold
    our interfaces. A side that names nothing is any."""
    prefixes: list[str] = []
    groups: list[str] = []
    for item in items:
        named = str(item.get("addressPrefixType") or "").lower() == NAMED_BY_ID
        (groups if named else prefixes).append(str(item.get("addressPrefix") or "*").lower())
    return tuple(prefixes) or (() if groups else ("*",)), tuple(groups)


def network_of(subnet_id: str) -> str:
    """The virtual network of a subnet, by id."""
    return subnet_id.partition("/subnets/")[0]
