"""What arrives: an estate, and alerts with seeded random public attackers."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from remediation.policy import DEFAULT_POLICY, load_policy
from sandbox.arm.security import SERVICE_TAGS
from sandbox.demo.estate import GROUP, SUBSCRIPTION, c2_alert, nsg_id

SEED = 20_261_124


@dataclass(frozen=True, slots=True)
class Attack:
    """One attacker that is to be denied on one NSG. C2: outbound decides, inbound follows."""

    nsg: str
    address: str


@dataclass(frozen=True, slots=True)
class Load:
    """Alerts to deliver, in order, and what they should lead to."""

    name: str
    title: str
    nsgs: int
    alerts: tuple[dict[str, Any], ...]
    attacks: tuple[Attack, ...]
    estate: dict[str, Any] = field(repr=False)

    @property
    def known(self) -> list[dict[str, Any]]:
        """What Defender holds."""
        return list({a["name"]: a["properties"] for a in self.alerts}.values())


def attackers(count: int) -> list[str]:
    """Different public addresses that no guardrail of the default policy names, nor a service tag;
    always the same."""
    guard = load_policy(DEFAULT_POLICY).guardrails
    chance = random.Random(SEED)  # noqa: S311 - a repeatable load, not a secret
    tags = [ipaddress.ip_network(p) for prefixes in SERVICE_TAGS.values() for p in prefixes]
    named = [*guard.never, *guard.ask_first, *tags]
    found: dict[str, None] = {}
    while len(found) < count:
        address = ipaddress.IPv4Address(chance.randrange(1 << 24, 224 << 24))
        if address.is_global and not any(address in net for net in named):
            found[str(address)] = None
    return list(found)


def estate(nsgs: int, machines: int) -> dict[str, Any]:
    """`nsgs` subnets with `machines` machines each. The NSG guards both the subnet and the NICs: the
    peers look at the NIC only."""
    numbers = range(1, nsgs + 1)
    return {
        "subscription": SUBSCRIPTION,
        "groups": [{
            "name": GROUP,
            "nsgs": [{"name": f"nsg-{n}", "rules": [
                {"name": "web", "priority": 300, "protocol": "Tcp", "destinationPortRange": "443",
                 "sourceAddressPrefix": "Internet"},
                {"name": "ssh-from-office", "priority": 310, "protocol": "Tcp",
                 "destinationPortRange": "22", "sourceAddressPrefix": "198.51.100.0/28"},
                {"name": "no-smtp", "priority": 400, "direction": "Outbound", "access": "Deny",
                 "protocol": "Tcp", "destinationPortRange": "25"},
            ]} for n in numbers],
            "vnets": [{"name": "vnet", "prefix": "10.0.0.0/8", "subnets": [
                {"name": f"sub-{n}", "prefix": f"10.{n}.0.0/24", "nsg": f"nsg-{n}"} for n in numbers]}],
            "vms": [{"name": f"vm-{n}-{m}", "nics": [
                {"name": f"nic-{n}-{m}", "subnet": f"vnet/sub-{n}", "nsg": f"nsg-{n}",
                 "address": f"10.{n}.0.{m + 3}"}]}
                for n in numbers for m in range(1, machines + 1)],
        }],
    }


def _load(name: str, title: str, count: int, nsgs: int, machines: int, *, copies: int = 1) -> Load:
    alerts, attacks = [], []
    for k, address in enumerate(attackers(count)):
        n, m = k % nsgs + 1, k // nsgs % machines + 1
        alerts.append(c2_alert(f"vm-{n}-{m}", [address]))
        attacks.append(Attack(nsg_id(f"nsg-{n}").lower(), address))
    # One NSG more, for the deliveries that warm the hosts up.
    return Load(name, title, nsgs, tuple(alerts * copies), tuple(attacks), estate(nsgs + 1, machines))


def storm(count: int, name: str = "storm") -> Load:
    """So many alerts, each with an attacker of its own, over 10 NSGs with 10 machines each."""
    return _load(name, f"{count} alerts, {count} attackers, 10 NSGs", count, 10, 10)


def all_loads(scale: float = 1.0) -> Sequence[Load]:
    """The five loads; `scale` shrinks the numbers of alerts for a quick look."""
    many, some = max(10, int(1000 * scale)), max(5, int(200 * scale))
    return (
        _load("one", "one alert", 1, 1, 1),
        storm(many),
        _load("copies", f"{many} copies of one alert", 1, 1, 1, copies=many),
        _load("one_nsg", f"{some} alerts on one NSG", some, 1, 10),
        _load("many_nsgs", f"{some} NSGs with one alert each", some, some, 1),
    )
