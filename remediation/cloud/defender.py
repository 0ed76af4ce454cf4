"""Microsoft Defender for Cloud: the alert as Defender holds it, and the list of late ones.

A GET by id is the freshest answer, but ARM allows a principal only so many reads. So in a storm,
when GETs go faster than `GETS_PER_SECOND`, the alerts at hand are asked for together through
Resource Graph; what the graph does not know yet is fetched by GET all the same.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from remediation.alerts import normalise
from remediation.clock import Clock, Deadline, Pace
from remediation.cloud.clients import Clients
from remediation.cloud.graph import Graph
from remediation.errors import Forbidden, Invalid, MalformedAlert, NotFound, RemediationError
from remediation.gather import Gather
from remediation.log import say
from remediation.model import Alert, AlertRef, Verdict, utc

_log = logging.getLogger(__name__)

API = "2022-01-01"
GETS_AT_ONCE, GETS_PER_SECOND = 40.0, 8.0
"""Of the reads that ARM allows a principal (250 at once, 25 a second), what alerts may take."""
NAMES_TOGETHER = 50
_NAME = re.compile(r"[\w.-]{1,200}", re.ASCII)
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WORD = re.compile(r"\w{1,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Held:
    """What Defender answered: the verdict, and the alert as it holds it (None if it does not).
    `trouble`: why it would not answer, for people; '' if it did."""

    verdict: Verdict
    alert: Alert | None = None
    raw: Mapping[str, Any] | None = None
    trouble: str = ""


type _Asked = tuple[AlertRef, Deadline]
type _Answer = Mapping[str, Any] | RemediationError | None


class Defender:
    """What we ask of Microsoft.Security. The caller's alert is only a hint where to look."""

    def __init__(self, clients: Clients, graph: Graph, clock: Clock) -> None:
        self._clients = clients
        self._graph = graph
        self._pace = Pace(clock, GETS_AT_ONCE, GETS_PER_SECOND)
        self._together: Gather[_Asked, _Answer] = Gather(self._fetch_together, NAMES_TOGETHER)

    def confirm(self, alert: Alert, deadline: Deadline) -> Held:
        """Ask Defender for the alert. Its text, not the delivered one, is what may be acted upon."""
        if alert.ref is None:
            return Held(Verdict.UNKNOWN)
        try:
            raw = self.fetch(alert.ref, deadline)
        except (Forbidden, Invalid) as error:
            return Held(Verdict.UNKNOWN, trouble=f"Defender cannot be asked: {error}")
        if raw is None:
            return Held(Verdict.UNKNOWN)
        try:
            held = normalise(raw)
        except MalformedAlert as error:
            say(_log, "defenders-answer-unreadable", alerts=[alert.alert_id],
                level=logging.WARNING, error=str(error))
            return Held(Verdict.UNKNOWN)
        same = held.accusation() == alert.accusation()
        return Held(Verdict.CONFIRMED if same else Verdict.DIFFERENT, held, raw)

    def fetch(self, ref: AlertRef, deadline: Deadline) -> Mapping[str, Any] | None:
        """The alert by its name; None if Defender does not know it. Raises Forbidden or Invalid if
        it will not tell us."""
        if not (_NAME.fullmatch(ref.name) and _GUID.fullmatch(ref.subscription_id)):
            return None
        if _WORD.fullmatch(ref.location) and self._pace.take():
            return self._get(ref, deadline)
        answer = self._together((ref, deadline))
        if isinstance(answer, RemediationError):
            raise answer
        return answer

    def _get(self, ref: AlertRef, deadline: Deadline) -> Mapping[str, Any] | None:
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
        return None

    def _fetch_together(self, asked: Sequence[_Asked]) -> list[_Answer]:
        """One query for all; then a GET for each that has a location and that the graph lacks. An
        error of one GET is that one's answer."""
        shortest = min((deadline for _, deadline in asked), key=lambda d: d.left())
        rows = self._rows({ref.name for ref, _ in asked}, shortest)
        found: list[_Answer] = []
        for ref, deadline in asked:
            answer: _Answer = rows.get((ref.subscription_id, ref.name.lower()))
            if answer is None and _WORD.fullmatch(ref.location):
                try:
                    answer = self._get(ref, deadline)
                except RemediationError as error:
                    answer = error
            found.append(answer)
        return found

    def _rows(
        self, names: Iterable[str], deadline: Deadline
    ) -> dict[tuple[str, str], Mapping[str, Any]]:
        """By subscription and name: a name alone may be met in another subscription too."""
        rows = self._graph.rows("alerts_by_name", deadline, names=sorted(names))
        return {
            (str(r.get("id", "")).lower().split("/")[2], str(r.get("name", "")).lower()): r
            for r in rows if str(r.get("id", "")).count("/") > 2
        }

    def find(self, name: str, deadline: Deadline) -> Mapping[str, Any] | None:
        """The alert by name alone, in whatever subscription it is."""
        return next(iter(self._rows([name], deadline).values()), None)

    def since(self, start: datetime, deadline: Deadline) -> list[Mapping[str, Any]]:
        """All alerts generated since then, as rows: to find those that never reached us."""
        return list(self._graph.rows("alerts_since", deadline, since=utc(start)))
