"""What is looked at under the lease before anything is written: each check may change blocks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from remediation.clock import Deadline
from remediation.cloud.activity import Change
from remediation.commit.parts import Parts, Round
from remediation.drift import judge_drift, yields
from remediation.errors import RemediationError
from remediation.guardrails import questions, refusal
from remediation.ledger import Block, Lease, claim_of
from remediation.log import say
from remediation.model import BlockKey, BlockState, Direction, utc
from remediation.nsg import collapse, digest, family_of
from remediation.owned import is_parked, room_for
from remediation.prefixes import network

_log = logging.getLogger(__name__)

MOST_HOSTS = 4096
ACTIVITY_SECONDS = 3.0
ADOPTED_LIFETIME = timedelta(hours=24)


def adopt(parts: Parts, lease: Lease, work: Round) -> None:
    """A rule of ours with addresses that have no row. Nobody here remembers it: the ledger was lost,
    an old holder's write landed late, a template brought it back; or it is as we left it, and the
    rows are gone. Its addresses are kept for a day, and a human is told."""
    known = {(b.key.direction, b.key.address) for b in work.blocks}
    remembered = lease.memory.get("rules") or {}
    for rule in work.nsg.rules:
        if not parts.ownership.owns(rule) or is_parked(rule):
            continue
        kept = remembered.get(rule.name)
        if kept is not None and kept["digest"] != digest(rule):
            continue  # someone changed it: that is drift
        orphans = [a for a in _hosts(rule.remote) if (rule.direction, a) not in known]
        adopted = [
            Block(key=BlockKey(work.nsg.id, rule.direction, a), state=BlockState.ACTIVE,
                  lifetime=ADOPTED_LIFETIME, decisive=False, first_claimed=work.now,
                  claimed=work.now, first_proven=work.now, proven=work.now,
                  expires=work.now + ADOPTED_LIFETIME, rule=rule.name, priority=rule.priority,
                  detail="adopted: no ledger row")
            for a in orphans
        ]
        if adopted:
            saved, _ = parts.ledger.blocks.save(adopted)
            work.blocks += saved
            parts.notifier.tell(
                "adopted", f"{len(saved)} addresses in {rule.name} had no ledger row; kept for "
                "24 h", nsg=work.nsg.id, addresses=orphans[:50],
            )


def guard(parts: Parts, work: Round) -> None:
    """The guardrails once more, for every address about to be denied."""
    rails = parts.policy.guardrails
    asked: dict[str, list[Block]] = {}
    for block in work.blocks:
        if not block.wanted:
            continue
        reason = refusal(block.key.address, rails, work.around)
        in_force = parts.in_force(block, work.nsg)
        if reason:
            work.set(replace(block, state=BlockState.LIFTING if in_force else
                             BlockState.FAILED, detail=f"guardrail: {reason}"))
            parts.notifier.tell(
                "guardrail", f"{block.key.address} is not blocked: {reason}",
                nsg=block.key.nsg_id, alerts=list(block.alerts),
            )
            continue
        if block.state is not BlockState.PENDING:
            continue
        asks = questions(block.key.address, rails, work.around, work.nsg, work.now)
        asks += (block.overridden,) if block.overridden else ()
        held = work.around.holds.get(block.key.address)
        overtaken = held is not None and held.until > work.now and block.claimed is not None and (
            held.since > block.claimed)
        if in_force and overtaken and held is not None:
            # Claimed in the moment before a person revoked it: the person's word is the later.
            work.set(replace(block, state=BlockState.LIFTING, revoked_by=held.by,
                             revoke_reason=held.reason))
        elif not in_force and asks and (overtaken or not block.approved_by):
            asked.setdefault(block.alerts[-1], []).append(replace(block, asks=asks))
    for block in _over_cap(parts, work, {b.key for many in asked.values() for b in many}):
        asked.setdefault(block.alerts[-1], []).append(block)
    for alert_id, blocks in asked.items():
        question = parts.approvals.ask(alert_id, [claim_of(b) for b in blocks], salt=utc(work.now))
        for block in blocks:
            work.set(replace(block, state=BlockState.WAITING, question=question))


def _over_cap(parts: Parts, work: Round, asked: set[BlockKey]) -> list[Block]:
    """Blocks never proven, unapproved, for which the NSG's cap has no room: counted here, under the
    lease, whoever claimed them."""
    def settled(block: Block) -> bool:
        return bool(block.approved_by) or parts.in_force(block, work.nsg)

    standing = {b.key.address for b in work.current() if b.wanted and settled(b)}
    over = []
    for block in sorted(work.current(), key=lambda b: b.claimed or work.now):
        fresh = block.state is BlockState.PENDING and not settled(block)
        if not fresh or block.key in asked or block.key.address in standing:
            continue
        most = parts.policy.caps_for(block.alert_type).addresses_per_nsg
        if len(standing) < most:
            standing.add(block.key.address)
        else:
            over.append(replace(block, asks=(f"more than {most} addresses on one NSG",)))
    return over


def own_name_taken(parts: Parts, work: Round) -> None:
    """A rule with our name but without our marker is someone else's: never touched."""
    taken = {r.name.lower() for r in work.nsg.rules if parts.ownership.claims_name(r)}
    for block in work.current():
        name = parts.slot(block)
        if block.wanted and name in taken:
            detail = f"rule {name} is there without our marker: not ours to change"
            work.set(replace(block, state=BlockState.FAILED, detail=detail))
            parts.notifier.tell("block-failed", f"{work.nsg.id}: {detail}", nsg=work.nsg.id,
                                alerts=list(block.alerts))


