"""The escalation: one message for each alert, told anew only when something of weight has changed.

Whatever happens to an alert leaves a hint (`due`); the sweep follows it a little later, so that what happens
together is told together. What the message says is recorded before it is sent, and each channel that has
taken it, after: so it arrives at least once, and a channel that is down is tried again. Nothing here holds up
containment.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from remediation.clock import Clock, Deadline
from remediation.cloud.channels import Channels
from remediation.cloud.evidence import folder_address
from remediation.dossier import Dossier
from remediation.errors import Conflict, NotFound
from remediation.investigation.pack import Pack, make
from remediation.investigation.redact import shown
from remediation.ledger import Ledger, Told
from remediation.log import say
from remediation.model import from_utc, utc
from remediation.policy import Policy
from remediation.settings import Settings

_log = logging.getLogger(__name__)

NOTICES = "~notices"
"""In place of an alert's id: what concerns none."""
MESSAGES = "~messages"
SAID_BY_STATE = ("approval", "shadowed", "block-failed", "unproven", "alert")
"""Kinds of notices of which an alert's blocks, questions and plan tell the same."""
URGENT = ("a machine is confirmed", "a question waits")
"""Occasions that wait for no hour."""
MOST_TOGETHER = 25
GIVE_UP = timedelta(days=3)
"""So long a channel that does not take a message is tried."""
OVERLAP = timedelta(minutes=2)
"""Notices are written by several processes, whose clocks and answers differ by so much."""
SENDING = timedelta(seconds=60)
"""Longer than a sweep: who has not said by then what has arrived has died over it."""
LONGEST_PAUSE = timedelta(hours=1)
WAITING_EVERY = timedelta(minutes=15)
EVENT_TYPE = "DefenderResponder.Escalation"


