"""One message: the task claimed, one call of its step, what it came to recorded, what it left behind taken
away.

Each result is in the ledger, its evidence in a blob, before what was begun in a machine is taken away: the
other order would lose the result to a crash.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from dataclasses import replace
from datetime import timedelta
from typing import Any

from remediation.clock import Deadline
from remediation.errors import Conflict, Invalid, PermanentError, TemporaryError
from remediation.inquiry.parts import EVERY_HINT, Inquiries
from remediation.investigation.redact import shown
from remediation.investigation.task import (
    LONGEST_TEXT,
    Finding,
    Later,
    Phase,
    Task,
    TaskState,
    Weight,
    longest_wait,
)
from remediation.ledger import Head
from remediation.ledger.store import LedgerDown
from remediation.log import say
from remediation.model import Alert, utc
from remediation.steps import STEPS, in_guest
from remediation.steps.step import POLICY, Skip, Step, StepFailed, Work
from remediation.topology import name_of as short

_log = logging.getLogger(__name__)

HELD = timedelta(seconds=120)
"""So long one call of a step may take; a copy of its message that comes meanwhile finds it taken."""
TIDIES = 20
"""So often what was left in a machine is tried to be taken away, ever less often."""

type Over = tuple[TaskState, str, Any]
"""How a step ended without a finding: its state, the reason, and what is to be kept of it."""


class Runner:
    """One instance serves all threads."""

    def __init__(self, parts: Inquiries) -> None:
        self._parts = parts
        self._ledger = parts.ledger
        self._kept = parts.ledger.investigations

    def call(self, task: Task, head: Head, alert: Alert, step: Step, deadline: Deadline) -> None:
        """Claim the task, run one call of its step, record what came of it."""
        now = self._parts.clock.now()
        if (
            task.next is not None
            and task.state is TaskState.RUNNING
            and now < task.next - timedelta(seconds=1)
        ):
            return  # a copy that came early, or another is at it
        if self._ledger.control.paused() and (step.guest or task.phase is Phase.ACT):
            self._later(task, Later(EVERY_HINT.total_seconds(), task.memory, "acting is paused", idle=True))
            return
        forbidden = self._forbidden(task, head) if task.phase is Phase.ACT else ""
        if forbidden:
            self.end(task, TaskState.DONE, f"not done ({task.reason}): {forbidden}")
            return
        try:
            claimed = self._kept.save(replace(
                task, state=TaskState.RUNNING, phase_begun=task.phase_begun or now, next=now + HELD,
                attempts=task.attempts + 1, claim=secrets.token_hex(4)))
        except Conflict:
            return  # another is at it
        work = Work(claimed, alert, head, self._parts.tools, deadline, now)
        try:
            self._record(step, work, self._outcome(step, work))
        except Conflict:
            say(_log, "task-changed", alerts=[task.alert_id], level=logging.WARNING, step=step.name)
        except Invalid as error:  # the ledger does not take it, and never will
            self.end(claimed, TaskState.FAILED, f"its result cannot be recorded: {error}", work=work)

    def _forbidden(self, task: Task, head: Head) -> str:
        """'' if there is a yes to this very change; looked at again at every call, for much may change."""
        why = self._parts.may_change(head)
        if why or task.approved_by == POLICY:
            return why or ("" if self._parts.unasked(task.step) else "the policy does not say so any more")
        yes = self._ledger.control.approval(task.approval)
        if yes is None or yes.state != "approved" or (task.machine, task.step) not in yes.tasks:
            return "there is no yes to it"
        return "who asked for it has said yes" if yes.by == yes.decided_by else ""

    def _outcome(self, step: Step, work: Work) -> Finding | Later | Over:
        """One call of the step, with what it may raise sorted."""
        half = step.act if work.task.phase is Phase.ACT and step.act is not None else step.look
        try:
            return half(work)
        except Skip as skip:
            return TaskState.SKIPPED, str(skip), None
        except LedgerDown:
            raise
        except TemporaryError as error:
            errors = int(work.memory.get("errors", 0)) + 1
            wait = max(longest_wait(errors).total_seconds(), error.retry_after or 0.0)
            return Later(wait, {**work.memory, "errors": errors}, str(error)[:300])
        except StepFailed as error:
            return TaskState.FAILED, str(error), error.facts
        except PermanentError as error:
            return TaskState.FAILED, str(error), None
        except Exception as error:  # noqa: BLE001 - one step's fault must not hide the others' results
            _log.exception("step %s has a fault", step.name)
            return TaskState.FAILED, f"the step has a fault: {type(error).__name__}", None

    def _record(self, step: Step, work: Work, outcome: Finding | Later | Over) -> None:
        """What it came to; where its evidence cannot be kept now, the call comes again."""
        task = work.task
        evidence: tuple[tuple[str, str], ...] = ()
        facts = (
            outcome.facts
            if isinstance(outcome, Finding)
            else None
            if isinstance(outcome, Later)
            else outcome[2]
        )
        if isinstance(outcome, Finding) or facts is not None:
            try:
                evidence = (self._parts.tools.store.keep(
                    task.alert_id, self._file(task), self._evidence(work, outcome, facts)),)
            except TemporaryError as error:
                outcome = Later(longest_wait(task.attempts).total_seconds(), task.memory,
                                f"its evidence cannot be kept: {error}")
            except PermanentError as error:
                outcome = TaskState.FAILED, f"its evidence cannot be kept: {error}", None
        if isinstance(outcome, Later):
            now = self._parts.clock.now()
            if outcome.idle or now - (task.phase_begun or now) <= step.budget:
                self._later(task, outcome)
                return
            why = f": {outcome.why}" if outcome.why else ""
            outcome = TaskState.FAILED, f"it did not come to an end within {step.budget}{why}", None
        if isinstance(outcome, tuple):
            task = replace(task, evidence=(*task.evidence, *evidence))
            self.end(task, outcome[0], outcome[1], work=work)
            return
        found = task.with_finding(outcome, *evidence)
        if task.phase is Phase.LOOK and outcome.wants and step.act is not None:
            self._want(step, found, outcome, work)
        else:
            self.end(found, TaskState.DONE, "", work=work)

    def _later(self, task: Task, later: Later) -> None:
        """Record when it is looked at again, then have a message come then."""
        for text in later.tell:
            self._parts.notifier.tell(task.step, text, alerts=[task.alert_id])
        saved = self._kept.save(replace(
            task, state=TaskState.RUNNING, memory=dict(later.memory), signs=later.signs or task.signs,
            reason=later.why[:300], phase_begun=None if later.idle else task.phase_begun,
            next=self._parts.clock.now() + timedelta(seconds=later.seconds)))
        self._parts.send(saved, later.seconds)

    def _want(self, step: Step, found: Task, outcome: Finding, work: Work) -> None:
        """The step's change: at once where the policy says so, else after a person's yes."""
        forbidden = self._parts.may_change(work.head)
        if forbidden:
            self.end(found, TaskState.DONE, f"not done ({outcome.wants}): {forbidden}", work=work)
            return
        now = self._parts.clock.now()
        kept = {"commands": list(work.memory.get("commands", ())), **outcome.keep}
        found = replace(found, phase_begun=None, reason=shown(outcome.wants, LONGEST_TEXT), memory=kept)
        if self._parts.unasked(step.name):
            after = replace(found, state=TaskState.QUEUED, phase=Phase.ACT, next=now, approved_by=POLICY)
        else:
            question = self._parts.approvals.ask_for_step(
                found, f"{short(found.machine)}: {found.reason}", step.changes)
            after = replace(found, state=TaskState.WAITING, next=None, approval=question.id,
                            until=question.expires)
        after = self._kept.save(after)
        self.noted(after)
        after = self._cleaned(after, replace(work, task=after))
        if after.state is TaskState.QUEUED:
            self._ledger.work.investigation(after.alert_id, now + EVERY_HINT)
            self._parts.send(after)
        self._parts.escalation.due(after.alert_id)

    def end(self, task: Task, state: TaskState, reason: str, work: Work | None = None) -> None:
        """It is over: recorded first, then what it left behind is taken away."""
        ended = self._kept.save(task.ended_as(state, reason, self._parts.clock.now()))
        self.noted(ended)
        if work is not None:
            ended = self._cleaned(ended, replace(work, task=ended))
        if state is TaskState.FAILED or ended.gravest in (Weight.CONFIRMED, Weight.LIKELY):
            self._parts.escalation.due(ended.alert_id)

    def tidy(self, task: Task, head: Head, alert: Alert, deadline: Deadline) -> None:
        """Take away what a task left behind that is over."""
        self._cleaned(task, Work(task, alert, head, self._parts.tools, deadline, self._parts.clock.now()))

    def _cleaned(self, task: Task, work: Work) -> Task:
        """What the task left in its machine is taken away; if that fails, by a message of its own later.
        After many times people hear of it, and it is left."""
        if not STEPS[task.step].guest:
            return task
        rest = {k: v for k, v in task.memory.items() if k not in ("commands", "tidies")}
        try:
            in_guest.clean(work)
            return self._kept.save(replace(task, memory=rest)) if task.memory != rest else task
        except Conflict:
            return task
        except LedgerDown:
            raise
        except (TemporaryError, PermanentError) as error:
            tidies = int(task.memory.get("tidies", 0)) + 1
            say(_log, "left-behind", alerts=[task.alert_id], level=logging.WARNING, machine=task.machine,
                commands=task.memory.get("commands", ()), error=str(error))
            if tidies < TIDIES:
                return self._kept.save(replace(task, memory={**task.memory, "tidies": tidies}))
            self._parts.notifier.tell(
                "left-behind", f"commands cannot be taken away from {short(task.machine)}, remove them: "
                f"{', '.join(map(str, task.memory.get('commands', ())))}: {error}", alerts=[task.alert_id])
            return self._kept.save(replace(task, memory=rest))

    def noted(self, task: Task) -> None:
        """In the alert's timeline."""
        self._ledger.alerts.note(
            task.alert_id, self._parts.clock.now(), "step", step=task.step, machine=task.machine,
            state=task.state.value, by=task.approved_by or task.by,
            detail="; ".join(t for t in (task.says, task.reason) if t)[:500])

    @staticmethod
    def _file(task: Task) -> str:
        """Two machines may have one name: the hash tells them apart."""
        machine = "".join(c if c.isalnum() or c in "-." else "-" for c in short(task.machine))
        told = (
            f"{machine[:50]}.{hashlib.sha256(task.machine.encode()).hexdigest()[:6]}" if machine else "alert"
        )
        return f"{told}-{task.step}{'-change' if task.phase is Phase.ACT else ''}.json"

    @staticmethod
    def _evidence(work: Work, outcome: Finding | Later | Over, facts: Any) -> bytes:
        """All of it, as a file: the same bytes if a crash has it written again."""
        task = work.task
        found = outcome if isinstance(outcome, Finding) else Finding(
            outcome[1] if isinstance(outcome, tuple) else "")
        return json.dumps({
            "alert": task.alert_id, "machine": task.machine, "step": task.step, "phase": task.phase.value,
            "begun": utc(task.phase_begun or work.now), "by": task.approved_by or task.by, "says": found.says,
            "signs": [s.to_json() for s in found.signs], "facts": facts,
        }, default=str, indent=1, ensure_ascii=False).encode(errors="replace")
