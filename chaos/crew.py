"""Several worlds at once, a process for each, that take cases in turn."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.util
from collections.abc import Iterator, Sequence
from typing import Any

from chaos.life import Damage
from chaos.matrix import Call, Case, Result, calls, prepare, run
from sandbox.world import World

_mine: dict[str, Any] = {}


def _starts() -> None:
    """A world of its own for each worker, which lives as long as the process."""
    logging.disable(logging.CRITICAL)  # every line of it is about a fault that we injected
    world = World(doors=True)
    multiprocessing.util.Finalize(None, world.close, exitpriority=10)
    world.__enter__()
    prepare(world)
    _mine.update(world=world, number=0)


def _live(case: Case) -> Result:
    _mine["number"] += 1
    try:
        return run(_mine["world"], _mine["number"], case)
    except Exception as error:  # noqa: BLE001 - what escapes the product is damage, too
        damage = Damage(ledger_gaps=1, why=[f"{type(error).__name__}: {error}"[:500]])
        return Result(case, 1, damage)


def known_calls() -> list[Call]:
    """The calls of a life without faults."""
    with World(doors=True) as world:
        prepare(world)
        return calls(world, 1)


def live_all(todo: Sequence[Case], workers: int) -> Iterator[Result]:
    """Each case's result, as they come."""
    pool = multiprocessing.get_context("spawn").Pool(workers, _starts)
    with contextlib.closing(pool):
        yield from pool.imap_unordered(_live, todo)
    pool.join()
