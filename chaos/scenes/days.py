"""Random days: alerts, people, drift, faults and deaths in any order, against a small model."""

from __future__ import annotations

import io
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bench.judge import DECISIVE, OTHER, denied
from chaos.kinds import ARM, PASSING, TABLE, Kind
from chaos.life import WAITS, Life, hosts
from chaos.stage import Stage, scene
from remediation.errors import BadInput, Conflict, TemporaryError
from remediation.ledger.alerts import AlertState
from remediation.model import utc
from sandbox.world import World
from tests.azure import OPERATOR
from tests.estate import estate, name_of, nsg_id, nsg_path
from tests.sandbox.crash_child import start

LIVES, STEPS = 25, 14
PLACES = {"vm": "nsg", "vm2": "nsg2"}
ATTACKERS = ("198.51.100.7", "198.51.100.9", "198.51.100.6")
"""The last is the first's neighbour: together they collapse to one prefix."""
DAY, HOLD, GRAIN = timedelta(days=1), timedelta(hours=6), timedelta(minutes=40)
OURS = ("defender-block-test-outbound", "defender-block-test-inbound")
CHANGES = ("removed", "turned to Allow", "narrowed to a port", "its number taken")
KINDS: dict[str, Kind] = {k.name: k for k in PASSING if not k.slow}


def _sure(fine: bool, why: str) -> None:
    if not fine:
        raise AssertionError(why)


class Model:
    """What should be blocked when."""

    def __init__(self) -> None:
        self.until: dict[tuple[str, str], datetime] = {}
        self.held: dict[str, datetime] = {}

    def attack(self, nsg: str, who: str, now: datetime) -> None:
        """For a day from now; what a person wants free is asked about first."""
        if self.held.get(who, now) <= now:
            self.until[nsg, who] = max(now + DAY, self.until.get((nsg, who), now))

    def revoke(self, who: str, now: datetime) -> None:
        """Free everywhere, and not blocked unasked for a while."""
        self.until = {k: t for k, t in self.until.items() if k[1] != who}
        self.held[who] = now + HOLD

    def wanted(self, nsg: str, at: datetime) -> set[str]:
        """Who is blocked there."""
        return {who for (n, who), until in self.until.items() if n == nsg and until > at}


