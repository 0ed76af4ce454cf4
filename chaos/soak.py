"""`python -m chaos.soak`: alerts at a steady rate for half an hour, while blocks end all the time.

Blocks live five minutes and the ledger forgets after six, so that all that begins also ends and is
forgotten within the run. Writes build/soak.json and build/soak.png; ends with 0 only if nobody was
lost, nothing is left over, and neither memory nor tables grow.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from azure.data.tables import TableServiceClient
from rich.console import Console

from bench.contest import AZURE, policy_file
from bench.loads import attackers, estate
from remediation.app import build
from remediation.clock import Clock
from remediation.policy import load_policy
from sandbox.demo.count import owned_rules
from sandbox.demo.estate import SUBSCRIPTION, c2_alert, nsg_id
from sandbox.world import ROOT, World, waiting

NSGS, MACHINES = 10, 10
LIFETIME_MINUTES, RETENTION_DAYS, SWEEP_SECONDS = 5, 0.0042, 10
LOOK_SECONDS, COUNT_SECONDS = 15.0, 120.0
CATCH_UP_SECONDS, LAST_LIFT_SECONDS = 180.0, LIFETIME_MINUTES * 60 + 120.0
MEMORY_GROWTH, TABLE_GROWTH = 1.10, 1.25
"""How much more than in the middle there may be at the end."""
QUIET = ("alert", "unproven")
LATE_MINUTES = 1.5
"""A lift waits for a sweep, the lease and a write."""
PREFIX = "soak"


@dataclass
class Sample:
    """How it stood, so many seconds after the start."""

    seconds: float
    published: int
    denied: int
    standing: int
    host_mib: list[float]
    rows: dict[str, int] = field(default_factory=dict)


class Effects:
    """Who was ever denied, when, for how long: from the sandbox's record."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen = 0
        self._now: dict[tuple[str, str], frozenset[str]] = {}
        self.since: dict[str, float] = {}
        self.until: dict[str, float] = {}

    def follow(self) -> None:
        """Read what is new."""
        for effect in self._world.effects(self._seen):
            self._seen += 1
            for name, rule in effect["rules"].items():
                if name.startswith("defender-block-soak-outbound"):
                    self._apply((effect["nsg"], name), rule, effect["at"])

    def _apply(self, key: tuple[str, str], rule: Mapping[str, Any] | None, at: float) -> None:
        before, after = self._now.get(key, frozenset()), _hosts(rule)
        for one in after - before:
            self.since.setdefault(one, at)
        for one in before - after:
            self.until[one] = at
        self._now[key] = after

    @property
    def standing(self) -> int:
        """Denied now."""
        return sum(map(len, self._now.values()))


def _hosts(rule: Mapping[str, Any] | None) -> frozenset[str]:
    if rule is None:
        return frozenset()
    return frozenset(p for p in (*rule.get("destinationAddressPrefixes", ()),
                                 rule.get("destinationAddressPrefix")) if p and p[0].isdigit())


