"""Several worlds at once, a process for each, that take cases and scenes in turn."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.util
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from typing import Any

import chaos.scenes  # noqa: F401 - they put themselves on the programme
from chaos.life import Damage, Result
from chaos.matrix import Call, Case, calls, prepare, run
from chaos.stage import Scene, perform
from sandbox.world import World

_mine: dict[str, Any] = {}


def _starts() -> None:
    """A world of its own for each worker, which lives as long as the process."""
    logging.disable(logging.CRITICAL)  # every line of it is about a fault that we injected
    world = World(doors=True)
    multiprocessing.util.Finalize(None, world.close, exitpriority=10)
    world.__enter__()
    prepare(world)
    _mine.update(world=world)


def _live(what: Case | str) -> Result:
    """A case, or a scene by its name."""
    started = time.monotonic()
    try:
        world = _mine["world"]
        result = perform(world, what) if isinstance(what, str) else run(world, what)
    except Exception as error:  # noqa: BLE001 - what escapes the product is damage, too
        damage = Damage(ledger_gaps=1, why=[f"{type(error).__name__}: {error}"[:500]])
        result = Result(what if isinstance(what, str) else what.name, 1, damage)
    return replace(result, seconds=round(time.monotonic() - started, 1))


def known_calls() -> list[Call]:
    """The calls of a life without faults."""
    with World(doors=True) as world:
        prepare(world)
        return calls(world)


def live_all(todo: Sequence[Case], scenes: Sequence[Scene], workers: int) -> Iterator[Result]:
    """Each one's result, as they come: long scenes first, and at the end, one by one, those that
    need the machine for themselves."""
    shared = [s.name for s in scenes if not s.alone]
    alone = [s.name for s in scenes if s.alone]
    everyone: list[Case | str] = [*shared, *todo]
    for jobs, count in ((everyone, workers), (alone, 1)):
        if not jobs:
            continue
        # Its workers, unlike a Pool's, may have children: processes that are to die.
        with ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _starts) as pool:
            for future in as_completed([pool.submit(_live, job) for job in jobs]):
                yield future.result()
