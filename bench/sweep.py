"""What a sweep costs: with few and with many live blocks, and on the day after a storm."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bench.contest import AZURE, policy_file
from bench.loads import SEED, attackers, estate
from remediation.app import App, build
from remediation.clock import Clock
from remediation.ledger import Block, Claim
from remediation.model import BlockKey, BlockState, Direction, Target
from sandbox.demo.estate import nsg_id, vm_id
from sandbox.world import World

DUE = 10
PER_NSG = 100
FIRST_DUE, APART = timedelta(minutes=25), timedelta(minutes=2)
AT_ONCE = {**AZURE, "settle": 0, "read": 0, "write": 0, "throttle": False, "retry_after": False}
JOBS = ("reconcile", "estate", "orphans", "firewalls", "retention")
BOTH = (Direction.OUTBOUND, Direction.INBOUND)


class _Shifted(Clock):
    def __init__(self) -> None:
        self.shift = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.shift


@dataclass(frozen=True, slots=True)
class Cost:
    """One sweep: all its table requests and time, and the bare queries' time within it."""

    seconds: float
    bare_seconds: float
    requests: int

    @property
    def net(self) -> float:
        """Without what the same queries cost alone."""
        return max(0.001, self.seconds - self.bare_seconds)


def app_of(world: World, clock: Clock, number: int) -> App:
    """The app in this process, with tables of its own."""
    env = world.environment(
        RESPONDER_MODE="enforce", RESPONDER_DEPLOYMENT="bench", RESPONDER_DRIFT_SECONDS="86400",
        RESPONDER_POLL_SECONDS="0.05",
        RESPONDER_TABLE_PREFIX=f"sweep{number}", COMMIT_QUEUE=f"sweep-{number}",
        RESPONDER_POLICY=str(policy_file(world.folder)))
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "REQUESTS_CA_BUNDLE"):
        os.environ[name] = env[name]
    return build(env, clock)


def _claims(nsg: int, addresses: list[str], life: timedelta, *, both: bool) -> list[Claim]:
    target = Target(vm_id(f"vm-{nsg}-1").lower(), "", _subnet(nsg), (f"10.{nsg % 250}.0.4",))
    return [
        Claim(BlockKey(nsg_id(f"nsg-{nsg}").lower(), direction, address), f"a-{address}", "bench", life,
              direction is Direction.OUTBOUND, (target,))
        for address in addresses for direction in (BOTH if both else BOTH[:1])]


def _subnet(n: int) -> str:
    vnet = nsg_id("x").rpartition("/networkSecurityGroups/")[0]
    return f"{vnet}/virtualNetworks/vnet/subnets/sub-{n}".lower()


def _fill(app: App, count: int, base: datetime, tell: Callable[[int], None]) -> None:
    """Live blocks on NSGs of their own, expiries uniform over the day that begins with `base`."""
    chance = random.Random(SEED)  # noqa: S311 - a repeatable load
    for start in range(0, count, PER_NSG):
        nsg = nsg_id(f"filled-{start // PER_NSG}").lower()
        times = sorted(base + timedelta(seconds=chance.uniform(0, 86_400))
                       for _ in range(min(PER_NSG, count - start)))
        app.ledger.work.nsg(nsg, times[0])
        app.ledger.blocks.save([
            Block(key=BlockKey(nsg, Direction.OUTBOUND, f"20.{n}.{start // 250 % 250}.{start % 250}"),
                  state=BlockState.ACTIVE, lifetime=timedelta(hours=24), decisive=True,
                  alerts=(f"alert-{start}-{n}",), alert_type="bench", reports=1, claimed=base,
                  first_proven=base, proven=base, expires=at, rule="defender-block-bench-outbound")
            for n, at in enumerate(times)])
        tell(start)


