"""An alert that was looked at while the application gateways before its machines were not to be listed.

Its blocks are judged anew by what is known now, and keep their term. Nothing is claimed: a gateway that was
found is told to people, who may replay the alert.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

from remediation.clock import Clock, Deadline
from remediation.cloud.trace import Tracer
from remediation.errors import Unfinished
from remediation.ledger import AlertRecord, Block, Ledger
from remediation.log import say
from remediation.model import BlockKey, Direction
from remediation.notify import Notifier
from remediation.responder import Responder
from remediation.settings import Settings

_log = logging.getLogger(__name__)


class SecondLook:
    """One instance serves all threads."""

    def __init__(
        self, *, ledger: Ledger, tracer: Tracer, responder: Responder, notifier: Notifier,
        settings: Settings, clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._tracer = tracer
        self._responder = responder
        self._notifier = notifier
        self._settings = settings
        self._clock = clock

    def take(self, record: AlertRecord, deadline: Deadline) -> None:
        """Raises Unfinished while there is no more to be known, or the blocks keep changing. Who is
        interrupted has left hints for the NSGs whose blocks it changed; people may be told twice."""
        changed: dict[str, list[Block]] = {}
        found: set[str] = set()
        for block in self._live(record):
            targets = self._tracer.fronts_of(block.targets, deadline)
            if targets is None:
                raise Unfinished("the application gateways are not to be listed still")
            if targets != block.targets:
                changed.setdefault(block.key.nsg_id, []).append(replace(block, targets=targets))
                found |= {new.hidden for new, old in zip(targets, block.targets, strict=True)
                          if new.hidden not in old.hidden}
        say(_log, "looked-again", alerts=[record.alert_id], nsgs=list(changed), found=sorted(found))
        if found:
            self._tell(record, found)
        again = self._clock.now() + timedelta(seconds=self._settings.resume_seconds)
        for nsg_id, blocks in changed.items():
            self._ledger.work.recheck(nsg_id, again)
            if self._ledger.blocks.save(blocks)[1]:
                raise Unfinished("its blocks were changed meanwhile")
        self._responder.commit_all(changed, deadline)
        self._responder.finish(record, blind=False)

    def _live(self, record: AlertRecord) -> list[Block]:
        """The live blocks that the alert's plan names."""
        planned = (self._ledger.alerts.plan(record) or {}).get("blocks") or ()
        keys = [BlockKey(p["nsg"], Direction(p["direction"]), p["address"]) for p in planned]
        return [b for k in keys if (b := self._ledger.blocks.get(k)) is not None]

    def _tell(self, record: AlertRecord, found: set[str]) -> None:
        name = record.values.get("displayName") or record.values.get("alertType")
        self._notifier.tell(
            "alert", f"{name}: before its machines stands {'; '.join(sorted(found))}: replay the alert to "
            "stop the attacker there, too", alerts=[record.alert_id],
            severity=str(record.values.get("severity") or ""))
