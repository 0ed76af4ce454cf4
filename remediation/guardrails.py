"""Which addresses are never blocked, and which only after a person has said so. Fails closed.

Pure: `Surroundings` is what is known of the estate and of people's wishes at the moment. Applied
in the plan, and again in the commit to every address about to be written.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from remediation.model import utc
from remediation.nsg import Nsg, Rule
from remediation.policy import Guardrails
from remediation.prefixes import PrefixSet, network

PLATFORM: Mapping[str, str] = {
    "168.63.129.16": "Azure's own address: blocking it breaks load balancer probes and the guest agent",
    "169.254.169.254": "Azure's instance metadata address",
}
"""Built in, so that no policy file can leave them out."""
IPV4_DRESSED = (ipaddress.ip_network("::ffff:0:0/96"), ipaddress.ip_network("::/96"))
"""IPv4-mapped and the old IPv4-compatible addresses (RFC 4291, 2.5.5); built in, too."""


@dataclass(frozen=True, slots=True)
class Estate:
    """The estate's own public addresses and VNet ranges, and Microsoft's service tags, as last
    read from Azure. `taken` is None if they never were."""

    taken: datetime | None = None
    public: frozenset[str] = frozenset()
    vnets: PrefixSet = field(default_factory=PrefixSet)
    services: Mapping[str, PrefixSet] = field(default_factory=dict)
    services_known: bool = True

    def fresh(self, now: datetime, max_age: timedelta) -> bool:
        """Young enough to be relied upon."""
        return self.taken is not None and now - self.taken <= max_age


@dataclass(frozen=True, slots=True)
class Protected:
    """An entry of the protected list that operators keep at run time."""

    prefix: str
    reason: str
    by: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A person's wish, said at `since`, that an address stay unblocked for a while."""

    address: str
    until: datetime
    by: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that the guardrails look at besides the policy. `read`: what people wished until then is in it."""

    estate: Estate = field(default_factory=Estate)
    protected: tuple[Protected, ...] = ()
    holds: Mapping[str, Hold] = field(default_factory=dict)
    read: datetime | None = None


def refusal(address: str, rails: Guardrails, around: Surroundings) -> str | None:
    """Why this address is never blocked; None if it may be."""
    net = network(address)
    if net is None:
        return "not an address"
    if net.num_addresses > 1:
        return f"a range of {net.num_addresses} addresses; only single addresses are blocked"
    one = net.network_address
    text = str(one)
    if text in PLATFORM:
        return PLATFORM[text]
    for never in rails.never:
        if one in never:
            return f"in {never}, a private or special range"
    if any(one in dressed for dressed in IPV4_DRESSED):
        return "an IPv4 address in the clothes of IPv6: no packet bears it"
    if text in around.estate.public:
        return "one of the estate's own public addresses"
    if text in around.estate.vnets:
        return "inside one of the estate's own virtual networks"
    for kept in (*rails.protected, *(network(p.prefix) for p in around.protected)):
        if kept is not None and one in kept:
            return f"on the protected list ({kept})"
    return None


def questions(
    address: str, rails: Guardrails, around: Surroundings, nsg: Nsg | None, now: datetime
) -> tuple[str, ...]:
    """Why a person must be asked before this address is blocked; empty if no one need be."""
    asks = []
    one = ipaddress.ip_address(address)
    for first in rails.ask_first:
        if one in first:
            asks.append(f"in {first}, a public resolver or content network that serves many")
            break
    for tag, prefixes in around.estate.services.items():
        if address in prefixes:
            asks.append(f"in Microsoft's service tag {tag}")
    hold = around.holds.get(address)
    if hold is not None and hold.until > now:
        asks.append(f"{hold.by} revoked a block of it ({hold.reason}); held until {utc(hold.until)}")
    if not around.estate.fresh(now, rails.estate_max_age):
        asks.append("the estate's own addresses are not known freshly enough to rule it out")
    elif not around.estate.services_known:
        asks.append("Microsoft's service tags cannot be read to rule it out")
    if nsg is not None:
        partner = partner_rule(nsg, address, rails.partner_prefix_min)
        if partner is not None:
            asks.append(f"allowed by name in rule {partner.name}: a declared partner")
    return tuple(asks)


def partner_rule(nsg: Nsg, address: str, prefix_min: int) -> Rule | None:
    """An Allow that names the address, itself or in a prefix of at least that length.

    IPv6 prefixes count from four times that length, /64 for /16.
    """
    one = ipaddress.ip_address(address)
    for rule in nsg.rules:
        if not rule.allow:
            continue
        for text in rule.remote:
            net = network(text)
            if net is None or net.version != one.version or one not in net:
                continue
            if net.prefixlen >= (prefix_min if net.version == 4 else prefix_min * 4):
                return rule
    return None


