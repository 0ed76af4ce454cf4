"""The lease, the rounds under it, and what is left over when they end early."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from logging import getLogger

from remediation.clock import Deadline
from remediation.cloud.network import StillRunning
from remediation.commit import checks, flows, marks
from remediation.commit.moved import SINCE, look_elsewhere
from remediation.commit.parts import ARM_RESERVE_SECONDS, Committed, Parts, Round
from remediation.commit.verdict import judge
from remediation.commit.write import GaveWay, Hurried, Writer
from remediation.errors import (
    LeaseLost,
    NotFound,
    PermanentError,
    TemporaryError,
    Unfinished,
)
from remediation.ledger import Block, Lease, Pause
from remediation.ledger.store import LedgerDown
from remediation.log import say
from remediation.model import ENDED_STATES, BlockState, Mode, ResourceId
from remediation.nsg import Nsg

_log = getLogger(__name__)

ROUNDS = 50
COLLECT_SECONDS = 0.5
LEFT_SECONDS = 5.0
CROWD = 6
PAUSED_LOOK = timedelta(minutes=1)
RESTING = (BlockState.WAITING, BlockState.FAILED, BlockState.OVERRIDDEN)
"""States that ask for no further look."""


class _Here:
    """The NSGs that threads of this process are at. Who finds one of them there calls out and
    leaves, as with the lease's knock, but without asking the tables."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._called: dict[str, bool] = {}

    def enter(self, nsg_id: str) -> bool:
        """True for the one who is at it now; the others have called."""
        with self._lock:
            at_it = nsg_id in self._called
            self._called[nsg_id] = at_it
            return not at_it

    def at(self, nsg_id: str) -> bool:
        """Is someone at it?"""
        return nsg_id in self._called

    def waits(self, nsg_id: str) -> bool:
        """Has someone called? Asking answers nobody."""
        return self._called.get(nsg_id, False)

    @property
    def crowded(self) -> bool:
        """Are threads of this process at many NSGs at once?"""
        return len(self._called) > CROWD

    def called(self, nsg_id: str) -> bool:
        """Has someone called since it was last asked?"""
        with self._lock:
            called, self._called[nsg_id] = self._called[nsg_id], False
            return called

    def leave(self, nsg_id: str, *, stay: bool) -> bool:
        """Go; but True, and still at it, if someone has called and `stay`."""
        with self._lock:
            if self._called[nsg_id] and stay:
                self._called[nsg_id] = False
                return True
            del self._called[nsg_id]
            return False


