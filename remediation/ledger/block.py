"""A block as the ledger holds it, a claim on one, and how claims change blocks. Pure.

`merge_claim` is the rule of how a report changes a block: it starts, prolongs or waits, and never
doubles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from remediation.model import WANTED_STATES, BlockKey, BlockState, Direction, Target, Weak, utc
from remediation.topology import UNLISTED, hider

KEEP_ALERTS = 10
KEEP_WEAK = 40
KEEP_TARGETS, KEEP_ASKED = 400, 60
"""Machines that a block remembers; and a claim in a question, which may hold many claims."""


class Sessions(StrEnum):
    """What is known of sessions with the attacker that were there before the block."""

    UNKNOWN = ""
    MAY_REMAIN = "may remain"
    CUT = "cut"
    NOT_CUT = "not cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block as the ledger holds it. Times are None until they happened."""

    key: BlockKey
    state: BlockState
    lifetime: timedelta
    decisive: bool
    targets: tuple[Target, ...] = ()
    alerts: tuple[str, ...] = ()
    alert_type: str = ""
    reports: int = 0
    first_claimed: datetime | None = None
    claimed: datetime | None = None
    written: datetime | None = None
    first_proven: datetime | None = None
    proven: datetime | None = None
    expires: datetime | None = None
    ended: datetime | None = None
    rule: str = ""
    priority: int = 0
    detail: str = ""
    shadowed_by: str = ""
    asks: tuple[str, ...] = ()
    question: str = ""
    overridden: str = ""
    approved_by: str = ""
    revoked_by: str = ""
    revoke_reason: str = ""
    sessions: Sessions = Sessions.UNKNOWN
    weak: tuple[Weak, ...] = ()
    """The NICs for which it does not hold, though it is written."""
    each: bool = False
    """Was every machine looked at by itself? Then it holds for those that are not `weak`."""
    attempts: int = 0
    retry_at: datetime | None = None
    etag: str = ""

    @property
    def wanted(self) -> bool:
        """Its address belongs in the owned rule."""
        return self.state in WANTED_STATES

    def due(self, now: datetime) -> bool:
        """Proven, and its time is up."""
        return (
            self.state in (BlockState.ACTIVE, BlockState.SHADOWED)
            and self.expires is not None
            and self.expires <= now
        )

    def to_json(self) -> dict[str, Any]:
        """For the API: plain data, times as text."""
        times = ("first_claimed", "claimed", "written", "first_proven", "proven", "expires", "ended")
        return {
            "id": self.key.id,
            "nsg": self.key.nsg_id,
            "direction": self.key.direction.value,
            "address": self.key.address,
            "state": self.state.value,
            "lifetimeSeconds": int(self.lifetime.total_seconds()),
            "decisive": self.decisive,
            "machines": sorted({t.machine_id for t in self.targets}),
            "alerts": list(self.alerts),
            "reports": self.reports,
            "rule": self.rule,
            "priority": self.priority,
            "detail": self.detail,
            "shadowedBy": self.shadowed_by,
            "sessions": self.sessions.value,
            "asks": list(self.asks),
            "question": self.question,
            "approvedBy": self.approved_by,
            "revokedBy": self.revoked_by,
            "revokeReason": self.revoke_reason,
            "times": {
                _camel(t): utc(at) for t in times if (at := getattr(self, t)) is not None
            },
        }


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(r.title() for r in rest)


@dataclass(frozen=True, slots=True)
class Claim:
    """One alert's wish for one block. `asks`: what a person must settle first, in the question of
    that id. `explicit`: a person replays or approves it, so that it prolongs even if this alert did
    before."""

    key: BlockKey
    alert_id: str
    alert_type: str
    lifetime: timedelta
    decisive: bool
    targets: tuple[Target, ...]
    asks: tuple[str, ...] = ()
    explicit: bool = False
    approved_by: str = ""
    question: str = ""
    at: datetime | None = None
    """When the wishes behind it were read, if not just now: a younger hold wins over it."""


def claim_of(block: Block) -> Claim:
    """The claim that would make this block again: what a question keeps of it."""
    return Claim(
        block.key, block.alerts[-1] if block.alerts else "", block.alert_type, block.lifetime,
        block.decisive, block.targets, block.asks,
    )


def claim_to_json(claim: Claim) -> list[Any]:
    """A claim as a question keeps it."""
    return [
        claim.key.nsg_id, claim.key.direction.value, claim.key.address, claim.alert_id,
        claim.alert_type, claim.lifetime.total_seconds(), claim.decisive,
        targets_to_json(claim.targets[-KEEP_ASKED:]),
        list(claim.asks),
    ]


def claim_from_json(data: Sequence[Any]) -> Claim:
    """The inverse of `claim_to_json`."""
    nsg, direction, address, alert, kind, seconds, decisive, targets, asks = data
    return Claim(
        BlockKey(nsg, Direction(direction), address), alert, kind, timedelta(seconds=seconds),
        decisive, targets_from_json(targets), tuple(asks),
    )


def targets_to_json(targets: Sequence[Target]) -> list[list[Any]]:
    """The newest targets as plain data."""
    return [[t.machine_id, t.nic_id, t.subnet_id, list(t.addresses), t.hidden, *([True] if t.proxied else [])]
            for t in targets[-KEEP_TARGETS:]]


