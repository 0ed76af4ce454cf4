"""One contender under one load, on an empty Azure of its own → its numbers."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from bench.judge import DECISIVE, OTHER, Judge, denied_prefixes
from bench.loads import Load, attackers
from remediation.cloud.graph import PATIENT_PER_SECOND
from remediation.policy import DEFAULT_POLICY
from sandbox.demo.count import APP, WRITES, foreign_rules
from sandbox.demo.estate import SUBSCRIPTION, c2_alert
from sandbox.world import FunctionsHost, World, waiting

IN_FLIGHT = 32
PEERS = ("playbook", "whole_nsg", "bare")
LIMIT_SECONDS = 300.0
"""A peer is stopped then, or at 20 × our time; ours is given up then, whatever the run's size."""
LOOK_SECONDS = 0.25
LATE_SECONDS = 2.0
QUIET_SECONDS = 2.5 / PATIENT_PER_SECOND
"""Longer than the hosts wait between two queries that can wait."""
QUIET_LIMIT_SECONDS = 90.0
RAISED_CAPS = {"addresses_per_nsg": 4000, "blocks_per_hour": 100_000}
AZURE = {"read": 0.08, "write": 0.08, "throttle": True, "retry_after": True, "busy": "429",
         "reads": [250, 25], "writes": [200, 10], "deletes": [200, 10], "graph": [15, 3]}
"""The simulated Azure, the same for all; `settle` comes with the run."""
_numbers = itertools.count(1)


