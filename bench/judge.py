"""Who is denied, since when: an evaluator of its own over the sandbox's record of effects.

It knows nothing of the product: rules in force, by priority, first match wins.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.loads import Attack

DECISIVE, OTHER = "Outbound", "Inbound"


@dataclass(frozen=True, slots=True)
class _Rule:
    priority: int
    denies: bool
    exact: frozenset[str]
    networks: tuple[ipaddress.IPv4Network, ...]
    all_traffic: bool
    anybody: bool

    def meets(self, address: str) -> bool:
        """Could the rule match traffic with this public address?"""
        if self.anybody or address in self.exact:
            return True
        return any(ipaddress.IPv4Address(address) in net for net in self.networks)


def _far_side(p: Mapping[str, Any]) -> list[str]:
    side = "destination" if str(p["direction"]).title() == DECISIVE else "source"
    return [t for t in (*(p.get(f"{side}AddressPrefixes") or ()), p.get(f"{side}AddressPrefix")) if t]


def denied_prefixes(p: Mapping[str, Any]) -> list[str]:
    """Whom a rule denies, as it is written."""
    return _far_side(p) if str(p["access"]).title() == "Deny" else []


def _rule(p: Mapping[str, Any]) -> _Rule:
    exact, networks, anybody = set(), [], False
    for text in _far_side(p):
        if text in ("*", "Internet"):
            anybody = True
        elif text[0].isdigit():
            net = ipaddress.IPv4Network(text)
            networks.append(net) if net.prefixlen < 32 else exact.add(str(net.network_address))
    ports = [*(p.get("destinationPortRanges") or ()), p.get("destinationPortRange")]
    everything = str(p["protocol"]) == "*" and [x for x in ports if x] == ["*"]
    return _Rule(int(p["priority"]), str(p["access"]).title() == "Deny", frozenset(exact),
                 tuple(networks), everything, anybody)


class Judge:
    """Follows the rules of some NSGs in force, and the attacks that should be denied on them."""

    def __init__(self, nsgs: Iterable[Mapping[str, Any]], attacks: Iterable[Attack]) -> None:
        self._rules: dict[str, dict[str, Mapping[str, Any]]] = {
            str(n["id"]).lower(): {r["name"].lower(): r["properties"]
                                   for r in n["properties"]["securityRules"]} for n in nsgs}
        self._attacks: dict[str, list[Attack]] = {}
        for attack in attacks:
            self._attacks.setdefault(attack.nsg, []).append(attack)
        self.since: dict[tuple[Attack, str], float] = {}
        """Denied since then, without interruption, by attack and direction."""

    def apply(self, effect: Mapping[str, Any]) -> None:
        """One change of the rules in force."""
        rules = self._rules.setdefault(effect["nsg"], {})
        if effect["whole"]:
            rules.clear()
        for name, properties in effect["rules"].items():
            if properties is None:
                rules.pop(name, None)
            else:
                rules[name] = properties
        for direction in (DECISIVE, OTHER):
            ordered = _in_order(rules.values(), direction)
            for attack in self._attacks.get(effect["nsg"], ()):
                if _denied(ordered, attack.address):
                    self.since.setdefault((attack, direction), effect["at"])
                else:
                    self.since.pop((attack, direction), None)

    def times(self, direction: str) -> list[float]:
        """When each attack that is denied now came to be so, the earliest first."""
        return sorted(at for (_, d), at in self.since.items() if d == direction)


def denied(rules: Iterable[Mapping[str, Any]], address: str, direction: str) -> bool:
    """Do these rules stop all traffic with the address, in this direction?"""
    return _denied(_in_order(rules, direction), address)


def _in_order(rules: Iterable[Mapping[str, Any]], direction: str) -> list[_Rule]:
    return sorted((_rule(p) for p in rules if str(p["direction"]).title() == direction),
                  key=lambda r: r.priority)


def _denied(ordered: Iterable[_Rule], address: str) -> bool:
    for rule in ordered:
        if rule.meets(address):
            return rule.denies and rule.all_traffic
    return False