class Commit:
    """Commits NSGs. One instance serves all threads."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._ledger = parts.ledger
        self._clock = parts.clock
        self._here = _Here()
        self.alerts_wait: Callable[[], bool] = lambda: False
        """Are alerts under way, beside those whose NSGs are committed now? Set by who takes them."""

    # --- the lease, and the rounds under it ---

    def run(self, nsg_id: str, deadline: Deadline, *, forced: bool = False) -> Committed:
        """Commit one NSG, or leave it to whoever is at it, who then looks again. `forced` reads it
        though the ledger knows nothing to do. Ledger errors are raised."""
        if not self._here.enter(nsg_id):
            return Committed(reason="another thread will see to it")
        result = Committed()
        try:
            again = True
            while again:
                if result.hurried:
                    result.hurried = result.left = False
                self._run(nsg_id, deadline, result, forced=forced)
                if deadline.over and not result.left and self._here.called(nsg_id):
                    result.left = True  # for who called: the queue's message takes over
                    self.look_at(nsg_id, self._clock.now())
                again = self._here.leave(nsg_id, stay=not result.left or result.hurried)
        except BaseException:
            self._here.leave(nsg_id, stay=False)
            raise
        return result

    def _run(
        self, nsg_id: str, deadline: Deadline, result: Committed, *, forced: bool
    ) -> None:
        lease = self._ledger.leases.take(nsg_id, self._clock)
        if lease is None:
            result.reason = "another holder will see to it"
            return
        result.held = True
        if lease.taken_over:  # the old holder's PUT may still land after our proof
            self._parts.look_again(nsg_id)
        try:
            self._hold(lease, deadline, result, forced=forced or lease.taken_over)
        except LeaseLost as error:
            result.left, result.reason = True, str(error)
            result.wait = self._recheck.total_seconds()
            self._ledger.work.recheck(nsg_id, self._clock.now() + self._recheck)
        except LedgerDown:
            raise
        except TemporaryError as error:
            self._leave(lease, error, result)
        except PermanentError as error:
            self._give_up(lease, error, result)

    @property
    def _recheck(self) -> timedelta:
        return timedelta(seconds=self._parts.settings.recheck_seconds)

    def busy(self, nsg_id: str) -> bool:
        """Is a thread of this process at it now?"""
        return self._here.at(nsg_id)

    def look_at(self, nsg_id: str, at: datetime) -> None:
        """Leave a hint to commit this NSG then."""
        self._ledger.work.nsg(nsg_id, at)

    def _hold(
        self, lease: Lease, deadline: Deadline, result: Committed, *, forced: bool
    ) -> None:
        for _ in range(ROUNDS):
            try:
                self._await_operation(lease, deadline)
                self._here.called(lease.nsg_id)  # whose rows are read below is no newcomer any more
                self._ledger.leases.listen(lease)
                again = self._round(lease, deadline, result, forced=forced)
            except Hurried as hurried:
                if self._left_for_later(lease, hurried, result):
                    return
                continue
            except StillRunning as running:
                left = lease.left(self._clock) - ARM_RESERVE_SECONDS
                short = deadline.left() < ARM_RESERVE_SECONDS * 2
                if short or not running.operation or left >= deadline.left():
                    raise
                # The lease set the limit, not the budget: renew it and go on waiting.
                self._ledger.leases.renew(lease, self._clock, operation=running.operation)
                self._clock.sleep(min(running.pause, lease.left(self._clock) / 2,
                                      deadline.left() - ARM_RESERVE_SECONDS))
                continue
            if again and not deadline.over:
                continue
            if again:
                raise Unfinished("the budget ended while rows were still changing")
            if not self._here.called(lease.nsg_id) and self._ledger.leases.release(lease):
                return
            if deadline.left() < ARM_RESERVE_SECONDS * 2:
                raise Unfinished("newcomers knocked at the end of the budget")
            self._clock.sleep(min(COLLECT_SECONDS, deadline.left() / 4))
        raise Unfinished("newcomers kept knocking")

    def _left_for_later(self, lease: Lease, hurried: Hurried, result: Committed) -> bool:
        """Let go, unless someone with a new attacker for this very NSG has come meanwhile."""
        wait = hurried.retry_after or 0.0
        self.look_at(lease.nsg_id, self._clock.now() + timedelta(seconds=wait))
        if self._here.called(lease.nsg_id) or not self._ledger.leases.release(lease):
            return False
        result.left, result.hurried, result.wait, result.reason = True, True, wait, str(hurried)
        return True

    def _await_operation(self, lease: Lease, deadline: Deadline) -> None:
        """Wait for what an earlier round or holder left running."""
        operation = lease.memory.pop("operation", "")
        nsg = ResourceId.parse(lease.nsg_id)
        if operation and nsg is not None:
            limit = deadline.within(lease.left(self._clock) - ARM_RESERVE_SECONDS)
            self._parts.network.wait_for(nsg.subscription, operation, limit)

    def _leave(self, lease: Lease, error: TemporaryError, result: Committed) -> None:
        """Work is left over: hint first, then the message, then let go."""
        result.left, result.reason = True, str(error)
        result.wait = error.retry_after or (0.0 if isinstance(error, Unfinished) else LEFT_SECONDS)
        at = self._clock.now() + timedelta(seconds=result.wait)
        if isinstance(error, StillRunning):
            lease.memory["operation"] = error.operation
        self.look_at(lease.nsg_id, at)
        self._ledger.leases.drop(lease)
        say(_log, "commit-left", nsg=lease.nsg_id, error=str(error))

    def _give_up(self, lease: Lease, error: PermanentError, result: Committed) -> None:
        """Azure says no to the NSG as a whole: all its blocks that wait fail, lifts come again."""
        result.reason = str(error)
        now = self._clock.now()
        blocks = self._ledger.blocks.live(lease.nsg_id)
        changed = marks.fail(self._parts, blocks, error, now, missing=False)
        for block in changed:
            action = "failed" if block.state is BlockState.FAILED else "lift-failed"
            marks.note(self._parts, block, action, now, error=str(error)[:500])
        self._ledger.blocks.save(changed)
        self.look_at(lease.nsg_id, now + marks.LIFT_RETRY)
        self._ledger.leases.drop(lease)

    # --- one round ---

    def _round(
        self, lease: Lease, deadline: Deadline, result: Committed, *, forced: bool
    ) -> bool:
        """True if another round is needed at once."""
        parts, now = self._parts, self._clock.now()
        paused = self._ledger.control.paused()
        blocks, waiting, lost = self._worth_a_round(lease, now, paused, forced=forced)
        if blocks is None:
            return lost
        try:
            nsg = self._first_seen(lease, forced=forced) or parts.guards.read(lease.nsg_id, deadline)
        except NotFound:
            everything = marks.live(parts, lease.nsg_id)
            result.moved_to = look_elsewhere(parts, lease, everything, deadline)
            return False
        lease.memory.pop(SINCE, None)
        if flows.switch_off(parts, lease, nsg, deadline):
            nsg = parts.guards.read(lease.nsg_id, deadline)
        here = ResourceId.parse(lease.nsg_id)
        around = parts.surroundings.now(deadline, here.subscription if here else "")
        blocks += [b for b in waiting if parts.in_force(b, nsg)]  # written, if not proven
        work = Round(nsg, blocks, now, around, lifts_only=paused is not None)
        if not work.lifts_only:
            checks.adopt(parts, lease, work)
            checks.guard(parts, work)
            checks.own_name_taken(parts, work)
            checks.drift(parts, lease, work, deadline)
            checks.fit(parts, work)
        lost = marks.save(parts, work) or lost
        try:
            Writer(parts, lease, deadline, result, lambda: self._someone_waits(lease),
                   self._crowded).write(work)
        except Hurried:
            marks.save(parts, work)
            raise
        except GaveWay:
            lease.memory.pop("attempt", None)  # it was answered: what differs from here on is others' doing
            marks.save(parts, work)
            return True
        judge(parts, lease, work, result, deadline)
        lost = marks.save(parts, work) or lost
        lost = flows.cut(parts, lease, work, result, deadline) or lost
        self.schedule(lease.nsg_id, work.blocks)
        return lost or work.again

    def _first_seen(self, lease: Lease, *, forced: bool) -> Nsg | None:
        """The NSG as it was read for the plan a moment ago, if no commit of ours has ever been there: a read
        less. What came between shows in Azure's answer to the write, or in the rules as read back."""
        if forced or {"rules", "checked", "attempt"} & set(lease.memory):
            return None
        seen = self._parts.guards.glimpse(lease.nsg_id)
        if seen is None or any(self._parts.ownership.owns(r) for r in seen.rules):
            return None
        return seen

    def _worth_a_round(
        self, lease: Lease, now: datetime, paused: Pause | None, *, forced: bool
    ) -> tuple[list[Block] | None, list[Block], bool]:
        """The blocks to bring about, None if there is nothing to do; those that may not be begun now; and
        whether some changed."""
        if paused and paused.lift == "none":
            self.look_at(lease.nsg_id, now + PAUSED_LOOK)
            return None, [], False
        blocks = marks.live(self._parts, lease.nsg_id)
        blocks, lost = marks.start_lifting(self._parts, blocks, now)
        # RESPONDER_MODE caps also what was claimed or approved under a bolder one.
        capped = self._parts.settings.mode.reach < Mode.APPROVE.reach
        waiting: list[Block] = []
        if paused or capped:  # what is in force stays, what is new waits
            waiting = [b for b in blocks if b.state is BlockState.PENDING and not b.proven]
            if waiting:
                self.look_at(lease.nsg_id, now + PAUSED_LOOK)
            blocks = [b for b in blocks if b not in waiting]
        if not (blocks or forced or lease.memory.get("rules")) and "rules" in lease.memory:
            return None, [], lost
        return blocks, waiting, lost

    def _crowded(self) -> bool:
        """Do alerts wait for what this run would spend on proof?"""
        return self._here.crowded and self._parts.network.reads_are_few and self.alerts_wait()

    def _someone_waits(self, lease: Lease) -> bool:
        """Has a thread of this process called, or another process knocked, since the rows were read?"""
        return self._here.waits(lease.nsg_id) or self._ledger.leases.knocked(lease)

    def schedule(self, nsg_id: str, blocks: Sequence[Block]) -> None:
        """The next look: when the first block is due, and at the latest at the next drift check."""
        live = [b for b in blocks if b.state not in RESTING]
        times = [t for b in live for t in (b.retry_at or b.expires,) if t is not None]
        if live:
            drift = timedelta(seconds=self._parts.settings.drift_seconds)
            self.look_at(nsg_id, min([*times, self._clock.now() + drift]))


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
