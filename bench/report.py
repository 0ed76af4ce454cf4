"""What was measured, as JSON, as a table and as plots; and which targets it meets."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

OURS = ("ours_1", "ours_2", "ours_4")
PACKAGES = ("azure-mgmt-network", "azure-data-tables", "azure-functions-runtime", "azure-identity")


@dataclass(frozen=True, slots=True)
class Target:
    """One promise: what, the bound, what was measured, and whether it holds (None: not measured)."""

    what: str
    bound: str
    measured: str
    met: bool | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"what": self.what, "bound": self.bound, "measured": self.measured, "met": self.met}


def machine() -> dict[str, Any]:
    """Where it ran."""
    return {
        "system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(),
        "cores": psutil.cpu_count(), "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "versions": {name: version(name) for name in PACKAGES},
    }


def targets(results: Mapping[str, Any]) -> list[Target]:
    """Every target of the project, judged."""
    loads = results.get("loads", {})
    found = [*_speed(loads), *_writes(loads), *_care(loads)]
    sweep = results.get("sweep")
    if sweep:
        found += [
            _at_most("a sweep with 100 × the live blocks: table requests", sweep["ratio_requests"], 1.1),
            _at_most("a sweep with 100 × the live blocks: time", sweep["ratio_time"], 1.5),
        ]
    for one in results.get("day_after", ()):
        found.append(Target(
            f"the day after: {one['blocks']} blocks on {one['nsgs']} NSGs lifted in one sweep",
            f"{one['budget_seconds']} s", f"{one['lifted']} in {one['seconds']} s",
            one["lifted"] == one["blocks"] and one["seconds"] <= one["budget_seconds"]))
    pool = {k: v["ours_1"]["seconds_to_blocked"] for k, v in results.get("pool", {}).items()}
    if pool:
        found.append(_at_most("a pool of a hundred over 20 NSGs against one machine",
                              _ratio(pool.get("pool"), pool.get("pool_one")), 3.0))
    if results.get("cold_start_ratio"):
        found.append(_at_most("cold start against empty functions", results["cold_start_ratio"], 1.25))
    return found


def _at_most(what: str, value: float | None, bound: float) -> Target:
    return Target(what, f"≤ {bound}", "–" if value is None else f"{value:.2f}",
                  None if value is None else value <= bound)


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b


def best(loads: Mapping[str, Any], load: str) -> str:
    """The number of host processes that was fastest, as a contender's name."""
    ran = [n for n in OURS if loads.get(load, {}).get(n, {}).get("seconds_to_blocked")]
    return min(ran, key=lambda n: loads[load][n]["seconds_to_blocked"], default="")


def _speed(loads: Mapping[str, Any]) -> Iterable[Target]:
    one, storm = loads.get("one", {}), loads.get("storm", {})
    if "bare" in one and best(loads, "one"):
        mine = one[best(loads, "one")]["seconds_to_blocked"]
        yield _at_most(f"one alert ({best(loads, 'one')}) against the bare write",
                       _ratio(mine, one["bare"]["seconds_to_blocked"]), 1.25)
    name = best(loads, "storm")
    if name:
        yield _at_most(f"the storm against one alert ({name}, the best)",
                       _ratio(storm[name]["seconds_to_blocked"], one[name]["seconds_to_blocked"]), 5)
        peer = storm.get("playbook")
        if peer:
            mine = storm[name]
            yield _slower(peer, mine["seconds_to_blocked"])
            times = peer["arm_writes"] / mine["arm_writes"]
            each = times * mine["blocked"] / max(1, peer["blocked"])
            least = "≥ " if peer["timed_out"] else ""
            yield Target("and writes more", "≥ 15 ×", f"{least}{times:.1f} ×; {each:.0f} × for each blocked",
                         times >= 15)


def _slower(peer: Mapping[str, Any], mine: float) -> Target:
    """A peer that ended without blocking all never will; one that was stopped took at least so long."""
    what, bound = "the storm, playbook style, takes longer", "≥ 20 ×"
    share = f"{peer['blocked']} of {peer['expected']} blocked"
    if peer["seconds_to_blocked"] is None and not peer["timed_out"]:
        return Target(what, bound, f"never: {share}", met=True)
    times = (peer["seconds_to_blocked"] or peer["stopped_after"]) / mine
    least = "≥ " if peer["timed_out"] else ""
    return Target(what, bound, f"{least}{times:.1f} ×, {share}", times >= 20)


