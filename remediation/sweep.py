"""The sweep: follow every hint that is due (lift, finish, retry), then the jobs that are.

It costs what is due, not what exists. Two drivers keep it going: the timer, and any other trigger
that finds it overdue.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from remediation.alerts import normalise
from remediation.assess import Assessor
from remediation.clock import Clock, Deadline
from remediation.cloud.defender import Defender
from remediation.cloud.graph import Graph
from remediation.commit import Commit, needs_commit
from remediation.errors import Conflict, MalformedAlert, RemediationError
from remediation.escalation import Escalation
from remediation.investigator import Investigator
from remediation.ledger import AlertRecord, Hint, Ledger
from remediation.ledger.alerts import AlertState
from remediation.ledger.store import LedgerDown
from remediation.ledger.work import (
    ALERT,
    APPROVAL,
    ESCALATION,
    FIREWALL,
    INVESTIGATION,
    NSG,
    RECHECK,
    ROGUE,
    SELFTEST,
)
from remediation.log import say
from remediation.model import utc
from remediation.notify import Notifier
from remediation.owned import Ownership
from remediation.policy import Policy
from remediation.responder import Responder
from remediation.rogues import Removal, Watch
from remediation.rogues.desk import SCAN
from remediation.second_look import SecondLook
from remediation.selftest import DAILY, FORWARDING, SelfTest
from remediation.settings import Settings
from remediation.surroundings import SurroundingsReader

_log = logging.getLogger(__name__)

ATTEMPTS = 10
GIVE_UP = timedelta(days=3)
"""An alert that cannot be worked on is tried, ever less often, for so long at least."""
BATCH = 500
THREADS = 48
"""They wait for Azure: so many NSGs are lifted at once."""
OVERDUE = 2.5
AGAIN_UNTIL, AGAIN = timedelta(hours=6), (timedelta(minutes=1), timedelta(minutes=10))
ORPHAN_SCAN = timedelta(days=1)
CHECK_FORWARDING = timedelta(hours=1)
TEST_EVERY = timedelta(hours=20)
"""Twice and more within the two days that the alert rule looks back."""
CLEAN_UP = timedelta(days=1)
LONGEST_LIFE = timedelta(days=31)
"""No block lives longer, so no watch over one does."""
LATE = timedelta(days=3)
"""Defender generates alerts up to three days after the activity (measured on real ones)."""


@dataclass(slots=True)
class Swept:
    """What a sweep did. `oldest`: for so many seconds the oldest work on an NSG was due."""

    followed: int = 0
    committed: int = 0
    lifted: int = 0
    resumed: int = 0
    missed: int = 0
    left: int = 0
    oldest: float = 0.0
    jobs: list[str] = field(default_factory=list)


class Sweep:
    """One instance serves all triggers and threads."""

    def __init__(
        self, *, responder: Responder, second_look: SecondLook, investigator: Investigator,
        escalation: Escalation, commit: Commit, watch: Watch, removal: Removal, selftest: SelfTest,
        ledger: Ledger,
        defender: Defender, graph: Graph, surroundings: SurroundingsReader, assessor: Assessor,
        notifier: Notifier, policy: Policy, ownership: Ownership, settings: Settings, clock: Clock,
    ) -> None:
        self._responder = responder
        self._second_look = second_look
        self._investigator = investigator
        self._escalation = escalation
        self._commit = commit
        self._watch = watch
        self._removal = removal
        self._selftest = selftest
        self._ledger = ledger
        self._defender = defender
        self._graph = graph
        self._surroundings = surroundings
        self._assessor = assessor
        self._notifier = notifier
        self._policy = policy
        self._ownership = ownership
        self._settings = settings
        self._clock = clock
        self._swept_at = clock.now()

    def budget(self) -> Deadline:
        """The time one timer-driven sweep may take: until shortly before the next."""
        return Deadline.after(self._clock, max(10.0, self._settings.sweep_seconds * 0.9))

    def if_overdue(self, deadline: Deadline) -> bool:
        """The second driver: any trigger runs a short sweep if the timer seems to have stopped → did it?"""
        now = self._clock.now()
        late = timedelta(seconds=self._settings.sweep_seconds * OVERDUE)
        if now - self._swept_at < late or deadline.over:
            return False
        try:
            last = self._ledger.control.last_job("sweep") or self._swept_at
            self._swept_at = max(last, self._swept_at)
            if now - last >= late:
                say(_log, "sweep-overdue", level=logging.WARNING, last=utc(last))
                self.run(deadline)
                return True
        except RemediationError as error:  # the trigger's own work is done, and its answer stands
            say(_log, "sweep-overdue", level=logging.WARNING, error=str(error))
        return False

    def run(self, deadline: Deadline) -> Swept:
        """Follow every hint that is due, then the jobs that are. Never raises for one bad hint."""
        now = self._clock.now()
        self._ledger.control.begin_job("sweep", now, timedelta(0))
        self._swept_at = now
        result = Swept()
        while not deadline.over:
            hints = self._ledger.work.due(self._clock.now(), BATCH)
            if not hints:
                break
            waited = [(now - h.at).total_seconds() for h in hints if h.kind == NSG]
            result.oldest = round(max((result.oldest, *waited)), 1)
            result.followed += len(hints)
            with ThreadPoolExecutor(THREADS, "sweep") as pool:
                list(pool.map(lambda h: self._follow(h, deadline, result), hints))
            if len(hints) < BATCH:
                break
        self._jobs(deadline, result)
        say(_log, "sweep", **asdict(result))  # always: that none comes is what people are woken for
        return result

    def _follow(self, hint: Hint, deadline: Deadline, result: Swept) -> None:
        """Follow one hint; take it away only when what it points to is done or has a new one. None
        may use up the whole sweep."""
        if deadline.over:
            result.left += 1
            return
        deadline = deadline.within(self._settings.budget_seconds)
        try:
            if hint.kind == NSG:
                self._follow_nsg(hint.id, deadline, result)
            elif hint.kind == RECHECK:
                self._recheck(hint.id, deadline, result)
            elif hint.kind == ALERT:
                self._follow_alert(hint, deadline, result)
            elif hint.kind == APPROVAL:
                self._follow_approval(hint.id, deadline)
            elif hint.kind == FIREWALL:
                self._watch.follow(hint.id, hint.at, hint.values, deadline)
            elif hint.kind == ROGUE:
                self._removal.go_on(hint.id, deadline)
            elif hint.kind == INVESTIGATION:
                self._investigator.follow(hint.id, deadline)
            elif hint.kind == ESCALATION:
                self._escalation.follow(hint.id, deadline)
            elif hint.kind == SELFTEST:
                self._selftest.follow(hint.id, deadline)
            self._ledger.work.done(hint)
        except RemediationError as error:
            result.left += 1
            say(_log, "hint-left", level=logging.WARNING, kind=hint.kind, id=hint.id,
                error=str(error), alerts=[hint.id] if hint.kind == ALERT else ())
        except Exception:  # noqa: BLE001 - one hint's fault must not keep other blocks from being lifted
            result.left += 1
            _log.exception("hint %s %s is left", hint.kind, hint.id)

    def _recheck(self, nsg_id: str, deadline: Deadline, result: Swept) -> None:
        done = self._responder.commit_nsg(nsg_id, deadline, forced=True)
        result.committed += done.held
        if not done.held:
            again = timedelta(seconds=self._settings.lease_seconds + 2)
            self._ledger.work.recheck(nsg_id, self._clock.now() + again)

    def _follow_nsg(self, nsg_id: str, deadline: Deadline, result: Swept) -> None:
        now = self._clock.now()
        if not self._commit.busy(nsg_id):  # else it is called out to, and nothing need be read
            blocks = self._ledger.blocks.live(nsg_id)
            drift = timedelta(seconds=self._settings.drift_seconds)
            checked = self._ledger.leases.checked(nsg_id)
            if not needs_commit(blocks, checked, now, drift):
                self._commit.schedule(nsg_id, blocks)
                return
        done = self._responder.commit_nsg(nsg_id, deadline)
        if not done.held:
            # Another is at it, or died at it: this hint goes only when a later one stands.
            self._commit.look_at(nsg_id, now + timedelta(seconds=self._settings.lease_seconds + 2))
        result.committed += done.held
        result.lifted += done.lifted
        result.left += done.left

    def _follow_alert(self, hint: Hint, deadline: Deadline, result: Swept) -> None:
        alert_id = str(hint.values.get("alert", ""))
        record = self._ledger.alerts.get(alert_id, str(hint.values.get("accusation", "")))
        if record is None:
            return
        if record.state is AlertState.DONE:
            self._investigator.announce_late(record)
            self._go_on(record, deadline)
            return
        if self._ledger.control.paused():
            self._responder.hint_again(record)
            return
        now = self._clock.now()
        if record.attempts >= ATTEMPTS and now - (record.time("received") or now) > GIVE_UP:
            self._notifier.tell(
                "alert-failed", f"alert {alert_id}: given up after {record.attempts} attempts; replay "
                "it when the cause is mended", alerts=[alert_id])
            self._responder.finish(record, error="given up")
            return
        try:
            alert = normalise(self._ledger.alerts.raw(record))
        except MalformedAlert as error:  # it was readable when it came
            self._notifier.tell(
                "alert-failed", f"alert {alert_id}: its record cannot be read any more: {error}; "
                "replay it", alerts=[alert_id])
            self._responder.finish(record, error=str(error)[:500])
            return
        self._responder.hint_again(record)
        try:
            record = self._ledger.alerts.update(record, attempts=record.attempts + 1)
        except Conflict:
            return
        result.resumed += 1
        self._responder.resume(record, alert, deadline)

    def _go_on(self, record: AlertRecord, deadline: Deadline) -> None:
        """What a storm or an error left of an alert that is done: tried for as long as it helps anyone."""
        now = self._clock.now()
        age = now - (record.time("received") or now)
        left = False
        for what in (self._assess, self._look_again):
            try:
                record = what(record, deadline)
            except LedgerDown:
                raise
            except RemediationError as error:
                left = True
                say(_log, "alert-left", alerts=[record.alert_id], error=str(error))
        if left and age < AGAIN_UNTIL:  # later: others must not wait behind it
            wait = min(AGAIN[1], max(AGAIN[0], age))
            self._ledger.work.alert(record.alert_id, record.accusation, now + wait)
        elif left and record.values.get("blind"):
            self._notifier.tell(
                "alert-failed", f"alert {record.alert_id}: which application gateways stand before its "
                "machines was not to be known for hours; replay it when Resource Graph answers",
                alerts=[record.alert_id])

    def _assess(self, record: AlertRecord, deadline: Deadline) -> AlertRecord:
        return self._assessor.assess(record, deadline)

    def _look_again(self, record: AlertRecord, deadline: Deadline) -> AlertRecord:
        if record.values.get("blind"):
            self._second_look.take(record, deadline)
        return record

    def _follow_approval(self, approval_id: str, deadline: Deadline) -> None:
        """Finish an answer that was interrupted; close a question nobody answered in time."""
        approval = self._ledger.control.approval(approval_id)
        if approval is None:
            return
        if approval.state == "open":
            if approval.expires > self._clock.now():
                return
            answer = "not answered in time"
            if not self._ledger.control.decide(
                approval, "expired", "nobody", answer, self._clock.now()
            ):
                return
            self._notifier.tell("approval", f"question {approval_id} expired unanswered",
                               alerts=[approval.alert_id])
            approval = self._ledger.control.approval(approval_id) or approval
        self._responder.carry_out(approval_id, deadline)

    # --- jobs ---

    def _jobs(self, deadline: Deadline, result: Swept) -> None:
        jobs: Sequence[tuple[str, timedelta, Any]] = (
            ("reconcile", timedelta(seconds=self._settings.reconcile_seconds),
             lambda: self.reconcile(deadline, result)),
            ("estate", self._policy.guardrails.estate_max_age / 8,
             lambda: self._surroundings.refresh(deadline)),
            ("orphans", ORPHAN_SCAN, lambda: self._scan_orphans(deadline)),
            (SCAN, self._policy.firewall.scan, lambda: self._watch.everywhere(deadline)),
            ("retention", min(CLEAN_UP, self._retention / 20), lambda: self._clean_up(deadline)),
            *self._rehearsals(deadline),
        )
        for name, every, run in jobs:
            if deadline.over or not self._ledger.control.begin_job(name, self._clock.now(), every):
                continue
            try:
                run()
                result.jobs.append(name)
            except RemediationError as error:
                say(_log, "job-failed", level=logging.WARNING, job=name, error=str(error))
            except Exception:  # noqa: BLE001 - one job's fault must not stop the others
                _log.exception("job %s failed, it comes again", name)

    def _rehearsals(self, deadline: Deadline) -> Sequence[tuple[str, timedelta, Any]]:
        if not self._selftest.wanted(deadline):
            return ()
        return (
            (FORWARDING, CHECK_FORWARDING, lambda: self._selftest.check_forwarding(deadline)),
            (DAILY, TEST_EVERY, lambda: self._selftest.daily(deadline)),
        )

    def reconcile(self, deadline: Deadline, result: Swept) -> None:
        """Alerts that Defender holds and that never reached us enter the normal path."""
        for raw in self._defender.since(self._clock.now() - LATE, deadline):
            if deadline.over:
                return
            try:
                alert = normalise(raw)
            except MalformedAlert as error:
                self._responder.quarantine(dict(raw), str(error))
                continue
            if self._ledger.alerts.get(alert.alert_id, alert.accusation()) is not None:
                continue
            result.missed += 1
            say(_log, "missed", alerts=[alert.alert_id], level=logging.WARNING)
            self._responder.receive(dict(raw), deadline, via="reconcile")

    def _scan_orphans(self, deadline: Deadline) -> None:
        """Guards with rules that bear our name though no block lives there: a commit adopts what the
        ledger does not know. Those with blocks are looked at for drift anyway."""
        for row in self._graph.rows("owned_rules", deadline, prefix=self._ownership.prefix,
                                    waf=self._ownership.waf_name(4)[:-1]):
            nsg_id = str(row.get("id", "")).lower()
            if nsg_id and not self._ledger.blocks.live(nsg_id):
                self._ledger.work.recheck(nsg_id, self._clock.now())

    def _clean_up(self, deadline: Deadline) -> None:
        """Forget what is older than the retention; what is left when the time is over, the next
        sweep goes on with."""
        before = self._clock.now() - self._retention

        def over() -> bool:
            return deadline.over

        count = (
            self._ledger.alerts.forget(before, over)
            + self._ledger.blocks.forget_ended(before, over)
            + self._ledger.control.forget(before, over)
            + self._ledger.firewall.forget(before, over)
            + self._ledger.investigations.forget(before - LONGEST_LIFE, over)
            + self._ledger.selftests.forget(before, over)
        )
        if deadline.over:
            self._ledger.control.unfinished_job("retention")
        if count:
            say(_log, "retention", rows=count, older_than=utc(before), left=deadline.over)

    @property
    def _retention(self) -> timedelta:
        return timedelta(days=self._settings.retention_days)
