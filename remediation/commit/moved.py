"""The NSG is not where it was: it has moved to another group or subscription, or is deleted.

A move keeps the NSG's name and its rules, ours among them, under a new id. So an NSG of the same
name whose owned rules name one of our live addresses is the same NSG, and the blocks follow it.
Resource Graph lags, so an NSG that is nowhere to be seen counts as deleted only after a while.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from remediation.clock import Deadline
from remediation.commit.marks import note
from remediation.commit.parts import Parts
from remediation.errors import PermanentError
from remediation.ledger import Block, Lease
from remediation.log import say
from remediation.model import BlockState, ResourceId, Target, from_utc, utc
from remediation.nsg import Nsg
from remediation.topology import WAF_POLICY, kind_of

_log = logging.getLogger(__name__)

PATIENCE = timedelta(minutes=10)
"""So long an NSG may be missing everywhere: Resource Graph shows a move after some minutes."""

AGAIN = timedelta(minutes=1)
FOLLOW = timedelta(seconds=5)
SINCE = "missing_since"


def look_elsewhere(
    parts: Parts, lease: Lease, blocks: Sequence[Block], deadline: Deadline
) -> str:
    """Follow the NSG, or end its blocks → the id it has now, '' if it is not found."""
    now = parts.clock.now()
    standing = [b for b in blocks if b.written or b.proven]
    found = _candidates(parts, lease.nsg_id, standing, deadline)
    if len(found) == 1:
        _follow(parts, lease, blocks, found[0])
        return found[0].id
    _gone(parts, [b for b in blocks if b not in standing])
    if not standing:
        lease.memory.clear()
        return ""
    since = from_utc(str(lease.memory.setdefault(SINCE, utc(now))))
    if not found and now - since < PATIENCE:
        parts.ledger.work.nsg(lease.nsg_id, now + AGAIN)
        return ""
    for copy in found:  # which of them was ours cannot be told: each adopts what it holds
        parts.ledger.work.nsg(copy.id, now)
    lease.memory.clear()
    _gone(parts, standing)
    return ""


def _candidates(
    parts: Parts, nsg_id: str, blocks: Sequence[Block], deadline: Deadline
) -> list[Nsg]:
    """NSGs of the same name elsewhere that hold one of our addresses in a rule of ours."""
    old = ResourceId.parse(nsg_id)
    if old is None or not blocks or kind_of(nsg_id) == WAF_POLICY:  # one attached to a gateway stays
        return []
    try:
        rows = parts.graph.rows(
            "moved_nsg", deadline, name=old.name, prefix=parts.ownership.prefix
        )
    except PermanentError as error:
        say(_log, "look-elsewhere", level=logging.WARNING, nsg=nsg_id, error=str(error))
        return []
    found = []
    for there in sorted({str(r.get("id", "")).lower() for r in rows} - {nsg_id, ""}):
        try:
            nsg = parts.guards.read(there, deadline)
        except PermanentError as error:
            say(_log, "look-elsewhere", level=logging.WARNING, nsg=there, error=str(error))
            continue
        if any(_names(parts, b, nsg) for b in blocks):
            found.append(nsg)
    return found


def _names(parts: Parts, block: Block, nsg: Nsg) -> bool:
    rule = parts.rule_of(block, nsg)
    return rule is not None and rule.names(block.key.address)


def _follow(parts: Parts, lease: Lease, blocks: Sequence[Block], nsg: Nsg) -> None:
    """Every live block goes to the NSG's new id; a hint there stands before the first does."""
    now = parts.clock.now()
    parts.ledger.work.nsg(nsg.id, now + FOLLOW)
    parts.ledger.control.move_questions(lease.nsg_id, nsg.id)
    for block in blocks:
        targets = tuple(relocated(t, nsg) for t in block.targets)
        note(parts, block, "moved", now, to=nsg.id)
        parts.ledger.blocks.move(replace(block, targets=targets), nsg.id)
    lease.memory.clear()
    parts.notifier.tell(
        "moved", f"{lease.nsg_id} is {nsg.id} now; {len(blocks)} blocks follow it", nsg=nsg.id,
        before=lease.nsg_id, alerts=sorted({a for b in blocks for a in b.alerts})[:50],
    )


def relocated(target: Target, nsg: Nsg) -> Target:
    """A target whose NIC or subnet has moved as well, found by name among what the NSG guards."""
    return replace(
        target,
        nic_id=_same_name(target.nic_id, nsg.nics, 2),
        subnet_id=_same_name(target.subnet_id, nsg.subnets, 4),
    )


def _same_name(old: str, guarded: Iterable[str], parts: int) -> str:
    tail = old.split("/")[-parts:]
    return next((g for g in sorted(guarded) if g.split("/")[-parts:] == tail), old)


def _gone(parts: Parts, blocks: Sequence[Block]) -> None:
    """The NSG is deleted, and our rules with it: lifts have ended, blocks have failed."""
    now = parts.clock.now()
    failed: list[Block] = []
    for block in blocks:
        if block.state in (BlockState.FAILED, BlockState.OVERRIDDEN):
            continue
        lifting = block.state is BlockState.LIFTING
        ended = BlockState.REVOKED if block.revoked_by else BlockState.LIFTED
        after = replace(
            block,
            state=ended if lifting else BlockState.FAILED,
            ended=now if lifting else None,
            detail="the network security group is gone",
        )
        note(parts, after, after.state.value, now, detail=after.detail)
        saved, _ = parts.ledger.blocks.save([after])
        for one in saved:
            if lifting:
                parts.ledger.blocks.end(one)
            elif block.state is not BlockState.WAITING:
                failed.append(one)
    if failed:
        nsg_id = failed[0].key.nsg_id
        parts.notifier.tell("block-failed", f"{nsg_id} is gone, and its blocks with it", nsg=nsg_id,
                            alerts=sorted({a for b in failed for a in b.alerts}))
