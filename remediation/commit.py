"""Group commit: bring the owned rules of one NSG to what its live blocks want, and prove it.

The holder of the NSG's lease does rounds until nobody knocked during the last one:

    listen → read the blocks → mark what is due as lifting → read the NSG → wanted rules
           → write the difference, the decisive direction first, the lease renewed before each call
           → read back → prove → mark all blocks, move out those that ended

A thousand alerts on one NSG so cost a handful of writes. What cannot be finished within the
budget is left in the rows, with a hint for the sweep and a message for the commit queue.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from remediation.approvals import Approvals
from remediation.clock import Clock, Deadline, bucket
from remediation.cloud.activity import ActivityLog
from remediation.cloud.network import Network, StillRunning
from remediation.drift import Drift, judge_drift, remembered
from remediation.errors import (
    Conflict,
    LeaseLost,
    Locked,
    NotFound,
    PermanentError,
    TemporaryError,
    Unfinished,
)
from remediation.guardrails import Surroundings, questions, refusal
from remediation.ledger import Block, Lease, Ledger
from remediation.ledger.store import LedgerDown
from remediation.ledger.work import NSG
from remediation.model import (
    ENDED_STATES,
    BlockKey,
    BlockState,
    Direction,
    Mode,
    ResourceId,
    utc,
)
from remediation.notify import Notifier
from remediation.nsg import (
    PARKED,
    Family,
    Nsg,
    Ownership,
    Rule,
    Wanted,
    Write,
    collapse,
    contains,
    difference,
    digest,
    family_of,
    is_parked,
    network,
    room_for,
    wanted_rules,
)
from remediation.policy import Policy
from remediation.proof import Outcome, prove
from remediation.settings import Settings
from remediation.surroundings import SurroundingsReader

_log = logging.getLogger(__name__)

ROUNDS = 50
CONFLICTS = 6
COLLECT_SECONDS = 0.5
ARM_RESERVE_SECONDS = 1.0
LIFT_RETRY = timedelta(hours=1)
PAUSED_LOOK = timedelta(minutes=1)
MOST_HOSTS = 4096
LOOK_GRAIN_SECONDS = 5


@dataclass(slots=True)
class Committed:
    """What a run did. `left`: something remains for later."""

    held: bool = False
    writes: int = 0
    proven: int = 0
    shadowed: int = 0
    lifted: int = 0
    left: bool = False
    reason: str = ""


@dataclass(slots=True)
class _Round:
    """One round's working set: the rows as they stand, and what became of each."""

    nsg: Nsg
    blocks: list[Block]
    now: datetime
    around: Surroundings
    changed: dict[str, Block] = field(default_factory=dict)
    again: bool = False

    def set(self, block: Block) -> None:
        """A block's new content, to be saved at the end of the round."""
        self.changed[block.key.id] = block

    def current(self) -> list[Block]:
        """All blocks with the changes of this round."""
        return [self.changed.get(b.key.id, b) for b in self.blocks]


