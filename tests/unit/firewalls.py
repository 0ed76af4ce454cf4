"""Bodies of firewalls as ARM shows them, for tests."""

from __future__ import annotations

from typing import Any

POLICY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/firewallPolicies/policy"
BASE = POLICY.replace("/policy", "/base")
FIREWALL = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/azureFirewalls/fw"
IP_GROUP = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/ipGroups/servers"


def network(name: str = "any", sources: Any = ("10.0.0.4",), destinations: Any = ("*",), ports: Any = ("*",),
            protocols: Any = ("Any",), **more: Any) -> dict[str, Any]:
    """A network rule of a policy."""
    return {"ruleType": "NetworkRule", "name": name, "ipProtocols": list(protocols),
            "sourceAddresses": list(sources), "sourceIpGroups": [],
            "destinationAddresses": list(destinations), "destinationIpGroups": [], "destinationFqdns": [],
            "destinationPorts": list(ports), **more}


def application(name: str = "web", sources: Any = ("10.0.0.4",), fqdns: Any = ("*",),
                ports: Any = (80, 443), **more: Any) -> dict[str, Any]:
    """An application rule of a policy."""
    return {"ruleType": "ApplicationRule", "name": name, "sourceAddresses": list(sources),
            "sourceIpGroups": [], "targetFqdns": list(fqdns),
            "protocols": [{"protocolType": "Https" if p == 443 else "Http", "port": p} for p in ports],
            **more}


def nat(name: str = "in", sources: Any = ("*",), ports: Any = ("*",), to: str = "10.0.0.4",
        **more: Any) -> dict[str, Any]:
    """A DNAT rule of a policy."""
    return {"ruleType": "NatRule", "name": name, "ipProtocols": ["TCP"], "sourceAddresses": list(sources),
            "sourceIpGroups": [], "destinationAddresses": ["203.0.113.1"], "destinationPorts": list(ports),
            "translatedAddress": to, "translatedPort": "22", **more}


def collection(*rules: dict[str, Any], name: str = "rules", priority: int = 200,
               action: str = "Allow") -> dict[str, Any]:
    """A collection of a group."""
    kind = "FirewallPolicyNatRuleCollection" if action == "Dnat" else "FirewallPolicyFilterRuleCollection"
    return {"ruleCollectionType": kind, "name": name, "priority": priority, "action": {"type": action},
            "rules": list(rules)}


def group(*collections: dict[str, Any], name: str = "group", priority: int = 300,
          policy: str = POLICY) -> dict[str, Any]:
    """A rule collection group."""
    return {"id": f"{policy}/ruleCollectionGroups/{name}", "name": name, "etag": "e1",
            "type": "Microsoft.Network/FirewallPolicies/RuleCollectionGroups",
            "properties": {"priority": priority, "provisioningState": "Succeeded", "size": "0.1 MB",
                           "ruleCollections": list(collections)}}


def classic(**parts: list[dict[str, Any]]) -> dict[str, Any]:
    """A firewall with rules of its own; each part a list of (policy-style) collections."""
    def one(given: dict[str, Any]) -> dict[str, Any]:
        rules = [{("protocols" if k == "ipProtocols" else k): v for k, v in r.items() if k != "ruleType"}
                 for r in given["rules"]]
        return {"name": given["name"], "etag": "e", "id": f"{FIREWALL}/x/{given['name']}", "properties": {
            "provisioningState": "Succeeded", "priority": given["priority"], "action": given["action"],
            "rules": rules}}
    return {"id": FIREWALL, "name": "fw", "etag": "e1", "type": "Microsoft.Network/azureFirewalls",
            "location": "westeurope", "properties": {
                "provisioningState": "Succeeded", "sku": {"name": "AZFW_VNet", "tier": "Standard"},
                **{part: [one(c) for c in given] for part, given in parts.items()}}}
