"""Does a deny take effect? Rules read back from Azure are evaluated for one attacker and machine.

Pure. Azure walks the rules of an NSG by ascending priority and the first match decides. Traffic is
(protocol, local address, source port, destination port); the attacker's address is fixed. The
block holds if every such packet meets a Deny first. Where something cannot be resolved (a service
tag, an application security group), an Allow is assumed to match and a Deny is not: an unprovable
block is called shadowed, never effective.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from remediation.managed import Managed, network_of
from remediation.model import BlockKey, Direction, Target, Weak
from remediation.nsg import ANY_PORT, REMOTE_NEVER, Nsg, Ports, Rule, family_of
from remediation.owned import Ownership
from remediation.prefixes import Reach

PROTOCOLS = ("tcp", "udp", "icmp", "esp", "ah")
UNMANAGED: Managed = MappingProxyType({})
FRONT_DOOR = "azurefrontdoor.backend"
"""The tag of the addresses that Azure Front Door speaks to origins from: clients are behind them."""
PORTLESS = frozenset({"icmp", "esp", "ah"})
"""Protocols without ports: an Allow is assumed to match whatever ports it names, a Deny only
if it names all."""


class Outcome(StrEnum):
    """What a proof found."""

    EFFECTIVE = "effective"
    SHADOWED = "shadowed"
    MISSING = "missing"
    DETACHED = "detached"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True)
class Proof:
    """The outcome; `rule` is the one that denies or shadows, `detail` one sentence for people."""

    outcome: Outcome
    rule: str = ""
    detail: str = ""

    @property
    def effective(self) -> bool:
        """True only if the block may be called effective."""
        return self.outcome is Outcome.EFFECTIVE


def prove(
    nsg: Nsg, key: BlockKey, targets: Sequence[Target], ownership: Ownership, managed: Managed = UNMANAGED
) -> Proof:
    """Is (NSG, direction, address) denied for all these machines by the rules as they are? `managed`: the
    rules that Virtual Network Manager lays over the machines' networks, as far as they are known."""
    ours = next(
        (
            r
            for r in nsg.rules
            if ownership.owns(r)
            and r.direction is key.direction
            and not r.allow
            and _matches_remote(r, key.address, unknown=False)
        ),
        None,
    )
    if ours is None:
        return Proof(Outcome.MISSING, detail="no rule of ours in the NSG names the address")
    if ours.state not in ("Succeeded", "Updating"):
        return Proof(Outcome.MISSING, ours.name, f"the rule's provisioning state is {ours.state}")
    for target in targets:
        if target.subnet_id not in nsg.subnets and target.nic_id not in nsg.nics:
            return Proof(
                Outcome.DETACHED,
                detail=f"the NSG guards neither {target.nic_id} nor its subnet any more",
            )
    if nsg.trouble:
        return Proof(Outcome.UNPROVEN, ours.name, f"unproven: {nsg.trouble}")
    over = _delivered(managed, key, targets)
    if over is not None:
        return Proof(
            Outcome.SHADOWED, over.name,
            f"the security admin rule {over.name} of Virtual Network Manager (priority {over.priority}, "
            "AlwaysAllow) may match: what it matches is delivered, whatever an NSG says",
        )
    leak = first_leak(nsg.rules, key, _local(key, targets))
    if leak is not None:
        return Proof(
            Outcome.SHADOWED,
            leak.name,
            f"rule {leak.name} (priority {leak.priority}, Allow) comes before {ours.name} "
            f"(priority {ours.priority}, Deny) and may match",
        )
    unseen = _unseen(nsg, key, targets)
    return Proof(Outcome.UNPROVEN, ours.name, f"unproven: {unseen}") if unseen else Proof(
        Outcome.EFFECTIVE, ours.name)


def weak_ones(
    nsg: Nsg, key: BlockKey, targets: Sequence[Target], ownership: Ownership, managed: Managed = UNMANAGED
) -> tuple[Weak, ...]:
    """The NICs for which the block does not hold, each proven by itself."""
    found = []
    for target in targets:
        proof = prove(nsg, key, [target], ownership, managed)
        if not proof.effective:
            found.append(Weak(target.nic_id, proof.outcome.value, proof.rule, proof.detail))
    return tuple(found)


