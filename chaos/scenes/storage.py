"""The tables go away and come back, are missing, or hold what nobody can read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from chaos.life import LIFE_HOURS, Life
from chaos.matrix import prepare
from chaos.stage import Stage, aside, joined, scene
from remediation.ledger.forms import encode
from remediation.ledger.store import Table
from sandbox.world import World, waiting
from tests.azure import OPERATOR
from tests.estate import ATTACKER, SECOND, estate, nsg_id

THIRD = "198.51.100.31"
TABLES = ("alerts", "blocks", "work", "leases", "control")


@contextmanager
def lasting_world(stage: Stage) -> Iterator[Stage]:
    """A world whose storage keeps what it has over a restart."""
    kept = dict(os.environ)
    with World(memory=False) as world:
        prepare(world)
        yield Stage(world, stage.damage)
    os.environ.update(kept)


def _while_away(stage: Stage, life: Life, work: Callable[[], None]) -> None:
    """Begin, take the storage away as soon as Azure is being written to, and give it back."""
    life.azure.world.tune(settle=1.5)
    before = len(life.azure.writes())
    thread = aside(work)
    stage.struck += any(len(life.azure.writes()) > before for _ in waiting(20, 0.02))
    life.azure.world.stop_storage()
    joined(thread)
    life.azure.world.start_storage()
    life.azure.world.tune(settle=0)


@scene("storage: stopped and started in the middle", alone=True)
def stopped(stage: Stage) -> None:
    """Nothing is done without a record, and what was begun is finished."""
    with lasting_world(stage) as there:
        life = there.life()
        one = life.attack()
        _while_away(stage, life, lambda: life.deliver(one))
        life.orphans()
        life.deliver(one)
        life.until_in_force()
        life.judge_block()
        life.azure.clock.forward(hours=LIFE_HOURS)
        _while_away(stage, life, life.timer)
        life.orphans()
        life.sweep_until(life.gone)
        life.judge_lift()


@scene("storage: a table is missing")
def missing_tables(stage: Stage) -> None:
    """It is made anew; what was in it was lost by whoever took it away, and nothing else is."""
    for name in TABLES:
        life = stage.life()
        life.deliver(life.attack(attacker=SECOND))
        prefix = life.azure.settings["RESPONDER_TABLE_PREFIX"]
        life.azure.app.ledger.alerts._table._tables._clients.tables().delete_table(prefix + name)
        stage.struck += 1
        life.deliver(life.attack())
        life.sweep_until(partial(life.denied, ATTACKER, SECOND))
        stage.lost(life.denied(ATTACKER, SECOND),
                   f"without {name}: {life.azure.states()} {life.azure.owned()}")
        life.azure.clock.forward(hours=2 * LIFE_HOURS)  # what was adopted lives a day more
        life.sweep_until(life.gone)
        stage.damage.note("orphan_rules", len(life.owned()), f"without {name}: {life.owned()}")


KINDS = ("block", "lease", "knock", "estate", "job", "pause", "hold", "protected", "approval", "notice",
         "hint", "counter", "alert", "action")


def _rows(life: Life) -> dict[str, tuple[Table, str, str]]:
    """Rows of each kind: where they are."""
    ledger, here = life.azure.app.ledger, encode(nsg_id())
    found = {
        "block": (ledger.blocks._table, here, f"outbound|{SECOND}"),
        "lease": (ledger.leases._table, here, "lease"),
        "knock": (ledger.leases._table, here, "knock"),
        "estate": (ledger.control._table, "estate", "estate"),
        "job": (ledger.control._table, "job", "sweep"),
        "pause": (ledger.control._table, "pause", "pause"),
        "hold": (ledger.control._table, "guard", "hold|198.51.100.99"),
        "protected": (ledger.control._table, "guard", "protected|198.51.100.98|32"),
        "approval": (ledger.control._table, "approval", "0000"),
        "notice": (ledger.control._table, "notice", "2026-01-01T00:00:00Z|x"),
        "hint": (ledger.work._table, "0", "0000-no-time|nsg|x"),
    }
    for row in ledger.control._table.query("PartitionKey eq @p", p="counter"):
        found["counter"] = (ledger.control._table, row.partition, row.key)
    for row in ledger.alerts._table.query("PartitionKey ge ''"):
        found["alert" if row.key.startswith("alert|") else "action"] = (
            ledger.alerts._table, row.partition, row.key)
    return found


GARBAGE: dict[str, dict[str, Any]] = {
    "nothing": {},
    "words": dict.fromkeys((
        "state", "address", "alerts", "targets", "expires", "lifetime", "memory", "at", "n", "on", "until",
        "since", "kind", "thing", "claims_0", "created", "data_0", "owner", "actions", "facts", "attempts",
        "received", "raw_0", "reports", "live", "nsg"), "\x7fgarbage"),
    "numbers": dict.fromkeys((
        "state", "address", "alerts", "targets", "expires", "memory", "at", "on", "until", "kind", "thing",
        "claims_0", "created", "data_0", "actions", "facts", "received", "raw_0"), 7),
}


@scene("storage: a row that nobody can read")
def corrupted(stage: Stage) -> None:
    """It is passed over and told of; everybody else's block stands, and is lifted on time."""
    for what in GARBAGE:
        for kind in KINDS:
            _one_corrupted(stage, kind, what)


def _one_corrupted(stage: Stage, kind: str, what: str) -> None:
    life = stage.life(estate(nsgs=2))
    life.deliver(life.attack(attacker=SECOND))
    table, partition, key = _rows(life)[kind]
    table.upsert(partition, key, GARBAGE[what])
    stage.struck += 1
    name = f"{kind} of {what}"
    life.azure.start()  # another process, that remembers nothing
    here, there = life.attack(attacker=THIRD), life.attack("vm2")
    for one in (here, there):
        life.deliver(one)
        life.orphans()
    if kind == "pause" and life.azure.app.ledger.control.paused():
        life.azure.app.operator.resume(OPERATOR, reason="chaos")
    if kind == "counter":  # how much of the hour is taken nobody can read: a person is asked
        life.sweep_until(lambda: "pending" not in life.azure.states() | life.azure.states("nsg2"))
        life.answer()
    life.sweep_until(lambda: life.denied(ATTACKER, nsg="nsg2") and THIRD in str(life.azure.owned()))
    stage.lost(life.denied(ATTACKER, nsg="nsg2"), f"{name}: elsewhere {life.azure.owned('nsg2')}")
    both = life.azure.owned()
    stage.lost(all(THIRD in both.get(d, ()) for d in ("outbound", "inbound")), f"{name}: here {both}")
    stage.lost(SECOND in both.get("inbound", ()), f"{name}: the one before {both}")
    life.azure.clock.forward(hours=2 * LIFE_HOURS)
    life.sweep_until(lambda: life.owned() == {} and life.azure.owned("nsg2") == {})
    left = {**life.owned(), **life.azure.owned("nsg2")}
    stage.damage.note("orphan_rules", len(left), f"{name}: {left}")