class Soak:
    """One run."""

    def __init__(self, world: World, args: argparse.Namespace, console: Console) -> None:
        self._world, self._console = world, console
        self._rate, self._seconds = args.rate, args.minutes * 60
        self._stop = threading.Event()
        self.published: dict[str, float] = {}
        """Attacker → when its alert was published."""
        self.samples: list[Sample] = []
        self.effects = Effects(world)
        world.tune(**AZURE, settle=args.settle)
        world.seed(estate(NSGS, MACHINES))
        self.settings = {
            "RESPONDER_MODE": "enforce", "RESPONDER_DEPLOYMENT": "soak", "RESPONDER_TABLE_PREFIX": PREFIX,
            "RESPONDER_POLICY": str(_policy(world.folder)),
            "RESPONDER_RETENTION_DAYS": str(RETENTION_DAYS), "RESPONDER_RECONCILE_SECONDS": "86400",
            "RESPONDER_DRIFT_SECONDS": "120", "RESPONDER_SWEEP_SECONDS": str(SWEEP_SECONDS),
            "SWEEP_SCHEDULE": f"*/{SWEEP_SECONDS} * * * * *"}
        self.hosts = [world.start_host(f"soak-{n}", **self.settings) for n in range(args.hosts)]
        world.subscribe(*self.hosts, in_flight=32)

    def run(self) -> None:
        """Publish, and look on."""
        thread = threading.Thread(target=self._publish, daemon=True)
        thread.start()
        started = time.time()
        counted = 0.0
        while thread.is_alive():
            self._stop.wait(LOOK_SECONDS)
            passed = time.time() - started
            counts = passed - counted >= COUNT_SECONDS
            self._look(started, counts=counts)
            counted = passed if counts else counted
        self._look(started, counts=True)
        self._console.print("no more alerts: catching up, then everything is to be lifted")
        for _ in waiting(CATCH_UP_SECONDS, 2):
            self.effects.follow()
            if len(self.effects.since) >= len(self.published):
                break
        for _ in waiting(LAST_LIFT_SECONDS, 5):
            self.effects.follow()
            if not self.effects.standing:
                break
        self._look(started, counts=True)

    def _publish(self) -> None:
        everyone = iter(attackers(int(self._rate * self._seconds) + 1))
        begun, sent = time.monotonic(), 0
        while (passed := time.monotonic() - begun) < self._seconds:
            due = int(passed * self._rate) + 1 - sent
            alerts = [self._alert(next(everyone), sent + n) for n in range(due)]
            if alerts:
                self._world.seed({"subscription": SUBSCRIPTION, "alerts": [a["properties"] for a in alerts]})
                self._world.publish_all(alerts)
                sent += due
            time.sleep(0.25)

    def _alert(self, attacker: str, n: int) -> dict[str, Any]:
        self.published[attacker] = time.time()
        return c2_alert(f"vm-{n % NSGS + 1}-{n // NSGS % MACHINES + 1}", [attacker])

    def _look(self, started: float, *, counts: bool) -> None:
        self.effects.follow()
        self._world.control("DELETE", "log")
        sample = Sample(
            round(time.time() - started, 1), len(self.published), len(self.effects.since),
            self.effects.standing,
            [round(psutil.Process(h.popen.pid).memory_info().rss / 2**20, 1) for h in self.hosts if h.alive],
            self._rows() if counts else {})
        self.samples.append(sample)
        if counts or len(self.samples) % 4 == 0:
            self._console.print(
                f"  {sample.seconds:5.0f} s: {sample.published} alerts, {sample.denied} blocked so far, "
                f"{sample.standing} now; hosts {sample.host_mib} MiB; rows {sample.rows or '-'}")

    def _rows(self) -> dict[str, int]:
        with TableServiceClient.from_connection_string(self._world.direct_connection) as tables:
            return {t.name: sum(1 for _ in tables.get_table_client(t.name).list_entities(
                select=["PartitionKey"])) for t in tables.list_tables() if t.name.startswith(PREFIX)}

    def verdict(self) -> dict[str, Any]:
        """What came of it, and what of that is wrong."""
        since, until = self.effects.since, self.effects.until
        waits = sorted(since[a] - at for a, at in self.published.items() if a in since)
        terms = [(until[a] - since[a]) / 60 for a in until if a in since]
        app = build(self._world.environment(**self.settings), Clock())
        told = Counter(n["kind"] for n in app.ledger.control.notices())
        rows = [s for s in self.samples if s.rows]
        memory = [max(s.host_mib) for s in self.samples if s.host_mib and s.seconds <= self._seconds]
        found: dict[str, Any] = {
            "alerts": len(self.published), "rate_per_second": self._rate, "hosts": len(self.hosts),
            "never_blocked": len(self.published) - len(waits),
            "left_over": self.effects.standing, "left_in_rules": len(owned_rules(self._world)),
            "left_in_ledger": sum(len(app.ledger.blocks.live(nsg_id(f"nsg-{n}").lower()))
                                  for n in range(1, NSGS + 1)),
            "hosts_alive": sum(h.alive for h in self.hosts),
            "seconds_to_blocked": _spread(waits), "minutes_blocked": _spread(terms),
            "memory_mib": {"middle": _about(memory, 0.5), "end": _about(memory, 0.95)},
            "rows": {"middle": _total(_nearest(rows, self._seconds * 0.55)),
                     "end": _total(_nearest(rows, self._seconds))},
            "told": dict(told),
        }
        found["wrong"] = list(_wrong(found, len(self.hosts)))
        found["samples"] = [asdict(s) for s in self.samples]
        return found


