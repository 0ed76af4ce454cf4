"""Questions to people about blocks: one per alert and set of blocks, single use, expiring."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from remediation.clock import Clock
from remediation.ledger import Approval, Ledger
from remediation.ledger.work import APPROVAL
from remediation.model import BlockKey
from remediation.notify import Notifier
from remediation.policy import Policy


class Approvals:
    """Asks. The answers come over HTTP, to the responder."""

    def __init__(self, ledger: Ledger, policy: Policy, notifier: Notifier, clock: Clock) -> None:
        self._ledger = ledger
        self._policy = policy
        self._notifier = notifier
        self._clock = clock

    def ask(self, alert_id: str, keys: Sequence[BlockKey], asks: Sequence[str], salt: str) -> None:
        """Record the question before the blocks wait for it, and tell a human. Asking the same
        again (`salt` tells one occasion from another) changes nothing."""
        now = self._clock.now()
        text = "|".join([alert_id, salt, *sorted(k.id for k in keys)])
        approval = Approval(
            id=hashlib.sha256(text.encode()).hexdigest()[:24],
            alert_id=alert_id,
            state="open",
            keys=tuple(keys),
            asks=tuple(dict.fromkeys(asks)),
            created=now,
            expires=now + self._policy.guardrails.approval_lifetime,
        )
        self._ledger.work.hint(APPROVAL, approval.id, approval.expires)
        self._ledger.control.ask(approval)
        self._notifier.tell(
            "approval", f"{len(keys)} blocks wait for approval: {'; '.join(approval.asks)}",
            alert=alert_id, approval=approval.id,
            addresses=sorted({k.address for k in keys}),
        )