def targets_from_json(data: Iterable[Sequence[Any]]) -> tuple[Target, ...]:
    """The inverse of `targets_to_json`."""
    return tuple(Target(m, n, s, tuple(a), *more) for m, n, s, a, *more in data)


def weak_to_json(weak: Sequence[Weak]) -> dict[str, Any]:
    """Many have one reason: each reason once."""
    reasons = list(dict.fromkeys((w.outcome, w.rule, w.detail) for w in weak[:KEEP_WEAK]))
    return {"why": reasons,
            "nics": [[w.nic_id, reasons.index((w.outcome, w.rule, w.detail))] for w in weak[:KEEP_WEAK]]}


def weak_from_json(data: Mapping[str, Any]) -> tuple[Weak, ...]:
    """The inverse of `weak_to_json`."""
    return tuple(Weak(nic, *data["why"][n]) for nic, n in data.get("nics") or ())


def merge_claim(block: Block | None, claim: Claim, now: datetime) -> Block | None:
    """The block after this claim; None if nothing changes.

    A new report of an active block makes it `pending` again: the commit proves it anew and counts
    its lifetime from that proof. The same alert again changes nothing, but that a body which asks
    nothing takes its block out of waiting: Defender has confirmed what an altered body accused; and that
    what was not known of its machines, and is now, is proven anew.
    """
    if block is None:
        return Block(
            key=claim.key,
            state=BlockState.WAITING if claim.asks else BlockState.PENDING,
            lifetime=claim.lifetime,
            decisive=claim.decisive,
            targets=claim.targets,
            alerts=(claim.alert_id,),
            alert_type=claim.alert_type,
            reports=1,
            first_claimed=now,
            claimed=claim.at or now,
            asks=claim.asks,
            question=claim.question,
            approved_by=claim.approved_by,
        )
    settled = block.state is BlockState.WAITING and not claim.asks
    still_pending = block.state is BlockState.PENDING  # what was approved is not written yet
    learnt = not claim.asks and _learnt(block.targets, claim.targets)
    if claim.alert_id in block.alerts and not (claim.explicit or settled or learnt):
        return None
    state, asks, question = block.state, block.asks, block.question
    if not claim.asks:
        state, asks, question = BlockState.PENDING, (), claim.question
    elif state in (BlockState.FAILED, BlockState.WAITING, BlockState.OVERRIDDEN):
        state, asks, question = BlockState.WAITING, claim.asks, claim.question
    # Else it is in force, or on its way out: neither waits for the answer, which claims anew.
    return replace(
        block,
        state=state,
        asks=asks,
        question=question,
        overridden="" if claim.explicit else block.overridden,
        lifetime=max(block.lifetime, claim.lifetime),
        decisive=block.decisive or claim.decisive,
        targets=_merged(block.targets, claim.targets),
        alerts=(*(a for a in block.alerts if a != claim.alert_id), claim.alert_id)[-KEEP_ALERTS:],
        reports=block.reports + 1,
        claimed=claim.at or now,
        approved_by=claim.approved_by or (block.approved_by if still_pending else ""),
        revoked_by="" if state is BlockState.PENDING else block.revoked_by,
        attempts=0,
        retry_at=None,
        sessions=block.sessions if _cut_for_good(block) else Sessions.UNKNOWN,
    )


def _cut_for_good(block: Block) -> bool:
    """Its sessions are cut, and the rule has stood since: no new ones began."""
    standing = block.state in (BlockState.ACTIVE, BlockState.PENDING) and not block.shadowed_by
    return block.sessions is Sessions.CUT and standing


def _learnt(old: Sequence[Target], new: Sequence[Target]) -> bool:
    """Was a gateway list missing when a machine was first seen, and is there now?"""
    missing = hider(UNLISTED)
    blind = {t.nic_id for t in old if missing in t.hidden}
    return any(t.nic_id in blind and missing not in t.hidden for t in new)


def _merged(old: Sequence[Target], new: Sequence[Target]) -> tuple[Target, ...]:
    """Targets by NIC, the newer view of each; but what is known to stand before one is not forgotten for
    want of a list."""
    missing = hider(UNLISTED)
    by_nic = {t.nic_id: t for t in old}
    for target in new:
        there = by_nic.get(target.nic_id)
        if there is not None and missing in target.hidden and missing not in there.hidden:
            target = replace(target, hidden=there.hidden)  # noqa: PLW2901 - the newer view, with what it lacks
        by_nic[target.nic_id] = target
    return tuple(by_nic.values())


def merge_moved(there: Block, old: Block) -> Block:
    """The block under the NSG's new id, with the alerts and the longer life of the one that moved.
    One that was only adopted there knows nothing of its own."""
    if not there.alerts:
        return replace(old, etag=there.etag)
    expires = max((t for t in (there.expires, old.expires) if t is not None), default=None)
    alerts = dict.fromkeys((*old.alerts, *there.alerts))
    return replace(
        there, expires=expires, alerts=tuple(alerts)[-KEEP_ALERTS:],
        targets=_merged(old.targets, there.targets),
    )