class Days(RuleBasedStateMachine):
    """One life. Steps may meet faults and deaths; `settle` ends them, and compares with the model."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.life = Life(self.world, estate(nsgs=len(PLACES)), RESPONDER_DRIFT_SECONDS="60")
        self.model = Model()
        self.fresh: list[dict[str, Any]] = []
        """Alerts since all was settled: Event Grid delivers again what was not answered."""
        self.drifted: dict[str, datetime] = {}
        self.calm = True

    @property
    def now(self) -> datetime:
        """By the life's clock."""
        return self.life.azure.clock.now()

    # --- what happens ---

    @rule(vm=st.sampled_from(sorted(PLACES)), who=st.sampled_from(ATTACKERS),
          minutes=st.sampled_from([0, 0, -8, 8]))
    def attack(self, vm: str, who: str, minutes: int) -> None:
        """An alert, to a process whose clock may be wrong."""
        one = self._alert(vm, who)
        shift = self.life.azure.clock.shift.total_seconds() + minutes * 60
        self.life.deliver(one, self.life.twin(seconds=shift) if minutes else None)

    @rule(vm=st.sampled_from(sorted(PLACES)), who=st.sampled_from(ATTACKERS), at=st.integers(0, 45))
    def attack_and_die(self, vm: str, who: str, at: int) -> None:
        """An alert, to a process that is killed at one of its requests."""
        self._die(at, self._alert(vm, who))

    @precondition(lambda self: self.fresh)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        """The same event once more."""
        self.life.deliver(self._one_of(self.fresh, data))

    @precondition(lambda self: self.life.alerts)
    @rule(data=st.data())
    def long_after(self, data: st.DataObject) -> None:
        """An event that was done with long ago: nothing comes of it."""
        if self.calm:
            self.life.deliver(self._one_of(self.life.alerts, data))

    @rule(who=st.sampled_from(ATTACKERS))
    def revoke(self, who: str) -> None:
        """A person wants the address free; asks until it is done."""
        azure = self.life.azure
        self._insist(lambda: azure.app.operator.revoke(
            OPERATOR, azure.app.budget(), address=who, block_id="", reason="free", hold=HOLD))
        self.model.revoke(who, self.now)

    @precondition(lambda self: self.calm and self.model.until)
    @rule(data=st.data(), hours=st.sampled_from([5, 30, 100]))
    def extend(self, data: st.DataObject, hours: int) -> None:
        """A person wants it blocked for longer; both directions, or neither."""
        nsg, who = data.draw(st.sampled_from(sorted(self.model.until)))
        longest, done = self.life.azure.app.operator._policy.guardrails.max_extension, []
        for (_, a), b in self.life.azure.blocks(nsg).items():
            if a != who or b.expires is None:
                continue
            may = b.wanted and b.first_proven is not None and (
                b.expires + timedelta(hours=hours) <= b.first_proven + longest)
            done.append(self._extended(b.key.id, hours))
            _sure(done[-1] == may, f"{'refused' if may else 'granted'}: {hours} h more for {nsg} {who}")
        _sure(len(set(done)) < 2, f"one direction was extended, the other not: {nsg} {who}")
        if done and done[0]:
            self.model.until[nsg, who] += timedelta(hours=hours)

    @precondition(lambda self: self.calm)
    @rule(approve=st.booleans())
    def answer(self, approve: bool) -> None:
        """A person answers all questions there are."""
        for question in self._questions():
            claims = {(c.key.nsg_id, c.key.address) for c in question.claims}
            self._decide(question.id, approve=approve)
            for nsg in PLACES.values() if approve else ():
                for _, who in {c for c in claims if c[0] == nsg_id(nsg)}:
                    self.model.until[nsg, who] = max(
                        self.now + DAY, self.model.until.get((nsg, who), self.now))

    @rule(vm=st.sampled_from(sorted(PLACES)), name=st.sampled_from(OURS),
          change=st.sampled_from(CHANGES), by=st.sampled_from(["", "bob@contoso.example"]))
    def drift(self, vm: str, name: str, change: str, by: str) -> None:
        """Somebody changes a rule of ours, once a day at most: it is put back."""
        nsg = PLACES[vm]
        before = self.life.azure.rules(nsg).get(name)
        if before is None or self.drifted.get(nsg, self.now - 2 * DAY) > self.now - DAY - GRAIN:
            return
        self.drifted[nsg] = self.now
        path = f"{nsg_path(nsg)}/securityRules/"
        arm = partial(self.life.azure.world.arm, upn=by)
        if change == CHANGES[1]:
            arm("PUT", path + name, {"properties": {**before, "access": "Allow"}})
        elif change == CHANGES[2]:
            arm("PUT", path + name, {"properties": {**before, "destinationPortRange": "8443"}})
        else:
            arm("DELETE", path + name)
            if change == CHANGES[3]:
                arm("PUT", path + f"theirs-{len(self.drifted)}-{before['direction']}", {"properties": {
                    "priority": before["priority"], "direction": before["direction"], "access": "Allow",
                    "protocol": "Tcp", "sourceAddressPrefix": "*", "sourcePortRange": "*",
                    "destinationAddressPrefix": "*", "destinationPortRange": "443"}})
        self.life.remember()

    @rule(kind=st.sampled_from(sorted(KINDS)), skip=st.integers(0, 30), times=st.integers(1, 3),
          data=st.data())
    def trouble(self, kind: str, skip: int, times: int, data: st.DataObject) -> None:
        """The next calls of a kind fail."""
        self.calm = False
        one = KINDS[kind]
        service = data.draw(st.sampled_from([s for s in one.services if s in (ARM, TABLE)]))
        method = data.draw(st.sampled_from(one.methods or ("",)))
        self.life.azure.faults({**one.fault, "service": service, "method": method, "path": one.only,
                                "skip": skip, "times": times})

    @rule()
    def sweep(self) -> None:
        """The timer fires."""
        self.life.timer()

    @rule(at=st.integers(0, 45))
    def sweep_and_die(self, at: int) -> None:
        """The timer fires in a process that is killed at one of its requests."""
        self._die(at, None)

    @rule(hours=st.sampled_from([0.3, 1, 5, 11, 23, 30]))
    def time_passes(self, hours: float) -> None:
        """Not before all is settled; new processes wake up."""
        self.settle()
        self.life.azure.clock.forward(hours=hours)
        self.life.azure.start()
        self.settle()

    # --- what must be true ---

    @invariant()
    def recorded_before_done(self) -> None:
        """No address of ours without a row, and the rules of others as they were."""
        self.life.orphans_in(PLACES.values())
        self.life.judge_foreign()
        _sure(self.life.damage.survived, f"{self.life.damage.why}")

    def settle(self) -> None:
        """Faults end, events come again, sweeps run; then exactly what the model says is blocked."""
        self.life.azure.faults()
        for one in self.fresh:
            self.life.deliver(one)
        wrong = ""
        for wait in (*WAITS, 1.0, 1.0):
            self._say_yes_to_what_is_wanted()
            wrong = "; ".join(self._wrong())
            if not wrong:
                break
            time.sleep(wait)
            self.life.azure.clock.forward(seconds=90)
            self.life.timer()
        _sure(not wrong, f"{utc(self.now)}: {wrong}")
        self.fresh.clear()
        self.calm = True

    def _wrong(self) -> Iterator[str]:
        for one in self.fresh:
            bodies = self.life.azure.ledger.alerts.bodies(name_of(one))
            if [b.state for b in bodies] != [AlertState.DONE]:
                yield f"alert {name_of(one)} is {[b.state.value for b in bodies]}"
        for nsg in PLACES.values():
            must, may = (self.model.wanted(nsg, self.now + d) for d in (GRAIN, -GRAIN))
            rules = list(self.life.azure.rules(nsg).values())
            ours = self.life.owned(nsg)
            for direction in (DECISIVE, OTHER):
                open_ = {w for w in must if not denied(rules, w, direction)}
                standing = hosts(ours.get(direction.lower(), ()))
                if open_ or not standing <= may or not must <= standing:
                    yield (f"{nsg} {direction}: {sorted(standing)}, wanted {sorted(must)}, "
                           f"open {sorted(open_)}")
            for (way, who), block in self.life.azure.blocks(nsg).items():
                if block.state.value != "active" and (block.state.value != "waiting" or who in must):
                    yield f"{nsg} {way} {who} is {block.state}: {block.detail}"

    def teardown(self) -> None:
        """In the end nothing is left of it all."""
        try:
            self.settle()
            self.life.azure.clock.forward(days=9)
            self.life.azure.start()
            self.settle()
        finally:
            self.life.azure.faults()

    # --- by which means ---

    @staticmethod
    def _one_of(alerts: list[dict[str, Any]], data: st.DataObject) -> dict[str, Any]:
        return alerts[data.draw(st.integers(0, len(alerts) - 1))]

    def _alert(self, vm: str, who: str) -> dict[str, Any]:
        one = self.life.attack(vm, who)
        self.fresh.append(one)
        self.model.attack(PLACES[vm], who, self.now)
        return one

    def _die(self, at: int, one: dict[str, Any] | None) -> None:
        self.calm = False
        azure = self.life.azure
        hours = azure.clock.shift.total_seconds() / 3600
        child, pipe = start(azure.world.environment(**azure.settings), {"alert": one, "hours": hours})
        with pipe:
            azure.faults({"skip": at, "kill": child.pid})
            pipe.send("go")
            child.join(30)
        azure.faults()
        note(f"# the process ended with {child.exitcode}")
        _sure(child.exitcode in (0, -signal.SIGKILL), f"{child.exitcode}")

    def _insist(self, call: Callable[[], object]) -> None:
        for _ in range(8):
            with suppress(TemporaryError):
                call()
                return
        self.life.azure.faults()
        call()

    def _extended(self, block_id: str, hours: int) -> bool:
        try:
            self.life.azure.app.operator.extend(
                OPERATOR, block_id=block_id, by=timedelta(hours=hours), reason="longer")
        except BadInput:
            return False
        return True

    def _questions(self) -> list[Any]:
        return [q for q in self.life.azure.ledger.control.approvals()
                if q.state == "open" and q.expires > self.now]

    def _decide(self, question: str, *, approve: bool) -> None:
        azure = self.life.azure
        with suppress(Conflict):
            azure.app.operator.decide(question, OPERATOR, azure.app.budget(), approve=approve, reason="days")

    def _say_yes_to_what_is_wanted(self) -> None:
        """What could not be looked up asks first."""
        for question in self._questions():
            if all(c.key.address in self.model.wanted(nsg, self.now) for c in question.claims
                   for nsg in PLACES.values() if c.key.nsg_id == nsg_id(nsg)):
                self._decide(question.id, approve=True)


def live_through(world: World, lives: int, *, shrink: bool = False, same: bool = False) -> str:
    """Live so many random lives (`same`: always the same ones) → '' or what went wrong, with the
    steps that led there; `shrink` finds fewer steps, which takes minutes."""
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            run_state_machine_as_test(type("Days", (Days,), {"world": world}), settings=settings(
                max_examples=lives, stateful_step_count=STEPS, deadline=None, database=None, phases=phases,
                derandomize=same, report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck)))
    except Exception as error:  # noqa: BLE001 - whatever escapes is what is looked for
        steps = "\n".join(getattr(error, "__notes__", ()))
        return f"{type(error).__name__}: {error}\n{steps}"
    return ""


@scene("days: anything in any order")
def any_order(stage: Stage) -> None:
    """Against a model of what should be blocked when."""
    wrong = live_through(stage.world, LIVES)
    stage.struck += LIVES
    stage.lost(not wrong, wrong)