def drift(parts: Parts, lease: Lease, work: Round, deadline: Deadline) -> None:
    """Rules of ours that someone changed: put back once; a person's second word is obeyed, a
    program's if the policy says so."""
    for one in judge_drift(lease.memory, work.nsg, parts.ownership, work.now):
        work.drifted.add(one.rule)
        change = _last_change(parts, work, one.rule, deadline)
        by = change.caller if change else "unknown"
        left = yields(one, change.by_person if change else None, parts.policy.pipeline_drift)
        parts.notifier.tell(
            "drift",
            f"{work.nsg.id}: our rule {one.rule} was {one.what} by {by}; "
            + ("left so, its blocks are overridden" if left else "its blocks are brought back"),
            nsg=work.nsg.id, rule=one.rule, by=by, repeated=one.repeated,
            alerts=sorted({a for b in work.current() if parts.slot(b) == one.rule for a in b.alerts}),
        )
        if not left:
            continue
        for block in work.current():
            mine = parts.slot(block) == one.rule and block.wanted and block.proven
            if mine and not parts.stands(block, work.nsg):  # moved or widened, it takes nothing back
                work.set(replace(block, state=BlockState.OVERRIDDEN, proven=None,
                                 overridden=f"{by} {one.what} the rule of an earlier block twice",
                                 detail=f"{one.what} twice by {by}"))


def _last_change(parts: Parts, work: Round, rule: str, deadline: Deadline) -> Change | None:
    try:
        return parts.activity.last_change(
            work.nsg.id, rule, work.now, deadline.within(ACTIVITY_SECONDS))
    except RemediationError as error:  # who it was is good to know; the rule is needed now
        say(_log, "activity-log", level=logging.WARNING, nsg=work.nsg.id, error=str(error))
        return None


def fit(parts: Parts, work: Round) -> None:
    """Keep within the NSG's limits: what does not fit fails, the oldest blocks stay."""
    _rules_fit(parts, work)
    for direction in Direction:
        room = room_for(work.nsg, parts.ownership, direction)
        mine = [b for b in work.current() if b.wanted and b.key.direction is direction]
        if len(mine) <= room:
            continue
        mine.sort(key=lambda b: (b.proven is None, b.first_claimed or work.now))
        kept: list[str] = []
        for block in mine:
            trial = [*kept, block.key.address]
            if _prefixes(trial) <= room:
                kept = trial
                continue
            detail = f"no room: {room} addresses may stand in our {direction} rules here"
            work.set(replace(block, state=BlockState.FAILED, detail=detail))
            parts.notifier.tell("no-capacity", f"{work.nsg.id}: {block.key.address}: {detail}",
                                nsg=work.nsg.id, alerts=list(block.alerts))


def _rules_fit(parts: Parts, work: Round) -> None:
    """An NSG holds so many rules: a rule of ours that would be one more than that fails."""
    present = {r.name for r in work.nsg.rules}
    for slot in sorted({parts.slot(b) for b in work.current() if b.wanted} - present):
        if len(present) < work.nsg.limits.rules:
            present.add(slot)
            continue
        detail = f"no room: the NSG has {len(work.nsg.rules)} rules of {work.nsg.limits.rules}"
        mine = [b for b in work.current() if b.wanted and parts.slot(b) == slot]
        for block in mine:
            work.set(replace(block, state=BlockState.FAILED, detail=detail))
        parts.notifier.tell("no-capacity", f"{work.nsg.id}: {detail}", nsg=work.nsg.id,
                            alerts=sorted({a for b in mine for a in b.alerts}))


def _prefixes(addresses: Sequence[str]) -> int:
    return sum(len(collapse(a for a in addresses if family_of(a) == f)) for f in (4, 6))


def _hosts(prefixes: Iterable[str]) -> list[str]:
    """The single addresses of a rule's prefixes; collapsing made them, so they are few."""
    found: list[str] = []
    for text in prefixes:
        net = network(text)
        if net is not None and net.num_addresses <= MOST_HOSTS:
            found += [str(a) for a in net]
    return found
