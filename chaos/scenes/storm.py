"""A storm over four processes, of which one after the other is killed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

from chaos.matrix import template
from chaos.scenes.crowd import Crowd, crowd
from chaos.stage import Stage, scene
from sandbox.world import waiting
from tests.estate import estate

HOSTS, NSGS, SEED = 4, 5, 20261124
RANDOM_KILLS, RANDOM_ALERTS = 12, 100
AT_ONCE, ALERTS_PER_ROUND, DEATH_SECONDS = 3, 12, 4.0


def _nsgs() -> Iterator[str]:
    return (f"nsg{n}" if n > 1 else "nsg" for n in range(1, NSGS + 1))


def _attack(there: Crowd, n: int) -> dict[str, Any]:
    """The n-th alert; its machine, and so its NSG, changes with each."""
    vm = n % (NSGS * 2) + 1
    nsg = (vm - 1) // 2 + 1
    return there.attack(f"vm{vm}" if vm > 1 else "vm", f"nsg{nsg}" if nsg > 1 else "nsg",
                        f"198.{51 + n // 256}.100.{n % 256}")


@scene("storm: SIGKILL at random, four processes", alone=True)
def crashes(stage: Stage) -> None:
    """What a dying process leaves behind, the others finish."""
    dice = random.Random(SEED)  # noqa: S311 - dice
    stage.world.tune(settle=0.3)
    with crowd(stage, estate(nsgs=NSGS, machines=2)) as there:
        there.grow(HOSTS)
        todo = [_attack(there, n) for n in range(RANDOM_ALERTS)]
        for batch in itertools.batched(todo, RANDOM_ALERTS // RANDOM_KILLS + 1, strict=False):
            there.world.publish_all(batch)
            there.life.azure.clock.sleep(dice.random())
            there.kill(dice.choice(there.hosts))
            stage.struck += 1
            there.life.orphans_in(_nsgs())
            there.grow(HOSTS)
        there.judge(stage, 120, "storm")


@scene("storm: SIGKILL at every kind of request, before it is served and before its answer", alone=True)
def at_every_request(stage: Stage) -> None:
    """Three of four processes die in each round, each at a request of its own."""
    stage.world.tune(settle=0.3)
    numbers = itertools.count()
    with crowd(stage, estate(nsgs=NSGS, machines=2)) as there:
        there.grow(HOSTS)
        azure = there.life.azure
        azure.faults()
        there.world.publish_all([_attack(there, next(numbers)) for _ in range(ALERTS_PER_ROUND * 2)])
        there.world.settled(30)
        seen = [template(line) for line in azure.world.control("GET", "faults")["trace"]]
        kinds = list(dict.fromkeys(t for t in seen if t is not None))
        moments = [(kind, drop) for kind in kinds for drop in ("", "after")]
        unmet = []
        for round_ in itertools.batched(moments, AT_ONCE, strict=False):
            victims = there.hosts[: len(round_)]
            azure.faults(*(
                {"service": service, "method": method, "path": path, "drop": drop,
                 "kill": victim.popen.pid, "sender": victim.popen.pid}
                for ((service, method, path), drop), victim in zip(round_, victims, strict=True)))
            there.world.publish_all([_attack(there, next(numbers)) for _ in range(ALERTS_PER_ROUND)])
            any(not any(v.alive for v in victims) for _ in waiting(DEATH_SECONDS))
            azure.faults()
            azure.clock.sleep(0.5)  # one may be dying still; one that made no such request lives on
            unmet += [moment for moment, victim in zip(round_, victims, strict=True) if victim.alive]
            stage.struck += there.bury()
            there.life.orphans_in(_nsgs())
            there.grow(HOSTS)
        if unmet:
            print(f"not met in time, {len(unmet)} of {len(moments)}: {unmet}")
        there.judge(stage, 120, "storm")
