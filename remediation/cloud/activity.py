"""The activity log: who changed a rule of ours, and what started or stopped machines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from remediation.clock import Deadline
from remediation.cloud.clients import Clients
from remediation.firewall.incident import LOG_REACHES
from remediation.likelihood import RESTARTS, STARTS, STOPS, PowerChange
from remediation.model import ResourceId, utc

API = "2015-04-01"
BACK = timedelta(hours=24)
MOST_PAGES = 20
DONE = ("succeeded", "")


@dataclass(frozen=True, slots=True)
class Change:
    """A write or delete of a resource, by a person (with a name) or by a program."""

    operation: str
    caller: str
    by_person: bool
    at: str


class ActivityLog:
    """What we ask of Microsoft.Insights."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def principal(self) -> frozenset[str]:
        """Who we are in the log, lower-cased."""
        return self._clients.principal()

    def last_change(
        self, nsg_id: str, rule: str, now: datetime, deadline: Deadline
    ) -> Change | None:
        """The newest write or delete of the rule, or of its NSG as a whole, in the last day, that
        was not our own."""
        parts = ResourceId.parse(nsg_id)
        if parts is None:
            return None
        rows = self._clients.arm_pages(
            parts.subscription,
            f"/subscriptions/{parts.subscription}/providers/Microsoft.Insights/eventtypes/"
            "management/values",
            API, {"$filter": f"eventTimestamp ge '{utc(now - BACK)}' and resourceGroupName eq "
                             f"'{parts.group}'"},
            deadline,
        )
        ours = self._clients.principal()
        changes = [self._change(r) for r in rows
                   if self._about(r, nsg_id, rule) and not _callers(r) & ours]
        return max(changes, key=lambda c: c.at, default=None)

    def changes_of(self, resource: str, now: datetime, deadline: Deadline) -> list[Change]:
        """Writes of a resource, or of what it is part of, in the last 89 days, that were not our own."""
        parts = resource.split("/")
        rows = self._clients.arm_pages(
            parts[2], f"/subscriptions/{parts[2]}/providers/Microsoft.Insights/eventtypes/management/values",
            API, {"$filter": f"eventTimestamp ge '{utc(now - LOG_REACHES)}' and resourceUri eq '{resource}'"},
            deadline, most=MOST_PAGES)
        ours = self._clients.principal()
        return [self._change(r) for r in rows
                if _value(r.get("operationName")).lower().endswith(("/write", "/deploy/action"))
                and _value(r.get("status")).lower() in DONE and not _callers(r) & ours]

    def power_changes(
        self, subscription: str, group: str, since: datetime, deadline: Deadline
    ) -> list[PowerChange]:
        """What started or stopped machines of a resource group since then, or tried to: what was accepted
        counts. Raises Invalid if the log is too long to be read."""
        rows = self._clients.arm_pages(
            subscription,
            f"/subscriptions/{subscription}/providers/Microsoft.Insights/eventtypes/management/values",
            API, {"$filter": f"eventTimestamp ge '{utc(since)}' and resourceGroupName eq '{group}'",
                  "$select": "eventTimestamp,operationName,resourceId,status"},
            deadline, most=MOST_PAGES,
        )
        changes = (
            PowerChange(str(r.get("resourceId", "")).lower(), _value(r.get("operationName")).lower(),
                        _moment(r.get("eventTimestamp"), since))
            for r in rows if _value(r.get("status")).lower() in DONE)
        return [c for c in changes if c.operation.endswith((*STARTS, *STOPS, *RESTARTS))]

    @staticmethod
    def _about(row: dict[str, Any], nsg_id: str, rule: str) -> bool:
        resource = str(row.get("resourceId", "")).lower()
        operation = _value(row.get("operationName")).lower()
        return resource in (nsg_id, f"{nsg_id}/securityrules/{rule}") and operation.endswith(
            ("/write", "/delete")
        )

    @staticmethod
    def _change(row: dict[str, Any]) -> Change:
        caller = str(row.get("caller", ""))
        claims = row.get("claims") or {}
        person = "@" in caller or bool(
            claims.get("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn")
        )
        return Change(
            _value(row.get("operationName")), caller, person, str(row.get("eventTimestamp", ""))
        )


def _callers(row: dict[str, Any]) -> set[str]:
    claims = row.get("claims") or {}
    oid = "http://schemas.microsoft.com/identity/claims/objectidentifier"
    return {str(v).lower() for v in (row.get("caller"), claims.get("appid"), claims.get(oid)) if v}


def _value(field: Any) -> str:
    return str(field.get("value", "")) if isinstance(field, dict) else str(field or "")


def _moment(text: Any, default: datetime) -> datetime:
    """ARM writes seven digits of a second, and Z. What cannot be read counts as `default`."""
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return default
