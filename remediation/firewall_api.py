"""The operators' routes about rogue firewall rules."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from remediation.clock import Clock, Deadline
from remediation.errors import BadInput
from remediation.firewall.incident import State
from remediation.inputs import (
    APPROVE,
    OPERATE,
    READ,
    Reply,
    Request,
    Routes,
    body_of,
    number,
    path_id,
    reason_of,
)
from remediation.model import Caller, ResourceId
from remediation.rogues.desk import Desk
from remediation.settings import Settings
from remediation.topology import FIREWALL

LONGEST_APPROVAL_DAYS = 366


class FirewallApi:
    """One method per route."""

    def __init__(self, desk: Desk, settings: Settings, clock: Clock) -> None:
        self._desk = desk
        self._settings = settings
        self._clock = clock

    def routes(self) -> Routes:
        """By name, each with the role it asks for."""
        return {
            "firewall": (self.incidents, READ),
            "firewall_scan": (self.scan, OPERATE),
            "firewall_decide": (self.decide, APPROVE),
            "firewall_approve": (self.approve, APPROVE),
            "firewall_restore": (self.restore, APPROVE),
        }

    def _budget(self) -> Deadline:
        return Deadline.after(self._clock, self._settings.budget_seconds)

    def incidents(self, request: Request, caller: Caller) -> Reply:
        """GET /api/firewall"""
        state = request.query.get("state", "")
        if state and state not in set(State):
            raise BadInput("state", f"must be one of {', '.join(State)}")
        return Reply(200, self._desk.incidents(state))

    def scan(self, request: Request, caller: Caller) -> Reply:
        """POST /api/firewall/scan"""
        firewall = body_of(request, {"firewall"}).get("firewall", "")
        parts = ResourceId.parse(firewall) if isinstance(firewall, str) else None
        if firewall and (parts is None or parts.kind != FIREWALL):
            raise BadInput("firewall", "must be the id of an Azure Firewall, or be left out for all of them")
        return Reply(200, self._desk.scan(firewall, self._budget()))

    def decide(self, request: Request, caller: Caller) -> Reply:
        """POST /api/firewall/decide/{id}"""
        body = body_of(request, {"decision", "reason", "digest"})
        decision = body.get("decision")
        if decision not in ("remove", "keep"):
            raise BadInput("decision", "must be remove or keep")
        return Reply(200, self._desk.decide(
            path_id(request), caller, self._budget(), act=decision == "remove", reason=reason_of(body),
            digest=_digest(body)))

    def approve(self, request: Request, caller: Caller) -> Reply:
        """POST /api/firewall/approve"""
        body = body_of(request, {"incident", "days", "reason", "digest"})
        incident = body.get("incident")
        if not isinstance(incident, str) or not incident or len(incident) > 64:
            raise BadInput("incident", "must be the id of an incident")
        days = number("days", body.get("days", 90), 1, LONGEST_APPROVAL_DAYS)
        return Reply(200, self._desk.approve(
            incident, caller, timedelta(days=days), reason_of(body), self._budget(), _digest(body)))

    def restore(self, request: Request, caller: Caller) -> Reply:
        """POST /api/firewall/restore/{id}"""
        body = body_of(request, {"reason"})
        return Reply(200, self._desk.restore(path_id(request), caller, self._budget(), reason_of(body)))


def _digest(body: Mapping[str, Any]) -> str:
    """What the person saw: a yes to it is no yes to what it has become."""
    digest = body.get("digest")
    if not isinstance(digest, str) or not digest or len(digest) > 64:
        raise BadInput("digest", "must be the incident's digest as you saw it (GET /api/firewall)")
    return digest
