"""Questions to people: about blocks, one per alert and set of blocks, and about what a step would change in a
machine; single use, expiring.

A question keeps the claims it is about. A yes claims them anew, whatever became of the blocks
meanwhile; a no ends the blocks that still wait for this very question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from remediation.clock import Clock
from remediation.investigation.task import Task
from remediation.ledger import Approval, Claim, Ledger
from remediation.ledger.work import APPROVAL
from remediation.model import utc
from remediation.notify import Notifier
from remediation.policy import Policy


class Approvals:
    """Asks. The answers come over HTTP, to the responder."""

    def __init__(self, ledger: Ledger, policy: Policy, notifier: Notifier, clock: Clock) -> None:
        self._ledger = ledger
        self._policy = policy
        self._notifier = notifier
        self._clock = clock

    def ask(self, alert_id: str, claims: Sequence[Claim], salt: str) -> str:
        """Record the question before the blocks wait for it, and tell a human → its id.

        Asking the same again while it is open changes nothing (`salt` tells one occasion from
        another); once it is answered or expired it is another question.
        """
        now = self._clock.now()
        text = "|".join([alert_id, salt, *sorted(c.key.id for c in claims)])
        before = self._ledger.control.approval(_id(text))
        if before is not None:
            if before.state == "open" and before.expires > now:
                return before.id
            text = f"{text}|{utc(now)}"
        approval = Approval(
            id=_id(text), alert_id=alert_id, state="open", claims=tuple(claims),
            asks=tuple(dict.fromkeys(a for c in claims for a in c.asks)), created=now,
            expires=now + self._policy.guardrails.approval_lifetime,
        )
        # Told first: a crash in between has it told twice, never not at all.
        self._notifier.tell(
            "approval", f"{len(claims)} blocks wait for approval: {'; '.join(approval.asks)}",
            alerts=[alert_id], approval=approval.id,
            addresses=sorted({c.key.address for c in claims}),
        )
        self._ledger.work.hint(APPROVAL, approval.id, approval.expires)
        self._ledger.control.ask(approval)
        return approval.id

    def ask_for_step(self, task: Task, wants: str, changes: str) -> Approval:
        """May this step change the machine? The same question while it is open; else another."""
        now = self._clock.now()
        text = f"{task.alert_id}|{task.key}|{task.begun}"
        before = self._ledger.control.approval(_id(text))
        if before is not None:
            if before.state == "open" and before.expires > now:
                return before
            text = f"{text}|{utc(now)}"
        approval = Approval(
            id=_id(text), alert_id=task.alert_id, state="open", claims=(), asks=(f"{wants} ({changes})",),
            created=now, expires=now + self._policy.inquiry.question, tasks=((task.machine, task.step),),
            by=task.by)
        self._notifier.tell("approval", f"a change in a machine waits for approval: {approval.asks[0]}",
                            alerts=[task.alert_id], approval=approval.id)
        self._ledger.work.hint(APPROVAL, approval.id, approval.expires)
        self._ledger.control.ask(approval)
        return approval


def _id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
