"""The investigation: begun when the blocks stand, carried on by the queue's messages, looked after by the
sweep.

    start      the alert's machines, the likely ones first → a head and its tasks, recorded; then messages
    take       one message: claim the task, run one call of its step, record what it came to
    follow     the sweep's eye: messages that were lost, questions that were answered, what was left behind

One message is about one step on one machine. Nothing waits in it: what takes long is begun, remembered in the
ledger and looked at again by a message that comes later. Each result is in the ledger, its evidence in a
blob, before what was begun in a machine is taken away.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from remediation.alerts import normalise
from remediation.approvals import Approvals
from remediation.clock import Clock, Deadline
from remediation.cloud.queue import Queue
from remediation.errors import (
    BadInput,
    Conflict,
    Invalid,
    MalformedAlert,
    NotFound,
    PermanentError,
    TemporaryError,
)
from remediation.escalation import Escalation
from remediation.investigation.seals import START, manifest, name_of
from remediation.investigation.task import (
    ENDED,
    SETTLED,
    Finding,
    Later,
    Phase,
    Task,
    TaskState,
    Weight,
    longest_wait,
    parse_message,
)
from remediation.ledger import AlertRecord, Approval, Head
from remediation.ledger.store import LedgerDown
from remediation.log import say
from remediation.model import Alert, Caller, Mode, Plan, Verdict, utc
from remediation.notify import Notifier
from remediation.policy import Policy
from remediation.settings import Settings
from remediation.steps import STEPS, in_guest
from remediation.steps.step import Skip, Step, Tools, Work
from remediation.steps.step import name_of as short

_log = logging.getLogger(__name__)

SERVICE = "the service"
HELD = timedelta(seconds=120)
"""So long one call of a step may take; a copy of its message that comes meanwhile finds it taken."""
LOST = timedelta(seconds=60)
"""So long after its time a message counts as lost."""
FIRST_HINT, EVERY_HINT = timedelta(seconds=60), timedelta(minutes=5)
GUEST_STAGGER_SECONDS = 2.0
CLOSE_SECONDS = 10.0
RANK = {"likely": 0, "possible": 1, None: 1, "unlikely": 2}
WATCH = "watch"


class Investigator:
    """One instance serves all triggers and threads."""

    def __init__(
        self, *, tools: Tools, queue: Queue, guest_queue: Queue | None, approvals: Approvals,
        escalation: Escalation, notifier: Notifier, policy: Policy, settings: Settings, clock: Clock,
    ) -> None:
        self._tools = tools
        self._ledger = tools.ledger
        self._kept = tools.ledger.investigations
        self._queue = queue
        self._guest_queue = guest_queue
        self._approvals = approvals
        self._escalation = escalation
        self._notifier = notifier
        self._policy = policy
        self._settings = settings
        self._clock = clock

    # --- begin ---

    def wanted(self, alert: Alert, plan: Plan) -> bool:
        """Are the machines of this alert to be looked into, unasked?"""
        return (self._settings.investigate and self._policy.row_for(alert).investigate and not alert.is_sample
                and not alert.closed and plan.verdict is Verdict.CONFIRMED and bool(plan.machines))

    def announce(self, alert_id: str) -> None:
        """A hint, before anything that could be cut off: the sweep begins what nobody has begun."""
        self._ledger.work.investigation(alert_id, self._clock.now() + FIRST_HINT)

    def start(self, record: AlertRecord, by: str = SERVICE) -> bool:
        """Record the investigation of an alert and send its messages; False if there is one."""
        plan = self._ledger.alerts.plan(record) or {}
        head, tasks = self._laid_out(record, plan, by)
        if not head.machines and not head.left_out:
            return False
        self._ledger.work.investigation(record.alert_id, self._clock.now() + EVERY_HINT)
        if not self._kept.begin(head, tasks):
            return False
        for one in head.machines:
            self._kept.note_machine(str(one["id"]), record.alert_id, head.begun)
        say(_log, "investigation", alerts=[record.alert_id], machines=len(head.machines), tasks=len(tasks),
            left_out=len(head.left_out))
        before: Counter[str] = Counter()  # in a machine one after the other, in the policy's order
        for task in (t for t in tasks if t.state is TaskState.QUEUED):
            guest = STEPS[task.step].guest
            self._send(task, GUEST_STAGGER_SECONDS * before[task.machine] if guest else 0.0)
            before[task.machine] += guest
        return True

    def _laid_out(self, record: AlertRecord, plan: Mapping[str, Any], by: str) -> tuple[Head, list[Task]]:
        """The head and the tasks, the likely machines first."""
        now, inquiry = self._clock.now(), self._policy.inquiry
        weighed = ((self._ledger.alerts.assessment(record) or {}).get("machines") or {})
        found = sorted(plan.get("machines") or (),
                       key=lambda m: RANK.get((weighed.get(m["id"]) or {}).get("likelihood"), 1))
        chosen: list[dict[str, Any]] = []
        left_out: dict[str, str] = {}
        for m in found:
            last = self._kept.last_of(m["id"]) if len(chosen) < inquiry.machines else None
            if len(chosen) >= inquiry.machines:
                left_out[m["id"]] = f"more than {inquiry.machines} machines"
            elif last and last[0] != record.alert_id and now - last[1] < inquiry.again and by == SERVICE:
                left_out[m["id"]] = f"looked into since {utc(last[1])} for alert {last[0]}"
            else:
                chosen.append({"id": m["id"], "path": m.get("path") or [], "guards": m.get("guards") or [],
                               "addresses": m.get("addresses") or []})
        head = Head(record.alert_id, record.accusation, now, by, tuple(chosen), left_out)
        tasks = [self._task(record.alert_id, name, machine, by)
                 for name in inquiry.steps
                 for machine in ([""] if STEPS[name].of_alert else [str(m["id"]) for m in chosen])]
        return head, tasks

    def _task(self, alert_id: str, step: str, machine: str, by: str) -> Task:
        now = self._clock.now()
        task = Task(
            alert_id=alert_id, step=step, machine=machine, by=by, begun=now, number=list(STEPS).index(step)
        )
        if STEPS[step].guest and self._guest_queue is None and not self._settings.guest:
            return task.ended_as(TaskState.SKIPPED, "the guest app is off (GUEST_QUEUE)", now)
        return task

    def _send(self, task: Task, wait: float = 0.0) -> None:
        queue = self._guest_queue if STEPS[task.step].guest and self._guest_queue else self._queue
        queue.send(task.message, wait)

    # --- one message ---

    def take(self, text: str, deadline: Deadline) -> None:
        """A message of the queue. Raises only if the ledger is down: it must come again."""
        try:
            alert_id, machine, name = parse_message(text)
        except Invalid as error:
            self._notifier.tell("poison", str(error))
            return
        task, head = self._kept.task(alert_id, machine, name), self._kept.head(alert_id)
        step = STEPS.get(name)
        if task is None or head is None or step is None:
            say(_log, "no-such-task", alerts=[alert_id], level=logging.WARNING, step=name, machine=machine)
            return
        if step.guest and not self._settings.guest:
            self._end(task, TaskState.SKIPPED, "only the guest app looks inside machines")
            return
        alert = self._alert(head)
        if alert is None:
            self._end(task, TaskState.FAILED, "the alert's record cannot be read any more")
            return
        if task.state in SETTLED:
            self._tidy(task, head, alert, deadline)
        else:
            self._call(task, head, alert, step, deadline)
        self._settle(alert_id)

    def _call(self, task: Task, head: Head, alert: Alert, step: Step, deadline: Deadline) -> None:
        """Claim the task, run one call of its step, record what came of it."""
        now = self._clock.now()
        if (
            task.next is not None
            and task.state is TaskState.RUNNING
            and now < task.next - timedelta(seconds=1)
        ):
            return  # a copy that came early, or another is at it
        if self._ledger.control.paused() and (step.guest or task.phase is Phase.ACT):
            self._later(task, Later(EVERY_HINT.total_seconds(), task.memory, "acting is paused"))
            return
        claimed = replace(task, state=TaskState.RUNNING, phase_begun=task.phase_begun or now,
                          next=now + HELD, attempts=task.attempts + 1)
        try:
            claimed = self._kept.save(claimed)
        except Conflict:
            return  # another is at it
        work = Work(claimed, alert, head, self._tools, deadline, now)
        outcome = self._outcome(step, work)
        try:
            self._record(step, work, outcome)
        except Conflict:
            say(_log, "task-changed", alerts=[task.alert_id], level=logging.WARNING, step=step.name)

    def _outcome(self, step: Step, work: Work) -> Finding | Later | tuple[TaskState, str]:
        """One call of the step, with what it may raise sorted."""
        half = step.act if work.task.phase is Phase.ACT and step.act is not None else step.look
        try:
            return half(work)
        except Skip as skip:
            return TaskState.SKIPPED, str(skip)
        except LedgerDown:
            raise
        except TemporaryError as error:
            errors = int(work.memory.get("errors", 0)) + 1
            wait = max(longest_wait(errors).total_seconds(), error.retry_after or 0.0)
            return Later(wait, {**work.memory, "errors": errors}, str(error)[:300])
        except PermanentError as error:
            return TaskState.FAILED, str(error)
        except Exception as error:  # noqa: BLE001 - one step's fault must not hide the others' results
            _log.exception("step %s has a fault", step.name)
            return TaskState.FAILED, f"the step has a fault: {type(error).__name__}"

    def _record(
        self, step: Step, work: Work, outcome: Finding | Later | tuple[TaskState, str]
    ) -> None:
        task, now = work.task, self._clock.now()
        if isinstance(outcome, Later):
            if now - (task.phase_begun or now) <= step.budget:
                self._later(task, outcome)
                return
            outcome = (TaskState.FAILED, f"it did not come to an end within {step.budget}"
                       + (f": {outcome.why}" if outcome.why else ""))
        if isinstance(outcome, tuple):
            self._end(task, *outcome, work=work)
            return
        try:
            kept = self._tools.store.keep(task.alert_id, self._file(task), self._evidence(work, outcome))
        except TemporaryError as error:
            self._later(task, Later(longest_wait(task.attempts).total_seconds(), task.memory,
                                    f"its evidence cannot be kept: {error}"))
            return
        except PermanentError as error:
            self._end(
                task, TaskState.FAILED, f"{outcome.says}; its evidence cannot be kept: {error}", work=work
            )
            return
        found = task.with_finding(outcome, kept)
        if task.phase is Phase.LOOK and outcome.wants and step.act is not None:
            self._want(step, found, outcome.wants, work)
        else:
            self._end(found, TaskState.DONE, "", work=work)

    def _later(self, task: Task, later: Later) -> None:
        """Record when it is looked at again, then have a message come then."""
        signs = later.signs or task.signs
        for text in later.tell:
            self._notifier.tell(task.step, text, alerts=[task.alert_id])
        saved = self._kept.save(
            replace(
                task,
                state=TaskState.RUNNING,
                memory=dict(later.memory),
                signs=signs,
                reason=later.why[:300],
                phase_begun=None if later.idle else task.phase_begun,
                next=self._clock.now() + timedelta(seconds=later.seconds),
            )
        )
        self._send(saved, later.seconds)

    def _want(self, step: Step, found: Task, wants: str, work: Work) -> None:
        """The step's change: at once where the policy says so, else after a person's yes."""
        now = self._clock.now()
        if self._settings.mode.reach < Mode.APPROVE.reach:
            self._end(
                found, TaskState.DONE, f"not done, for the mode is {self._settings.mode}: {wants}", work=work
            )
            return
        kept = {"commands": list(work.memory.get("commands", ()))}
        if step.name in self._policy.inquiry.unasked:
            after = replace(found, state=TaskState.QUEUED, phase=Phase.ACT, phase_begun=None, next=None,
                            approved_by="the policy", memory=kept, reason=wants)
        else:
            question = self._approvals.ask_for_step(found, f"{short(found.machine)}: {wants}", step.changes)
            after = replace(found, state=TaskState.WAITING, reason=wants, next=None, approval=question.id,
                            until=question.expires, memory=kept)
        after = self._kept.save(after)
        self._noted(after)
        after = self._cleaned(after, replace(work, task=after))
        if after.state is TaskState.QUEUED:
            self._ledger.work.investigation(after.alert_id, now + EVERY_HINT)
            self._send(after)
        self._escalation.due(after.alert_id)

    def _end(self, task: Task, state: TaskState, reason: str, work: Work | None = None) -> None:
        """It is over: recorded first, then what it left behind is taken away."""
        ended = task.ended_as(state, reason, self._clock.now())
        if work is not None and work.memory.get("commands"):
            ended = replace(ended, memory={"commands": list(work.memory["commands"])})
        ended = self._kept.save(ended)
        self._noted(ended)
        if work is not None:
            ended = self._cleaned(ended, replace(work, task=ended))
        gravest = ended.gravest
        if state is TaskState.FAILED or gravest in (Weight.CONFIRMED, Weight.LIKELY):
            self._escalation.due(ended.alert_id)

    def _cleaned(self, task: Task, work: Work) -> Task:
        """What the task left in its machine is taken away; if that fails, by a message of its own later."""
        if not STEPS[task.step].guest:
            return task
        try:
            in_guest.clean(work)
            return self._kept.save(replace(task, memory={})) if task.memory else task
        except Conflict:
            return task
        except LedgerDown:
            raise
        except (TemporaryError, PermanentError) as error:
            say(_log, "left-behind", alerts=[task.alert_id], level=logging.WARNING, machine=task.machine,
                commands=task.memory.get("commands", ()), error=str(error))
            return task

    def _tidy(self, task: Task, head: Head, alert: Alert, deadline: Deadline) -> None:
        self._cleaned(task, Work(task, alert, head, self._tools, deadline, self._clock.now()))

    def _noted(self, task: Task) -> None:
        """In the alert's timeline."""
        self._ledger.alerts.note(
            task.alert_id,
            self._clock.now(),
            "step",
            step=task.step,
            machine=task.machine,
            state=task.state.value,
            detail="; ".join(t for t in (task.says, task.reason) if t)[:500],
            by=task.approved_by or task.by,
        )

    @staticmethod
    def _file(task: Task) -> str:
        machine = "".join(c if c.isalnum() or c in "-." else "-" for c in short(task.machine)) or "alert"
        return f"{machine[:60]}-{task.step}{'-change' if task.phase is Phase.ACT else ''}.json"

    def _evidence(self, work: Work, found: Finding) -> bytes:
        """All of it, as a file: the same bytes if a crash has it written again."""
        task = work.task
        return json.dumps({
            "alert": task.alert_id, "machine": task.machine, "step": task.step, "phase": task.phase.value,
            "begun": utc(task.phase_begun or work.now), "by": task.approved_by or task.by, "says": found.says,
            "signs": [s.to_json() for s in found.signs], "facts": found.facts,
        }, default=str, indent=1, ensure_ascii=False).encode(errors="replace")

    def _alert(self, head: Head) -> Alert | None:
        record = self._ledger.alerts.get(head.alert_id, head.accusation)
        try:
            return normalise(self._ledger.alerts.raw(record)) if record else None
        except MalformedAlert:
            return None

    # --- the end ---

    def _settle(self, alert_id: str) -> None:
        """When nothing runs any more, the evidence is sealed, and people hear of it."""
        head = self._kept.head(alert_id)
        if head is None:
            return
        tasks = self._kept.tasks(alert_id)
        if any(t.state not in SETTLED for t in tasks if t.step != WATCH):
            return
        sealed = {name for one in head.sealed for name, _ in one["files"]}
        fresh = sorted((e for t in tasks for e in t.evidence if e[0] not in sealed), key=lambda e: e[0])
        now = self._clock.now()
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
            self._escalation.due(alert_id)
        self._write_manifests(head)
        if self._policy.inquiry.resolve and not self._settings.guest:
            self._close(alert_id)

    def _close(self, alert_id: str) -> None:
        """Resolve the alert in Defender, where the policy says so: every step and the watch have ended, so
        all blocks have, and nothing failed or speaks for a machine that is compromised."""
        head, tasks = self._kept.head(alert_id), self._kept.tasks(alert_id)
        over = any(t.step == WATCH for t in tasks) and all(
            t.state in (TaskState.DONE, TaskState.SKIPPED) for t in tasks)
        grave = any(s.weight is not Weight.NOTE for t in tasks for s in t.signs)
        acts = self._settings.mode.reach >= Mode.APPROVE.reach
        if head is None or head.closed or not over or grave or not acts:
            return
        alert = self._alert(head)
        if alert is None or alert.ref is None or alert.closed:
            return
        now = self._clock.now()
        try:
            self._tools.defender.resolve(alert.ref, Deadline.after(self._clock, CLOSE_SECONDS))
            self._kept.save_head(replace(head, closed=now))
        except (PermanentError, TemporaryError) as error:
            say(_log, "not-resolved", alerts=[alert_id], level=logging.WARNING, error=str(error))
            return
        self._ledger.alerts.note(
            alert_id, now, "resolved", by=SERVICE, reason="all steps and blocks have ended"
        )

    def _write_manifests(self, head: Head) -> None:
        """From the ledger to the evidence, the last one first seen to be there."""
        for entry in head.sealed[head.written:]:
            data, _ = _manifest(head.alert_id, entry)
            try:
                self._tools.store.keep(head.alert_id, name_of(int(entry["number"])), data)
                head = self._kept.save_head(replace(head, written=int(entry["number"])))
            except Conflict:
                return  # another writes them
            except (TemporaryError, PermanentError) as error:
                say(_log, "manifest-left", alerts=[head.alert_id], level=logging.WARNING, error=str(error))
                return

    # --- the sweep's eye ---

    def follow(self, alert_id: str) -> None:
        """Begin what was not begun; send again what was lost; seal what has ended."""
        now = self._clock.now()
        head = self._kept.head(alert_id)
        if head is None:
            record = next(iter(self._ledger.alerts.bodies(alert_id)), None)
            if record is not None:
                self.start(record)
            return
        tasks = self._kept.tasks(alert_id)
        open_ = [t for t in tasks if t.state not in SETTLED or t.memory.get("commands")]
        waiting = [t for t in open_ if t.step != WATCH]
        if open_:
            soonest = now + (EVERY_HINT if waiting else timedelta(hours=1))
            self._ledger.work.investigation(alert_id, soonest)
        for task in open_:
            if task.state in SETTLED or now > (task.next or task.begun or now) + LOST:
                self._send(task)
        self._settle(alert_id)

    def poisoned(self, text: str) -> None:
        """A message that failed again and again: its task has failed, and a human hears of it."""
        self._notifier.tell(
            "poison",
            f"a message of the investigation queue failed again and again: {text[:300]}",
            alerts=_alert_of(text),
        )
        try:
            task = self._kept.task(*parse_message(text))
        except Invalid:
            return  # it is told; there is no task to fail
        if task is not None and task.state not in ENDED:
            self._end(task, TaskState.FAILED, "its message failed again and again")

    # --- people ---

    def answered(self, approval: Approval) -> list[str]:
        """A yes, a no, or no answer in time → the tasks it was about."""
        touched = []
        for machine, name in approval.tasks:
            task = self._kept.task(approval.alert_id, machine, name)
            if task is None or task.state is not TaskState.WAITING or task.approval != approval.id:
                continue
            if approval.state == "approved":
                after = replace(task, state=TaskState.QUEUED, phase=Phase.ACT, phase_begun=None, until=None,
                                approved_by=approval.decided_by)
            else:
                after = task.ended_as(
                    TaskState.DONE,
                    f"not done ({task.reason}): {approval.state}"
                    + (f" by {approval.decided_by}: {approval.reason}" if approval.decided_by else ""),
                    self._clock.now(),
                )
            self._ledger.work.investigation(approval.alert_id, self._clock.now() + EVERY_HINT)
            after = self._kept.save(after)
            self._noted(after)
            touched.append(after.key)
            if after.state is TaskState.QUEUED:
                self._send(after)
        self._ledger.control.carried_out(approval)
        self._settle(approval.alert_id)
        return touched

    def again(
        self, alert_id: str, caller: Caller, machine: str, steps: Sequence[str], reason: str
    ) -> list[str]:
        """A person asks: begin an investigation, or do steps anew → the tasks that are queued. Raises
        NotFound and BadInput."""
        for name in steps:
            if name not in STEPS:
                raise BadInput("steps", f"{name} is no step (there are {', '.join(STEPS)})")
        record = next(iter(self._ledger.alerts.bodies(alert_id)), None)
        if record is None:
            raise NotFound(f"no alert {alert_id}")
        self._ledger.alerts.note(
            alert_id,
            self._clock.now(),
            "investigation-asked",
            by=caller.name,
            reason=reason,
            steps=list(steps),
            machine=machine,
        )
        if self._kept.head(alert_id) is None:
            if not self.start(record, caller.name):
                raise BadInput("alertId", "no machine is known behind this alert")
            return [t.key for t in self._kept.tasks(alert_id)]
        head = self._kept.head(alert_id)
        known = {str(m["id"]) for m in head.machines} if head else set()
        if machine and machine not in known:
            raise BadInput("machine", "is not among the machines that are looked into")
        return self._queue_anew(alert_id, caller.name, [machine] if machine else sorted(known),
                                steps or self._policy.inquiry.steps)

    def _queue_anew(self, alert_id: str, by: str, machines: Iterable[str], steps: Iterable[str]) -> list[str]:
        queued = []
        self._ledger.work.investigation(alert_id, self._clock.now() + FIRST_HINT)
        wanted = [(m, s) for s in steps for m in ([""] if STEPS[s].of_alert else machines)]
        for machine, name in wanted:
            fresh, old = self._task(alert_id, name, machine, by), self._kept.task(alert_id, machine, name)
            if old is None:
                done = self._kept.add(fresh)
            elif old.state in SETTLED and not old.memory.get("commands"):
                self._kept.save(replace(fresh, evidence=old.evidence, etag=old.etag))
                done = True
            else:
                done = False  # it is under way
            if done and fresh.state is TaskState.QUEUED:
                self._send(fresh)
                queued.append(fresh.key)
        return queued


def _manifest(alert_id: str, entry: Mapping[str, Any]) -> tuple[bytes, str]:
    """As it was planned in the ledger: the same bytes however often it is made."""
    files = [(str(f[0]), str(f[1])) for f in entry["files"]]
    return manifest(alert_id, int(entry["number"]), str(entry["previous"]), files,
                    datetime.fromisoformat(str(entry["made"])))


def _alert_of(text: str) -> list[str]:
    try:
        return [parse_message(text)[0]]
    except Invalid:
        return []
