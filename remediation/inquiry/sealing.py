"""The end of an investigation: its evidence is sealed, and the alert resolved where the policy says so."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from remediation.clock import Deadline
from remediation.errors import Conflict, PermanentError, TemporaryError
from remediation.inquiry.parts import EVERY_HINT, SERVICE, WATCH, Inquiries
from remediation.investigation.seals import START, manifest, name_of
from remediation.investigation.task import SETTLED, Task, TaskState, Weight
from remediation.ledger import Head
from remediation.log import say
from remediation.model import BlockKey, BlockState, Direction, Mode, utc

_log = logging.getLogger(__name__)

CLOSE_SECONDS = 10.0
OVER = (BlockState.LIFTED, BlockState.REVOKED)


class Sealing:
    """One instance serves all threads."""

    def __init__(self, parts: Inquiries) -> None:
        self._parts = parts
        self._ledger = parts.ledger
        self._kept = parts.ledger.investigations

    def settle(self, alert_id: str) -> None:
        """When nothing runs any more, the evidence is sealed, and people hear of it."""
        tasks = self._kept.tasks(alert_id)
        if any(t.state not in SETTLED for t in tasks if t.step != WATCH):
            return
        head = self._kept.head(alert_id)
        if head is None or head.redo:
            return
        sealed = {name for one in head.sealed for name, _ in one["files"]}
        fresh = sorted((e for t in tasks for e in t.evidence if e[0] not in sealed), key=lambda e: e[0])
        now = self._parts.clock.now()
        if fresh:
            entry = {"number": head.manifests + 1, "previous": head.seal or START, "made": utc(now),
                     "files": [list(e) for e in fresh]}
            _, seal = _manifest(alert_id, entry)
            head = replace(head, manifests=head.manifests + 1, seal=seal, sealed=(*head.sealed, entry))
        if fresh or head.ended is None:
            try:
                head = self._kept.save_head(replace(head, ended=head.ended or now))
            except Conflict:
                return  # another ends it in this moment
            self._ledger.alerts.note(alert_id, now, "investigated", machines=len(head.machines),
                                     manifests=head.manifests, seal=head.seal)
            self._parts.escalation.due(alert_id)
        self._write(head)
        if self._parts.policy.inquiry.resolve and not self._parts.settings.guest:
            self._close(alert_id, tasks)

    def _write(self, head: Head) -> None:
        """The manifests, from the ledger to the evidence; what cannot be written now, the sweep writes."""
        for entry in head.sealed[head.written:]:
            number = int(entry["number"])
            try:
                if not self._parts.tools.store.keep_as(
                        head.alert_id, name_of(number), _manifest(head.alert_id, entry)[0]):
                    self._parts.notifier.tell(
                        "evidence",
                        f"{name_of(number)} is there already, with other content: the evidence of an "
                        "earlier investigation, or somebody's",
                        alerts=[head.alert_id],
                    )
                head = self._kept.save_head(replace(head, written=number))
            except Conflict:
                return  # another writes them
            except (TemporaryError, PermanentError) as error:
                say(_log, "manifest-left", alerts=[head.alert_id], level=logging.WARNING, error=str(error))
                self._ledger.work.investigation(head.alert_id, self._parts.clock.now() + EVERY_HINT)
                return

    def _close(self, alert_id: str, tasks: Sequence[Task]) -> None:
        """Resolve the alert in Defender: it had blocks and all have ended, every step has, something was
        really looked at, and nothing failed or speaks for a machine that is compromised."""
        over = bool(tasks) and all(t.state in (TaskState.DONE, TaskState.SKIPPED) for t in tasks)
        looked = any(t.state is TaskState.DONE for t in tasks if t.step != WATCH and t.machine)
        grave = any(s.weight is not Weight.NOTE for t in tasks for s in t.signs)
        if not over or not looked or grave or self._parts.settings.mode.reach < Mode.APPROVE.reach:
            return
        head = self._kept.head(alert_id)
        if head is None or head.closed or not head.trusted or not self._blocks_over(alert_id) or (
                self._ledger.control.paused()):
            return
        alert = self._parts.alert(head)
        if alert is None or alert.ref is None or alert.closed:
            return
        now = self._parts.clock.now()
        try:
            self._parts.tools.defender.resolve(alert.ref, Deadline.after(self._parts.clock, CLOSE_SECONDS))
            self._kept.save_head(replace(head, closed=now))
        except Conflict:
            return  # another resolves it in this moment
        except PermanentError as error:
            self._parts.notifier.tell("not-resolved", f"the alert cannot be resolved in Defender: {error}",
                                      alerts=[alert_id])
            self._kept.save_head(replace(head, closed=now))
            return
        except TemporaryError as error:
            say(_log, "not-resolved", alerts=[alert_id], level=logging.WARNING, error=str(error))
            self._ledger.work.investigation(alert_id, now + EVERY_HINT)
            return
        self._ledger.alerts.note(alert_id, now, "resolved", by=SERVICE,
                                 reason="all steps and blocks have ended")

    def _blocks_over(self, alert_id: str) -> bool:
        """Did the alert have blocks, and has each ended?"""
        planned = self._ledger.alerts.whole_plan(self._ledger.alerts.bodies(alert_id)).get("blocks") or []
        blocks = [self._ledger.blocks.latest(BlockKey(b["nsg"], Direction(b["direction"]), b["address"]))
                  for b in planned]
        return bool(blocks) and all(b is not None and b.state in OVER for b in blocks)


def _manifest(alert_id: str, entry: Mapping[str, Any]) -> tuple[bytes, str]:
    """As it was planned in the ledger: the same bytes however often it is made."""
    files = [(str(f[0]), str(f[1])) for f in entry["files"]]
    return manifest(alert_id, int(entry["number"]), str(entry["previous"]), files,
                    datetime.fromisoformat(str(entry["made"])))
