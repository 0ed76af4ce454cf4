"""A small estate and alerts for tests that use the sandbox. Addresses are documentation addresses."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

SUB = "00000000-0000-0000-0000-000000000001"
GROUP = "rg"
ATTACKER, SECOND = "198.51.100.7", "198.51.100.9"
_numbers = itertools.count(1)

NETWORK = f"/subscriptions/{SUB}/resourceGroups/{GROUP}/providers/Microsoft.Network"
COMPUTE = f"/subscriptions/{SUB}/resourceGroups/{GROUP}/providers/Microsoft.Compute"


def nsg_path(name: str = "nsg") -> str:
    """The ARM path of an NSG."""
    return f"{NETWORK}/networkSecurityGroups/{name}"


def nsg_id(name: str = "nsg") -> str:
    """The id as the product writes it."""
    return nsg_path(name).lower()


def estate(*rules: dict[str, Any], machines: int = 1, nsgs: int = 1, **extra: Any) -> dict[str, Any]:
    """`nsgs` subnets with an NSG each (nsg, nsg2, …) and `machines` machines in each (vm, vm2, …)."""
    names = ["", *(str(n) for n in range(2, nsgs + 1))]
    vms = []
    for s, name in enumerate(names):
        for m in range(machines):
            number = s * machines + m + 1
            suffix = "" if number == 1 else str(number)
            vms.append({"name": f"vm{suffix}", "nics": [
                {"name": f"nic{suffix}", "subnet": f"vnet/sub{name}"}]})
    return {
        "subscription": SUB,
        "groups": [{
            "name": GROUP,
            "nsgs": [{"name": f"nsg{n}", "rules": [
                {"name": "users-own", "priority": 300, "protocol": "Tcp",
                 "destinationPortRange": "443", "sourceAddressPrefix": "Internet"},
                *rules]} for n in names],
            "publicIps": [{"name": "pip", "address": "203.0.113.10"}],
            "vnets": [{"name": "vnet", "prefix": "10.0.0.0/8", "subnets": [
                {"name": f"sub{n}", "prefix": f"10.{i}.0.0/16", "nsg": f"nsg{n}"}
                for i, n in enumerate(names)]}],
            "vms": vms,
        }],
        **extra,
    }


def alert(vm: str = "vm", attacker: str | list[str] = ATTACKER,
          kind: str = "Network_CommunicationWithC2", **changes: Any) -> dict[str, Any]:
    """A fresh alert in the REST shape."""
    n = next(_numbers)
    attackers = [attacker] if isinstance(attacker, str) else attacker
    name = f"{2_517_000_000_000_000_000 + n}_00000000-0000-0000-0000-{n:012d}"
    machine = f"{COMPUTE}/virtualMachines/{vm}"
    now = datetime.now(UTC)
    properties: dict[str, Any] = {
        "version": "2022-01-01.0", "alertType": kind, "systemAlertId": name,
        "alertDisplayName": "Network communication with a malicious machine detected",
        "severity": "Medium", "status": "Active",
        "startTimeUtc": (now - timedelta(hours=1)).isoformat(),
        "timeGeneratedUtc": (now - timedelta(seconds=5)).isoformat(),
        "resourceIdentifiers": [{"type": "AzureResource", "azureResourceId": machine}],
        "entities": [{"$id": f"e_{i}", "type": "ip", "address": a} for i, a in enumerate(attackers)],
        "extendedProperties": {"attacker IP": attackers[0], "attacker Port": "443"},
        **changes,
    }
    return {
        "id": f"/subscriptions/{SUB}/resourceGroups/{GROUP}/providers/Microsoft.Security/locations/"
              f"centralus/alerts/{name}",
        "name": name, "type": "Microsoft.Security/Locations/alerts", "properties": properties,
    }


def name_of(one: dict[str, Any]) -> str:
    """The alert's id."""
    return str(one["properties"]["systemAlertId"])
