"""Cold start, the first block of a cold process, and how fast alerts are parsed and decided."""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.contest import Ours, contest
from bench.loads import Load
from remediation.alerts import normalise
from remediation.errors import MalformedAlert
from remediation.explain import would_block
from remediation.policy import load_policy
from sandbox.world import ROOT, World

EMPTY = """
import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)


@app.event_grid_trigger(arg_name="event")
def on_alert(event: func.EventGridEvent) -> None:
    pass


@app.timer_trigger(arg_name="timer", schedule="%SWEEP_SCHEDULE%")
def sweep(timer: func.TimerRequest) -> None:
    pass


@app.queue_trigger(arg_name="message", queue_name="%COMMIT_QUEUE%", connection="AzureWebJobsStorage")
def commit(message: func.QueueMessage) -> None:
    pass


def _route(name, method):
    @app.function_name(name)
    @app.route(route=f"{name}", methods=[method])
    def serve(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse("")


for name in ("replay", "blocks", "revoke", "extend", "approvals", "approve", "pause", "resume",
             "protected", "protect", "alert", "health"):
    _route(name, "POST")
"""
"""An app with as many triggers of the same kinds that do nothing."""


def cold_start(world: World, runs: int) -> dict[str, float]:
    """Seconds from the process's start until it is indexed and serves: ours against empty functions,
    turn by turn, medians."""
    folder = Path(tempfile.mkdtemp(prefix="empty-app-"))
    try:
        (folder / "function_app.py").write_text(EMPTY)
        shutil.copy(ROOT / "host.json", folder)
        seconds: dict[str, list[float]] = {"ours": [], "empty": []}
        for n in range(runs):
            for name, app in (("ours", ROOT), ("empty", folder)):
                started = time.perf_counter()
                host = world.start_host(f"start-{name}-{n}", app)
                seconds[name].append(time.perf_counter() - started)
                world.stop_host(host)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
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