def _writes(loads: Mapping[str, Any]) -> Iterable[Target]:
    name = best(loads, "storm")
    if name:
        writes = loads["storm"][name]["arm_writes"]
        yield Target(f"ARM writes of the storm ({name})", "≤ 60", str(writes), writes <= 60)
    copies = [loads["copies"][n]["arm_writes"] for n in OURS if n in loads.get("copies", {})]
    if copies:
        yield Target("ARM writes of the copies", "≤ 2", str(max(copies)), max(copies) <= 2)


def _care(loads: Mapping[str, Any]) -> Iterable[Target]:
    mine = [r for load in loads.values() for n, r in load.items() if n in OURS]
    if mine:
        whole = sum(r["blocked"] == r["expected"] for r in mine)
        yield Target("every attacker blocked, whatever the processes", "all runs",
                     f"{whole} of {len(mine)} runs", whole == len(mine))
        doubled = sum(r["doubled"] for r in mine)
        yield Target("blocks doubled, whatever the processes", "0", str(doubled), doubled == 0)
        peak = max(r["peak_rss_mib"] for r in mine)
        yield Target("memory of a host process", "≤ 200 MiB", f"{peak:.0f} MiB", peak <= 200)
        changed = sum(r["foreign_rules_changed"] for r in mine)
        yield Target("user rules changed", "0", str(changed), changed == 0)


def show(console: Console, results: Mapping[str, Any], *, judged: bool = True) -> None:
    """For people; `judged` with the targets, which a small run says nothing of."""
    for key in ("loads", "loads_settle_10"):
        for load, runs in results.get(key, {}).items():
            table = Table(title=f"{load}" + (" (writes settle in 10 s)" if key != "loads" else ""))
            for head in ("", "blocked", "last after", "p50", "p95", "other direction", "writes", "reads",
                         "4xx", "rules harmed", "MiB", "CPU s"):
                table.add_column(head, justify="right")
            for name, r in runs.items():
                table.add_row(
                    name, f"{r['blocked']}/{r['expected']}", _seconds(r, "seconds_to_blocked"),
                    _seconds(r, "p50"), _seconds(r, "p95"), _seconds(r, "other_direction_seconds"),
                    str(r["arm_writes"]), str(r["arm_reads"]), str(r["errors_4xx"]),
                    str(r["foreign_rules_changed"]), f"{r['peak_rss_mib']:.0f}", f"{r['cpu_seconds']:.1f}")
            console.print(table)
    if not judged:
        return
    table = Table(title="targets")
    for head in ("", "bound", "measured", ""):
        table.add_column(head)
    for one in targets(results):
        mark = {True: "[green]met[/]", False: "[red]missed[/]", None: "-"}[one.met]
        table.add_row(one.what, one.bound, one.measured, mark)
    console.print(table)


def _seconds(run: Mapping[str, Any], name: str) -> str:
    value = run.get(name)
    if value is not None:
        return f"{value:.1f} s"
    return "stopped" if run["timed_out"] and name == "seconds_to_blocked" else "–"


def save(folder: Path, results: Mapping[str, Any]) -> None:
    """`latest.json`, and the plots beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {**results, "targets": [t.to_json() for t in targets(results)]}
    (folder / "latest.json").write_text(json.dumps(whole, indent=1, sort_keys=False) + "\n")
    if results.get("series"):
        _plot(folder, results["series"])


def _plot(folder: Path, series: Mapping[str, Mapping[str, Any]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    for field, label, file in (
        ("seconds_to_blocked", "seconds until the last attacker is blocked", "time.png"),
        ("arm_writes", "ARM writes", "writes.png"),
    ):
        figure, axes = plt.subplots(figsize=(7, 4.5))
        names = dict.fromkeys(n for runs in series.values() for n in runs)
        for name in names:
            points = [(int(count), runs[name][field]) for count, runs in series.items()
                      if name in runs and runs[name].get(field) is not None]
            if points:
                axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
        axes.set(xscale="log", yscale="log", xlabel="alerts, on 10 NSGs", ylabel=label)
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend()
        axes.set_title("A run that did not block every attacker has no point"
                       if field == "seconds_to_blocked" else "Writes, whatever came of them")
        figure.tight_layout()
        figure.savefig(folder / file, dpi=120)
        plt.close(figure)