def _unseen(nsg: Nsg, key: BlockKey, targets: Sequence[Target]) -> str:
    """Why the guard does not see the attacker's address in part of the traffic; '' if it does."""
    if key.direction is Direction.OUTBOUND:
        return ("an explicit proxy carries its traffic out; the NSG sees the proxy's address alone"
                if any(t.proxied for t in targets) else "")
    part = next((nsg.partly[t.nic_id] for t in targets if t.nic_id in nsg.partly), "")
    if part:
        return part
    hidden = next((t.hidden for t in targets if t.hidden), "")
    if not hidden and any(r.allow and r.direction is key.direction and FRONT_DOOR in r.remote_reach.tags
                          for r in nsg.rules):
        hidden = "Azure Front Door, from which a rule allows traffic,"
    return (f"{hidden} hides the client's address from the NSG; what comes through it is not stopped here"
            if hidden else "")


def _local(key: BlockKey, targets: Iterable[Target]) -> list[str]:
    """The machines' addresses of the attacker's family; none if one of them may have any address."""
    if any(not t.addresses for t in targets):
        return []
    return [a for t in targets for a in t.addresses if family_of(a) == family_of(key.address)]


def _delivered(managed: Managed, key: BlockKey, targets: Sequence[Target]) -> Rule | None:
    """The first AlwaysAllow that takes some packet past every NSG of these machines."""
    for network in dict.fromkeys(network_of(t.subnet_id) for t in targets):
        rules = managed.get(network, ())
        if any(r.allow for r in rules):
            here = [t for t in targets if network_of(t.subnet_id) == network]
            over = first_leak(rules, key, _local(key, here))
            if over is not None:
                return over
    return None


def first_leak(rules: Iterable[Rule], key: BlockKey, local: Iterable[str]) -> Rule | None:
    """The first Allow that lets some packet through which no earlier Deny has stopped.

    `local` are the machines' addresses of the attacker's family; none given means any address.
    """
    denies: list[Rule] = []
    walked = sorted((r for r in rules if r.direction is key.direction), key=lambda r: r.priority)
    places: list[str | None] = [*dict.fromkeys(local)] or [None]
    for rule in walked:
        if not _matches_remote(rule, key.address, unknown=rule.allow):
            continue
        if rule.allow:
            if any(_leaks(rule, denies, place) for place in places):
                return rule
        else:
            if _stops_everything(rule):
                return None
            denies.append(rule)
    return None


def _stops_everything(deny: Rule) -> bool:
    return (
        deny.protocol == "*"
        and "*" in deny.local
        and deny.source_ports == ANY_PORT
        and deny.destination_ports == ANY_PORT
    )


def _leaks(allow: Rule, denies: Sequence[Rule], place: str | None) -> bool:
    """Is there a packet that `allow` matches and none of `denies` does?

    If there is one, there is one whose ports are the allow's lowest or just above a deny's
    highest; so only those are tried.
    """
    if not _matches_local(allow, place, unknown=True):
        return False
    here = [d for d in denies if _matches_local(d, place, unknown=False)]
    for protocol in PROTOCOLS:
        if allow.protocol not in ("*", protocol):
            continue
        stops = [d for d in here if d.protocol in ("*", protocol)]
        if protocol in PORTLESS:
            if not any(
                d.source_ports == ANY_PORT and d.destination_ports == ANY_PORT for d in stops
            ):
                return True
            continue
        sources = _corners(allow.source_ports, (d.source_ports for d in stops))
        destinations = _corners(allow.destination_ports, (d.destination_ports for d in stops))
        for source, destination in itertools.product(sources, destinations):
            if not any(
                _in(source, d.source_ports) and _in(destination, d.destination_ports)
                for d in stops
            ):
                return True
    return False


def _corners(allowed: Ports, denied: Iterable[Ports]) -> list[int]:
    points = {low for low, _ in allowed}
    points |= {high + 1 for ports in denied for _, high in ports}
    return sorted(p for p in points if _in(p, allowed))


def _in(port: int, ports: Ports) -> bool:
    return any(low <= port <= high for low, high in ports)


def _matches_remote(rule: Rule, address: str, *, unknown: bool) -> bool:
    """`unknown` is the answer where a tag cannot be resolved."""
    if rule.remote_groups and not rule.remote:
        return False  # groups hold our NICs, not a public address
    return _matches(rule.remote_reach, address, internet=True, unknown=unknown)


def _matches_local(rule: Rule, place: str | None, *, unknown: bool) -> bool:
    if place is None:
        return unknown or "*" in rule.local
    if rule.local_groups and not rule.local:
        return unknown
    return _matches(rule.local_reach, place, internet=False, unknown=unknown)


def _matches(found: Reach, address: str, *, internet: bool, unknown: bool) -> bool:
    if "*" in found.tags or (internet and "internet" in found.tags) or address in found.held:
        return True
    return unknown and bool(found.tags - REMOTE_NEVER)
