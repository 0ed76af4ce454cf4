"""The alert's way: recorded, looked at, planned, claimed, committed.

    receive   unwrap → normal form → hint → alert row                (then the event may be forgotten)
    carry_on  `survey.look`: confirmed with Defender → machines → guards → plan
              → questions asked → claims → the plan recorded, done → commit the NSGs

`carry_on` may stop anywhere and is begun again by the sweep: each step looks at what is recorded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from remediation.alerts import normalise, unwrap
from remediation.approvals import Approvals
from remediation.assess import Assessor
from remediation.clock import Clock, Deadline
from remediation.commit import Commit, Committed
from remediation.commit_queue import CommitQueue
from remediation.errors import (
    Conflict,
    MalformedAlert,
    NotFound,
    PermanentError,
    RemediationError,
    TemporaryError,
)
from remediation.gather import GatherBy
from remediation.investigator import Investigator
from remediation.ledger import AlertRecord, Approval, Block, Claim, Ledger
from remediation.ledger.alerts import AlertState
from remediation.ledger.store import LedgerDown
from remediation.log import say
from remediation.managed import network_of
from remediation.model import Alert, AlertDirection, BlockKey, BlockState, Plan, utc
from remediation.notify import Notifier
from remediation.settings import Settings
from remediation.survey import Decision, Survey
from remediation.topology import UNLISTED

_log = logging.getLogger(__name__)

MOST_IN_EVENT = 100
HOPS = {"generated": "generated", "event": "published", "received": "received"}
"""Times of an alert before it was decided, as a log line names them (`event` is the line's own word)."""
MOST_DOUBLINGS = 5
DONE_AT_MOST = 20_000
FEW = 4
MOST_NETWORKS = 20
COMMITS_AT_ONCE = 32
CLAIMS_TOGETHER = 50
"""In a storm the claims of so many alerts on one NSG are recorded together."""


@dataclass(slots=True)
class Seen:
    """What became of one delivered body."""

    alert_id: str = ""
    outcome: str = ""
    detail: str = ""


class _Done:
    """The alert bodies that this process knows to be done with: what comes again of them costs
    nothing. Done is for good, so nothing here can be out of date."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], None] = {}

    def __contains__(self, body: tuple[str, str]) -> bool:
        return body in self._known

    def add(self, body: tuple[str, str]) -> None:
        """Remember; the oldest are forgotten."""
        with self._lock:
            self._known[body] = None
            if len(self._known) > DONE_AT_MOST:
                del self._known[next(iter(self._known))]


class _UnderWay:
    """How many alerts this process is at. With many, what can wait waits for the sweep."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now -= 1

    @property
    def few(self) -> bool:
        """No storm."""
        return self._now <= FEW


class Responder:
    """One instance serves all triggers and threads."""

    def __init__(
        self, *, ledger: Ledger, survey: Survey, commit: Commit, queue: CommitQueue,
        approvals: Approvals, assessor: Assessor, investigator: Investigator, notifier: Notifier,
        settings: Settings, clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._survey = survey
        self._commit = commit
        self._queue = queue
        self._approvals = approvals
        self._assessor = assessor
        self._investigator = investigator
        self._under_way = _UnderWay()
        commit.alerts_wait = lambda: not self._under_way.few
        self._notifier = notifier
        self._settings = settings
        self._clock = clock
        self._done = _Done()
        self._at_once = ThreadPoolExecutor(COMMITS_AT_ONCE, "commit")
        self._claims: GatherBy[str, Sequence[Claim], list[Block]] = GatherBy(
            self._claim_together, CLAIMS_TOGETHER
        )

    # --- an alert arrives ---

    def on_event(
        self, data: Any, deadline: Deadline, *, event_id: str, event_time: datetime | None
    ) -> list[Seen]:
        """Everything in one event. Raises only if the ledger is down: the event must come again."""
        raws = unwrap(data)
        if len(raws) > MOST_IN_EVENT:
            return [self.quarantine(data, f"{len(raws)} alerts in one event; replay it in parts")]
        seen = [
            self.receive(raw, deadline, event_id=event_id, event_time=event_time) for raw in raws
        ]
        if not seen:
            seen = [self.quarantine(data, "the event holds no alert")]
        return seen

    def receive(
        self, raw: Any, deadline: Deadline, *, event_id: str = "",
        event_time: datetime | None = None, via: str = "event",
    ) -> Seen:
        """Record one body, then go as far as the budget allows."""
        now = self._clock.now()
        try:
            alert = normalise(raw)
        except MalformedAlert as error:
            return self.quarantine(raw, str(error))
        known = (alert.alert_id, alert.accusation())
        if known in self._done:
            return self._duplicate(alert)
        self._ledger.work.alert(*known, now + self._resume_after)
        record = self._ledger.alerts.receive(
            alert, raw, received=utc(now), via=via, eventId=event_id[:200],
            event=utc(event_time) if event_time else None,
        )
        if record is None:
            record = self._ledger.alerts.get(*known)
            if record is None:
                raise Conflict(f"alert {alert.alert_id} comes and goes")
            if record.state is AlertState.DONE:
                self._done.add(known)
                return self._duplicate(alert)
            if now - (record.time("received") or now) < self._patience:
                return Seen(alert.alert_id, "duplicate", "being worked on")
        if deadline.over:  # one of many in an event: the hint brings the sweep to it
            return Seen(alert.alert_id, "pending", "the budget ended")
        return self.resume(record, alert, deadline)

    @staticmethod
    def _duplicate(alert: Alert) -> Seen:
        say(_log, "duplicate", alerts=[alert.alert_id])
        return Seen(alert.alert_id, "duplicate", "known")

    @property
    def _resume_after(self) -> timedelta:
        """When the sweep looks at an alert that is not done."""
        return timedelta(seconds=self._settings.resume_seconds)

    @property
    def _patience(self) -> timedelta:
        """For so long another delivery of the same alert leaves it to the first."""
        return min(self._resume_after, timedelta(seconds=self._settings.budget_seconds + 5))

    def quarantine(self, raw: Any, reason: str) -> Seen:
        """Keep what cannot be read, and tell a human."""
        if self._ledger.alerts.quarantine(raw, reason, self._clock.now()):
            self._notifier.tell("quarantine", f"an alert cannot be read: {reason}")
        return Seen("", "quarantined", reason)

    def resume(self, record: AlertRecord, alert: Alert, deadline: Deadline) -> Seen:
        """carry_on, with errors sorted: the ledger's are raised, others are left to the sweep."""
        try:
            with self._under_way:
                return self.carry_on(record, alert, deadline)
        except LedgerDown:
            raise
        except TemporaryError as error:
            say(_log, "alert-left", alerts=[alert.alert_id], error=str(error))
            return Seen(alert.alert_id, "pending", str(error))
        except PermanentError as error:
            self._notifier.tell("alert-failed", f"alert {alert.alert_id}: {error}",
                                alerts=[alert.alert_id])
            self.finish(record, error=str(error)[:500])
            return Seen(alert.alert_id, "failed", str(error))

    def finish(self, record: AlertRecord, **facts: Any) -> AlertRecord | None:
        """The alert is done with, but for the commits its claims ask for → the record now, None if
        another has changed it."""
        try:
            record = self._ledger.alerts.update(record, state=AlertState.DONE.value, **facts)
            self._done.add((record.alert_id, record.accusation))
        except Conflict:
            say(_log, "finished-by-another", alerts=[record.alert_id])
            return None
        return record

    # --- from alert to claims ---

    def carry_on(self, record: AlertRecord, alert: Alert, deadline: Deadline) -> Seen:
        """Take the alert from wherever it stands to its commits."""
        storm = not self._under_way.few
        if self._survey.paused(storm=storm):
            self.hint_again(record)
            return Seen(alert.alert_id, "paused", "acting is paused")
        decision = self._survey.look(alert, deadline, override="", reserve=True, storm=storm)
        plan = decision.plan
        if self._done_under_its_own_id(decision.alert, alert):
            self.finish(record, error="")
            return Seen(alert.alert_id, "duplicate", f"it is {decision.alert.alert_id}")
        planned = self._clock.now()
        self._tell(alert, plan, record)
        keys = self.claim(decision, explicit=False, by="")
        self._look_at_firewalls(decision.alert, plan)
        looks = self._investigator.wanted(decision.alert, plan)
        if looks and not storm:  # else the alert's own hint announces it, when the sweep comes to it
            self._investigator.announce(alert.alert_id)
        done = self.finish(
            record, looks=looks or None, verified=utc(decision.verified), planned=utc(planned),
            claimed=utc(self._clock.now()) if keys else None, blind=blind(plan) or None,
            **self._ledger.alerts.plan_facts(plan),
        )
        if looks and storm:
            if done is None:  # another has changed the record meanwhile: it may not say so
                self._investigator.announce(alert.alert_id)
            elif record.attempts:  # its hint may have been put far off
                again = self._clock.now() + self._resume_after
                self._ledger.work.alert(record.alert_id, record.accusation, again)
        self.commit_all((k.nsg_id for k in keys), deadline)
        if done is not None and self._under_way.few and not deadline.over:
            done = self._assess(done, deadline)
            if looks:
                self._investigator.start(done, deadline)
        return Seen(alert.alert_id, plan.mode.value, f"{len(keys)} blocks claimed")

    def _look_at_firewalls(self, alert: Alert, plan: Plan) -> None:
        """A machine that speaks with a command and control centre got out somewhere: have the sweep look at
        the firewalls of its network."""
        if alert.direction is not AlertDirection.OUTBOUND_C2 or alert.is_sample or alert.closed:
            return
        networks = {network_of(n.subnet_id) for m in plan.machines for n in m.nics} - {""}
        for network in sorted(networks)[:MOST_NETWORKS]:
            self._ledger.work.network(network, self._clock.now())

    def _assess(self, record: AlertRecord, deadline: Deadline) -> AlertRecord:
        """The blocks stand; what cannot be found out now, the sweep looks for → the record now."""
        try:
            return self._assessor.assess(record, deadline)
        except LedgerDown:
            raise
        except RemediationError as error:
            say(_log, "assessment-left", alerts=[record.alert_id], error=str(error))
        return record

    def _done_under_its_own_id(self, held: Alert, delivered: Alert) -> bool:
        """A body with an id of its own that leads to another alert: that one may be done with."""
        if held.alert_id == delivered.alert_id:
            return False
        own = self._ledger.alerts.get(held.alert_id, held.accusation())
        return own is not None and own.state is AlertState.DONE

    def hint_again(self, record: AlertRecord) -> None:
        """Have the sweep look at the alert again, later with every attempt."""
        wait = self._resume_after * 2 ** min(record.attempts, MOST_DOUBLINGS)
        self._ledger.work.alert(record.alert_id, record.accusation, self._clock.now() + wait)

    def _tell(self, alert: Alert, plan: Plan, record: AlertRecord) -> None:
        hops: dict[str, Any] = {
            said: utc(at) for name, said in HOPS.items() if (at := record.time(name)) is not None}
        say(_log, "decided", alerts=[alert.alert_id], mode=plan.mode.value, type=alert.alert_type, **hops,
            verdict=plan.verdict.value, machines=len(plan.machines), reasons=plan.reasons,
            blocks=[[b.key.nsg_id, b.key.direction.value, b.key.address, b.ask]
                    for b in plan.blocks[:50]],
            skipped=[[s.address or s.resource_id, s.reason] for s in plan.skipped[:50]])
        for notice in plan.notices:
            self._notifier.tell("alert", f"{alert.display_name or alert.alert_type}: {notice}",
                                alerts=[alert.alert_id], severity=alert.severity)
        if plan.skipped and not plan.notices:  # a guardrail stopped something: its message says so
            self._notifier.heard([alert.alert_id], "alert", "")

    def claim(self, decision: Decision, *, explicit: bool, by: str) -> list[BlockKey]:
        """Ask what is to be asked, then record the claims, one NSG after the other → what is
        pending now."""
        plan, alert = decision.plan, decision.alert
        if not plan.acts:
            return []
        claims = [
            Claim(b.key, plan.alert_id, alert.alert_type, b.lifetime, b.decisive, b.targets, b.ask,
                  explicit, by, at=decision.verified)
            for b in plan.blocks
        ]
        asking = [c for c in claims if c.asks]
        question = self._approvals.ask(
            plan.alert_id, asking, salt=plan.verdict.value) if asking else ""
        pending: list[BlockKey] = []
        by_nsg: dict[str, list[Claim]] = {}
        for claim in claims:
            by_nsg.setdefault(claim.key.nsg_id, []).append(
                replace(claim, question=question) if claim.asks else claim)
        for nsg_id, claims in by_nsg.items():
            changed = self._claims(nsg_id, claims)
            pending += [b.key for b in changed if b.state is BlockState.PENDING]
            for one in changed:
                say(_log, "claimed", alerts=[plan.alert_id], state=one.state.value, nsg=nsg_id,
                    direction=one.key.direction.value, address=one.key.address)
        return pending

    def _claim_together(self, nsg_id: str, several: Sequence[Sequence[Claim]]) -> list[list[Block]]:
        """The claims of all alerts at hand on one NSG: one hint, one transaction → what changed, by
        alert."""
        now = self._clock.now()
        self._ledger.work.nsg_soon(nsg_id, now, self._resume_after / 2)
        results = iter(self._ledger.blocks.claim(nsg_id, [c for one in several for c in one], now))
        return [[b for _ in one if (b := next(results)) is not None] for one in several]

    def commit_nsg(
        self, nsg_id: str, deadline: Deadline, *, forced: bool = False
    ) -> Committed:
        """Commit now; what is left over goes to the commit queue, to be taken up when Azure said."""
        result = self._commit.run(nsg_id, deadline, forced=forced)
        if result.left:
            self._queue.send(nsg_id, result.wait)
        if result.moved_to:
            self._queue.send(result.moved_to)
        return result

    def commit_all(self, nsg_ids: Iterable[str], deadline: Deadline) -> list[Committed]:
        """Commit several NSGs, many at a time: one waits for Azure, not for the others."""
        once = list(dict.fromkeys(nsg_ids))
        if len(once) < 2:
            return [self.commit_nsg(one, deadline) for one in once]
        return list(self._at_once.map(lambda one: self.commit_nsg(one, deadline), once))

    def carry_out(self, approval_id: str, deadline: Deadline) -> list[BlockKey]:
        """Make an answered question's blocks pending (approved) or end them (rejected, expired); or have the
        steps it is about go on."""
        approval = self._ledger.control.approval(approval_id)
        if approval is None:
            raise NotFound(f"no question {approval_id}")
        if approval.carried_out:
            return []
        if approval.tasks:
            self._investigator.answered(approval)
            return []
        if approval.state == "approved":
            touched = self._claim_approved(approval)
        else:
            touched = [c.key for c in approval.claims if self._end_unanswered(approval, c.key)]
        self._ledger.control.carried_out(approval)
        if approval.state == "approved":
            self._ledger.watch_again(approval.alert_id, self._clock.now())
            self.commit_all((k.nsg_id for k in touched), deadline)
        return touched

    def _claim_approved(self, approval: Approval) -> list[BlockKey]:
        """The question's claims, made anew by the person who approved them; not those that a
        person revoked after the answer, nor those that an interrupted attempt has made."""
        holds = self._ledger.control.wishes()[1]
        by_nsg: dict[str, list[Claim]] = {}
        for claim in approval.claims:
            hold = holds.get(claim.key.address)
            revoked = hold is not None and approval.decided is not None and (
                hold.since > approval.decided)
            if revoked or self._made(approval, claim.key):
                continue
            self._note_answer(approval, claim.key)
            by_nsg.setdefault(claim.key.nsg_id, []).append(
                replace(claim, asks=(), explicit=True, approved_by=approval.decided_by,
                        question=approval.id))
        for nsg_id, claims in by_nsg.items():
            self._claims(nsg_id, claims)
        return [c.key for claims in by_nsg.values() for c in claims]

    def _made(self, approval: Approval, key: BlockKey) -> bool:
        """The block remembers the question by which it was claimed."""
        block = self._ledger.blocks.get(key)
        return block is not None and block.state is not BlockState.WAITING and (
            block.question == approval.id)

    def _end_unanswered(self, approval: Approval, key: BlockKey) -> bool:
        """A no, or no answer: the block ends if it still waits for this question and no other."""
        block = self._ledger.blocks.get(key)
        if block is None or block.state is not BlockState.WAITING or block.question != approval.id:
            return False
        self._note_answer(approval, key)
        saved, _ = self._ledger.blocks.save([replace(
            block, state=BlockState.REVOKED, ended=self._clock.now(),
            revoked_by=approval.decided_by or approval.state,
            revoke_reason=approval.reason or approval.state,
        )])
        for one in saved:
            self._ledger.blocks.end(one)
        return bool(saved)

    def _note_answer(self, approval: Approval, key: BlockKey) -> None:
        self.note([approval.alert_id], approval.state, by=approval.decided_by,
                  reason=approval.reason, block=key.id, nsg=key.nsg_id,
                  direction=key.direction.value, address=key.address)

    def note(self, alerts: Iterable[str], action: str, **facts: Any) -> None:
        """An action in the timeline of each of these alerts."""
        at = self._clock.now()
        for alert_id in alerts:
            self._ledger.alerts.note(alert_id, at, action, **facts)


def blind(plan: Plan) -> bool:
    """Was the list of application gateways missing when the machines were looked at?"""
    return any(UNLISTED in n.hidden for m in plan.machines for n in m.nics)