def _wrong(found: Mapping[str, Any], hosts: int) -> Iterator[str]:
    if found["never_blocked"]:
        yield f"{found['never_blocked']} attackers were never blocked"
    if found["left_over"]:
        yield f"{found['left_over']} are blocked still, long after their time"
    if found["left_in_rules"] or found["left_in_ledger"]:
        yield f"{found['left_in_rules']} rules and {found['left_in_ledger']} rows of blocks are left"
    if found["minutes_blocked"] and found["minutes_blocked"]["most"] > LIFETIME_MINUTES + LATE_MINUTES:
        yield f"blocks ended late: {found['minutes_blocked']}"
    if found["hosts_alive"] != hosts:
        yield "a host has died"
    if found["memory_mib"]["end"] > found["memory_mib"]["middle"] * MEMORY_GROWTH:
        yield f"memory grows: {found['memory_mib']}"
    if found["rows"]["end"] > found["rows"]["middle"] * TABLE_GROWTH:
        yield f"tables grow: {found['rows']}"
    if found["minutes_blocked"] and found["minutes_blocked"]["least"] < LIFETIME_MINUTES - 0.2:
        yield f"blocks ended early: {found['minutes_blocked']}"
    odd = {k: n for k, n in found["told"].items() if k not in QUIET}
    if odd:
        yield f"humans were told of {odd}"


def _spread(values: Sequence[float]) -> dict[str, float]:
    if len(values) < 2:
        return {}
    cut = statistics.quantiles(values, n=100)
    return {k: round(v, 2) for k, v in (("least", min(values)), ("p50", cut[49]), ("p95", cut[94]),
                                        ("p99", cut[98]), ("most", max(values)))}


def _about(values: Sequence[float], part: float) -> float:
    """The median of the tenth of the values around there."""
    at, width = int(len(values) * part), max(1, len(values) // 20)
    return round(statistics.median(values[max(0, at - width) : at + width] or [0.0]), 1)


def _nearest(rows: Sequence[Sample], seconds: float) -> Sample | None:
    return min(rows, key=lambda s: abs(s.seconds - seconds), default=None)


def _total(sample: Sample | None) -> int:
    return sum(sample.rows.values()) if sample else 0


def _policy(folder: Path) -> Path:
    """The bench's, with short lives."""
    path = policy_file(folder)
    lines = [f'lifetime = "{LIFETIME_MINUTES}m"' if line.split("=")[0].strip() == "lifetime" else line
             for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    if f'lifetime = "{LIFETIME_MINUTES}m"' not in lines:
        raise RuntimeError("the policy has no lifetime to shorten")
    load_policy(path)
    return path


def _plot(samples: Sequence[Mapping[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, sharex=True, figsize=(8, 8))
    minutes = [s["seconds"] / 60 for s in samples]
    for name in ("published", "denied"):
        axes[0].plot(minutes, [s[name] for s in samples], label=name)
    axes[0].plot(minutes, [s["standing"] for s in samples], label="blocked now")
    for n in range(len(samples[0]["host_mib"])):
        axes[1].plot(minutes, [s["host_mib"][n] if n < len(s["host_mib"]) else 0 for s in samples],
                     label=f"host {n + 1}, MiB")
    counted = [s for s in samples if s["rows"]]
    for name in sorted({n for s in counted for n in s["rows"]}):
        axes[2].plot([s["seconds"] / 60 for s in counted], [s["rows"].get(name, 0) for s in counted],
                     marker="o", label=f"rows of {name.removeprefix(PREFIX)}")
    for one in axes:
        one.legend()
        one.grid(visible=True, alpha=0.3)
        one.set_ylim(bottom=0)
    axes[2].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m chaos.soak", description=__doc__)
    parser.add_argument("--rate", type=float, default=20.0, help="alerts a second")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--hosts", type=int, default=2, help="Functions host processes")
    parser.add_argument("--settle", type=float, default=3.0, help="seconds a rule write takes in Azure")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "soak.json")
    args = parser.parse_args()
    console = Console(highlight=False)
    with World() as world:
        soak = Soak(world, args, console)
        console.print(f"{args.rate:g} alerts a second for {args.minutes:g} minutes, {args.hosts} hosts; "
                      f"{soak.settings['RESPONDER_POLICY']}")
        soak.run()
        found = soak.verdict()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    _plot(found["samples"], args.out.with_suffix(".png"))
    console.print({k: v for k, v in found.items() if k != "samples"})
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
