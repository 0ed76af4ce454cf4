"""Scenes: what one fault at one call cannot show. Each is a function that plays it on a stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chaos.life import Damage, Life, Result
from sandbox.world import World, waiting


@dataclass
class Stage:
    """A world to play in, and what became of it. `struck`: how many faults did."""

    world: World
    damage: Damage = field(default_factory=Damage)
    struck: int = 0

    def life(self, seed: dict[str, Any] | None = None, **settings: str) -> Life:
        """An empty Azure with an estate in it; its damage is the stage's."""
        return Life(self.world, seed, self.damage, **settings)

    def lost(self, fine: bool, why: str) -> None:
        """A block that is not there, unless all is fine."""
        self.damage.note("lost_blocks", int(not fine), why)


@dataclass(frozen=True, slots=True)
class Scene:
    """A named one. `alone`: it runs hosts of its own and needs the machine for itself."""

    name: str
    play: Callable[[Stage], None]
    alone: bool = False


SCENES: dict[str, Scene] = {}


def scene(name: str, *, alone: bool = False) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """Add a function to the programme."""
    def add(play: Callable[[Stage], None]) -> Callable[[Stage], None]:
        SCENES[name] = Scene(name, play, alone)
        return play
    return add


def perform(world: World, name: str) -> Result:
    """Play one, on a world whose tuning is as it was afterwards."""
    before = world.control("GET", "latency")
    stage = Stage(world)
    try:
        SCENES[name].play(stage)
    finally:
        world.control("POST", "faults", [])
        world.tune(**before)
    return Result(name, stage.struck, stage.damage)


def aside(work: Callable[..., object], *args: Any) -> threading.Thread:
    """Begin something, and go on."""
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    return thread


def when_struck(life: Life, thread: threading.Thread, seconds: float = 20) -> bool:
    """Wait until the only fault strikes; False if the thread ended without."""
    for _ in waiting(seconds, 0.01):
        if life.azure.world.control("GET", "faults")["left"] == [0]:
            return True
        if not thread.is_alive():
            return False
    return False


def joined(*threads: threading.Thread, seconds: float = 60) -> bool:
    """All have ended in time."""
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return not any(t.is_alive() for t in threads)
