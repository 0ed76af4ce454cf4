"""Questions to people about blocks: one per alert and set of blocks, single use, expiring.

A question keeps the claims it is about. A yes claims them anew, whatever became of the blocks
meanwhile; a no ends the blocks that still wait for this very question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from remediation.clock import Clock
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


def _id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
