"""The difference between the rules there are and the rules wanted, written to Azure."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from remediation.clock import Deadline
from remediation.commit.marks import written_since
from remediation.commit.parts import ARM_RESERVE_SECONDS, Committed, Parts, Round
from remediation.drift import remember_drift, remembered
from remediation.errors import (
    Conflict,
    LeaseLost,
    Locked,
    NotFound,
    PermanentError,
    Unfinished,
)
from remediation.ledger import Block, Lease
from remediation.log import say
from remediation.model import BlockState, Direction
from remediation.nsg import Family, digest
from remediation.owned import PARKED, Wanted, Write, difference, wanted_rules

_log = logging.getLogger(__name__)

PASSES = 6
GAVE_WAY, GIVES_WAY_AT_MOST = "gaveWay", 8
PROOF_AFTER = 4
"""While newcomers keep coming, every so many writes one is read back and proven."""
HURRIED_SECONDS = 30.0
"""So much later comes the rest, where many NSGs wait: ARM's reads are what they share."""
MOVING = (BlockState.PENDING, BlockState.LIFTING)


class Hurried(Unfinished):
    """What stops an attack is written, and many NSGs wait for that: the rest, and all proof, is for later."""


class GaveWay(Unfinished):
    """What stops an attack is written, and a newcomer to this very NSG waits: the rest, and the proof of all,
    comes with the next round, which begins at once."""


