"""Cold start, the first block of a cold process, how fast alerts are parsed and decided; and what the
surroundings take for themselves: the same deliveries to an app that does nothing."""

from __future__ import annotations

import ast
import contextlib
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from bench.contest import IN_FLIGHT, Ours, contest
from bench.loads import Load
from remediation.alerts import normalise
from remediation.errors import MalformedAlert
from remediation.explain import would_block
from remediation.policy import load_policy
from sandbox.world import ROOT, World


class _Emptied(ast.NodeTransformer):
    """Every function does nothing; what comes from the product is not imported."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """Its triggers stay."""
        http = any(isinstance(d, ast.Call) and ast.unparse(d.func).endswith(".route")
                   for d in node.decorator_list)
        node.body = ast.parse("return func.HttpResponse('')" if http else "pass").body
        return node


def emptied(source: str) -> str:
    """Our triggers, all of them, with nothing behind: what any app with so many costs at the start."""
    tree = ast.parse(source)
    tree.body = [one for one in tree.body if not (
        isinstance(one, ast.ImportFrom) and (one.module or "").startswith("remediation")) and not (
        isinstance(one, ast.Expr) and isinstance(one.value, ast.Call)
        and ast.unparse(one.value.func) == "check")]
    return ast.unparse(_Emptied().visit(tree))


@contextlib.contextmanager
def empty_app() -> Iterator[Path]:
    """The folder of an app that does nothing."""
    with tempfile.TemporaryDirectory(prefix="empty-app-") as folder:
        (Path(folder) / "function_app.py").write_text(emptied((ROOT / "function_app.py").read_text()))
        shutil.copy(ROOT / "host.json", folder)
        yield Path(folder)


def deliveries(world: World, load: Load, hosts: int) -> dict[str, float]:
    """Seconds, and CPU of all processes there are, for as many deliveries at the same concurrency to
    functions that do nothing: a storm cannot end sooner on this machine."""
    world.control("POST", "reset")
    with empty_app() as folder:
        running = [world.start_host(f"floor-{hosts}-{n}", folder) for n in range(hosts)]
        try:
            world.subscribe(*running, in_flight=IN_FLIGHT)
            everyone = [psutil.Process(p.popen.pid) for p in world.processes]
            before = sum(sum(p.cpu_times()[:2]) for p in everyone)
            started = time.perf_counter()
            world.publish_all(load.alerts)
            if not world.settled(120):
                raise RuntimeError("an app that does nothing did not take the deliveries")
            seconds = time.perf_counter() - started
            spent = sum(sum(p.cpu_times()[:2]) for p in everyone) - before
        finally:
            for host in running:
                world.stop_host(host)
    return {"seconds": round(seconds, 2), "cpu_seconds": round(spent, 2)}


def cold_start(world: World, runs: int) -> dict[str, float]:
    """Seconds from the process's start until it is indexed and serves: ours against empty functions,
    turn by turn, medians."""
    with empty_app() as folder:
        seconds: dict[str, list[float]] = {"ours": [], "empty": []}
        for n in range(runs):
            for name, app in (("ours", ROOT), ("empty", folder)):
                started = time.perf_counter()
                host = world.start_host(f"start-{name}-{n}", app)
                seconds[name].append(time.perf_counter() - started)
                world.stop_host(host)
    ours, empty = (statistics.median(seconds[k]) for k in ("ours", "empty"))
    return {"seconds": round(ours, 3), "empty_seconds": round(empty, 3), "ratio": round(ours / empty, 3)}


def first_block(world: World, load: Load, settle: float) -> float | None:
    """Seconds from publishing to blocked on a process that has only just started."""
    outcome = contest(world, load, Ours(1, warm=False), settle, 60)
    return outcome.seconds_to_blocked


def alerts_per_second(raws: Sequence[Any], seconds: float) -> float:
    """Alerts parsed and decided per second on one core, round and round through the given ones."""
    policy = load_policy()
    started = time.process_time()
    count = 0
    while (spent := time.process_time() - started) < seconds:
        for raw in raws:
            with contextlib.suppress(MalformedAlert):  # read, and found wanting, is an answer too
                would_block(normalise(raw), policy)
            count += 1
    return round(count / spent, 1)


def real_alerts(folder: Path, otherwise: Sequence[Any]) -> tuple[Sequence[Any], str]:
    """Recorded alerts where they are at hand, else the given ones; and what they are."""
    found: list[Any] = []
    for path in sorted(folder.glob("*.json")):
        held = json.loads(path.read_text())
        found += held if isinstance(held, list) else [held]
    return (found, "recorded alerts") if found else (otherwise, "generated alerts")
