"""Sessions that exist: a deny stops new ones, not those (Azure: "existing connections remain
uninterrupted").

Where the policy says `cut_live_flows`, the NSG's `flushConnection` is switched on once the block is proven,
which has Azure judge all flows anew, and then off again. It is remembered with the lease before it is
switched on, so that whoever comes after a crash switches it off. Without it, or where it fails, the block
says that sessions may remain: the guest step that cuts them looks for these.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

from remediation.clock import Deadline
from remediation.commit import marks
from remediation.commit.parts import ARM_RESERVE_SECONDS, Committed, Parts, Round
from remediation.errors import LeaseLost, PermanentError, RemediationError, Unfinished
from remediation.ledger import Lease
from remediation.ledger.block import Sessions
from remediation.ledger.store import LedgerDown
from remediation.log import say
from remediation.model import BlockState
from remediation.nsg import NSG_LIMITS, Nsg

_log = logging.getLogger(__name__)

SWITCHED_ON = "flush"


def switch_off(parts: Parts, lease: Lease, nsg: Nsg, deadline: Deadline) -> bool:
    """What an earlier holder switched on and did not live to switch off → was anything written? Where Azure
    says no, or not now, what there is to block and lift goes on, and it is tried again."""
    if not lease.memory.get(SWITCHED_ON):
        return False
    if nsg.flushes:
        try:
            _flush(parts, lease, nsg.id, deadline, on=False)
        except (LeaseLost, LedgerDown):
            raise
        except RemediationError as error:
            say(_log, "flush-left-on", level=logging.WARNING, nsg=nsg.id, error=str(error))
            if isinstance(error, PermanentError):
                parts.notifier.tell(
                    "flush-left-on", f"{nsg.id}: flushConnection is on and cannot be switched off: {error}",
                    nsg=nsg.id)
            parts.look_again(nsg.id)
            return False
    lease.memory.pop(SWITCHED_ON)
    return True


def cut(parts: Parts, lease: Lease, work: Round, result: Committed, deadline: Deadline) -> bool:
    """Cut the sessions of what is proven now, all blocks in one go → were rows changed by others?"""
    if not parts.policy.cut_live_flows or work.lifts_only or work.nsg.limits is not NSG_LIMITS:
        return False
    mine = [b for b in work.blocks if b.state is BlockState.ACTIVE and b.sessions is Sessions.MAY_REMAIN]
    if not mine:
        return False
    outcome = Sessions.CUT
    try:
        if not work.nsg.flushes:  # else its owner has it on, and our rule's write did it
            parts.ledger.leases.renew(lease, parts.clock, **{SWITCHED_ON: True})
            for on in (True, False):
                result.writes += 1
                _flush(parts, lease, work.nsg.id, deadline, on=on)
            lease.memory.pop(SWITCHED_ON)
    except PermanentError as error:
        outcome = Sessions.NOT_CUT
        alerts = sorted({a for b in mine for a in b.alerts})
        say(_log, "flows-not-cut", level=logging.WARNING, nsg=work.nsg.id, alerts=alerts, error=str(error))
        parts.notifier.tell("flows-not-cut", f"{work.nsg.id}: live sessions may remain: {error}",
                            nsg=work.nsg.id, alerts=alerts)
    for block in mine:
        work.set(replace(block, sessions=outcome))
    return marks.save(parts, work)


def _flush(parts: Parts, lease: Lease, nsg_id: str, deadline: Deadline, *, on: bool) -> None:
    """One PUT of the NSG, no longer than the lease lasts."""
    if deadline.left() < ARM_RESERVE_SECONDS:
        raise Unfinished("the budget ended before the live flows were cut")
    parts.ledger.leases.renew(lease, parts.clock)
    limit = deadline.within(lease.left(parts.clock) - ARM_RESERVE_SECONDS)
    parts.guards.flush(nsg_id, limit, partial(parts.look_again, nsg_id), on=on)