class Writer:
    """Writes for one run: the lease is renewed before each call."""

    def __init__(
        self, parts: Parts, lease: Lease, deadline: Deadline, result: Committed,
        someone_waits: Callable[[], bool], crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._parts = parts
        self._crowded = crowded
        self._someone_waits = someone_waits
        self._lease = lease
        self._deadline = deadline
        self._result = result
        self._had_its_turn = False

    def write(self, work: Round) -> None:
        """Write the difference until there is none, reading anew after every write and conflict;
        `work.nsg` is as read back. A second pass is rare: a rule that went made a better number free."""
        conflict = ""
        for _ in range(PASSES):
            conflict = ""
            try:
                if not self._write_once(work):
                    return
            except (LeaseLost, Unfinished):
                raise
            except Conflict as error:
                if self._deadline.left() < ARM_RESERVE_SECONDS * 2:
                    raise
                conflict = str(error)
                say(_log, "arm-conflict", nsg=work.nsg.id, error=conflict, alerts=self._alerts(
                    b for b in work.current() if b.state in MOVING))
                self._parts.clock.sleep(min(0.2, self._deadline.left() / 8))
                work.nsg = self._parts.guards.read(work.nsg.id, self._deadline)
        if conflict:
            raise Conflict(f"{work.nsg.id}: others keep writing: {conflict}")

    def _write_once(self, work: Round) -> bool:
        """True if something was written."""
        wanted = self._wanted(work)
        urgent = _urgent(work)
        writes = [w for w in _in_order(difference(work.nsg, wanted, self._parts.ownership), urgent)
                  if w.name not in work.refused and w.name not in work.deferred]
        for slot in wanted:
            if slot.outside_window and any(w.name == slot.name for w in writes):
                self._parts.notifier.tell(
                    "priority", f"{work.nsg.id}: {slot.name} takes priority {slot.priority}, outside "
                    "the policy's window: nothing inside it would take effect", nsg=work.nsg.id,
                    alerts=self._alerts(b for b in work.current() if self._parts.slot(b) == slot.name),
                )
        for n, write in enumerate(writes):
            hurries = bool(urgent) and not work.refused  # a refusal is judged, and told, at once
            if n and write.direction not in urgent and self._gives_way(urgent=hurries):
                unproven = int(self._lease.memory[GAVE_WAY]) % PROOF_AFTER
                if hurries and unproven and not work.drifted:  # drift is told, and then remembered, once
                    raise GaveWay("newcomers wait")
                work.deferred |= {w.name for w in writes[n:]}
                break
            if self._deadline.left() < ARM_RESERVE_SECONDS:
                raise Unfinished("the budget ended before the next write")
            self._result.writes += 1
            try:
                self._apply(write, work)
            except NotFound:
                raise  # the NSG itself is gone
            except PermanentError as error:
                work.refused[write.name] = error  # Azure says no to one rule: the others go on
            else:
                self._stamp(write, work)
        if writes:
            work.nsg = self._parts.guards.read(work.nsg.id, self._deadline)
        return bool(writes)

    def _gives_way(self, *, urgent: bool) -> bool:
        """A newcomer's attack goes on until its decisive direction is denied: that is written before
        the other direction of those already stopped, but not for ever. Raises Hurried where the newcomers are
        on other NSGs: what is `urgent` here is written, and the rest is left for later."""
        memory = self._lease.memory
        times = int(memory.get(GAVE_WAY, 0))
        if times < GIVES_WAY_AT_MOST and not self._had_its_turn:
            memory[GAVE_WAY] = times + 1
            if self._someone_waits():
                return True
            if urgent and self._crowded():
                raise Hurried("other NSGs wait: what stops no attack is left for later",
                              retry_after=HURRIED_SECONDS)
        self._had_its_turn = True  # all that is left of it, not one rule alone
        memory.pop(GAVE_WAY, None)
        return False

    def _wanted(self, work: Round) -> tuple[Wanted, ...]:
        addresses: dict[Direction, list[str]] = {}
        for block in work.current():
            if block.wanted and not (work.lifts_only and not self._parts.stands(block, work.nsg)):
                addresses.setdefault(block.key.direction, []).append(block.key.address)
        return wanted_rules(
            work.nsg, addresses, self._parts.ownership, self._parts.policy.window
        )

    def _behind(self, write: Write, work: Round) -> list[Block]:
        """The blocks whose address the rule carries or loses."""
        return [b for b in work.current() if self._parts.slot(b) == write.name]

    def _apply(self, write: Write, work: Round) -> None:
        """One ARM call under the renewed lease, no longer than the lease lasts."""
        parts, lease = self._parts, self._lease
        token = secrets.token_hex(4)
        rule = None
        if write.rule is not None:
            rule = replace(write.rule, description=parts.ownership.description(token))
        remember_drift(lease.memory, work.drifted & {write.name}, work.now)
        limit = self._renewed(write, token, digest(rule) if rule else "")
        moving = [b for b in self._behind(write, work) if b.state in MOVING]
        say(_log, f"arm-{write.kind}", alerts=self._alerts(moving), nsg=work.nsg.id,
            rule=write.name, token=token,
            addresses=len(rule.remote) if rule else 0,
            new=[b.key.address for b in moving[:20]])
        try:
            if rule is None:
                self._delete_or_park(write, work, limit)
            else:
                parts.guards.put_rule(work.nsg.id, rule, limit, partial(parts.look_again, work.nsg.id))
        except Conflict:
            # A lost answer retried gets a conflict with our own write: if the rule carries our
            # token, the write is done.
            nsg = parts.guards.read(work.nsg.id, self._deadline)
            there = next((r for r in nsg.rules if r.name == write.name), None)
            ours = there is not None and parts.ownership.token_of(there) == token
            if not (ours if rule is not None else there is None):
                raise
        rules = dict(lease.memory.get("rules") or {})
        rules.pop(write.name, None)
        if rule is not None:
            rules[write.name] = remembered(rule)
        lease.memory["rules"] = rules

    def _renewed(self, write: Write, token: str, shape: str) -> Deadline:
        """The lease renewed, with what is about to be written → how long the call may last."""
        parts, lease = self._parts, self._lease
        parts.ledger.leases.renew(
            lease, parts.clock, attempt={"rule": write.name, "token": token, "digest": shape}
        )
        return self._deadline.within(lease.left(parts.clock) - ARM_RESERVE_SECONDS)

    @staticmethod
    def _alerts(blocks: Iterable[Block]) -> list[str]:
        return sorted({a for b in blocks for a in b.alerts[-1:]})

    def _delete_or_park(self, write: Write, work: Round, deadline: Deadline) -> None:
        """DELETE; where a lock forbids that, the rule stays a Deny of a documentation address."""
        guards, ownership = self._parts.guards, self._parts.ownership
        unheard = partial(self._parts.look_again, work.nsg.id)
        try:
            guards.delete_rule(work.nsg.id, write.name, deadline, unheard)
        except Locked:
            if write.before is None:
                raise
            family: Family = 6 if write.name.endswith("-v6") else 4
            parked = Wanted(write.name, write.direction, family, (PARKED[family],),
                            write.before.priority)
            token = secrets.token_hex(4)
            rule = parked.as_rule(ownership.parked_description(token))
            limit = self._renewed(write, token, digest(rule))
            say(_log, "arm-park", nsg=work.nsg.id, rule=write.name, token=token,
                alerts=self._alerts(self._behind(write, work)))
            guards.put_rule(work.nsg.id, rule, limit, unheard)

    def _stamp(self, write: Write, work: Round) -> None:
        """When the write reached the blocks that it is for; those that the rule denied before, unproven,
        keep their time."""
        at = self._parts.clock.now()
        before = write.before if write.before is not None and write.before.state != "Failed" else None
        for block in self._behind(write, work):
            stood = (before is not None and block.wanted and written_since(block)
                     and before.names(block.key.address))
            if block.state in MOVING and not stood:
                work.set(replace(block, written=at))


def _urgent(work: Round) -> set[Direction]:
    """The directions that stop an attack under way."""
    return {b.key.direction for b in work.current()
            if b.state is BlockState.PENDING and b.decisive}


def _in_order(writes: Iterable[Write], urgent: set[Direction]) -> list[Write]:
    """The direction that stops an attack first."""
    return sorted(writes, key=lambda w: (w.direction not in urgent, w.kind == "delete"))
