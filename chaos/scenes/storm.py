"""A storm over four processes, of which one after the other is killed."""

from __future__ import annotations

import random

from chaos.scenes.crowd import crowd
from chaos.stage import Stage, scene
from sandbox.world import waiting
from tests.estate import estate

HOSTS, NSGS, ALERTS, KILLS = 4, 5, 150, 20


@scene("storm: SIGKILL at random and at any request, four processes", alone=True)
def crashes(stage: Stage) -> None:
    """What a dying process leaves behind, the others finish."""
    dice = random.Random(20261124)  # noqa: S311 - dice
    stage.world.tune(settle=0.3)
    with crowd(stage, estate(nsgs=NSGS, machines=2)) as there:
        there.grow(HOSTS)
        todo = []
        for n in range(ALERTS):
            vm = n % (NSGS * 2) + 1
            nsg = (vm - 1) // 2 + 1
            todo.append(there.attack(f"vm{vm}" if vm > 1 else "vm", f"nsg{nsg}" if nsg > 1 else "nsg",
                                     f"198.51.100.{n + 1}"))
        per = ALERTS // KILLS + 1
        for round_ in range(KILLS):
            there.world.publish_all(todo[round_ * per : (round_ + 1) * per])
            victim = dice.choice(there.hosts)
            if round_ % 3:  # at a request: before it is served, or when its answer is on its way
                there.life.azure.faults({"skip": dice.randrange(60), "kill": victim.popen.pid,
                                         "service": dice.choice(["arm", "table"]),
                                         "drop": dice.choice(["", "after"])})
                for _ in waiting(4):
                    if not victim.alive:
                        break
                there.life.azure.faults()
            there.kill(victim)
            stage.struck += 1
            there.life.orphans_in(f"nsg{n}" if n > 1 else "nsg" for n in range(1, NSGS + 1))
            there.grow(HOSTS)
        there.judge(stage, 120, "storm")
