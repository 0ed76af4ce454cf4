"""Blocks marked in the ledger, and every change told in the timelines of the alerts behind them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from remediation.commit.parts import Parts, Round
from remediation.errors import PermanentError
from remediation.ledger import Block
from remediation.log import say
from remediation.model import ENDED_STATES, BlockState, utc

_log = logging.getLogger(__name__)

LIFT_RETRY = timedelta(hours=1)
_ACTION = {BlockState.ACTIVE: "proven", BlockState.SHADOWED: "shadowed"}


def save(parts: Parts, work: Round) -> bool:
    """Mark all changed blocks; True if some were changed by others meanwhile.

    The timeline comes first: a crash in between has it told twice, never not at all. That a rule was written,
    and no more, is told with what comes of it.
    """
    before = {b.key: b for b in work.blocks}
    told: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for block in work.changed.values():
        if replace(before[block.key], written=block.written) == block:
            continue
        facts = _facts(
            block, before=before[block.key].state.value, rule=block.rule, priority=block.priority,
            detail=block.detail, written=utc(block.written) if block.written else "",
            expires=utc(block.expires) if block.expires else "",
        )
        for alert_id in block.alerts:
            told.setdefault(alert_id, []).append(
                (_ACTION.get(block.state, block.state.value), facts))
    for alert_id, actions in told.items():
        parts.ledger.alerts.notes(alert_id, parts.clock.now(), actions)
    saved, lost = parts.ledger.blocks.save(work.changed.values())
    for block in saved:
        first: dict[str, Any] = {}
        if block.claimed is not None and block.proven is not None and block.proven == block.first_proven:
            seconds = (block.proven - block.claimed).total_seconds()
            first = {"decisive": block.decisive, "seconds": round(seconds, 2)}
        say(_log, "block", alerts=block.alerts, state=block.state.value, nsg=block.key.nsg_id,
            direction=block.key.direction.value, address=block.key.address, detail=block.detail,
            **first)
        if block.ended is not None:
            parts.ledger.blocks.end(block)
    if lost:
        say(_log, "changed-by-others", nsg=work.nsg.id, blocks=len(lost))
    work.blocks = [b for b in work.blocks if b.key.id not in work.changed] + [
        b for b in saved if b.ended is None
    ]
    work.changed = {}
    return bool(lost)


def note(parts: Parts, block: Block, action: str, at: datetime, **facts: Any) -> None:
    """The action in the timeline of the alerts behind the block (the row keeps the newest ten)."""
    for alert_id in block.alerts:
        parts.ledger.alerts.note(alert_id, at, action, **_facts(block, **facts))


def _facts(block: Block, **more: Any) -> dict[str, Any]:
    return {
        "block": block.key.id, "nsg": block.key.nsg_id, "direction": block.key.direction.value,
        "address": block.key.address, "by": "responder", **more,
    }


def live(parts: Parts, nsg_id: str) -> list[Block]:
    """The live blocks; those that ended, and whose move a crash prevented, are moved now."""
    blocks = parts.ledger.blocks.live(nsg_id)
    for block in blocks:
        if block.state in ENDED_STATES:
            parts.ledger.blocks.end(block)
    return [b for b in blocks if b.state not in ENDED_STATES]


def start_lifting(parts: Parts, blocks: list[Block], now: datetime) -> tuple[list[Block], bool]:
    """Blocks whose time is up become `lifting` in the ledger before anything is written."""
    due = [replace(b, state=BlockState.LIFTING) for b in blocks if b.due(now)]
    saved, lost = parts.ledger.blocks.save(due)
    fresh = {b.key: b for b in saved}
    return [fresh.get(b.key, b) for b in blocks], bool(lost)


def fail(
    parts: Parts, blocks: Iterable[Block], error: PermanentError, now: datetime, *, missing: bool
) -> list[Block]:
    """Azure says no → the blocks that this changes. What is not in force fails, what was proven
    keeps its old term; `missing`: none of these is in force any more. A lift is never given up, it
    is tried again hourly. A human is told, of a lift once a day."""
    text = str(error)[:500]
    changed: list[Block] = []
    told: list[Block] = []
    for block in blocks:
        term = block.proven is not None and block.expires is not None and block.expires > now
        if block.state is BlockState.PENDING and term and not missing:
            held = not block.shadowed_by and not block.detail.startswith("unproven")
            state = BlockState.ACTIVE if held else BlockState.SHADOWED
            changed.append(replace(block, state=state, detail=text))
            told.append(block)
        elif block.state is BlockState.PENDING and not missing and written_since(block):
            if block.detail != text:  # its rule is there, and may not be looked at now: it stays as it is
                changed.append(replace(block, detail=text))
                told.append(block)
        elif block.state is BlockState.PENDING or (missing and block.wanted):
            changed.append(replace(block, state=BlockState.FAILED, detail=text, proven=None))
            told.append(block)
        elif block.state is BlockState.LIFTING or block.due(now):
            changed.append(replace(
                block, state=BlockState.LIFTING, detail=text, attempts=block.attempts + 1,
                retry_at=now + LIFT_RETRY,
            ))
            if block.attempts % 24 == 0:
                told.append(block)
    if told:
        lifting = any(b.state is BlockState.LIFTING for b in told)
        nsg_id = told[0].key.nsg_id
        parts.notifier.tell(
            "lift-failed" if lifting else "block-failed", f"{nsg_id}: {error}", nsg=nsg_id,
            blocks=[b.key.id for b in told],
            alerts=sorted({a for b in told for a in b.alerts}),
        )
    return changed


def written_since(block: Block) -> bool:
    """Was it written since it was claimed last?"""
    return block.written is not None and block.claimed is not None and block.written >= block.claimed
