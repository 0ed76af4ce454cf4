"""What the rules, as read back, say of each block; and Azure's own view, if the policy asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from remediation.clock import Deadline
from remediation.commit.marks import fail
from remediation.commit.parts import ARM_RESERVE_SECONDS, Committed, Parts, Round
from remediation.drift import remember_drift, remembered
from remediation.effective import objection
from remediation.errors import Conflict, RemediationError
from remediation.ledger import Block, Lease
from remediation.ledger.block import KEEP_TARGETS, KEEP_WEAK, Sessions
from remediation.managed import Managed
from remediation.model import BlockState, Target, Weak, utc
from remediation.nsg import Nsg
from remediation.owned import is_parked
from remediation.proof import Outcome, Proof, prove, weak_ones
from remediation.topology import WAF_POLICY, kind_of

CONFIRMED = "confirmed by Azure's effective rules"
VIEW_SECONDS = 12.0
ASKED_AT_MOST, LOOKED_AT_EACH = 3, 100


def judge(
    parts: Parts, lease: Lease, work: Round, result: Committed, deadline: Deadline
) -> None:
    """Judge every block by the rules as read back, and remember the rules as proven."""
    now = parts.clock.now()
    azure = _AzuresView(parts, lease, deadline)
    managed = _managed(parts, lease, work, deadline)
    refused: dict[str, list[Block]] = {}
    for block in work.current():
        slot = parts.slot(block)
        if block.state is BlockState.LIFTING:
            settled = _judge_lifted(parts, block, work, now, result)
        elif block.wanted:
            settled = _judge_block(parts, block, work, now, result, azure, managed)
        else:
            continue
        if not settled and slot in work.refused:
            refused.setdefault(slot, []).append(block)
        elif not settled and slot in work.deferred:
            work.again = True
        elif not settled and not (work.lifts_only and block.wanted):
            raise Conflict(f"{work.nsg.id}: {block.key.address} is not in {slot} as it was written")
    for slot, blocks in refused.items():
        for block in fail(parts, blocks, work.refused[slot], now, missing=True):
            work.set(block)
    owned = {r.name: remembered(r) for r in work.nsg.rules if parts.ownership.owns(r)}
    # While acting is paused a rule that someone took away is not judged: it stays to be.
    unjudged = (lease.memory.get("rules") or {}) if work.lifts_only else {}
    lease.memory["rules"] = {**unjudged, **owned}
    lease.memory["checked"] = utc(now)
    lease.memory.pop("attempt", None)
    remember_drift(lease.memory, work.drifted, now)


def _managed(parts: Parts, lease: Lease, work: Round, deadline: Deadline) -> Managed:
    """What lies over the networks of the machines to be judged. A WAF sees requests: nothing lies over it."""
    if kind_of(work.nsg.id) == WAF_POLICY:
        return {}
    limit = deadline.within(max(0.0, lease.left(parts.clock) - ARM_RESERVE_SECONDS))
    return parts.managed.over((t for b in work.current() if b.wanted for t in b.targets), limit)


def _judge_block(
    parts: Parts, block: Block, work: Round, now: datetime, result: Committed, azure: _AzuresView,
    managed: Managed,
) -> bool:
    """False if the block's address is in no rule of ours."""
    attached = [t for t in block.targets
                if t.subnet_id in work.nsg.subnets or t.nic_id in work.nsg.nics]
    proof = prove(work.nsg, block.key, attached or block.targets, parts.ownership, managed)
    rule = parts.rule_of(block, work.nsg)
    if proof.outcome is Outcome.DETACHED:
        work.set(replace(block, state=BlockState.FAILED, detail=proof.detail))
        work.again = True  # its address leaves the rule
        parts.notifier.tell("block-failed", f"{block.key.address}: {proof.detail}",
                            nsg=work.nsg.id, alerts=list(block.alerts))
        return True
    if proof.outcome is Outcome.MISSING:
        return False
    if proof.effective and parts.policy.azure_confirms:
        proof = azure.second(proof, block, attached)
    state = BlockState.ACTIVE if proof.effective else BlockState.SHADOWED
    fresh = block.state is BlockState.PENDING
    lost = _lost(block, work.nsg)
    same = not fresh and state is block.state and proof.detail == block.detail
    if same and lost == tuple(w for w in block.weak if w.outcome == Outcome.DETACHED):
        return True
    _tell_of_lost(parts, block, lost)
    weak, whole = _weak(parts, block, work.nsg, proof, managed)
    weak = (*lost, *weak)[:KEEP_WEAK]
    longest = max(now + block.lifetime, block.expires or now)  # a person may have extended it
    work.set(replace(
        block, state=state, rule=rule.name if rule else "", detail=proof.detail,
        priority=rule.priority if rule else 0,
        shadowed_by=proof.rule if proof.outcome is Outcome.SHADOWED else "",
        weak=weak, each=whole and len(block.targets) < KEEP_TARGETS,
        sessions=(block.sessions or Sessions.MAY_REMAIN) if proof.effective else Sessions.UNKNOWN,
        proven=now, first_proven=block.first_proven or now,
        expires=longest if fresh else block.expires,
        asks=(), attempts=0, retry_at=None,
    ))
    result.proven += proof.effective
    result.shadowed += not proof.effective
    unproven = proof.outcome is Outcome.UNPROVEN
    hidden = unproven and not work.nsg.trouble  # so it stands in the network: known before it was written
    held = block.state is BlockState.ACTIVE  # and does so no longer
    if not proof.effective and (block.decisive or held or not hidden):
        parts.notifier.tell(
            "unproven" if unproven else "shadowed",
            f"{block.key.address} is not stopped on {work.nsg.id}: {proof.detail}",
            nsg=work.nsg.id, alerts=list(block.alerts), by=proof.rule,
        )
    return True


