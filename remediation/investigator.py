"""The investigation: begun when the blocks stand, carried on by the queue's messages, looked after by the
sweep.

    start      the alert's machines, the likely ones first → a head and its tasks, recorded; then messages
    take       one message, about one step on one machine (`inquiry.runner`)
    follow     the sweep's eye: messages that were lost, tasks that nobody takes up, what was left behind
    answered   a yes or a no to what a step would change
    again      a person asks for steps

Nothing waits in a message: what takes long is begun, remembered in the ledger and looked at again by a
message that comes later.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from remediation.clock import Deadline
from remediation.errors import BadInput, Conflict, Invalid, NotFound
from remediation.inquiry.parts import EVERY_HINT, SERVICE, WATCH, Inquiries
from remediation.inquiry.runner import Runner
from remediation.inquiry.sealing import Sealing
from remediation.investigation.task import ENDED, SETTLED, Phase, Task, TaskState, parse_message
from remediation.ledger import AlertRecord, Approval, Head
from remediation.ledger.store import LedgerDown
from remediation.log import say
from remediation.model import Alert, Caller, Plan, Verdict
from remediation.steps import STEPS
from remediation.steps.watch import in_force

_log = logging.getLogger(__name__)

LOST = timedelta(seconds=60)
"""So long after its time a message counts as lost."""
FORSAKEN = timedelta(hours=2)
"""So long nobody has taken a task up: nobody will."""
FIRST_HINT = timedelta(seconds=60)
GUEST_STAGGER_SECONDS = 2.0
RANK = {"likely": 0, "possible": 1, None: 1, "unlikely": 2}


class Investigator:
    """One instance serves all triggers and threads."""

    def __init__(self, parts: Inquiries) -> None:
        self._parts = parts
        self._ledger = parts.ledger
        self._kept = parts.ledger.investigations
        self._runner = Runner(parts)
        self._sealing = Sealing(parts)

    # --- begin ---

    def wanted(self, alert: Alert, plan: Plan) -> bool:
        """Are the machines of this alert to be looked into, unasked?"""
        return (self._parts.settings.investigate and self._parts.policy.row_for(alert).investigate
                and not alert.is_sample and not alert.closed and plan.verdict is Verdict.CONFIRMED
                and bool(plan.machines))

    def announce(self, alert_id: str) -> None:
        """A hint, before anything that could be cut off: the sweep begins what nobody has begun."""
        self._ledger.work.investigation(alert_id, self._parts.clock.now() + FIRST_HINT)

    def announce_late(self, record: AlertRecord) -> None:
        """The same for an alert of a storm, if it is to be looked into and was not announced yet."""
        if not record.values.get("looks"):
            return
        head = self._kept.head(record.alert_id)
        if head is None or record.accusation not in head.covered:
            self._ledger.work.investigation(record.alert_id, self._parts.clock.now())

    def start(
        self, record: AlertRecord, deadline: Deadline, by: str = SERVICE, machine: str = "",
        steps: Sequence[str] = (),
    ) -> bool:
        """Record the investigation of an alert, or what of it a person asks for, and send its messages;
        False if there is nothing that is not recorded already."""
        old = self._kept.head(record.alert_id)
        if old is not None and not machine and record.accusation in old.covered:
            return False
        head, tasks = self._laid_out(record, by, machine, steps, old)
        if not head.machines and not head.left_out:
            return False
        self._ledger.work.investigation(record.alert_id, self._parts.clock.now() + EVERY_HINT)
        if old is None:
            if not self._kept.begin(head, tasks):
                return False
        else:
            tasks = [t for t in tasks if self._kept.add(t)]  # before the head: it says that all is recorded
            redo = {**head.redo, **dict.fromkeys(self._to_redo(old, record, steps), self._parts.clock.now())}
            ended = None if tasks or redo else head.ended
            try:
                head = self._kept.save_head(replace(head, redo=redo, ended=ended))
            except Conflict:
                return False  # it is changed in this moment: the hint has it looked at again
            self._redo(head, by)
        say(_log, "investigation", alerts=[record.alert_id], machines=len(head.machines), tasks=len(tasks),
            left_out=len(head.left_out))
        self._send(tasks, deadline)
        return True

    def _to_redo(self, old: Head, record: AlertRecord, steps: Sequence[str]) -> list[str]:
        """Which steps another body of the alert has done anew: those of the alert as a whole, and where it
        names attackers that were not known, those that look for them."""
        known = self._attackers(*(
            b for b in self._ledger.alerts.bodies(record.alert_id) if b.accusation in old.covered))
        fresh = self._attackers(record) - known
        return [n for n in steps or self._parts.policy.inquiry.steps if n != WATCH and (
            STEPS[n].of_alert or (fresh and STEPS[n].of_attackers))]

    def _redo(self, head: Head, by: str) -> None:
        """Queue what is to be done anew; what is under way is waited for, by the sweep."""
        stale = [t for t in self._kept.tasks(head.alert_id) if t.step in head.redo and (
            t.begun is None or t.begun < head.redo[t.step])]
        for task in stale:
            self._queue_anew(head.alert_id, by, [task.machine], [task.step])
        waited_for = {t.step for t in self._kept.tasks(head.alert_id) if t.step in head.redo and (
            t.begun is None or t.begun < head.redo[t.step])} if stale else set()
        left = {name: at for name, at in head.redo.items() if name in waited_for}
        if left != head.redo:
            with contextlib.suppress(Conflict):  # the next look sees the same
                self._kept.save_head(replace(head, redo=left))

    def _attackers(self, *records: AlertRecord) -> set[str]:
        """Whom these bodies accuse, as far as it was planned to block them."""
        plans = (self._ledger.alerts.plan(r) or {} for r in records)
        return {str(b["address"]) for plan in plans for b in plan.get("blocks") or ()}

    def _send(self, tasks: Iterable[Task], deadline: Deadline) -> None:
        """The first messages."""
        before: Counter[str] = Counter()  # in a machine one after the other, in the policy's order
        for task in (t for t in tasks if t.state is TaskState.QUEUED):
            guest = STEPS[task.step].guest
            if deadline.over or not self._parts.send(
                    task, GUEST_STAGGER_SECONDS * before[task.machine] if guest else 0.0):
                break  # the hint has the sweep send the rest
            before[task.machine] += guest

    def _laid_out(
        self, record: AlertRecord, by: str, machine: str, steps: Sequence[str], old: Head | None
    ) -> tuple[Head, list[Task]]:
        """The head, with what it had, and the tasks that come to it, the likely machines first."""
        now, inquiry = self._parts.clock.now(), self._parts.policy.inquiry
        plan = self._ledger.alerts.plan(record) or {}
        known = {str(m["id"]) for m in old.machines} if old else set()
        passed_over = set(old.left_out) if old and by == SERVICE else set()
        weighed = ((self._ledger.alerts.assessment(record) or {}).get("machines") or {})
        found = sorted((m for m in plan.get("machines") or ()
                        if machine in ("", m["id"]) and m["id"] not in known | passed_over),
                       key=lambda m: RANK.get((weighed.get(m["id"]) or {}).get("likelihood"), 1))
        attackers = sorted({str(b["address"]) for b in plan.get("blocks") or ()})
        chosen: list[dict[str, Any]] = []
        left_out: dict[str, str] = {}
        for m in found:
            if len(known) + len(chosen) >= inquiry.machines:
                left_out[m["id"]] = f"more than {inquiry.machines} machines"
                continue
            covered = self._kept.claim_machine(
                m["id"], record.alert_id, attackers, now, inquiry.again if by == SERVICE else timedelta(0))
            if covered:
                left_out[m["id"]] = covered
            else:
                chosen.append({"id": m["id"], "path": m.get("path") or [], "guards": m.get("guards") or [],
                               "addresses": m.get("addresses") or []})
        trusted = record.verdict is Verdict.CONFIRMED and not record.values.get("sample")
        head = old or Head(record.alert_id, record.accusation, now, by)
        taken = {str(m["id"]) for m in chosen}
        head = replace(
            head, machines=(*head.machines, *chosen), trusted=head.trusted or trusted,
            left_out={m: why for m, why in {**head.left_out, **left_out}.items() if m not in taken},
            covered=head.covered if machine or steps else tuple(
                dict.fromkeys((*head.covered, record.accusation))))
        tasks = [self._task(record.alert_id, name, one, by)
                 for name in steps or inquiry.steps
                 for one in ([""] if STEPS[name].of_alert else [str(m["id"]) for m in chosen])]
        return head, tasks

    def _task(self, alert_id: str, step: str, machine: str, by: str) -> Task:
        now = self._parts.clock.now()
        task = Task(alert_id=alert_id, step=step, machine=machine, by=by, begun=now, next=now,
                    number=list(STEPS).index(step))
        if STEPS[step].guest and self._parts.guest_queue is None and not self._parts.settings.guest:
            return task.ended_as(TaskState.SKIPPED, "the guest app is off (GUEST_QUEUE)", now)
        return task

    # --- one message ---

    def take(self, text: str, deadline: Deadline) -> None:
        """A message of the queue. If the ledger is down, the sweep has it sent again."""
        try:
            alert_id, machine, name = parse_message(text)
        except Invalid as error:
            self._parts.notifier.tell("poison", str(error))
            return
        try:
            self._take(alert_id, machine, name, deadline)
        except LedgerDown as error:
            say(_log, "message-left", alerts=[alert_id], level=logging.WARNING, error=str(error))

    def _take(self, alert_id: str, machine: str, name: str, deadline: Deadline) -> None:
        task, head, step = (
            self._kept.task(alert_id, machine, name),
            self._kept.head(alert_id),
            STEPS.get(name),
        )
        if task is None or head is None or step is None:
            say(_log, "no-such-task", alerts=[alert_id], level=logging.WARNING, step=name, machine=machine)
            return
        if step.guest and not self._parts.settings.guest:
            if task.state is TaskState.QUEUED:
                self._runner.end(task, TaskState.SKIPPED, "only the guest app looks inside machines")
            return
        alert = self._parts.alert(head)
        if task.state in SETTLED:
            if alert is not None and task.memory.get("commands"):
                self._runner.tidy(task, head, alert, deadline)
            return
        if alert is None:
            self._runner.end(task, TaskState.FAILED, "the alert's record cannot be read any more")
        else:
            self._runner.call(task, head, alert, step, deadline)
        self._sealing.settle(alert_id)

    def poisoned(self, text: str) -> None:
        """A message that failed again and again: its task has failed, and a human hears of it."""
        try:
            alert_id, machine, name = parse_message(text)
        except Invalid:
            self._parts.notifier.tell(
                "poison",
                "a message of the investigation queue cannot be read and failed "
                f"again and again: {text[:300]}",
            )
            return
        self._parts.notifier.tell("poison", "a message of the investigation queue failed again and again: "
                                  f"{text[:300]}", alerts=[alert_id])
        task = self._kept.task(alert_id, machine, name)
        if task is not None and task.state not in ENDED:
            self._runner.end(task, TaskState.FAILED, "its message failed again and again")

    # --- the sweep's eye ---

    def follow(self, alert_id: str, deadline: Deadline) -> None:
        """Begin what was not begun; send again what was lost; end what nobody takes up; seal what has
        ended."""
        now = self._parts.clock.now()
        head = self._kept.head(alert_id)
        for record in self._ledger.alerts.acted_on(alert_id):
            ours = head is None or head.by == SERVICE or head.covered
            if ours and (head is None or record.accusation not in head.covered):
                self.start(record, deadline)
                head = self._kept.head(alert_id)
        if head is None:
            return
        if head.redo:
            self._redo(head, SERVICE)
            head = self._kept.head(alert_id) or head
        tasks = self._kept.tasks(alert_id)
        over = any(t.step == WATCH and t.state in (TaskState.DONE, TaskState.SKIPPED) for t in tasks)
        if over and in_force(self._ledger, alert_id, now):
            self._queue_anew(alert_id, SERVICE, (), [WATCH])  # a yes, a replay or a removal came after it
        open_ = [t for t in tasks if t.state not in SETTLED or t.memory.get("commands")]
        soon = any(t.step != WATCH and t.state not in SETTLED for t in open_) or (
            head.written < head.manifests or bool(head.redo))
        if open_ or soon:
            self._ledger.work.investigation(alert_id, now + (EVERY_HINT if soon else timedelta(hours=1)))
        for task in open_:
            since = task.next or task.begun or now
            if task.step not in STEPS:
                self._runner.end(task, TaskState.FAILED, "there is no such step in this version")
            elif now - since > FORSAKEN and (task.state is TaskState.QUEUED or (
                    task.state is TaskState.RUNNING and STEPS[task.step].guest)):
                self._runner.end(
                    task,
                    TaskState.FAILED,
                    "nobody has taken it up: is the guest app running, with the same tables?"
                    if STEPS[task.step].guest
                    else "nobody has taken it up",
                )
            elif (task.state in SETTLED or now > since + LOST) and (
                    deadline.over or not self._parts.send(task)):
                break  # the next hint goes on
        self._sealing.settle(alert_id)

    # --- people ---

    def answered(self, approval: Approval) -> list[str]:
        """A yes, a no, or no answer in time → the tasks it was about."""
        touched, now = [], self._parts.clock.now()
        for task in self.waiting(approval):
            if approval.state == "approved":
                after = replace(task, state=TaskState.QUEUED, phase=Phase.ACT, phase_begun=None, until=None,
                                next=now, approved_by=approval.decided_by)
            else:
                said = f" by {approval.decided_by}: {approval.reason}" if approval.decided_by else ""
                after = task.ended_as(
                    TaskState.DONE, f"not done ({task.reason}): {approval.state}{said}", now
                )
            self._ledger.work.investigation(approval.alert_id, now + EVERY_HINT)
            after = self._kept.save(after)
            self._runner.noted(after)
            touched.append(after.key)
            if after.state is TaskState.QUEUED:
                self._parts.send(after)
        self._ledger.control.carried_out(approval)
        self._sealing.settle(approval.alert_id)
        return touched

    def waiting(self, approval: Approval) -> list[Task]:
        """The tasks that wait for this very question."""
        found = (self._kept.task(approval.alert_id, machine, step) for machine, step in approval.tasks)
        return [t for t in found
                if t is not None and t.state is TaskState.WAITING and t.approval == approval.id]

    def again(
        self,
        alert_id: str,
        caller: Caller,
        machine: str,
        steps: Sequence[str],
        reason: str,
        deadline: Deadline,
    ) -> list[str]:
        """A person asks: begin an investigation, or do steps anew → the tasks that are queued. Raises
        NotFound and BadInput."""
        for name in steps:
            if name not in STEPS:
                raise BadInput("steps", f"{name} is no step (there are {', '.join(STEPS)})")
        records = self._ledger.alerts.acted_on(alert_id)
        if not records:
            raise NotFound(f"no alert {alert_id}")
        self._ledger.alerts.note(alert_id, self._parts.clock.now(), "investigation-asked", by=caller.name,
                                 reason=reason, steps=list(steps), machine=machine)
        before = {t.key for t in self._kept.tasks(alert_id)}
        for record in records:
            self.start(record, deadline, caller.name, machine, steps)
        found = [t.key for t in self._kept.tasks(alert_id)
                 if t.state is TaskState.QUEUED and t.key not in before]
        head = self._kept.head(alert_id)
        if head is None:
            raise BadInput("machine" if machine else "alertId", "no such machine is known behind this alert")
        known = [str(m["id"]) for m in head.machines]
        if machine and machine not in known:
            raise BadInput("machine", "is not among the machines that are looked into")
        anew = self._queue_anew(alert_id, caller.name, [machine] if machine else known,
                                steps or self._parts.policy.inquiry.steps)
        return [*found, *(key for key in anew if key not in found)]

    def _queue_anew(self, alert_id: str, by: str, machines: Sequence[str], steps: Iterable[str]) -> list[str]:
        queued = []
        self._ledger.work.investigation(alert_id, self._parts.clock.now() + FIRST_HINT)
        for machine, name in [(m, s) for s in steps for m in ([""] if STEPS[s].of_alert else machines)]:
            fresh, old = self._task(alert_id, name, machine, by), self._kept.task(alert_id, machine, name)
            if old is None:
                done = self._kept.add(fresh)
            elif old.state in SETTLED and not old.memory.get("commands"):
                signs = old.signs if name == WATCH else ()  # it goes on
                done = self._saved(replace(fresh, evidence=old.evidence, signs=signs, etag=old.etag))
            else:
                done = False  # it is under way
            if done and fresh.state is TaskState.QUEUED:
                self._parts.send(fresh)
                queued.append(fresh.key)
        return queued

    def _saved(self, task: Task) -> bool:
        """False if somebody has changed it in this moment: then it is under way."""
        try:
            self._kept.save(task)
        except Conflict:
            return False
        return True
