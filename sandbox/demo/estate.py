"""The estate and the alerts of the story. Addresses are documentation addresses."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
GROUP = "rg-shop"
_numbers = itertools.count(1)

ESTATE: dict[str, Any] = {
    "subscription": SUBSCRIPTION,
    "location": "westeurope",
    "groups": [{
        "name": GROUP,
        "nsgs": [
            {"name": "nsg-web", "rules": [
                {"name": "allow-https", "priority": 300, "protocol": "Tcp",
                 "destinationPortRange": "443", "sourceAddressPrefix": "Internet"},
                {"name": "allow-out", "priority": 400, "direction": "Outbound"},
            ]},
            {"name": "nsg-legacy", "rules": [
                {"name": "allow-everything-in", "priority": 100},
                {"name": "allow-everything-out", "priority": 100, "direction": "Outbound"},
            ]},
            {"name": "nsg-data", "rules": [
                {"name": "allow-sql", "priority": 200, "protocol": "Tcp",
                 "destinationPortRange": "1433", "sourceAddressPrefix": "10.20.1.0/24"},
            ]},
            {"name": "nsg-gateway", "rules": [
                {"name": "allow-gateway-manager", "priority": 200, "protocol": "Tcp",
                 "destinationPortRange": "65200-65535", "sourceAddressPrefix": "GatewayManager"},
                {"name": "allow-https", "priority": 300, "protocol": "Tcp",
                 "destinationPortRange": "443", "sourceAddressPrefix": "Internet"},
            ]},
        ],
        "publicIps": [{"name": "pip-web-1", "address": "203.0.113.10"},
                      {"name": "pip-legacy", "address": "203.0.113.20"},
                      {"name": "pip-balancer", "address": "203.0.113.30"},
                      {"name": "pip-gateway", "address": "203.0.113.40"}],
        "vnets": [{"name": "vnet-shop", "prefix": "10.20.0.0/16", "subnets": [
            {"name": "web", "prefix": "10.20.1.0/24", "nsg": "nsg-web"},
            {"name": "legacy", "prefix": "10.20.2.0/24", "nsg": "nsg-legacy"},
            {"name": "data", "prefix": "10.20.3.0/24", "nsg": "nsg-data"},
            {"name": "gateway", "prefix": "10.20.4.0/24", "nsg": "nsg-gateway"},
        ]}],
        "vms": [
            {"name": "web-1", "nics": [{"name": "web-1-nic", "subnet": "vnet-shop/web",
                                        "publicIp": "pip-web-1", "pools": ["lb-shop/web"]}]},
            {"name": "web-2", "nics": [{"name": "web-2-nic", "subnet": "vnet-shop/web",
                                        "pools": ["lb-shop/web"]}]},
            {"name": "api-1", "nics": [{"name": "api-1-nic", "subnet": "vnet-shop/data",
                                        "gatewayPools": ["agw-shop/api"]}]},
            {"name": "legacy-1", "nics": [{"name": "legacy-1-nic", "subnet": "vnet-shop/legacy",
                                           "publicIp": "pip-legacy"}]},
            {"name": "data-1", "nics": [{"name": "data-1-nic", "subnet": "vnet-shop/data"}]},
        ],
        "scaleSets": [{"name": "workers", "instances": 2, "subnet": "vnet-shop/data",
                       "pools": ["lb-shop/work"]}],
        "loadBalancers": [{
            "name": "lb-shop", "publicIp": "pip-balancer", "pools": [{"name": "web"}, {"name": "work"}],
            "rules": [{"frontendPort": 443, "backendPort": 8443, "pool": "web"}], "outbound": ["work"]}],
        "gateways": [{
            "name": "agw-shop", "subnet": "vnet-shop/gateway", "publicIp": "pip-gateway",
            "pools": [{"name": "api", "fqdns": ["api.partner.example"]}]}],
    }],
}


def vm_id(name: str) -> str:
    """The resource id of one of the machines."""
    return (f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
            f"/providers/Microsoft.Compute/virtualMachines/{name}")


def nsg_id(name: str) -> str:
    """The resource id of one of the NSGs."""
    return (f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
            f"/providers/Microsoft.Network/networkSecurityGroups/{name}")


def element_id(kind: str, name: str) -> str:
    """The resource id of something that stands before machines."""
    return nsg_id(name).replace("networkSecurityGroups", kind)


def c2_alert(
    vm: str, attackers: list[str], *, sample: bool = False, resource: str = ""
) -> dict[str, Any]:
    """A C2 alert in the REST shape, for one machine; or for another resource, of that id."""
    now = datetime.now(UTC)
    n = next(_numbers)
    name = f"{2_517_000_000_000_000_000 + n}_00000000-0000-0000-0000-{n:012d}"
    display = "Network communication with a malicious machine detected"
    machine = resource or vm_id(vm)
    properties = {
        "version": "2022-01-01.0",
        "alertType": ("SIMULATED_" if sample else "") + "Network_CommunicationWithC2",
        "systemAlertId": name,
        "productName": "Microsoft Defender for Cloud",
        "alertDisplayName": ("[SAMPLE ALERT] " if sample else "") + display,
        "description": f"Network traffic analysis indicates that {vm} has communicated with what is "
                       "possibly a Command and Control center.",
        "severity": "Medium",
        "intent": "CommandAndControl",
        "status": "Active",
        "compromisedEntity": vm,
        "isIncident": False,
        "startTimeUtc": _text(now - timedelta(minutes=40)),
        "endTimeUtc": _text(now - timedelta(minutes=35)),
        "timeGeneratedUtc": _text(now - timedelta(seconds=2)),
        "resourceIdentifiers": [{"$id": "westeurope_1", "type": "AzureResource",
                                 "azureResourceId": machine}],
        "entities": [
            {"$id": "westeurope_2", "type": "host", "hostName": vm, "azureID": machine},
            *({"$id": f"westeurope_{k}", "type": "ip", "address": a}
              for k, a in enumerate(attackers, 3)),
        ],
        "extendedProperties": {
            "attacker IP": attackers[0], "attacker Port": "443", "victim Port": "49812",
            "resourceType": "Virtual Machine",
        },
    }
    return {
        "id": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Security/"
              f"locations/centralus/alerts/{name}",
        "name": name,
        "type": "Microsoft.Security/Locations/alerts",
        "properties": properties,
    }


def name_of(alert: dict[str, Any]) -> str:
    """The alert's id."""
    return str(alert["properties"]["systemAlertId"])


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
