"""Hand-written alerts in every shape, with documentation addresses."""

from __future__ import annotations

import json
from typing import Any

SUB = "11111111-2222-3333-4444-555555555555"
VM = f"/subscriptions/{SUB}/resourceGroups/Rg-App/providers/Microsoft.Compute/virtualMachines/Vm-1"
NAME = "2517000000000000000_aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
ATTACKER = "198.51.100.7"
C2 = "Network communication with a malicious machine detected"


def rest(alert_type: str = "Network_CommunicationWithC2", **changes: Any) -> dict[str, Any]:
    """Shape a."""
    properties: dict[str, Any] = {
        "version": "2022-01-01.0", "alertType": alert_type, "systemAlertId": NAME,
        "alertDisplayName": C2, "severity": "Medium", "status": "Active",
        "intent": "CommandAndControl, Execution",
        "startTimeUtc": "2026-01-01T00:00:00.1234567Z", "timeGeneratedUtc": "2026-01-01T02:00:00Z",
        "resourceIdentifiers": [
            {"$id": "centralus_1", "type": "AzureResource", "azureResourceId": VM},
            {"$id": "centralus_2", "type": "LogAnalytics", "workspaceId": SUB},
        ],
        "entities": [{"$id": "centralus_3", "type": "host", "azureID": VM},
                     {"$id": "centralus_4", "type": "ip", "address": ATTACKER}],
        "extendedProperties": {"attacker IP": ATTACKER, "attacker Port": "443",
                               "victim IP": "203.0.113.10"},
    }
    properties.update(changes)
    properties = {k: v for k, v in properties.items() if v is not None}
    return {
        "id": f"/subscriptions/{SUB}/resourceGroups/Rg-App/providers/Microsoft.Security/locations/"
              f"centralus/alerts/{NAME}",
        "name": NAME, "type": "Microsoft.Security/Locations/alerts", "properties": properties,
    }


def flat(**changes: Any) -> dict[str, Any]:
    """Shapes b and c: continuous export and workflow automation."""
    body: dict[str, Any] = {
        "VendorName": "Microsoft", "AlertType": "Network_CommunicationWithC2",
        "SystemAlertId": NAME, "AlertDisplayName": C2, "Severity": "Medium", "Status": "New",
        "StartTimeUtc": "2026-01-01T00:00:00Z", "TimeGenerated": "2026-01-01T02:00:00Z",
        "AzureResourceId": VM,
        "ResourceIdentifiers": [{"$id": "2", "Type": "AzureResource", "AzureResourceId": VM}],
        "Entities": [{"$id": "4", "Type": "ip", "Address": ATTACKER}],
        "ExtendedProperties": {"Attacker IP": ATTACKER, "Attacker Port": "443"},
        "AlertUri": "https://portal.azure.com/#blade/X/AlertBlade/alertId/"
                    f"{NAME}/subscriptionId/{SUB}/resourceGroup/rg-app/referencedFrom/"
                    "alertDeepLink/location/centralus",
    }
    body.update(changes)
    return {k: v for k, v in body.items() if v is not None}


def log_row(**changes: Any) -> dict[str, Any]:
    """Shape d: a Log Analytics row."""
    body: dict[str, Any] = {
        "TenantId": SUB, "TimeGenerated": "2026-01-01 02:00:00", "AlertName": C2,
        "DisplayName": C2, "AlertSeverity": "Medium", "AlertType": "Network_CommunicationWithC2",
        "VendorOriginalId": NAME, "SystemAlertId": "99999999-0000-0000-0000-000000000000",
        "ResourceId": VM, "StartTime": "2026-01-01 00:00:00",
        "Entities": json.dumps([{"$id": "4", "Type": "ip", "Address": ATTACKER}]),
        "ExtendedProperties": json.dumps({"Attacker IP": ATTACKER, "Attacker Port": "443"}),
        "Status": "New",
    }
    body.update(changes)
    return {k: v for k, v in body.items() if v is not None}


def event(data: Any, **extra: Any) -> dict[str, Any]:
    """A CloudEvent."""
    return {"specversion": "1.0", "id": "e1", "type": "t", "source": "/s", "data": data, **extra}
