"""`python -m bench`: everything side by side; `--quick`: small, asserts counts, never times."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import firewall, report
from bench.contest import LIMIT_SECONDS, PEERS, RAISED_CAPS, Outcome, run_all
from bench.loads import all_loads, storm
from bench.starts import alerts_per_second, cold_start, deliveries, first_block, real_alerts
from bench.sweep import counted_world, day_after, ratios, sweep_cost
from bench.tracing import look, pool_loads
from sandbox.world import ROOT, World

PARTS = ("loads", "firewall", "tracing", "settle10", "series", "sweep", "day_after", "starts")
SERIES = (1, 10, 50, 200)
RECORDED = ROOT.parent / "shared" / "data" / "alerts"


class Bench:
    """One run; what is measured is saved as it comes."""

    def __init__(self, console: Console, out: Path, *, quick: bool, most: float, part: bool) -> None:
        self.console = console
        self.out = out
        self.quick = quick
        self.most = most
        kept = out / "latest.json"
        self.results: dict[str, Any] = {
            **(json.loads(kept.read_text()) if part and kept.exists() else {}),
            "date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": report.machine(),
            "raised_caps": RAISED_CAPS, "peers_stop_after_seconds": most}

    def begin(self, part: str) -> None:
        """A part is measured anew: when, and what else is its own."""
        self.results.pop({"tracing": "pool"}.get(part, part), None)
        self.results.pop({"settle10": "loads_settle_10"}.get(part, part), None)
        self.results.setdefault("parts", {})[part] = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"), "peers_stop_after_seconds": self.most}

    def _told(self, key: str) -> Any:
        def tell(load: str, name: str, outcome: Outcome) -> None:
            self.results.setdefault(key, {}).setdefault(load, {})[name] = outcome.to_json()
            seconds = outcome.seconds_to_blocked
            self.console.print(
                f"  {key} · {load} · [bold]{name}[/]: {outcome.blocked}/{outcome.expected} blocked, "
                + (f"the last after {seconds:.2f} s" if seconds else "not all")
                + f", {outcome.arm_writes} writes, {outcome.errors_4xx} refusals")
            report.save(self.out, self.results)
        return tell

    def loads(self) -> None:
        """The five loads, writes settling in 3 s."""
        if self.quick:
            run_all(all_loads(0.1), 0.3, self._told("loads"), (1, 2), most=self.most,
                    peers_of=lambda load: PEERS if load.name == "storm" else ("bare",))
        else:
            run_all(all_loads(), 3, self._told("loads"), most=self.most)

    def tracing(self) -> None:
        """A pool of a hundred against one machine; a look at an estate of twenty thousand."""
        loads = pool_loads(4)[1:] if self.quick else pool_loads()
        run_all(loads, 0.3 if self.quick else 3, self._told("pool"), (1,), most=self.most * 4,
                peers_of=lambda _: (), quiet=True)
        if self.quick:
            return
        with tempfile.TemporaryDirectory() as folder, World(Path(folder)) as world:
            self.results["estate"] = look(world, 20_000, 5)

    def firewall(self) -> None:
        """A large firewall judged, one rule taken out."""
        with tempfile.TemporaryDirectory() as folder:
            self.results["firewall"] = firewall.measured(Path(folder), 1_000 if self.quick else 10_000)
        self.console.print(f"  firewall · {self.results['firewall']}")

    def settle10(self) -> None:
        """Once more with writes that settle in 10 s."""
        run_all([ld for ld in all_loads() if ld.name in ("one", "storm")], 10,
                self._told("loads_settle_10"), (2,), most=self.most)

    def series(self) -> None:
        """Growing storms, for the plots."""
        tell = self._told("series")
        for count in SERIES:
            run_all([storm(count, name=str(count))], 3, tell, (2,), most=min(60.0, self.most))
        for name, run in self.results.get("loads", {}).get("storm", {}).items():
            self.results["series"].setdefault("1000", {})[name] = run

    def sweep(self) -> None:
        """Few and many live blocks."""
        few, many = (200, 1_000) if self.quick else (1_000, 100_000)
        with tempfile.TemporaryDirectory() as folder, counted_world(Path(folder)) as world:
            shown = time.monotonic()

            def tell(done: int) -> None:
                nonlocal shown
                if time.monotonic() - shown > 5:
                    shown = time.monotonic()
                    self.console.print(f"  sweep · {done} live blocks filled in")

            rounds = 2 if self.quick else 5
            costs = [sweep_cost(world, n, live, rounds, tell) for n, live in enumerate((few, many))]
        self.results["sweep"] = {"live_few": few, "live_many": many, **ratios(*costs)}

    def day_after(self) -> None:
        """Everything due at once."""
        with tempfile.TemporaryDirectory() as folder, World(Path(folder)) as world:
            self.results["day_after"] = [
                day_after(world, n, nsgs, each) for n, (nsgs, each) in enumerate(((10, 100), (200, 1)))]

    def starts(self) -> None:
        """Cold start, first block, parse and decide."""
        one = next(ld for ld in all_loads() if ld.name == "one")
        with tempfile.TemporaryDirectory() as folder, World(Path(folder)) as world:
            cold = cold_start(world, 1 if self.quick else 9)
            first = first_block(world, one, 0.3 if self.quick else 3)
            if not self.quick:
                floor = {f"hosts_{n}": deliveries(world, storm(1000), n) for n in (1, 2, 4)}
                self.results["empty_app_1000_deliveries"] = floor
        raws, which = real_alerts(RECORDED, storm(20).alerts)
        self.results |= {
            "cold_start": cold, "cold_start_ratio": cold["ratio"], "first_block_seconds": first,
            "alerts_per_second": alerts_per_second(raws, 1 if self.quick else 5),
            "alerts_parsed": which}


def counts_wrong(results: dict[str, Any]) -> list[str]:
    """What a quick run must not show: counts, never times."""
    wrong = []
    for load, runs in (*results["loads"].items(), *results["pool"].items()):
        for name, run in runs.items():
            if name in report.OURS and run["blocked"] != run["expected"]:
                wrong.append(f"{load}, {name}: {run['blocked']} of {run['expected']} blocked")
            if name in report.OURS and run["foreign_rules_changed"]:
                wrong.append(f"{load}, {name}: {run['foreign_rules_changed']} user rules changed")
            if name in report.OURS and run["doubled"]:
                wrong.append(f"{load}, {name}: {run['doubled']} blocks doubled")
            if name == "bare" and run["blocked"] != run["expected"]:
                wrong.append(f"{load}: the bare limit is not whole")
            if load == "copies" and name in report.OURS and run["arm_writes"] > 2:
                wrong.append(f"copies, {name}: {run['arm_writes']} writes")
            if load == "storm" and name in report.OURS and run["arm_writes"] > 60:
                wrong.append(f"storm, {name}: {run['arm_writes']} writes")
    if results["pool"]["pool"]["ours_1"]["graph_queries"] > 8:
        wrong.append(f"a pool costs {results['pool']['pool']['ours_1']['graph_queries']} queries")
    if results["firewall"]["removal_writes"] != 1:
        wrong.append(f"a removal makes {results['firewall']['removal_writes']} writes")
    if results["sweep"]["ratio_requests"] > 1.1:
        wrong.append(f"a sweep makes {results['sweep']['ratio_requests']} × the table requests")
    return wrong


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", help=f"some parts, by comma, the others stay: {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, help="where results go")
    parser.add_argument("--most", type=float, help="seconds after which a peer is stopped")
    args = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    out = args.out or ROOT / ("build/bench" if args.quick else "bench/results")
    chosen = args.only.split(",") if args.only else (
        ["loads", "firewall", "tracing", "sweep", "starts"] if args.quick else list(PARTS))
    unknown = set(chosen) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    bench = Bench(console, out, quick=args.quick, part=bool(args.only),
                  most=args.most or (5.0 if args.quick else LIMIT_SECONDS))
    console.print(f"caps of the policy, raised for this: {RAISED_CAPS}")
    for part in chosen:
        console.print(f"[bold]{part}[/]")
        bench.begin(part)
        getattr(bench, part)()
        report.save(out, bench.results)
    report.show(console, bench.results, judged=not args.quick)
    console.print(f"results: {out}")
    wrong = counts_wrong(bench.results) if args.quick and not args.only else []
    for one in wrong:
        console.print(f"[red]{one}[/]")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
