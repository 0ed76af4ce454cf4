"""What all of an investigation works with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from remediation.alerts import normalise
from remediation.approvals import Approvals
from remediation.clock import Clock
from remediation.cloud.queue import Queue
from remediation.errors import MalformedAlert
from remediation.escalation import Escalation
from remediation.investigation.task import Task
from remediation.ledger import Head, Ledger
from remediation.model import Alert, Mode, Verdict, joined
from remediation.notify import Notifier
from remediation.policy import Policy
from remediation.settings import Settings
from remediation.steps import STEPS
from remediation.steps.step import Tools

SERVICE = "the service"
EVERY_HINT = timedelta(minutes=5)
WATCH = "watch"


@dataclass(frozen=True, slots=True)
class Inquiries:
    """The parts, wired once. `guest_queue`: None where this app has no guest app, or is it."""

    tools: Tools
    queue: Queue
    guest_queue: Queue | None
    approvals: Approvals
    escalation: Escalation
    notifier: Notifier
    policy: Policy
    settings: Settings
    clock: Clock

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return self.tools.ledger

    def send(self, task: Task, wait: float = 0.0) -> bool:
        """Have the task taken up, now or after a while; False if that could not be said."""
        guest = STEPS[task.step].guest
        queue = self.guest_queue if guest and self.guest_queue else self.queue
        return queue.send(task.message, wait)

    def may_change(self, head: Head) -> str:
        """'' if a step may change a machine of this alert after a yes; else why not."""
        if self.settings.mode.reach < Mode.APPROVE.reach:
            return f"the mode is {self.settings.mode}"
        bodies = [self.ledger.alerts.get(head.alert_id, one)
                  for one in dict.fromkeys((head.accusation, *head.covered))]
        if not any(b is not None and b.verdict is Verdict.CONFIRMED and not b.values.get("sample")
                   for b in bodies):
            return "Defender does not confirm the alert, or it is a sample"
        now = self.ledger.investigations.head(head.alert_id)
        return "the alert was dismissed in Defender" if now is None or now.dismissed else ""

    def unasked(self, step: str) -> bool:
        """May the step change a machine without a yes? Only where nothing asks first."""
        return step in self.policy.inquiry.unasked and self.settings.mode is Mode.ENFORCE

    def alert(self, head: Head) -> Alert | None:
        """The alert of an investigation, with the attackers that any of its bodies names; None if its record
        cannot be read any more."""
        found = [a for one in dict.fromkeys((head.accusation, *head.covered))
                 if (a := self._body(head.alert_id, one)) is not None]
        return joined(found) if found else None

    def _body(self, alert_id: str, accusation: str) -> Alert | None:
        record = self.ledger.alerts.get(alert_id, accusation)
        try:
            return normalise(self.ledger.alerts.raw(record)) if record else None
        except MalformedAlert:
            return None
