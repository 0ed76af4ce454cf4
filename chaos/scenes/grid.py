"""What Event Grid may do: out of order, twice, together, not at all, and a day later."""

from __future__ import annotations

import json
import random

from chaos.scenes.crowd import Crowd, crowd
from chaos.stage import Stage, scene
from sandbox.world import waiting
from tests.estate import estate, name_of

COPIES, ALERTS = 4, 12


def _attacks(there: Crowd, count: int, first: int = 1) -> None:
    for n in range(count):
        there.attack("vm2" if n % 2 else "vm", "nsg2" if n % 2 else "nsg", f"198.51.100.{first + n}")


@scene("event grid: out of order, copies in parallel, a batch, an endpoint that is down", alone=True)
def deliveries(stage: Stage) -> None:
    """Each is blocked once, whatever way it came."""
    dice = random.Random(7)  # noqa: S311 - dice
    with crowd(stage, estate(nsgs=2)) as there:
        there.grow(2)
        _attacks(there, ALERTS)
        shuffled = there.alerts * COPIES
        dice.shuffle(shuffled)
        there.world.publish_all(shuffled)
        stage.struck += len(shuffled)
        there.judge(stage, 60, "copies")

        before = len(there.alerts)
        _attacks(there, 6, 50)
        batch = [{"specversion": "1.0", "id": name_of(a), "type": "Defender.SecurityAlert", "source": "/s",
                  "data": a, "time": "2026-01-01T00:00:00Z"} for a in there.alerts[before:]]
        answer = there.world.http.post(there.hosts[0].webhook, content=json.dumps(batch), headers={
            "aeg-event-type": "Notification",
            "content-type": "application/cloudevents-batch+json; charset=utf-8"})
        stage.damage.note("ledger_gaps", int(answer.status_code >= 300), f"batch: {answer.status_code}")
        stage.struck += 1
        there.judge(stage, 60, "batch")

        for host in list(there.hosts):
            there.kill(host)
        before = len(there.alerts)
        _attacks(there, 6, 100)
        there.world.publish_all(there.alerts[before:])
        stage.struck += 6
        there.grow(1)
        there.judge(stage, 60, "endpoint back")


@scene("event grid: buried, and replayed from the dead letter", alone=True)
def dead_letters(stage: Stage) -> None:
    """An endpoint that never answers: the blob is put through POST /api/replay."""
    with crowd(stage, estate(nsgs=2)) as there:
        there.grow(1, max_attempts=2)
        there.kill(there.hosts[0])
        _attacks(there, 2)
        there.world.publish_all(there.alerts)
        ids = {name_of(a) for a in there.alerts}

        def letters() -> list[dict[str, object]]:
            return [e for blob in there.world.dead_letters() for e in blob if e.get("id") in ids]

        stage.struck += 1
        buried = any(len(letters()) == len(ids) for _ in waiting(60, 0.3))
        stage.damage.note("ledger_gaps", int(not buried), "no dead letters")
        there.grow(1)
        for letter in letters():
            stage.struck += 1
            answer = there.world.api(there.hosts[0], "POST", "replay", letter)
            stage.damage.note("ledger_gaps", int(answer.status_code != 200), answer.text[:300])
        any(there.all_denied() for _ in waiting(30, 0.3))  # the buried deliveries never settle
        stage.lost(there.all_denied(), f"{there.life.azure.owned()} {there.life.azure.states()}")