def sweep_cost(
    world: World, number: int, live: int, rounds: int, tell: Callable[[int], None]
) -> list[Cost]:
    """Sweeps with 10 blocks due among so many live ones, the jobs apart: in the middle of an hour, the others
    due from a quarter of an hour later on, over a day."""
    world.control("POST", "reset")
    world.tune(**AT_ONCE)
    world.seed(estate(DUE, 1))
    clock = _Shifted()
    app = app_of(world, clock, number)
    base = clock.now().replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    clock.shift = base - clock.now()
    for k in range(rounds):  # on each NSG one block falls due in each round, two minutes apart
        for n in range(1, DUE + 1):
            address = attackers(rounds * DUE)[k * DUE + n - 1]
            claims = _claims(n, [address], FIRST_DUE + k * APART, both=False)
            app.ledger.blocks.claim(claims[0].key.nsg_id, claims, clock.now())
    for n in range(1, DUE + 1):
        app.responder.commit_nsg(nsg_id(f"nsg-{n}").lower(), app.budget())
    _fill(app, live - rounds * DUE, base + FIRST_DUE + (rounds - 1) * APART + timedelta(minutes=15), tell)
    clock.shift = base + timedelta(minutes=15) - Clock().now()
    _jobs_done(app)
    app.on_timer()  # the hints left by the claims
    found = []
    for k in range(rounds):
        clock.shift = base + FIRST_DUE + k * APART + timedelta(seconds=70) - Clock().now()
        _jobs_done(app)
        found.append(_measured(world, app))
    return found


def _jobs_done(app: App) -> None:
    for job in JOBS:
        app.ledger.control.begin_job(job, app.clock.now(), timedelta(0))


def _measured(world: World, app: App) -> Cost:
    def requests() -> int:
        return sum(r["service"] == "table" for r in world.log())

    started = time.perf_counter()
    due = app.ledger.work.due(app.clock.now(), 500)
    bare = time.perf_counter() - started
    started = time.perf_counter()
    for hint in due[:DUE]:
        app.ledger.blocks.live(hint.id)
    bare += time.perf_counter() - started
    world.control("DELETE", "log")
    started = time.perf_counter()
    swept = app.on_timer()
    seconds = time.perf_counter() - started
    if swept.lifted != DUE:
        raise RuntimeError(f"{swept.lifted} blocks lifted, {DUE} were due")
    return Cost(seconds, bare, requests())


def ratios(few: list[Cost], many: list[Cost]) -> dict[str, Any]:
    """Medians against medians."""
    def middle(costs: list[Cost], of: Callable[[Cost], float]) -> float:
        return statistics.median(map(of, costs))

    return {
        "ratio_time": round(middle(many, lambda c: c.net) / middle(few, lambda c: c.net), 3),
        "ratio_requests": round(
            middle(many, lambda c: c.requests) / middle(few, lambda c: c.requests), 3),
        "seconds_few": round(middle(few, lambda c: c.seconds), 3),
        "seconds_many": round(middle(many, lambda c: c.seconds), 3),
        "bare_seconds_few": round(middle(few, lambda c: c.bare_seconds), 4),
        "bare_seconds_many": round(middle(many, lambda c: c.bare_seconds), 4),
        "requests_few": middle(few, lambda c: c.requests),
        "requests_many": middle(many, lambda c: c.requests),
    }


def day_after(world: World, number: int, nsgs: int, each: int) -> dict[str, Any]:
    """All blocks of a storm due at once: how many one sweep lifts, and in what time."""
    world.control("POST", "reset")
    world.tune(**AT_ONCE)
    world.seed(estate(nsgs, 1))
    clock = _Shifted()
    app = app_of(world, clock, number)
    addresses = attackers(nsgs * each)
    for n in range(1, nsgs + 1):
        mine = addresses[(n - 1) * each : n * each]
        claims = _claims(n, mine, timedelta(hours=24), both=True)
        app.ledger.blocks.claim(claims[0].key.nsg_id, claims, clock.now())
        app.responder.commit_nsg(claims[0].key.nsg_id, app.budget())
    clock.shift += timedelta(hours=24, minutes=5)
    _jobs_done(app)
    world.tune(settle=3, **AZURE)
    budget = app.sweep.budget().left()
    started = time.perf_counter()
    swept = app.on_timer()
    seconds = time.perf_counter() - started
    return {"nsgs": nsgs, "blocks": 2 * nsgs * each, "lifted": swept.lifted,
            "seconds": round(seconds, 2), "budget_seconds": round(budget, 1)}


@contextmanager
def counted_world(folder: Path) -> Iterator[World]:
    """A world whose table requests are counted."""
    with World(folder, doors=True) as world:
        yield world
