"""Azure's own view of the rules that act on a NIC, held against our proof. Pure.

The answer to `effectiveNetworkSecurityGroups` (running machines only) lists every guard with its
rules, defaults included, tags expanded. A block that our proof calls effective is confirmed if
these rules, too, stop every packet of the attacker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from remediation.model import BlockKey, Direction, Target
from remediation.nsg import Nsg, Rule, family_of, ports_from_arm
from remediation.proof import first_leak

EVERYWHERE = ("0.0.0.0/0", "::/0")


def groups_from_arm(body: Mapping[str, Any]) -> tuple[Nsg, ...]:
    """The guards in effect on the NIC, each with all its rules."""
    found = []
    for group in body.get("value") or ():
        guard = str((group.get("networkSecurityGroup") or {}).get("id") or "").lower()
        rules = tuple(_rule(r) for r in group.get("effectiveSecurityRules") or ())
        found.append(Nsg(guard, rules))
    return tuple(found)


def _rule(body: Mapping[str, Any]) -> Rule:
    def side(name: str) -> tuple[str, ...]:
        expanded = body.get(f"expanded{name.title()}AddressPrefix")
        given = body.get(f"{name}AddressPrefixes") or [body.get(f"{name}AddressPrefix") or "*"]
        prefixes = dict.fromkeys(str(p).lower() for p in expanded or given)
        return tuple("*" if p in EVERYWHERE else p for p in prefixes)

    def ports(name: str) -> Iterable[str]:
        return body.get(f"{name}PortRanges") or [str(body.get(f"{name}PortRange") or "*")]

    protocol = str(body.get("protocol") or "*").lower()
    return Rule(
        name=str(body.get("name") or "").rpartition("/")[2],
        priority=int(body["priority"]),
        direction=Direction(str(body["direction"]).lower()),
        allow=str(body["access"]).lower() == "allow",
        protocol="*" if protocol == "all" else protocol,
        sources=side("source"),
        destinations=side("destination"),
        source_ports=ports_from_arm(ports("source")),
        destination_ports=ports_from_arm(ports("destination")),
    )


def objection(groups: Sequence[Nsg], key: BlockKey, target: Target) -> str:
    """Why Azure's view does not bear the block out; '' if it does."""
    guard = next((g for g in groups if g.id == key.nsg_id), None)
    if guard is None:
        return f"Azure does not count the NSG among the guards of {target.nic_id}"
    local = [a for a in target.addresses if family_of(a) == family_of(key.address)]
    leak = first_leak(guard.rules, key, local)
    if leak is None:
        return ""
    return f"Azure's effective rules of {target.nic_id} let it through by {leak.name}"
