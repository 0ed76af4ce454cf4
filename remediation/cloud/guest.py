"""Managed Run Commands: scripts that the machine's own agent runs, as a child resource of the machine.

A command is named by what it is for, so that asking twice does no harm, and is deleted when it has been read.
`provisioningState: Succeeded` says only that Azure has handed it over: what became of the script is in the
instance view, where it may have failed all the same (recorded). Named parameters are environment variables of
a Linux script and parameters of a PowerShell one; none is ever part of a script's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remediation.clock import Deadline
from remediation.cloud.clients import Clients
from remediation.errors import NotFound

API = "2024-07-01"
RUNNING_STATES = ("", "pending", "running", "unknown")
LINUX, WINDOWS = "linux", "windows"


@dataclass(frozen=True, slots=True)
class Guest:
    """A machine as its agent's owner sees it. `agent`: is it there and ready? `os`: linux, windows or ''."""

    power: str
    os: str
    agent: bool
    location: str


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command came to. `state` is Azure's word; `over`: it will not change any more."""

    state: str
    exit_code: int | None
    message: str
    output: str
    error: str
    over: bool

    @property
    def ok(self) -> bool:
        """The script ran to its end and says that all is well."""
        return self.state.lower() == "succeeded" and self.exit_code == 0


class GuestCommands:
    """What we ask of Microsoft.Compute about the inside of machines."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def machine(self, machine_id: str, deadline: Deadline) -> Guest:
        """Is it running, and does its agent answer? Raises NotFound."""
        body = self._clients.arm_get(machine_id.split("/")[2], machine_id, API, deadline,
                                     **{"$expand": "instanceView"})
        properties = body.get("properties") or {}
        view = properties.get("instanceView") or {}
        codes = [str(s.get("code", "")) for s in view.get("statuses") or ()]
        power = next((c for c in codes if c.lower().startswith("powerstate/")), "")
        statuses = (view.get("vmAgent") or {}).get("statuses") or ()
        ready = any(str(s.get("displayStatus", "")).lower() == "ready" for s in statuses)
        disk = (properties.get("storageProfile") or {}).get("osDisk") or {}
        return Guest(power, str(disk.get("osType") or view.get("osName") or "").lower(), ready,
                     str(body.get("location", "")))

    def start(
        self, machine_id: str, name: str, location: str, script: str, parameters: Mapping[str, str],
        seconds: int, output_uri: str, deadline: Deadline,
    ) -> None:
        """Have the script run. It is Azure's from then on: `look` tells what became of it."""
        properties: dict[str, Any] = {
            "source": {"script": script}, "asyncExecution": True, "timeoutInSeconds": seconds,
            "parameters": [{"name": k, "value": v} for k, v in sorted(parameters.items())],
        }
        if output_uri:
            properties["outputBlobUri"] = output_uri
        self._clients.arm_send("PUT", f"{machine_id}/runCommands/{name}", API, deadline,
                               {"location": location, "properties": properties})

    def look(self, machine_id: str, name: str, deadline: Deadline) -> Ran | None:
        """What became of it; None if there is no such command."""
        try:
            body = self._clients.arm_get(
                machine_id.split("/")[2], f"{machine_id}/runCommands/{name}", API, deadline,
                **{"$expand": "instanceView"})
        except NotFound:
            return None
        properties = body.get("properties") or {}
        view = properties.get("instanceView") or {}
        state = str(view.get("executionState") or "")
        handed = str(properties.get("provisioningState", "")).lower()
        failed = handed in ("failed", "canceled")
        code = view.get("exitCode")
        return Ran(
            state or (handed if failed else ""), code if isinstance(code, int) else None,
            str(view.get("executionMessage") or ""), str(view.get("output") or ""),
            str(view.get("error") or ""), state.lower() not in RUNNING_STATES or failed)

    def remove(self, machine_id: str, name: str, deadline: Deadline) -> None:
        """It has been read, or is not wanted any more."""
        self._clients.arm_send("DELETE", f"{machine_id}/runCommands/{name}", API, deadline)
