"""Two processes at one NSG at every moment where that matters, and clocks that disagree."""

from __future__ import annotations

import uuid
from datetime import timedelta

from bench.contest import policy_file
from chaos.life import LEASE_OVER, LIFE_HOURS, Life
from chaos.stage import Stage, aside, joined, scene, when_struck
from remediation.ledger.forms import encode
from remediation.ledger.leases import LEASE
from tests.estate import ATTACKER, SECOND, estate, nsg_id

MOST_REQUESTS = 60
OUTBOUND = {"service": "arm", "method": "PUT", "path": "outbound"}


def _settled(stage: Stage, life: Life, *attackers: str, why: str) -> None:
    """After a few sweeps these are blocked, and nothing else."""
    life.azure.faults()
    life.sweep_until(lambda: life.denied(*attackers))
    stage.lost(life.denied(*attackers), f"{why}: {life.azure.states()} {life.azure.owned()}")


@scene("lease: an old holder's PUT lands after another took over")
def late_put(stage: Stage) -> None:
    """The PUT is held up for longer than the lease; meanwhile the next holder writes more."""
    life = stage.life()
    life.azure.faults({**OUTBOUND, "delay": 2.6 * LEASE_OVER})
    first = aside(life.deliver, life.attack())
    stage.struck += when_struck(life, first)
    second, twin = life.attack(attacker=SECOND), life.twin()
    life.azure.clock.sleep(LEASE_OVER)
    life.deliver(second, twin)
    joined(first)
    life.azure.clock.sleep(2 * LEASE_OVER)  # the late one has landed
    life.orphans()
    _settled(stage, life, ATTACKER, SECOND, why="late PUT")


@scene("lease: taken away in the middle of a write")
def two_holders(stage: Stage) -> None:
    """Somebody else's name stands in the lease when the writer comes back."""
    life = stage.life()
    life.azure.faults({**OUTBOUND, "delay": 0.7})
    first = aside(life.deliver, life.attack())
    stage.struck += when_struck(life, first)
    life.azure.app.ledger.leases._table.upsert(
        encode(nsg_id()), LEASE, {"owner": uuid.uuid4().hex, "memory": "{}"})
    joined(first)
    life.orphans()
    life.deliver(life.attack(attacker=SECOND), life.twin())
    _settled(stage, life, ATTACKER, SECOND, why="two holders")


@scene("lease: a newcomer at every moment of a holder's life")
def newcomers(stage: Stage) -> None:
    """Whoever comes when is seen by the holder or holds next: nobody waits for the sweep."""
    caps_raised = str(policy_file(stage.world.folder))  # or the blocks of the last lives wait for a person
    life = stage.life(estate(nsgs=MOST_REQUESTS), RESPONDER_POLICY=caps_raised)
    twin = life.twin()
    twin.responder._queue._create()
    queue = twin.responder._queue._clients.queue(life.azure.settings["COMMIT_QUEUE"])
    for n in range(MOST_REQUESTS):
        number = f"{n + 1}" if n else ""
        life.azure.faults({"skip": n, "delay": 0.15})
        queue.clear_messages()
        first = aside(life.deliver, life.attack(f"vm{number}"))
        if not when_struck(life, first):
            break  # a life has no more requests than that
        stage.struck += 1
        life.deliver(life.attack(f"vm{number}", SECOND), twin)
        joined(first)
        nsg = f"nsg{number}"
        if not life.denied(ATTACKER, SECOND, nsg=nsg):
            told = queue.get_queue_properties().approximate_message_count
            stage.lost(bool(told), f"newcomer at request {n}: {life.azure.owned(nsg)}")
    life.azure.faults()
    life.orphans_in([f"nsg{n}" if n > 1 else "nsg" for n in range(1, MOST_REQUESTS + 1)])


@scene("lease: prolonged at every moment of its lift")
def prolonged(stage: Stage) -> None:
    """A new alert in the middle of the lift: blocked in the end, for another day."""
    for n in range(MOST_REQUESTS):
        life = stage.life()
        life.deliver(life.attack())
        life.azure.clock.forward(hours=LIFE_HOURS)
        life.azure.start()  # what a process keeps in memory for half a minute is no day old
        for job in ("reconcile", "estate", "orphans", "firewalls", "retention"):
            life.azure.app.ledger.control.begin_job(job, life.azure.clock.now(), life.azure.clock.shift * 0)
        life.azure.faults({"skip": n, "delay": 0.15})
        lift = aside(life.timer)
        if not when_struck(life, lift):
            joined(lift)
            break
        stage.struck += 1
        life.deliver(life.attack(), life.twin(hours=LIFE_HOURS))
        joined(lift)
        _settled(stage, life, ATTACKER, why=f"prolonged at request {n}")
        late = life.azure.clock.now() + timedelta(hours=23)
        short = [k for k, b in life.azure.blocks().items() if not b.expires or b.expires < late]
        stage.lost(not short, f"prolonged at request {n}: not for another day: {short}")


@scene("lease: clocks ten minutes ahead and behind")
def skewed(stage: Stage) -> None:
    """No block ends earlier, or later, than the clocks are apart."""
    for early, late in ((-10, 10), (10, -10)):
        life = stage.life()
        life.deliver(life.attack(), life.twin(minutes=early))
        life.deliver(life.attack(attacker=SECOND), life.twin(minutes=late))
        stage.struck += 2
        _settled(stage, life, ATTACKER, SECOND, why="skewed")
        for hours, there in ((0, True), (23.5, True), (24.6, False)):
            for minutes in (early, late):
                life.twin(hours=hours, minutes=minutes).on_timer()
            fine = life.denied(ATTACKER, SECOND) if there else life.owned() == {}
            stage.lost(fine or not there, f"skew {early}/{late} after {hours} h: {life.azure.owned()}")
            stage.damage.note("orphan_rules", int(not fine and not there), f"after {hours} h")


@scene("lease: an ARM that does not look at If-Match")
def no_if_match(stage: Stage) -> None:
    """Then only the lease keeps two writers apart."""
    stage.world.tune(if_match=False)
    life = stage.life()
    apps = [life.azure.app, life.twin(), life.twin()]
    attackers = [f"198.51.100.{n}" for n in range(10, 40, 3)]
    crowd = [aside(life.deliver, life.attack(attacker=a), apps[n % 3]) for n, a in enumerate(attackers)]
    stage.struck += len(crowd)
    joined(*crowd)
    life.orphans()
    _settled(stage, life, *attackers, why="no If-Match")


def _every_answer_lost(stage: Stage, phase: str) -> None:
    for n in range(2 * MOST_REQUESTS):
        life = stage.life()
        one = life.attack()
        fault = {"skip": n, "drop": "after"}
        if phase == "lift":
            life.deliver(one)
            life.azure.clock.forward(hours=LIFE_HOURS)
        life.azure.faults(fault)
        (life.timer() if phase == "lift" else life.deliver(one))
        struck = life.azure.world.control("GET", "faults")["left"] == [0]
        life.azure.faults()
        life.orphans()
        if phase == "lift":
            life.sweep_until(life.gone)
            life.judge_lift()
        else:
            life.deliver(one)
            life.until_in_force()
            life.judge_block()
        if not struck:
            return
        stage.struck += 1


@scene("every single answer lost, one at a time: block")
def answers_of_a_block(stage: Stage) -> None:
    """Each request was done, and nobody heard of it."""
    _every_answer_lost(stage, "block")


@scene("every single answer lost, one at a time: lift")
def answers_of_a_lift(stage: Stage) -> None:
    """The same for the lift."""
    _every_answer_lost(stage, "lift")