class Commit:
    """Commits NSGs. One instance serves all threads; it keeps no state between runs."""

    def __init__(
        self, ledger: Ledger, network: Network, surroundings: SurroundingsReader,
        activity: ActivityLog, approvals: Approvals, notifier: Notifier, policy: Policy,
        ownership: Ownership, settings: Settings, clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._network = network
        self._surroundings = surroundings
        self._activity = activity
        self._approvals = approvals
        self._notifier = notifier
        self._policy = policy
        self._ownership = ownership
        self._settings = settings
        self._clock = clock

    # --- the lease, and the rounds under it ---

    def run(self, nsg_id: str, deadline: Deadline) -> Committed:
        """Commit one NSG, or knock at who is doing so. Ledger errors are raised."""
        result = Committed()
        lease = self._ledger.leases.take(nsg_id, self._clock)
        if lease is None:
            result.reason = "another holder will see to it"
            return result
        result.held = True
        if lease.taken_over:
            # The old holder's PUT may still land after our proof: look again soon.
            for n in (1, 3):
                self.look_at(nsg_id, self._clock.now() + n * self._recheck)
        try:
            self._hold(lease, deadline, result)
        except LeaseLost as error:
            result.left, result.reason = True, str(error)
            self.look_at(nsg_id, self._clock.now() + self._recheck)
        except LedgerDown:
            raise
        except TemporaryError as error:
            self._leave(lease, error, result)
        except PermanentError as error:
            self._give_up(lease, error, result)
        return result

    @property
    def _recheck(self) -> timedelta:
        return timedelta(seconds=self._settings.recheck_seconds)

    def look_at(self, nsg_id: str, at: datetime, **values: Any) -> None:
        """Leave a hint to commit this NSG then."""
        self._ledger.work.hint(NSG, nsg_id, bucket(at, LOOK_GRAIN_SECONDS), **values)

    def _hold(self, lease: Lease, deadline: Deadline, result: Committed) -> None:
        for _ in range(ROUNDS):
            try:
                self._await_operation(lease, deadline)
                self._ledger.leases.listen(lease)
                again = self._round(lease, deadline, result)
            except StillRunning as running:
                if not running.operation or deadline.left() < ARM_RESERVE_SECONDS * 2:
                    raise
                # The lease set the limit, not the budget: renew it and go on waiting.
                self._ledger.leases.renew(lease, self._clock, operation=running.operation)
                continue
            if again and not deadline.over:
                continue
            if again:
                raise Unfinished("the budget ended while rows were still changing")
            if self._ledger.leases.release(lease):
                return
            if deadline.left() < ARM_RESERVE_SECONDS * 2:
                raise Unfinished("newcomers knocked at the end of the budget")
            self._clock.sleep(min(COLLECT_SECONDS, deadline.left() / 4))
        raise Unfinished("newcomers kept knocking")

    def _await_operation(self, lease: Lease, deadline: Deadline) -> None:
        """Wait for what an earlier round or holder left running."""
        operation = lease.memory.pop("operation", "")
        nsg = ResourceId.parse(lease.nsg_id)
        if operation and nsg is not None:
            limit = deadline.within(lease.left(self._clock) - ARM_RESERVE_SECONDS)
            self._network.wait_for(nsg.subscription, operation, limit)

    def _leave(self, lease: Lease, error: TemporaryError, result: Committed) -> None:
        """Work is left over: hint first, then the message, then let go."""
        result.left, result.reason = True, str(error)
        wait = 0.0 if isinstance(error, Unfinished) else error.retry_after or 5.0
        at = self._clock.now() + timedelta(seconds=wait)
        if isinstance(error, StillRunning):
            lease.memory["operation"] = error.operation
        self.look_at(lease.nsg_id, at)
        self._ledger.leases.drop(lease)
        _log.info("commit of %s goes on later: %s", lease.nsg_id, error)

    def _give_up(self, lease: Lease, error: PermanentError, result: Committed) -> None:
        """Azure says no to the NSG as a whole: all its blocks that wait fail, lifts come again."""
        result.reason = str(error)
        now = self._clock.now()
        changed = self._fail(self._ledger.blocks.live(lease.nsg_id), error, now)
        self._ledger.blocks.save(changed)
        for block in changed:
            self._note(block, "failed" if block.state is BlockState.FAILED else "lift-failed",
                       now, error=str(error)[:500])
        self.look_at(lease.nsg_id, now + LIFT_RETRY)
        self._ledger.leases.drop(lease)

    def _refused(self, write: Write, error: PermanentError, work: _Round) -> None:
        """Azure says no to one rule: its blocks fail, its lifts come again, other rules go on."""
        mine = [b for b in work.current() if self._slot(b) == write.name]
        for block in self._fail(mine, error, work.now):
            work.set(block)

    def _fail(self, blocks: Iterable[Block], error: PermanentError, now: datetime) -> list[Block]:
        """Blocks that wait fail; a lift is never given up, it is tried again hourly. A human is
        told, of a lift once a day."""
        text = str(error)[:500]
        changed: list[Block] = []
        told: list[Block] = []
        for block in blocks:
            if block.state is BlockState.PENDING:
                changed.append(replace(block, state=BlockState.FAILED, detail=text))
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
            self._notifier.tell(
                "lift-failed" if lifting else "block-failed", f"{nsg_id}: {error}", nsg=nsg_id,
                blocks=[b.key.id for b in told],
                alerts=sorted({a for b in told for a in b.alerts}),
            )
        return changed

    def _slot(self, block: Block) -> str:
        """The name of the owned rule that a block belongs in."""
        return self._ownership.name(block.key.direction, family_of(block.key.address))

    # --- one round ---

    def _round(self, lease: Lease, deadline: Deadline, result: Committed) -> bool:
        """True if another round is needed at once."""
        now = self._clock.now()
        paused = self._ledger.control.paused()
        if paused and paused.lift == "none":
            self.look_at(lease.nsg_id, now + PAUSED_LOOK)
            return False
        blocks, lost = self._start_lifting(self._move_out(lease.nsg_id), now)
        # RESPONDER_MODE caps also what was claimed or approved under a bolder one.
        capped = self._settings.mode.reach < Mode.APPROVE.reach
        if paused or capped:  # what is in force stays, what is new waits
            waiting = [b for b in blocks if b.state is BlockState.PENDING and not b.proven]
            if waiting:
                self.look_at(lease.nsg_id, now + PAUSED_LOOK)
            blocks = [b for b in blocks if b not in waiting]
        if not blocks and not lease.memory.get("rules") and "rules" in lease.memory:
            return lost
        nsg = self._read_nsg(lease, blocks, deadline)
        if nsg is None:
            return False
        subscription = ResourceId.parse(lease.nsg_id)
        around = self._surroundings.now(deadline, subscription.subscription if subscription else "")
        work = _Round(nsg, blocks, now, around)
        self._adopt(lease, work)
        self._guard(work)
        self._own_name_taken(work)
        drift = self._drift(lease, work, deadline)
        self._fit(work)
        lost = self._save(work) or lost
        self._write(lease, work, deadline, result)
        self._prove(lease, work, result, drift)
        lost = self._save(work) or lost
        self.schedule(lease.nsg_id, work.blocks)
        return lost or work.again

    def _adopt(self, lease: Lease, work: _Round) -> None:
        """Addresses in a rule of ours that the ledger does not know, seen for the first time: the
        ledger was lost. They are kept for a day, and a human is told."""
        if "rules" in lease.memory:
            return
        known = {(b.key.direction, b.key.address) for b in work.blocks}
        lifetime = timedelta(hours=24)
        for rule in work.nsg.rules:
            if not self._ownership.owns(rule) or is_parked(rule):
                continue
            orphans = [a for a in _hosts(rule.remote) if (rule.direction, a) not in known]
            adopted = [
                Block(key=BlockKey(work.nsg.id, rule.direction, a), state=BlockState.ACTIVE,
                      lifetime=lifetime, decisive=False, first_claimed=work.now, claimed=work.now,
                      first_proven=work.now, proven=work.now, expires=work.now + lifetime,
                      rule=rule.name, priority=rule.priority, detail="adopted: no ledger row")
                for a in orphans
            ]
            if adopted:
                saved, _ = self._ledger.blocks.save(adopted)
                work.blocks += saved
                self._notifier.tell(
                    "adopted", f"{len(saved)} addresses in {rule.name} had no ledger row; kept for "
                    "24 h", nsg=work.nsg.id, addresses=orphans[:50],
                )

    def _move_out(self, nsg_id: str) -> list[Block]:
        """The live blocks; those that ended, and whose move a crash prevented, are moved now."""
        blocks = self._ledger.blocks.live(nsg_id)
        for block in blocks:
            if block.state in ENDED_STATES:
                self._ledger.blocks.end(block)
        return [b for b in blocks if b.state not in ENDED_STATES]

    def _start_lifting(
        self, blocks: list[Block], now: datetime
    ) -> tuple[list[Block], bool]:
        """Blocks whose time is up become `lifting` in the ledger before anything is written."""
        due = [replace(b, state=BlockState.LIFTING) for b in blocks if b.due(now)]
        saved, lost = self._ledger.blocks.save(due)
        fresh = {b.key: b for b in saved}
        return [fresh.get(b.key, b) for b in blocks], bool(lost)

    def _read_nsg(self, lease: Lease, blocks: Sequence[Block], deadline: Deadline) -> Nsg | None:
        try:
            return self._network.read_nsg(lease.nsg_id, deadline)
        except NotFound:
            self._nsg_gone(lease, blocks)
            return None

    def _nsg_gone(self, lease: Lease, blocks: Sequence[Block]) -> None:
        """The NSG is deleted, and our rules with it: lifts have ended, blocks have failed."""
        now = self._clock.now()
        lease.memory.clear()
        for block in blocks:
            lifting = block.state is BlockState.LIFTING
            ended = replace(
                block,
                state=BlockState.LIFTED if lifting else BlockState.FAILED,
                ended=now if lifting else None,
                detail="the network security group is gone",
            )
            saved, _ = self._ledger.blocks.save([ended])
            for one in saved:
                self._note(one, one.state.value, now, detail=one.detail)
                if lifting:
                    self._ledger.blocks.end(one)
        failed = [b for b in blocks if b.state in (BlockState.PENDING, BlockState.ACTIVE,
                                                   BlockState.SHADOWED)]
        if failed:
            self._notifier.tell("block-failed", f"{lease.nsg_id} is gone, and its blocks with it",
                                nsg=lease.nsg_id, alerts=sorted({a for b in failed for a in b.alerts}))

    def _guard(self, work: _Round) -> None:
        """The guardrails once more, for every address about to be denied."""
        rails = self._policy.guardrails
        asked: dict[str, list[Block]] = {}
        for block in work.blocks:
            if not block.wanted:
                continue
            reason = refusal(block.key.address, rails, work.around)
            if reason:
                work.set(replace(block, state=BlockState.LIFTING if block.proven else
                                 BlockState.FAILED, detail=f"guardrail: {reason}"))
                self._notifier.tell(
                    "guardrail", f"{block.key.address} is not blocked: {reason}",
                    nsg=block.key.nsg_id, alerts=list(block.alerts),
                )
                continue
            if block.state is not BlockState.PENDING or block.approved_by:
                continue
            asks = questions(block.key.address, rails, work.around, work.nsg, work.now)
            if asks and not block.proven:
                waiting = replace(block, state=BlockState.WAITING, asks=asks)
                work.set(waiting)
                asked.setdefault(block.alerts[-1], []).append(waiting)
        for alert_id, blocks in asked.items():
            self._approvals.ask(
                alert_id, [b.key for b in blocks], [a for b in blocks for a in b.asks],
                salt=utc(work.now),
            )

    def _own_name_taken(self, work: _Round) -> None:
        """A rule with our name but without our marker is someone else's: never touched."""
        taken = {r.name.lower() for r in work.nsg.rules if self._ownership.claims_name(r)}
        for block in work.current():
            name = self._slot(block)
            if block.wanted and name in taken:
                detail = f"rule {name} is there without our marker: not ours to change"
                work.set(replace(block, state=BlockState.FAILED, detail=detail))
                self._notifier.tell("block-failed", f"{work.nsg.id}: {detail}", nsg=work.nsg.id,
                                    alerts=list(block.alerts))

    def _drift(self, lease: Lease, work: _Round, deadline: Deadline) -> list[Drift]:
        """Rules of ours that someone changed: put back once; a person's second word is obeyed."""
        found = judge_drift(lease.memory, work.nsg, self._ownership, work.now)
        for drift in found:
            change = self._last_change(work.nsg.id, drift.rule, work.now, deadline)
            by = change.caller if change else "unknown"
            yield_to = drift.repeated and change is not None and change.by_person
            self._notifier.tell(
                "drift",
                f"{work.nsg.id}: our rule {drift.rule} was {drift.what} by {by}; "
                + ("left so, its blocks are overridden" if yield_to else "brought back into effect"),
                nsg=work.nsg.id, rule=drift.rule, by=by, repeated=drift.repeated,
            )
            if yield_to:
                for block in work.current():
                    if self._slot(block) == drift.rule and block.wanted and block.proven:
                        work.set(replace(block, state=BlockState.OVERRIDDEN,
                                         detail=f"removed twice by {by}"))
        return found

    def _last_change(self, nsg_id: str, rule: str, now: datetime, deadline: Deadline) -> Any:
        try:
            return self._activity.last_change(nsg_id, rule, now, deadline)
        except PermanentError as error:
            _log.warning("the activity log cannot be read: %s", error)
            return None

    def _fit(self, work: _Round) -> None:
        """Keep within the NSG's limits: what does not fit fails, the oldest blocks stay."""
        for direction in Direction:
            room = room_for(work.nsg, self._ownership, direction)
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
                self._notifier.tell("no-capacity", f"{work.nsg.id}: {block.key.address}: {detail}",
                                    nsg=work.nsg.id, alerts=list(block.alerts))

    # --- writing ---

    def _write(
        self, lease: Lease, work: _Round, deadline: Deadline, result: Committed
    ) -> None:
        """Write the difference, reading anew after every conflict."""
        for _ in range(CONFLICTS):
            try:
                self._write_once(lease, work, deadline, result)
                return
            except (LeaseLost, Unfinished):
                raise
            except Conflict as error:
                if deadline.left() < ARM_RESERVE_SECONDS * 2:
                    raise
                _log.info("conflict on %s, reading again: %s", work.nsg.id, error)
                self._clock.sleep(min(0.2, deadline.left() / 8))
                work.nsg = self._network.read_nsg(work.nsg.id, deadline)
        raise Conflict(f"{work.nsg.id}: others keep writing")

    def _write_once(
        self, lease: Lease, work: _Round, deadline: Deadline, result: Committed
    ) -> None:
        wanted = self._wanted(work)
        writes = self._in_order(difference(work.nsg, wanted, self._ownership), work)
        for write in writes:
            if deadline.left() < ARM_RESERVE_SECONDS:
                raise Unfinished("the budget ended before the next write")
            result.writes += 1
            try:
                self._apply(lease, write, work, deadline)
            except NotFound:
                raise  # the NSG itself is gone
            except PermanentError as error:
                self._refused(write, error, work)
            else:
                self._stamp(write, work)
        if writes:
            work.nsg = self._network.read_nsg(work.nsg.id, deadline)

    def _wanted(self, work: _Round) -> tuple[Wanted, ...]:
        addresses: dict[Direction, list[str]] = {}
        for block in work.current():
            if block.wanted:
                addresses.setdefault(block.key.direction, []).append(block.key.address)
        return wanted_rules(work.nsg, addresses, self._ownership, self._policy.window)

    @staticmethod
    def _in_order(writes: Iterable[Write], work: _Round) -> list[Write]:
        """The direction that stops an attack first."""
        urgent = {b.key.direction for b in work.current()
                  if b.state is BlockState.PENDING and b.decisive}
        return sorted(writes, key=lambda w: (w.direction not in urgent, w.kind == "delete"))

    def _apply(self, lease: Lease, write: Write, work: _Round, deadline: Deadline) -> None:
        """One ARM call under the renewed lease, no longer than the lease lasts."""
        token = secrets.token_hex(4)
        rule = None
        if write.rule is not None:
            rule = replace(write.rule, description=self._ownership.description(token))
        self._ledger.leases.renew(
            lease, self._clock,
            attempt={"rule": write.name, "token": token, "digest": digest(rule) if rule else ""},
        )
        limit = deadline.within(lease.left(self._clock) - ARM_RESERVE_SECONDS)
        _log.info("arm %s %s/%s: %s", write.kind, work.nsg.id, write.name,
                  ",".join(rule.remote)[:200] if rule else "-")
        try:
            if rule is None:
                self._delete_or_park(write, work, limit)
            else:
                self._network.put_rule(work.nsg.id, rule, limit)
        except Conflict:
            # A lost answer retried gets a conflict with our own write: if the rule carries our
            # token, the write is done.
            nsg = self._network.read_nsg(work.nsg.id, deadline)
            there = next((r for r in nsg.rules if r.name == write.name), None)
            ours = there is not None and self._ownership.token_of(there) == token
            if not (ours if rule is not None else there is None):
                raise
        rules = dict(lease.memory.get("rules") or {})
        rules.pop(write.name, None)
        if rule is not None:
            rules[write.name] = remembered(rule)
        lease.memory["rules"] = rules

    def _delete_or_park(self, write: Write, work: _Round, deadline: Deadline) -> None:
        """DELETE; where a lock forbids that, the rule stays a Deny of a documentation address."""
        try:
            self._network.delete_rule(work.nsg.id, write.name, deadline)
        except Locked:
            if write.before is None:
                raise
            family: Family = 6 if write.name.endswith("-v6") else 4
            parked = Wanted(write.name, write.direction, family, (PARKED[family],),
                            write.before.priority)
            _log.info("a lock forbids deleting %s: parked instead", write.name)
            self._network.put_rule(
                work.nsg.id, parked.as_rule(self._ownership.parked_description(secrets.token_hex(4))),
                deadline,
            )

    def _stamp(self, write: Write, work: _Round) -> None:
        """When the write reached the blocks that it is for."""
        at = self._clock.now()
        for block in work.current():
            if self._slot(block) == write.name and block.state in (BlockState.PENDING, BlockState.LIFTING):
                work.set(replace(block, written=at))

    # --- proving ---

    def _prove(
        self, lease: Lease, work: _Round, result: Committed, drift: Sequence[Drift]
    ) -> None:
        """Judge every block by the rules as read back, and remember the rules as proven."""
        now = self._clock.now()
        for block in work.current():
            if block.state is BlockState.LIFTING:
                self._prove_lifted(block, work, now, result)
            elif block.wanted:
                self._prove_block(block, work, now, result)
        owned = {r.name: remembered(r) for r in work.nsg.rules if self._ownership.owns(r)}
        lease.memory["rules"] = owned
        lease.memory["checked"] = utc(now)
        lease.memory.pop("attempt", None)
        lease.memory["drift"] = {
            **(lease.memory.get("drift") or {}), **{d.rule: utc(now) for d in drift},
        }

    def _prove_block(self, block: Block, work: _Round, now: datetime, result: Committed) -> None:
        attached = [t for t in block.targets
                    if t.subnet_id in work.nsg.subnets or t.nic_id in work.nsg.nics]
        proof = prove(work.nsg, block.key, attached or block.targets, self._ownership)
        rule = self._rule_for(block, work.nsg)
        if proof.outcome is Outcome.DETACHED:
            work.set(replace(block, state=BlockState.FAILED, detail=proof.detail))
            work.again = True  # its address leaves the rule
            self._notifier.tell("block-failed", f"{block.key.address}: {proof.detail}",
                                nsg=work.nsg.id, alerts=list(block.alerts))
            return
        if proof.outcome is Outcome.MISSING:
            raise Conflict(f"{work.nsg.id}: {proof.detail}, though it was written")
        state = BlockState.ACTIVE if proof.effective else BlockState.SHADOWED
        fresh = block.state is BlockState.PENDING
        if not fresh and state is block.state and proof.detail == block.detail:
            return
        work.set(replace(
            block, state=state, rule=rule.name if rule else "", detail=proof.detail,
            priority=rule.priority if rule else 0,
            shadowed_by="" if proof.effective else proof.rule,
            proven=now, first_proven=block.first_proven or now,
            expires=now + block.lifetime if fresh else block.expires,
            asks=(), attempts=0, retry_at=None,
        ))
        result.proven += proof.effective
        result.shadowed += not proof.effective
        if not proof.effective:
            self._notifier.tell(
                "shadowed", f"{block.key.address} is not stopped on {work.nsg.id}: {proof.detail}",
                nsg=work.nsg.id, alerts=list(block.alerts), by=proof.rule,
            )

    def _prove_lifted(self, block: Block, work: _Round, now: datetime, result: Committed) -> None:
        """Gone from every rule of ours: lifted. Else it stays `lifting` and is tried again."""
        if block.retry_at is not None and block.retry_at > now:
            return  # refused a moment ago
        rule = self._rule_for(block, work.nsg)
        if rule is not None and not is_parked(rule) and contains(rule.remote, block.key.address):
            raise Conflict(f"{work.nsg.id}: {block.key.address} is still in {rule.name}")
        state = BlockState.REVOKED if block.revoked_by else BlockState.LIFTED
        work.set(replace(block, state=state, ended=now, retry_at=None))
        result.lifted += 1

    def _rule_for(self, block: Block, nsg: Nsg) -> Rule | None:
        name = self._slot(block)
        return next((r for r in nsg.rules if r.name == name and self._ownership.owns(r)), None)

    # --- marking ---

    def _save(self, work: _Round) -> bool:
        """Mark all changed blocks; True if some were changed by others meanwhile.

        The timeline comes first: a crash in between has it told twice, never not at all.
        """
        before = {b.key: b for b in work.blocks}
        for block in work.changed.values():
            self._note(
                block, _ACTION.get(block.state, block.state.value), self._clock.now(),
                before=before[block.key].state.value, rule=block.rule, priority=block.priority,
                detail=block.detail, written=utc(block.written) if block.written else "",
                expires=utc(block.expires) if block.expires else "",
            )
        saved, lost = self._ledger.blocks.save(work.changed.values())
        for block in saved:
            if block.ended is not None:
                self._ledger.blocks.end(block)
        if work.changed:
            _log.info("commit %s: %d saved, %d changed by others", work.nsg.id, len(saved), len(lost))
        work.blocks = [b for b in work.blocks if b.key.id not in work.changed] + [
            b for b in saved if b.ended is None
        ]
        work.changed = {}
        return bool(lost)

    def _note(self, block: Block, action: str, at: datetime, **facts: Any) -> None:
        """The action in the timeline of the alerts behind the block."""
        for alert_id in block.alerts[-3:]:
            self._ledger.alerts.note(
                alert_id, at, action, block=block.key.id, nsg=block.key.nsg_id,
                direction=block.key.direction.value, address=block.key.address, by="responder",
                **facts,
            )

    def schedule(self, nsg_id: str, blocks: Sequence[Block]) -> None:
        """The next look: when the first block is due, and at the latest at the next drift check."""
        live = [b for b in blocks if b.state not in (BlockState.WAITING, BlockState.FAILED,
                                                          BlockState.OVERRIDDEN)]
        times = [t for b in live for t in (b.retry_at or b.expires,) if t is not None]
        if live:
            times.append(self._clock.now() + timedelta(seconds=self._settings.drift_seconds))
            self.look_at(nsg_id, min(times))


_ACTION = {
    BlockState.ACTIVE: "proven",
    BlockState.SHADOWED: "shadowed",
}


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


def needs_commit(
    blocks: Sequence[Block], checked: datetime | None, now: datetime, drift: timedelta
) -> bool:
    """Is there anything to do for this NSG now? Spares a lease and an ARM read where not."""
    for block in blocks:
        if block.state is BlockState.PENDING or block.state in ENDED_STATES or block.due(now):
            return True
        if block.state is BlockState.LIFTING and (block.retry_at is None or block.retry_at <= now):
            return True
    return bool(blocks) and (checked is None or now - checked >= drift)