@dataclass
class Outcome:
    """What came of it. Seconds count from publishing the first event."""

    seconds_to_blocked: float | None = None
    timed_out: bool = False
    stopped_after: float | None = None
    other_direction_seconds: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    arm_writes: int = 0
    arm_reads: int = 0
    graph_queries: int = 0
    errors_4xx: int = 0
    blocked: int = 0
    expected: int = 0
    foreign_rules_changed: int = 0
    doubled: int = 0
    """Addresses that more than one rule, not a user's, denies on one NSG in one direction, or one twice."""
    peak_rss_mib: float = 0.0
    cpu_seconds: float = 0.0
    failed: dict[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data, seconds rounded to milliseconds."""
        return {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(self).items()}


class Contender(Protocol):
    """Somebody who is to block. What a method has no use for stays unused."""

    name: str

    def prepare(self, world: World, load: Load) -> list[psutil.Process]:
        """Start and warm up → the processes whose cost is counted."""

    def begin(self, world: World, load: Load) -> None:
        """Deliver everything; come back at once."""

    def done(self, world: World, judge: Judge, load: Load) -> bool:
        """Is there nothing more to come?"""

    def end(self, world: World, outcome: Outcome) -> None:
        """Stop; add what only the contender knows."""


class Ours:
    """This project, through the Functions host and the Event Grid publisher."""

    def __init__(self, hosts: int, *, warm: bool = True, quiet: bool = False) -> None:
        """`quiet`: begin only when nothing of the warming is under way any more (its investigations
        ask Resource Graph at leisure), for a load whose queries are counted."""
        self.name = f"ours_{hosts}"
        self._count = hosts
        self._warm = warm
        self._quiet = quiet
        self._hosts: list[FunctionsHost] = []

    def prepare(self, world: World, load: Load) -> list[psutil.Process]:
        """Start the hosts; one alert on another NSG for each warms them up."""
        number = next(_numbers)
        settings = {
            "RESPONDER_MODE": "enforce", "RESPONDER_POLICY": str(policy_file(world.folder)),
            "RESPONDER_DEPLOYMENT": "bench", "RESPONDER_TABLE_PREFIX": f"bench{number}",
            "COMMIT_QUEUE": f"bench-{number}",
        }
        self._hosts = [world.start_host(f"host{number}-{n}", **settings) for n in range(self._count)]
        world.subscribe(*self._hosts, in_flight=IN_FLIGHT)
        if self._warm:
            self._warm_up(world, load)
        return [psutil.Process(h.popen.pid) for h in self._hosts]

    def _warm_up(self, world: World, load: Load) -> None:
        machine = f"vm-{load.nsgs + 1}-1"
        warm = [c2_alert(machine, [a]) for a in attackers(5000)[-3 * self._count :]]
        world.seed({"subscription": SUBSCRIPTION, "alerts": [a["properties"] for a in warm]})
        for alert in warm:
            world.publish(alert)
        if not world.settled(90):
            raise RuntimeError("the hosts did not take the warming deliveries")
        world.run_timer(self._hosts[0])  # the first sweep's jobs belong to the start, not to the load
        for _ in waiting(30):
            if any('"jobs":["reconcile"' in h.tail(1000) for h in self._hosts):
                break
        else:
            raise RuntimeError("the first sweep's jobs were not done")
        if self._quiet:
            _wait_for_quiet(world)

    def begin(self, world: World, load: Load) -> None:
        """Publish all events."""
        world.publish_all(load.alerts)

    def done(self, world: World, judge: Judge, load: Load) -> bool:
        """Both directions of every attack denied, every event answered."""
        everyone = all(len(judge.times(d)) >= len(load.attacks) for d in (DECISIVE, OTHER))
        return everyone and world.settled(0.01)

    def end(self, world: World, outcome: Outcome) -> None:
        """Stop the hosts."""
        for host in self._hosts:
            world.stop_host(host)


class Peer:
    """A contender of `bench.peers`, in a process of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._child: subprocess.Popen[str] | None = None

    def prepare(self, world: World, load: Load) -> list[psutil.Process]:
        """Start it, signed in and connected."""
        child = self._child = subprocess.Popen(
            [sys.executable, "-m", "bench.peers", self.name], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=world.environment())
        self._say({"alerts": load.alerts, "attacks": [asdict(a) for a in load.attacks]})
        assert child.stdout is not None  # noqa: S101 - a pipe, as asked for above
        if not child.stdout.readline():
            raise RuntimeError(f"{self.name} ended before it was ready")
        return [psutil.Process(child.pid)]

    def _say(self, what: Any) -> None:
        assert self._child is not None  # noqa: S101 - only said to a child
        assert self._child.stdin is not None  # noqa: S101 - a pipe
        self._child.stdin.write(json.dumps(what) + "\n")
        self._child.stdin.flush()

    def begin(self, world: World, load: Load) -> None:
        """The word."""
        self._say("go")

    def done(self, world: World, judge: Judge, load: Load) -> bool:
        """It has handled every alert."""
        return self._child is None or self._child.poll() is not None

    def end(self, world: World, outcome: Outcome) -> None:
        """Stop it where it is; what failed, by Azure's codes."""
        child, self._child = self._child, None
        if child is None:
            return
        if child.poll() is None:
            child.kill()
            time.sleep(LATE_SECONDS)  # its last requests must not land in the next one's Azure
        last, _ = child.communicate()
        outcome.failed = json.loads(last)["failed"] if last.strip() else None


def _wait_for_quiet(world: World) -> None:
    """Until ARM and Resource Graph have heard nothing for a while."""
    heard, since = -1, 0.0
    for _ in waiting(QUIET_LIMIT_SECONDS, LOOK_SECONDS):
        latest = max((r["n"] for r in world.log() if r["service"] == "arm"), default=0)
        if latest != heard:
            heard, since = latest, time.monotonic()
        elif time.monotonic() - since > QUIET_SECONDS:
            return
    raise RuntimeError(f"the warmed hosts were still busy after {QUIET_LIMIT_SECONDS:.0f} s")


def policy_file(folder: Path) -> Path:
    """The default policy with its caps out of the way."""
    text = DEFAULT_POLICY.read_text()
    for name, value in RAISED_CAPS.items():
        before = next(line for line in text.splitlines() if line.startswith(f"{name} ="))
        text = text.replace(before, f"{name} = {value}")
    path = folder / "bench-policy.toml"
    path.write_text(text)
    return path


class _Cost:
    """CPU and memory of some processes, sampled."""

    def __init__(self, processes: Sequence[psutil.Process]) -> None:
        self._processes = processes
        self._start = self._cpu()
        self.peak = 0.0
        self.cpu = 0.0

    def _cpu(self) -> float:
        total = 0.0
        for one in self._processes:
            times = one.cpu_times()
            total += times.user + times.system
        return total

    def sample(self) -> None:
        """Look; a process that has ended keeps its last numbers."""
        try:
            self.peak = max([self.peak, *(p.memory_info().rss / 2**20 for p in self._processes)])
            self.cpu = self._cpu() - self._start
        except psutil.Error:
            return


def contest(world: World, load: Load, contender: Contender, settle: float, limit: float) -> Outcome:
    """Run one contender under one load."""
    world.control("POST", "reset")
    world.tune(settle=settle, **AZURE)
    world.seed(load.estate)
    outcome = Outcome(expected=len(load.attacks))
    processes = contender.prepare(world, load)
    try:
        foreign = foreign_rules(world)
        judge = Judge(world.resources("microsoft.network/networksecuritygroups"), load.attacks)
        before = max((r["n"] for r in world.log()), default=0)
        effects = len(world.effects())
        world.seed({"subscription": SUBSCRIPTION, "alerts": load.known})
        cost = _Cost(processes)
        started = time.time()
        contender.begin(world, load)
        outcome.timed_out, outcome.stopped_after = True, min(limit, LIMIT_SECONDS)
        for _ in waiting(min(limit, LIMIT_SECONDS), LOOK_SECONDS):
            cost.sample()
            fresh = world.effects(effects)
            effects += len(fresh)
            for effect in fresh:
                judge.apply(effect)
            if contender.done(world, judge, load):
                outcome.timed_out, outcome.stopped_after = False, None
                break
        for effect in world.effects(effects):
            judge.apply(effect)
        _count(world, outcome, before, foreign, f"/nsg-{load.nsgs + 1}/")
    finally:
        contender.end(world, outcome)
    outcome.peak_rss_mib, outcome.cpu_seconds = cost.peak, cost.cpu
    _time(outcome, judge, started)
    return outcome


def _count(world: World, outcome: Outcome, since: int, foreign: dict[str, str], warm: str) -> None:
    """`warm`: the NSG of the warming alerts; what is still written there is none of the load's."""
    rows = [r for r in world.log(since)
            if r["service"] == "arm" and r["by"] == APP and warm not in r["path"].lower()]
    outcome.arm_writes = sum(r["method"] in WRITES for r in rows)
    outcome.arm_reads = sum(r["method"] == "GET" for r in rows)
    outcome.graph_queries = sum(r["path"].lower().endswith("resourcegraph/resources") for r in rows)
    outcome.errors_4xx = sum(400 <= r["status"] < 500 for r in rows)
    after = foreign_rules(world)
    outcome.foreign_rules_changed = sum(after.get(k) != v for k, v in foreign.items())
    times: Counter[tuple[str, str, str]] = Counter()
    for nsg in world.resources("microsoft.network/networksecuritygroups"):
        for rule in nsg["properties"]["securityRules"]:
            if rule["id"].lower() not in foreign:
                times.update((nsg["id"].lower(), rule["properties"]["direction"], prefix)
                             for prefix in denied_prefixes(rule["properties"]))
    outcome.doubled = sum(n > 1 for n in times.values())


def _time(outcome: Outcome, judge: Judge, started: float) -> None:
    def last(direction: str) -> float | None:
        times = judge.times(direction)
        return times[-1] - started if times and len(times) == outcome.expected else None

    times = [at - started for at in judge.times(DECISIVE)]
    outcome.blocked = len(times)
    outcome.seconds_to_blocked, outcome.other_direction_seconds = last(DECISIVE), last(OTHER)
    if times:
        outcome.p50, outcome.p95, outcome.p99 = (
            times[min(len(times) - 1, int(len(times) * q))] for q in (0.5, 0.95, 0.99))


def run_all(
    loads: Iterable[Load], settle: float, tell: Callable[[str, str, Outcome], None],
    hosts: Sequence[int] = (1, 2, 4), most: float = LIMIT_SECONDS,
    peers_of: Callable[[Load], Sequence[str]] = lambda _: PEERS, *, quiet: bool = False,
) -> dict[str, dict[str, Outcome]]:
    """All contenders under all loads: ours first, since a peer's time is limited to 20 × ours."""
    found: dict[str, dict[str, Outcome]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, World(Path(folder)) as world:
        for load in loads:
            results = found[load.name] = {}
            contenders: list[Contender] = [*(Ours(n, quiet=quiet) for n in hosts), *map(Peer, peers_of(load))]
            for contender in contenders:
                mine = [o.seconds_to_blocked for k, o in results.items() if k.startswith("ours")]
                peer = isinstance(contender, Peer)
                limit = min([most, *(20 * s for s in mine if s)]) if peer else LIMIT_SECONDS
                results[contender.name] = contest(world, load, contender, settle, limit)
                tell(load.name, contender.name, results[contender.name])
    return found
