"""Microsoft Defender for Cloud: the alert as Defender holds it, and the list of late ones."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from remediation.alerts import normalise
from remediation.clock import Deadline
from remediation.cloud.clients import Clients
from remediation.cloud.graph import Graph
from remediation.errors import Forbidden, Invalid, MalformedAlert, NotFound
from remediation.model import Alert, AlertRef, Verdict, utc

_log = logging.getLogger(__name__)

API = "2022-01-01"
_NAME = re.compile(r"[\w.-]{1,200}", re.ASCII)
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WORD = re.compile(r"\w{1,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Held:
    """What Defender answered: the verdict, and the alert as it holds it (None if it does not)."""

    verdict: Verdict
    alert: Alert | None = None
    raw: Mapping[str, Any] | None = None


class Defender:
    """What we ask of Microsoft.Security. The caller's alert is only a hint where to look."""

    def __init__(self, clients: Clients, graph: Graph) -> None:
        self._clients = clients
        self._graph = graph

    def confirm(self, alert: Alert, deadline: Deadline) -> Held:
        """Ask Defender for the alert. Its text, not the delivered one, is what may be acted upon."""
        if alert.ref is None:
            return Held(Verdict.UNKNOWN)
        raw = self.fetch(alert.ref, deadline)
        if raw is None:
            return Held(Verdict.UNKNOWN)
        try:
            held = normalise(raw)
        except MalformedAlert as error:
            _log.warning("Defender's own answer for %s cannot be read: %s", alert.alert_id, error)
            return Held(Verdict.UNKNOWN)
        same = held.accusation() == alert.accusation()
        return Held(Verdict.CONFIRMED if same else Verdict.DIFFERENT, held, raw)

    def fetch(self, ref: AlertRef, deadline: Deadline) -> Mapping[str, Any] | None:
        """The alert by its name; None if Defender does not know it, or will not tell us."""
        if not (_NAME.fullmatch(ref.name) and _GUID.fullmatch(ref.subscription_id)):
            return None
        if not _WORD.fullmatch(ref.location):
            return self.find(ref.name, deadline)
        base = f"/subscriptions/{ref.subscription_id}"
        tail = f"/providers/Microsoft.Security/locations/{ref.location}/alerts/{ref.name}"
        groups = [f"/resourceGroups/{ref.resource_group}"] if _NAME.fullmatch(ref.resource_group) else []
        for scope in (*groups, ""):
            try:
                return self._clients.arm_get(
                    ref.subscription_id, base + scope + tail, API, deadline
                )
            except NotFound:
                continue  # kept under the other scope, or nowhere
            except (Forbidden, Invalid) as error:
                _log.warning("Defender does not show alert %s: %s", ref.name, error)
                return None
        return None

    def find(self, name: str, deadline: Deadline) -> Mapping[str, Any] | None:
        """The alert by name through Resource Graph, where no location is known."""
        rows = self._graph.rows("alert_by_name", deadline, name=name)
        return rows[0] if rows else None

    def since(self, start: datetime, deadline: Deadline) -> list[Mapping[str, Any]]:
        """All alerts generated since then, as rows: to find those that never reached us."""
        return list(self._graph.rows("alerts_since", deadline, since=utc(start)))