class Escalation:
    """One instance serves all threads."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        dossier: Dossier,
        channels: Channels,
        policy: Policy,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._dossier = dossier
        self._channels = channels
        self._policy = policy
        self._settings = settings
        self._clock = clock

    # --- what happens ---

    def due(self, alert_id: str) -> None:
        """Something happened to the alert: people may have to hear of it."""
        if self._channels.names or self._settings.guest:  # the guest app tells nobody: the app does
            self._ledger.work.escalation(alert_id, self._clock.now() + self._policy.escalation.gather)

    def heard(self, alerts: Iterable[str], kind: str, text: str) -> None:
        """Something was said that a person should see (`Notifier.tell`). It is kept with its alerts, so that
        their messages have it, unless the state of the alert says the same."""
        if not self._channels.names and not self._settings.guest:
            return
        about = list(dict.fromkeys(alerts))
        for one in about if kind not in SAID_BY_STATE else ():
            self._ledger.alerts.note(one, self._clock.now(), "notice", kind=kind, text=text[:500])
        for one in about or [NOTICES]:
            self.due(one)

    # --- telling ---

    def pack(self, alert_id: str) -> Pack:
        """The message as it would be now. Raises NotFound."""
        shown = self._dossier.of(alert_id)
        return make(shown, self._links(alert_id, investigated=bool(shown["investigation"])))

    def _links(self, alert_id: str, *, investigated: bool) -> dict[str, str]:
        """They lead to what there is to see, for who may see it, and approve nothing."""
        base, evidence = self._settings.links, folder_address(self._settings, alert_id)
        found = {"Timeline": f"{base}/api/alerts/{alert_id}"} if base else {}
        return found | ({"Evidence": evidence} if evidence and investigated else {})

    def follow(self, alert_id: str, deadline: Deadline) -> None:
        """Tell people of an alert, if there is something new. Raises temporary errors of the ledger."""
        if not self._channels.names:
            return
        if alert_id == NOTICES:
            self._tell_notices(deadline)
            return
        try:
            pack = self.pack(alert_id)
        except NotFound:
            return  # forgotten by the retention
        told = self._ledger.investigations.told(alert_id)
        if not pack.why and not told.version:
            return
        if pack.digest == told.digest:
            if not self._missing(told) or self._being_sent(alert_id, told):
                return
        else:
            if not set(pack.why) & set(URGENT) and not self._room():
                self._postpone(alert_id)
                return
            told = replace(
                told,
                version=told.version + 1,
                digest=pack.digest,
                at=self._clock.now(),
                arrived=(),
                attempts=0,
                said=pack.to_json(),
            )
        update = f" [update {told.version - 1}]" if told.version > 1 else ""
        title = f"{pack.severity}: {pack.title}{update}"
        self._send(
            alert_id,
            told,
            title,
            f"{pack.text()}\n\nAlert {alert_id}",
            pack.severity,
            pack.to_json(),
            deadline,
        )

    def _being_sent(self, alert_id: str, told: Told) -> bool:
        """Does another send it in this moment? Then it is looked at again when that must be over."""
        if told.until is None or told.until <= self._clock.now():
            return False
        self._ledger.work.escalation(alert_id, told.until)
        return True

    def _missing(self, told: Told) -> tuple[str, ...]:
        return tuple(n for n in self._channels.names if n not in told.arrived)

    def _send(self, alert_id: str, told: Told, title: str, text: str, severity: str,
              data: Mapping[str, Any], deadline: Deadline) -> None:
        """Recorded, sent, and where it has arrived recorded again."""
        try:
            told = self._ledger.investigations.save_told(
                alert_id, replace(told, until=self._clock.now() + SENDING))
        except Conflict:
            say(_log, "told-by-another", alerts=[alert_id])
            return
        event = {
            "specversion": "1.0",
            "id": f"{alert_id}:{told.version}",
            "type": EVENT_TYPE,
            "source": f"/defender-responder/{self._settings.deployment}",
            "subject": alert_id,
            "time": utc(told.at or self._clock.now()),
            "datacontenttype": "application/json",
            "data": data,
        }
        took = self._channels.try_all(self._missing(told), title, text, severity, event, deadline)
        told = replace(told, arrived=(*told.arrived, *took), attempts=told.attempts + 1, until=None)
        if self._missing(
            told
        ):  # the hint before the row: a crash between has it told twice, never not at all
            now = self._clock.now()
            wait = min(LONGEST_PAUSE, self._policy.escalation.gather * 2 ** min(told.attempts, 10))
            if now + wait - (told.at or now) > GIVE_UP:  # until there is news
                say(_log, "undelivered", alerts=[alert_id], level=logging.ERROR, version=told.version,
                    channels=self._missing(told))
            else:
                self._ledger.work.escalation(alert_id, now + wait)
        self._ledger.investigations.save_told(alert_id, told)
        say(_log, "told", alerts=[alert_id], version=told.version, arrived=len(told.arrived),
            of=len(self._channels.names))

    # --- many at once, and what concerns no alert ---

    def _room(self) -> bool:
        """Is this message within the hour's?"""
        most = self._policy.escalation.per_hour
        return self._ledger.control.reserve(MESSAGES, self._clock.now(), 1, most) > 0

    def _postpone(self, alert_id: str) -> None:
        """Too many in this hour: it is named with the others, and told by itself in the next."""
        now = self._clock.now()
        following = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        self._ledger.work.escalation(
            alert_id, following + self._policy.escalation.gather, postponed=True)
        self._ledger.work.escalation(NOTICES, now + self._policy.escalation.gather)

    def _tell_notices(self, deadline: Deadline) -> None:
        """What was said since the last time that concerns no alert, as one message; and how many alerts wait
        for the next hour."""
        now = self._clock.now()
        told = self._ledger.investigations.told(NOTICES)
        if self._being_sent(NOTICES, told):
            return
        known = set(told.said.get("known", ()))
        since = told.at - OVERLAP if told.at else None
        recent = [n for n in self._ledger.control.notices(since) if not n.get("alerts")]
        found = [n for n in recent if n["key"] not in known]
        lines = [f"{n['at'][:16].replace('T', ' ')} {n['kind']}: {shown(str(n['text']), 400)}"
                 for n in found[-MOST_TOGETHER:]]
        if len(found) > MOST_TOGETHER:
            lines.insert(0, f"{len(found) - MOST_TOGETHER} notices before these are in the ledger")
        waiting = self._ledger.work.postponed() if (
            told.at is None or lines or now - told.at > WAITING_EVERY) else 0
        if waiting:
            lines.append(
                f"{waiting} alerts have news, and the hour has had its "
                f"{self._policy.escalation.per_hour} messages: they follow in the next "
                "(python -m remediation pack ID)"
            )
        undelivered = list(told.said.get("lines", ())) if told.at and self._missing(told) else []
        if not lines and not undelivered:
            return
        if lines:
            keys = [n["key"] for n in recent if from_utc(n["at"]) > now - 2 * OVERLAP]
            lines = [*undelivered, *lines][-4 * MOST_TOGETHER:]
            told = replace(told, version=told.version + 1, at=now, arrived=(), attempts=0,
                           said={"lines": lines, "known": keys})
        lines = list(told.said["lines"])
        self._send(NOTICES, told, "Defender responder", "\n".join(lines), "low", {"lines": lines}, deadline)