def _lost(block: Block, nsg: Nsg) -> tuple[Weak, ...]:
    """The machines that are behind another guard by now."""
    gone = [t for t in block.targets if t.subnet_id not in nsg.subnets and t.nic_id not in nsg.nics]
    return tuple(Weak(t.nic_id, Outcome.DETACHED.value, detail="it is behind another guard by now")
                 for t in gone[:KEEP_WEAK])


def _weak(
    parts: Parts, block: Block, nsg: Nsg, proof: Proof, managed: Managed
) -> tuple[tuple[Weak, ...], bool]:
    """Where a block does not hold for all machines together: whom it does not hold for, and were all looked
    at?"""
    here = [t for t in block.targets if t.subnet_id in nsg.subnets or t.nic_id in nsg.nics]
    if proof.effective or len(here) < 2:
        return (), proof.effective
    found = weak_ones(nsg, block.key, here[:LOOKED_AT_EACH], parts.ownership, managed)
    return found[:KEEP_WEAK], len(here) <= LOOKED_AT_EACH and len(found) <= KEEP_WEAK


def _tell_of_lost(parts: Parts, block: Block, gone: Sequence[Weak]) -> None:
    """A machine that leaves its guard leaves the block behind: people are told once."""
    known = {w.nic_id for w in block.weak if w.outcome == Outcome.DETACHED}
    lost = [w.nic_id for w in gone if w.nic_id not in known]
    if lost:
        parts.notifier.tell(
            "detached", f"{block.key.address} is blocked on {block.key.nsg_id}, which guards these no more; "
            f"replay the alert to block it where they are: {', '.join(lost[:5])}",
            nsg=block.key.nsg_id, alerts=list(block.alerts))


class _AzuresView:
    """Effective rules, each NIC asked once a round; what was confirmed is not asked again."""

    def __init__(self, parts: Parts, lease: Lease, deadline: Deadline) -> None:
        self._parts = parts
        self._lease = lease
        self._deadline = deadline
        self._seen: dict[str, tuple[Nsg, ...] | str] = {}

    def second(self, proof: Proof, block: Block, targets: Sequence[Target]) -> Proof:
        """The proof after a look at Azure's view of one of the machines' NICs."""
        asked = [t for t in targets if t.addresses][:ASKED_AT_MOST]
        if not asked:  # before an application gateway there is no NIC to ask
            return proof
        if block.state is BlockState.ACTIVE and block.detail == CONFIRMED:
            return replace(proof, detail=CONFIRMED)
        for target in asked:  # Azure answers for running machines only: the next one may run
            view = self._of(target.nic_id)
            if not isinstance(view, str):
                break
        if isinstance(view, str):
            return replace(proof, detail=f"not confirmed by Azure: {view}")
        against = objection(view, block.key, target)
        if against:
            return replace(proof, outcome=Outcome.SHADOWED, detail=against)
        return replace(proof, detail=CONFIRMED)

    def _of(self, nic_id: str) -> tuple[Nsg, ...] | str:
        """What is in effect on the NIC, or why that is not known."""
        if nic_id not in self._seen:
            try:
                left = self._lease.left(self._parts.clock) - ARM_RESERVE_SECONDS
                limit = self._deadline.within(min(left, VIEW_SECONDS))
                if limit.left() < ARM_RESERVE_SECONDS:
                    return "no time was left to ask"  # asked again at the next check
                self._seen[nic_id] = self._parts.network.effective_groups(nic_id, limit)
            except RemediationError as error:
                self._seen[nic_id] = str(error)[:300]
        return self._seen[nic_id]


def _judge_lifted(
    parts: Parts, block: Block, work: Round, now: datetime, result: Committed
) -> bool:
    """Gone from every rule of ours: lifted. False if it still stands in one."""
    rule = parts.rule_of(block, work.nsg)
    if rule is not None and not is_parked(rule) and rule.names(block.key.address):
        return False
    state = BlockState.REVOKED if block.revoked_by else BlockState.LIFTED
    work.set(replace(block, state=state, ended=now, retry_at=None))
    result.lifted += 1
    return True
