"""The timer listener: never overlaps itself, remembers when it is due, one host at a time."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox.host.messages import TypedData, as_json
from sandbox.host.schedule import schedule
from sandbox.host.worker import Function

_log = logging.getLogger("host.timer")

LOCK_RETRY_SECONDS = 1.0

type Invoke = Callable[[Function, TypedData, dict[str, TypedData]], Awaitable[Any]]


def _now() -> datetime:
    return datetime.now(UTC)


async def listen(function: Function, state: Path, stopping: asyncio.Event, invoke: Invoke) -> None:
    """Fire until told to stop."""
    trigger = function.trigger
    plan = schedule(str(trigger["schedule"]))
    path = state / f"timer-{function.name}.json"
    with (state / f"timer-{function.name}.lock").open("w") as lock:
        while not stopping.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                await pause(stopping, LOCK_RETRY_SECONDS)
        first = plan.next(_now())
        # Below one minute the real host does not monitor, so nothing is ever past due.
        monitor = (str(trigger.get("useMonitor", True)).lower() != "false"
                   and (plan.next(first) - first).total_seconds() >= 60)
        due, past_due = first, False
        if monitor and path.exists():
            due = datetime.fromisoformat(json.loads(path.read_text())["next"])
            past_due = _now() > due
        startup = str(trigger.get("runOnStartup", "")).lower() == "true"
        while not stopping.is_set():
            if not (past_due or startup):
                await pause(stopping, (due - _now()).total_seconds())
                if stopping.is_set():
                    return
            info = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None,
                    "IsPastDue": past_due}
            await invoke(function, as_json(info), {})
            past_due = startup = False
            due = plan.next(max(_now(), due))
            if monitor:
                path.write_text(json.dumps({"next": due.isoformat()}))


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Sleep, but wake when the event is set."""
    try:
        await asyncio.wait_for(event.wait(), max(0.0, seconds))
    except TimeoutError:
        return
