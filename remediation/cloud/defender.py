"""Microsoft Defender for Cloud: the alert as Defender holds it, and the list of late ones.

A GET by id is the freshest answer, but ARM allows a principal only so many reads. So in a storm,
when GETs go faster than `GETS_PER_SECOND`, the newest alerts are read together from Resource Graph, those
at hand and those that are still to be delivered, and serve for some seconds; what the graph does not know
yet is fetched by GET all the same (and asked for by name before, where that list is full or not to be had).
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from remediation.alerts import normalise
from remediation.clock import Clock, Deadline, Pace
from remediation.cloud.cache import Kept
from remediation.cloud.clients import Clients
from remediation.cloud.graph import Graph, askable
from remediation.errors import (
    Forbidden,
    Invalid,
    MalformedAlert,
    NotFound,
    RemediationError,
    TemporaryError,
)
from remediation.gather import Gather
from remediation.likelihood import OtherAlert
from remediation.log import say
from remediation.model import Alert, AlertRef, Verdict, utc

_log = logging.getLogger(__name__)

API = "2022-01-01"
GETS_AT_ONCE, GETS_PER_SECOND = 20.0, 8.0
"""Of the reads that ARM allows a principal (250 at once, 25 a second), what alerts may take."""
READS_KEPT = 80
"""Reads left for what no graph can answer: polls, and the rules under the lease."""
NAMES_TOGETHER, RESOURCES_TOGETHER = 50, 200
TOGETHER_SECONDS = 4.0
LATELY, NEWEST = timedelta(minutes=30), 1_000
"""As `alerts_lately` asks for them."""
LATELY_SECONDS, LATELY_EVERY_SECONDS = 10.0, 4.0
"""For so long the newest alerts serve, and at most so often they are read anew."""
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
type _Rows = dict[tuple[str, str], Mapping[str, Any]]
"""By subscription and name: a name alone may be met in another subscription too."""


class Defender:
    """What we ask of Microsoft.Security. The caller's alert is only a hint where to look."""

    def __init__(self, clients: Clients, graph: Graph, clock: Clock) -> None:
        self._clients = clients
        self._graph = graph
        self._clock = clock
        self._lately: Kept[str, _Rows] = Kept(clock, LATELY_SECONDS)
        self._read_lately: Kept[str, bool] = Kept(clock, LATELY_EVERY_SECONDS)
        self.coming: Callable[[Sequence[str]], None] = lambda _: None
        """Is told in a storm which resources the newest alerts name."""
        self._pace = Pace(clock, GETS_AT_ONCE, GETS_PER_SECOND)
        self._together: Gather[_Asked, Mapping[str, Any] | None] = Gather(
            self._fetch_together, NAMES_TOGETHER
        )

    def confirm(self, alert: Alert, deadline: Deadline) -> Held:
        """Ask Defender for the alert. Its text, not the delivered one, is what may be acted upon."""
        if alert.ref is None:
            return Held(Verdict.UNKNOWN)
        try:
            held = self._held(alert, self.fetch(alert.ref, deadline))
            if held.verdict is Verdict.DIFFERENT:
                # The graph lags: what it held a moment ago is not Defender's last word.
                refs = (alert.ref, held.alert.ref if held.alert else None)
                where = next((r for r in refs if r is not None and _WORD.fullmatch(r.location)), None)
                held = self._held(alert, self._get(where, deadline)) if where is not None else held
        except (Forbidden, Invalid) as error:
            return Held(Verdict.UNKNOWN, trouble=f"Defender cannot be asked: {error}")
        return held

    @staticmethod
    def _held(alert: Alert, raw: Mapping[str, Any] | None) -> Held:
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
        placed = _WORD.fullmatch(ref.location) is not None
        kept = self._lately.peek("")  # in a storm alone
        if kept is not None and _key(ref) in kept:
            return kept[_key(ref)]
        if placed and self._clients.reads_left > READS_KEPT and self._pace.take():
            return self._get(ref, deadline)
        try:
            row = self._together((ref, deadline.within(TOGETHER_SECONDS)))
        except TemporaryError as error:
            if not placed:
                raise
            say(_log, "graph-silent", alerts=[ref.name], level=logging.WARNING, error=str(error))
            row = None
        return self._get(ref, deadline) if row is None and placed else row

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

    def _fetch_together(self, asked: Sequence[_Asked]) -> list[Mapping[str, Any] | None]:
        """One query for all at hand; what it lacks each asker fetches for itself."""
        longest = max((deadline for _, deadline in asked), key=lambda d: d.left())
        rows = self._newest(longest)
        lags = 0 < len(rows) < NEWEST  # all that the graph knows of these minutes: who lacks asks by GET
        missing = {ref.name for ref, _ in asked if _key(ref) not in rows
                   and not (lags and _WORD.fullmatch(ref.location))}
        if missing:
            rows = {**rows, **self._rows(missing, longest)}
        return [rows.get(_key(ref)) for ref, _ in asked]

    def _newest(self, deadline: Deadline) -> _Rows:
        """The newest alerts, read anew if that was not tried a moment ago; {} where they cannot be read."""
        if not self._read_lately.peek(""):
            self._read_lately.put("", True)
            try:
                found = _by_key(self._graph.rows(
                    "alerts_lately", deadline.within(deadline.left() / 2),
                    since=utc(self._clock.now() - LATELY)))
            except RemediationError as error:  # by name, then, and this is not tried again for a while
                say(_log, "alerts-unknown", level=logging.WARNING, error=str(error))
                self._read_lately.put("", True)
            else:
                self._lately.put("", found)
                self.coming([r for row in found.values() for r in _resources(row)])
        return self._lately.peek("") or {}

    def _rows(self, names: Iterable[str], deadline: Deadline) -> _Rows:
        return _by_key(self._graph.rows("alerts_by_name", deadline, names=sorted(names)))

    def resolve(self, ref: AlertRef, deadline: Deadline) -> None:
        """Say in Defender that all is done. It takes no word with it: the reason stays in the ledger."""
        base = f"/subscriptions/{ref.subscription_id}"
        group = f"/resourceGroups/{ref.resource_group}" if _NAME.fullmatch(ref.resource_group) else ""
        if not (_NAME.fullmatch(ref.name) and _GUID.fullmatch(ref.subscription_id) and _WORD.fullmatch(
                ref.location)):
            raise Invalid("the alert does not say where Defender keeps it")
        self._clients.arm_send("POST", f"{base}{group}/providers/Microsoft.Security/locations/{ref.location}"
                               f"/alerts/{ref.name}/resolve", API, deadline)

    def on(self, resource_ids: Iterable[str], since: datetime, deadline: Deadline) -> list[OtherAlert]:
        """Alerts that name these resources, generated since then."""
        found: list[OtherAlert] = []
        for some in itertools.batched(filter(askable, resource_ids), RESOURCES_TOGETHER, strict=False):
            found += [OtherAlert(str(r.get("name") or ""), str(r.get("display") or ""), str(r["resourceId"]),
                                 str(r.get("severity") or ""), str(r.get("status") or ""))
                      for r in self._graph.rows("alerts_on", deadline, ids=some, since=utc(since))]
        return found

    def find(self, name: str, deadline: Deadline) -> Mapping[str, Any] | None:
        """The alert by name alone, in whatever subscription it is."""
        return next(iter(self._rows([name], deadline).values()), None)

    def since(self, start: datetime, deadline: Deadline) -> list[Mapping[str, Any]]:
        """All alerts generated since then, as rows: to find those that never reached us."""
        return list(self._graph.rows("alerts_since", deadline, since=utc(start)))


def _key(ref: AlertRef) -> tuple[str, str]:
    return ref.subscription_id, ref.name.lower()


def _by_key(rows: Iterable[Mapping[str, Any]]) -> _Rows:
    return {
        (str(r.get("id", "")).lower().split("/")[2], str(r.get("name", "")).lower()): r
        for r in rows if str(r.get("id", "")).count("/") > 2
    }


def _resources(row: Mapping[str, Any]) -> list[str]:
    """The ids that an alert names, as the graph writes them: a hint where to look, no more."""
    properties = row.get("properties")
    named = properties.get("ResourceIdentifiers") if isinstance(properties, Mapping) else None
    return [str(one["AzureResourceId"]) for one in (named if isinstance(named, list) else ())
            if isinstance(one, Mapping) and one.get("AzureResourceId")]
