"""The shell: carries plans out. on_alert, sweep, and what operators ask for.

    receive   unwrap → normal form → hint → alert row                (then the event may be forgotten)
    carry_on  confirm with Defender → machines → guards → decide → plan recorded
              → questions asked → claims → done → commit each NSG
    sweep     follow every hint that is due; lift, finish, retry; now and then reconcile

`carry_on` may stop anywhere and is begun again by the sweep: each step looks at what is recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from remediation.alerts import normalise, unwrap
from remediation.approvals import Approvals
from remediation.clock import Clock, Deadline, bucket
from remediation.cloud.defender import Defender, Held
from remediation.cloud.graph import Graph
from remediation.cloud.machines import Machines
from remediation.cloud.network import Network
from remediation.commit import Commit, Committed, needs_commit
from remediation.commit_queue import CommitQueue
from remediation.errors import (
    Conflict,
    MalformedAlert,
    NotFound,
    PermanentError,
    RemediationError,
    TemporaryError,
)
from remediation.ledger import AlertRecord, Claim, Hint, Ledger
from remediation.ledger.alerts import AlertState
from remediation.ledger.store import LedgerDown
from remediation.ledger.work import ALERT, APPROVAL, NSG
from remediation.model import Alert, BlockKey, BlockState, Mode, Plan, Verdict, utc
from remediation.notify import Notifier
from remediation.nsg import Nsg, Ownership
from remediation.plan import Scene, decide
from remediation.policy import Policy
from remediation.settings import Settings
from remediation.surroundings import SurroundingsReader

_log = logging.getLogger(__name__)

ATTEMPTS = 10
MOST_IN_EVENT = 100
SWEEP_BATCH = 500
SWEEP_THREADS = 8
OVERDUE = 2.5
ORPHAN_SCAN = timedelta(days=1)
CLEAN_UP = timedelta(days=1)
LATE = timedelta(days=3)
"""Defender generates alerts up to three days after the activity (measured on real ones)."""


@dataclass(slots=True)
class Seen:
    """What became of one delivered body."""

    alert_id: str = ""
    outcome: str = ""
    detail: str = ""


@dataclass(slots=True)
class Decision:
    """An alert looked at: what Defender says, what would be done, and on which guards."""

    alert: Alert
    held: Held
    plan: Plan
    nsgs: Mapping[str, Nsg]
    verified: datetime


@dataclass(slots=True)
class Swept:
    """What a sweep did."""

    followed: int = 0
    committed: int = 0
    lifted: int = 0
    resumed: int = 0
    missed: int = 0
    left: int = 0
    jobs: list[str] = field(default_factory=list)


class Responder:
    """One instance serves all triggers and threads."""

    def __init__(
        self, *, ledger: Ledger, defender: Defender, machines: Machines, network: Network,
        graph: Graph, surroundings: SurroundingsReader, commit: Commit, queue: CommitQueue,
        approvals: Approvals, notifier: Notifier, policy: Policy, ownership: Ownership,
        settings: Settings, clock: Clock,
    ) -> None:
        self.ledger = ledger
        self.policy = policy
        self.clock = clock
        self.settings = settings
        self.ownership = ownership
        self.defender = defender
        self.commit = commit
        self.notifier = notifier
        self._machines = machines
        self._network = network
        self._graph = graph
        self._surroundings = surroundings
        self._queue = queue
        self._approvals = approvals
        self._swept_at: datetime | None = None

    def budget(self) -> Deadline:
        """The time one trigger may take."""
        return Deadline.after(self.clock, self.settings.budget_seconds)

    def sweep_budget(self) -> Deadline:
        """The time one timer-driven sweep may take: until shortly before the next."""
        return Deadline.after(self.clock, max(10.0, self.settings.sweep_seconds * 0.9))

    def ping_graph(self, deadline: Deadline) -> None:
        """Does Resource Graph answer us?"""
        self._graph.rows("ping", deadline)

    # --- an alert arrives ---

    def on_event(self, data: Any, *, event_id: str, event_time: datetime | None) -> list[Seen]:
        """Everything in one event. Raises only if the ledger is down: the event must come again."""
        deadline = self.budget()
        raws = unwrap(data)
        if len(raws) > MOST_IN_EVENT:
            return [self._quarantine(data, f"{len(raws)} alerts in one event; replay it in parts")]
        seen = [
            self.receive(raw, deadline, event_id=event_id, event_time=event_time) for raw in raws
        ]
        if not seen:
            seen = [self._quarantine(data, "the event holds no alert")]
        if not deadline.over:
            self.sweep_if_overdue(deadline)
        return seen

    def receive(
        self, raw: Any, deadline: Deadline, *, event_id: str = "",
        event_time: datetime | None = None, via: str = "event",
    ) -> Seen:
        """Record one body, then go as far as the budget allows."""
        now = self.clock.now()
        try:
            alert = normalise(raw)
        except MalformedAlert as error:
            return self._quarantine(raw, str(error))
        record = self.ledger.alerts.get(alert.alert_id, alert.accusation())
        if record is None:
            self.ledger.work.hint(
                ALERT, f"{alert.alert_id}|{alert.accusation()}", bucket(now + self._resume_after, 5),
                alert=alert.alert_id, accusation=alert.accusation(),
            )
            record = self.ledger.alerts.receive(
                alert, raw, received=utc(now), via=via, eventId=event_id[:200],
                event=utc(event_time) if event_time else None,
            )
            if record is None:
                return Seen(alert.alert_id, "duplicate", "being worked on")
        elif record.state is AlertState.DONE:
            _log.info("alert %s: known, nothing to do", alert.alert_id)
            return Seen(alert.alert_id, "duplicate", "known")
        elif now - (record.time("received") or now) < self._patience:
            return Seen(alert.alert_id, "duplicate", "being worked on")
        return self._safely(record, alert, deadline)

    @property
    def _resume_after(self) -> timedelta:
        """When the sweep looks at an alert that is not done."""
        return timedelta(seconds=self.settings.resume_seconds)

    @property
    def _patience(self) -> timedelta:
        """For so long another delivery of the same alert leaves it to the first."""
        return min(self._resume_after, timedelta(seconds=self.settings.budget_seconds + 5))

    def _quarantine(self, raw: Any, reason: str) -> Seen:
        self.ledger.alerts.quarantine(raw, reason, self.clock.now())
        self.notifier.tell("quarantine", f"an alert cannot be read: {reason}")
        return Seen("", "quarantined", reason)

    def _safely(self, record: AlertRecord, alert: Alert, deadline: Deadline) -> Seen:
        """carry_on, with errors sorted: the ledger's are raised, others are left to the sweep."""
        try:
            return self.carry_on(record, alert, deadline)
        except LedgerDown:
            raise
        except TemporaryError as error:
            _log.info("alert %s goes on later: %s", alert.alert_id, error)
            return Seen(alert.alert_id, "pending", str(error))
        except PermanentError as error:
            self.notifier.tell("alert-failed", f"alert {alert.alert_id}: {error}",
                               alert=alert.alert_id)
            self._finish(record, error=str(error)[:500])
            return Seen(alert.alert_id, "failed", str(error))

    def _finish(self, record: AlertRecord, **facts: Any) -> None:
        try:
            self.ledger.alerts.update(record, state=AlertState.DONE.value, **facts)
        except Conflict:
            _log.info("alert %s was finished by another", record.alert_id)

    # --- from alert to claims ---

    def carry_on(self, record: AlertRecord, alert: Alert, deadline: Deadline) -> Seen:
        """Take the alert from wherever it stands to its commits."""
        if self.ledger.control.paused():
            self._hint_again(record)
            return Seen(alert.alert_id, "paused", "acting is paused")
        decision = self.look(alert, deadline, override="", reserve=True)
        plan = decision.plan
        now = self.clock.now()
        record = self.ledger.alerts.update(
            record, state=AlertState.PLANNED.value, verified=utc(decision.verified),
            planned=utc(now), **self.ledger.alerts.plan_facts(plan),
        )
        for line in (*plan.reasons, *(f"skipped {s.address or s.resource_id}: {s.reason}"
                                      for s in plan.skipped)):
            _log.info("alert %s: %s", alert.alert_id, line)
        self._tell(alert, plan)
        keys = self.claim(decision, explicit=False, by="")
        self._finish(record, claimed=utc(self.clock.now()) if keys else None)
        for nsg_id in dict.fromkeys(k.nsg_id for k in keys):
            self.commit_nsg(nsg_id, deadline)
        return Seen(alert.alert_id, plan.mode.value, f"{len(keys)} blocks claimed")

    def _hint_again(self, record: AlertRecord) -> None:
        self.ledger.work.hint(
            ALERT, f"{record.alert_id}|{record.accusation}",
            bucket(self.clock.now() + self._resume_after, 5),
            alert=record.alert_id, accusation=record.accusation,
        )

    def look(
        self, alert: Alert, deadline: Deadline, *, override: str, reserve: bool
    ) -> Decision:
        """Ask Defender, find machines and guards, decide. Changes nothing but the hour's counter,
        and that only with `reserve`."""
        held = self.defender.confirm(alert, deadline)
        verified = self.clock.now()
        # What is acted upon is Defender's own text, wherever it has one.
        actual = held.alert or alert
        subscription = alert.ref.subscription_id if alert.ref else ""
        around = self._surroundings.now(deadline, subscription)
        scene = Scene(now=verified, around=around, override=override)
        row = self.policy.row_for(actual)
        if row.mode is not Mode.NOTIFY and actual.attackers and not actual.closed:
            scene = self._survey(actual, scene, deadline)
        plan = self._decide(actual, held.verdict, scene)
        if reserve:
            plan = self._within_the_hour(actual, held.verdict, scene, plan)
        return Decision(actual, held, plan, scene.nsgs, verified)

    def _decide(self, alert: Alert, verdict: Verdict, scene: Scene) -> Plan:
        return decide(alert, verdict, scene, self.policy, self.settings.mode, self.ownership)

    def _survey(self, alert: Alert, scene: Scene, deadline: Deadline) -> Scene:
        """Machines, their guards as they are, and what is blocked on them already."""
        traced = self._machines.trace(alert.resource_ids, deadline)
        guards = {g for m in traced.machines for n in m.nics for g in n.guards}
        nsgs: dict[str, Nsg] = {}
        live: dict[str, frozenset[str]] = {}
        for guard in sorted(guards):
            try:
                nsgs[guard] = self._network.read_nsg(guard, deadline)
            except PermanentError as error:
                _log.warning("guard %s cannot be read: %s", guard, error)
                continue
            blocks = self.ledger.blocks.live(guard)
            live[guard] = frozenset(b.key.address for b in blocks if b.wanted)
        own = frozenset(a for m in traced.machines for n in m.nics
                        for a in (*n.public_addresses, *n.private_addresses))
        estate = scene.around.estate
        around = replace(scene.around, estate=replace(estate, public=estate.public | own))
        return replace(scene, machines=traced.machines, untraced=traced.untraced, nsgs=nsgs,
                       live=live, around=around)

    def _within_the_hour(
        self, alert: Alert, verdict: Verdict, scene: Scene, plan: Plan
    ) -> Plan:
        """Take the new blocks from the hour's allowance; what it does not grant asks first."""
        new = [b for b in plan.blocks if not b.ask
               and b.key.address not in scene.live.get(b.key.nsg_id, frozenset())]
        if not new or plan.mode is not Mode.ENFORCE:
            return plan
        granted = self.ledger.control.reserve(
            alert.alert_type, scene.now, len(new), self.policy.caps.blocks_per_hour
        )
        if granted >= len(new):
            return plan
        return self._decide(alert, verdict, replace(scene, hour_room=granted))

    def _tell(self, alert: Alert, plan: Plan) -> None:
        for notice in plan.notices:
            self.notifier.tell("alert", f"{alert.display_name or alert.alert_type}: {notice}",
                               alert=alert.alert_id, severity=alert.severity)

    def claim(self, decision: Decision, *, explicit: bool, by: str) -> list[BlockKey]:
        """Ask what is to be asked, then record the claims, one NSG after the other → what is
        pending now."""
        plan, alert = decision.plan, decision.alert
        if not plan.acts:
            return []
        asking = [b for b in plan.blocks if b.ask]
        if asking:
            self._approvals.ask(
                plan.alert_id, [b.key for b in asking], [a for b in asking for a in b.ask],
                salt=plan.verdict.value,
            )
        now = self.clock.now()
        pending: list[BlockKey] = []
        by_nsg: dict[str, list[Claim]] = {}
        for block in plan.blocks:
            by_nsg.setdefault(block.key.nsg_id, []).append(Claim(
                block.key, plan.alert_id, alert.alert_type, block.lifetime, block.decisive,
                block.targets, block.ask, explicit, by,
            ))
        for nsg_id, claims in by_nsg.items():
            self.commit.look_at(nsg_id, now + self._resume_after / 2)
            changed = self.ledger.blocks.claim(claims, now)
            pending += [b.key for b in changed if b.state is BlockState.PENDING]
            for one in changed:
                _log.info("alert %s: %s %s %s on %s", plan.alert_id, one.state,
                          one.key.direction, one.key.address, nsg_id)
        return pending

    def commit_nsg(self, nsg_id: str, deadline: Deadline) -> Committed:
        """Commit now; what is left over goes to the commit queue."""
        result = self.commit.run(nsg_id, deadline)
        if result.left:
            self._queue.send(nsg_id)
        return result

    # --- the sweep ---

    def sweep_if_overdue(self, deadline: Deadline) -> None:
        """The second driver: any trigger runs a short sweep if the timer seems to have stopped."""
        now = self.clock.now()
        late = timedelta(seconds=self.settings.sweep_seconds * OVERDUE)
        if self._swept_at is not None and now - self._swept_at < late:
            return
        last = self.ledger.control.last_job("sweep")
        self._swept_at = last or now
        if last is not None and now - last >= late:
            _log.warning("the sweep is overdue since %s: sweeping here", utc(last))
            self.sweep(deadline)

    def sweep(self, deadline: Deadline) -> Swept:
        """Follow every hint that is due, then the jobs that are. Never raises for one bad hint."""
        now = self.clock.now()
        self.ledger.control.begin_job("sweep", now, timedelta(0))
        self._swept_at = now
        result = Swept()
        while not deadline.over:
            hints = self.ledger.work.due(self.clock.now(), SWEEP_BATCH)
            if not hints:
                break
            result.followed += len(hints)
            with ThreadPoolExecutor(SWEEP_THREADS, "sweep") as pool:
                list(pool.map(lambda h: self._follow(h, deadline, result), hints))
            if len(hints) < SWEEP_BATCH:
                break
        self._jobs(deadline, result)
        if result.followed or result.jobs:
            _log.info("sweep: %s", result)
        return result

    def _follow(self, hint: Hint, deadline: Deadline, result: Swept) -> None:
        """Follow one hint; take it away only when what it points to is done or has a new one."""
        if deadline.over:
            result.left += 1
            return
        try:
            if hint.kind == NSG:
                self._follow_nsg(hint.id, deadline, result)
            elif hint.kind == ALERT:
                self._follow_alert(hint, deadline, result)
            elif hint.kind == APPROVAL:
                self._follow_approval(hint.id, deadline)
            self.ledger.work.done(hint)
        except RemediationError as error:
            result.left += 1
            _log.warning("hint %s %s is left: %s", hint.kind, hint.id, error)
        except Exception:  # noqa: BLE001 - one hint's fault must not keep other blocks from being lifted
            result.left += 1
            _log.exception("hint %s %s is left", hint.kind, hint.id)

    def _follow_nsg(self, nsg_id: str, deadline: Deadline, result: Swept) -> None:
        blocks = self.ledger.blocks.live(nsg_id)
        drift = timedelta(seconds=self.settings.drift_seconds)
        checked = self.ledger.leases.checked(nsg_id)
        now = self.clock.now()
        if not needs_commit(blocks, checked, now, drift):
            self.commit.schedule(nsg_id, blocks)
            return
        done = self.commit_nsg(nsg_id, deadline)
        if not done.held:
            # Another is at it, or died at it: this hint goes only when a later one stands.
            self.commit.look_at(nsg_id, now + timedelta(seconds=self.settings.lease_seconds + 2))
        result.committed += done.held
        result.lifted += done.lifted
        result.left += done.left

    def _follow_alert(self, hint: Hint, deadline: Deadline, result: Swept) -> None:
        alert_id = str(hint.values.get("alert", ""))
        record = self.ledger.alerts.get(alert_id, str(hint.values.get("accusation", "")))
        if record is None or record.state is AlertState.DONE:
            return
        if record.attempts >= ATTEMPTS:
            self.notifier.tell("alert-failed", f"alert {alert_id}: given up after {ATTEMPTS} "
                               "attempts; replay it when the cause is mended", alert=alert_id)
            self._finish(record, error="given up")
            return
        alert = normalise(self.ledger.alerts.raw(record))
        self._hint_again(record)
        try:
            record = self.ledger.alerts.update(record, attempts=record.attempts + 1)
        except Conflict:
            return
        result.resumed += 1
        self._safely(record, alert, deadline)

    def _follow_approval(self, approval_id: str, deadline: Deadline) -> None:
        """Finish an answer that was interrupted; close a question nobody answered in time."""
        approval = self.ledger.control.approval(approval_id)
        if approval is None:
            return
        if approval.state == "open":
            if approval.expires > self.clock.now():
                return
            if not self.ledger.control.decide(approval, "expired", "nobody", "not answered in time"):
                return
            self.notifier.tell("approval", f"question {approval_id} expired unanswered",
                               alert=approval.alert_id)
            approval = self.ledger.control.approval(approval_id) or approval
        self.carry_out(approval_id, deadline)

    def carry_out(self, approval_id: str, deadline: Deadline) -> list[BlockKey]:
        """Make an answered question's blocks pending (approved) or end them (rejected, expired)."""
        approval = self.ledger.control.approval(approval_id)
        if approval is None:
            raise NotFound(f"no question {approval_id}")
        now = self.clock.now()
        touched: list[BlockKey] = []
        for key in approval.keys:
            block = self.ledger.blocks.get(key)
            if block is None or block.state is not BlockState.WAITING:
                continue
            self.commit.look_at(key.nsg_id, now + self._resume_after / 2)
            if approval.state == "approved":
                after = replace(block, state=BlockState.PENDING, approved_by=approval.decided_by,
                                asks=(), claimed=now)
            else:
                after = replace(block, state=BlockState.REVOKED, ended=now,
                                revoked_by=approval.decided_by or approval.state,
                                revoke_reason=approval.reason or approval.state)
            self.note(after.alerts, approval.state, by=approval.decided_by, reason=approval.reason,
                      block=key.id, nsg=key.nsg_id, direction=key.direction.value,
                      address=key.address)
            saved, _ = self.ledger.blocks.save([after])
            for one in saved:
                touched.append(key)
                if one.ended is not None:
                    self.ledger.blocks.end(one)
        if approval.state == "approved":
            for nsg_id in dict.fromkeys(k.nsg_id for k in touched):
                self.commit_nsg(nsg_id, deadline)
        return touched

    def note(self, alerts: Iterable[str], action: str, **facts: Any) -> None:
        """An action in the timeline of each of these alerts."""
        at = self.clock.now()
        for alert_id in alerts:
            self.ledger.alerts.note(alert_id, at, action, **facts)

    # --- jobs ---

    def _jobs(self, deadline: Deadline, result: Swept) -> None:
        jobs: Sequence[tuple[str, timedelta, Any]] = (
            ("reconcile", timedelta(seconds=self.settings.reconcile_seconds),
             lambda: self.reconcile(deadline, result)),
            ("estate", self.policy.guardrails.estate_max_age / 8,
             lambda: self._surroundings.refresh(deadline)),
            ("orphans", ORPHAN_SCAN, lambda: self._scan_orphans(deadline)),
            ("retention", CLEAN_UP, self._clean_up),
        )
        for name, every, run in jobs:
            if deadline.over or not self.ledger.control.begin_job(name, self.clock.now(), every):
                continue
            try:
                run()
                result.jobs.append(name)
            except RemediationError as error:
                _log.warning("job %s failed, it comes again: %s", name, error)
            except Exception:  # noqa: BLE001 - one job's fault must not stop the others
                _log.exception("job %s failed, it comes again", name)

    def reconcile(self, deadline: Deadline, result: Swept) -> None:
        """Alerts that Defender holds and that never reached us enter the normal path."""
        for raw in self.defender.since(self.clock.now() - LATE, deadline):
            if deadline.over:
                return
            try:
                alert = normalise(raw)
            except MalformedAlert as error:
                self._quarantine(dict(raw), str(error))
                continue
            if self.ledger.alerts.known(alert.alert_id):
                continue
            result.missed += 1
            _log.warning("alert %s never reached us: taken from Defender", alert.alert_id)
            self.receive(dict(raw), deadline, via="reconcile")

    def _scan_orphans(self, deadline: Deadline) -> None:
        """NSGs with rules that bear our name: a commit adopts what the ledger does not know."""
        for row in self._graph.rows("owned_rules", deadline, prefix=self.ownership.prefix):
            nsg_id = str(row.get("id", "")).lower()
            if nsg_id and self.ledger.leases.checked(nsg_id) is None and not deadline.over:
                self.commit_nsg(nsg_id, deadline)

    def _clean_up(self) -> None:
        before = self.clock.now() - timedelta(days=self.settings.retention_days)
        count = (
            self.ledger.alerts.forget(before)
            + self.ledger.blocks.forget_ended(before)
            + self.ledger.control.forget(before)
        )
        if count:
            _log.info("retention: %d rows older than %s deleted", count, utc(before))
