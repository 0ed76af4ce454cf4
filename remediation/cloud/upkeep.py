"""The upkeep of machines, as Azure sees it from outside: missing updates, extensions, posture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from remediation.clock import Deadline
from remediation.cloud.clients import Clients
from remediation.cloud.graph import Graph

API = "2024-07-01"
ONBOARDING_API = "2021-10-01-preview"
ANTIMALWARE = "IaaSAntimalware"
"""Microsoft's antimalware as an extension, for Windows."""
ENDPOINT = "MDE.Linux"
"""Defender for Endpoint as an extension, for Linux."""


class Upkeep:
    """What we ask of Microsoft.Compute about patches and extensions, and of the graph about posture."""

    def __init__(self, clients: Clients, graph: Graph) -> None:
        self._clients = clients
        self._graph = graph

    def patches(self, machine: str, deadline: Deadline) -> Mapping[str, Any] | None:
        """The last assessment of missing updates; None if there is none."""
        rows = self._graph.rows("patches", deadline, machine=f"{machine}/")
        return rows[0] if rows else None

    def assess(self, machine: str, deadline: Deadline) -> str:
        """Have missing updates looked for → the operation's address, or ''. Changes nothing in the
        machine."""
        return self._post(machine, "assessPatches", None, deadline)

    def install(self, machine: str, windows: bool, deadline: Deadline) -> str:
        """Have critical and security updates installed, without a reboot → the operation's address, or ''."""
        wanted = {"classificationsToInclude": ["Critical", "Security"]}
        body = {"maximumDuration": "PT2H", "rebootSetting": "Never",
                "windowsParameters" if windows else "linuxParameters": wanted}
        return self._post(machine, "installPatches", body, deadline)

    def _post(self, machine: str, verb: str, body: Mapping[str, Any] | None, deadline: Deadline) -> str:
        _, headers = self._clients.arm_send("POST", f"{machine}/{verb}", API, deadline, body)
        return headers.get("Azure-AsyncOperation") or headers.get("Location") or ""

    def operation(self, url: str, deadline: Deadline) -> Mapping[str, Any]:
        """What has become of an operation: `status`, and at its end `properties` with the result."""
        return self._clients.arm_operation(url, deadline)

    def extensions(self, machine: str, deadline: Deadline) -> list[Mapping[str, Any]]:
        """The machine's extensions."""
        body = self._clients.arm_get(machine.split("/")[2], f"{machine}/extensions", API, deadline)
        return [e for e in body.get("value") or () if isinstance(e, dict)]

    def install_antimalware(self, machine: str, location: str, deadline: Deadline) -> str:
        """Install Microsoft's antimalware extension on a Windows machine → the operation's address."""
        return self._extend(machine, ANTIMALWARE, location, deadline, {
            "publisher": "Microsoft.Azure.Security",
            "typeHandlerVersion": "1.3",
            "settings": {"AntimalwareEnabled": True, "RealtimeProtectionEnabled": "true"},
        })

    def onboarding(self, subscription: str, deadline: Deadline) -> str:
        """What makes a Linux machine one of the organisation's in Defender for Endpoint, base64; '' where the
        subscription has none. It is handed on to the machine and kept nowhere."""
        body = self._clients.arm_get(
            subscription, f"/subscriptions/{subscription}/providers/Microsoft.Security/mdeOnboardings",
            ONBOARDING_API, deadline)
        found = [(o.get("properties") or {}).get("onboardingPackageLinux")
                 for o in body.get("value") or () if isinstance(o, dict)]
        return next((str(p) for p in found if p), "")

    def install_endpoint(self, machine: str, location: str, package: str, deadline: Deadline) -> str:
        """Install Defender for Endpoint on a Linux machine, as Defender for Cloud's own integration does →
        the operation's address."""
        return self._extend(machine, ENDPOINT, location, deadline, {
            "publisher": "Microsoft.Azure.AzureDefenderForServers",
            "typeHandlerVersion": "1.0",
            "settings": {"azureResourceId": machine, "defenderForServersWorkspaceId": machine.split("/")[2]},
            "protectedSettings": {"defenderForEndpointOnboardingScript": package},
        })

    def _extend(
        self, machine: str, type_: str, location: str, deadline: Deadline, properties: Mapping[str, Any]
    ) -> str:
        body = {"location": location,
                "properties": {"type": type_, "autoUpgradeMinorVersion": True, **properties}}
        _, headers = self._clients.arm_send("PUT", f"{machine}/extensions/{type_}", API, deadline, body)
        return headers.get("Azure-AsyncOperation") or ""

    def identities(self, machine: str, deadline: Deadline) -> list[str]:
        """The object ids of the machine's own identities, its system's and its user's."""
        body = self._clients.arm_get(machine.split("/")[2], machine, API, deadline)
        identity = body.get("identity") or {}
        found = [identity.get("principalId")]
        found += [
            (i or {}).get("principalId") for i in (identity.get("userAssignedIdentities") or {}).values()
        ]
        return [str(i) for i in found if i]

    def posture(self, query: str, machine: str | Sequence[str], deadline: Deadline) -> list[dict[str, Any]]:
        """The rows of one of the posture queries (`queries/posture_*.kql`), about a machine, its guard or its
        identities."""
        return list(self._graph.rows(f"posture_{query}", deadline, machine=machine))
