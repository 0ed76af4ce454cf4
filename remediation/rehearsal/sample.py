"""The alert of a self-test, in the form in which Defender's workflow automation sends one.

Marked as a sample, so that it changes nothing even where nobody knows it for a self-test any more.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from remediation.model import utc

ATTACKER = "203.0.113.99"
"""An address for documentation (RFC 5737): nobody's."""
LOCATION = "centralus"
"""Defender keeps alerts by region; in which one it is asked for what it does not hold is all the same."""
NAME = "[SAMPLE ALERT] Network communication with a malicious machine detected"


def sample(alert_id: str, resource_id: str, subscription: str, at: datetime) -> dict[str, Any]:
    """A machine spoke with a command and control centre."""
    name = f"2500000000000000000_{uuid.uuid5(uuid.NAMESPACE_URL, alert_id)}"  # of the form of Defender's
    link = (f"https://portal.azure.com/#blade/Microsoft_Azure_Security/AlertBlade/alertId/{name}"
            f"/subscriptionId/{subscription}/referencedFrom/alertDeepLink/location/{LOCATION}")
    return {
        "VendorName": "Microsoft", "ProductName": "Microsoft Defender for Cloud",
        "AlertType": "SIMULATED_Network_CommunicationWithC2", "AlertDisplayName": NAME,
        "Description": "A self-test of the responder. Nothing has happened.", "RemediationSteps": [],
        "Severity": "Medium", "ReportedSeverity": "Medium", "Status": "New", "IsIncident": False,
        "Intent": "CommandAndControl", "SystemAlertId": alert_id, "AlertUri": link,
        "StartTimeUtc": utc(at - timedelta(minutes=5)), "EndTimeUtc": utc(at), "TimeGenerated": utc(at),
        "ProcessingEndTime": utc(at),
        "CompromisedEntity": resource_id.rpartition("/")[2], "AzureResourceId": resource_id,
        "AzureResourceSubscriptionId": subscription,
        "WorkspaceId": "", "WorkspaceSubscriptionId": "", "WorkspaceResourceGroup": "", "AgentId": "",
        "ResourceIdentifiers": [
            {"$id": "1", "AzureResourceId": resource_id, "Type": "AzureResource",
             "AzureResourceTenantId": ""}],
        "Entities": [{"$id": "2", "Address": ATTACKER, "Type": "ip"}],
        "ExtendedProperties": {"attacker IP": ATTACKER, "attacker Port": "443"},
    }
