"""A row that somebody has written into: set aside or passed over, told of, never a hole in a guardrail."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

import pytest

from remediation.alerts import normalise
from remediation.guardrails import Hold
from remediation.ledger.alerts import INLINE_RAW
from remediation.ledger.control import NEVER
from remediation.ledger.forms import encode
from remediation.model import BlockState, utc
from tests.azure import OPERATOR, Azure
from tests.estate import ATTACKER, SECOND, alert, estate, name_of, nsg_id

GARBAGE: list[dict[str, Any]] = [{}, {"state": "odd", "at": 7, "until": "x"}]


def unreadable(azure: Azure) -> list[str]:
    return azure.notices("unreadable")


@pytest.mark.parametrize("garbage", GARBAGE, ids=["nothing", "words"])
def test_an_address_whose_row_cannot_be_read_stays_denied_for_a_day_and_the_row_is_kept(
    azure: Azure, garbage: dict[str, Any]
):
    azure.world.seed(estate())
    azure.attack()
    table = azure.app.ledger.blocks._table
    table.upsert(encode(nsg_id()), f"outbound|{ATTACKER}", {**garbage, "note": "mine"})
    azure.attack(attacker=SECOND)
    assert azure.owned()["outbound"] == [ATTACKER, SECOND]
    assert azure.notices("adopted")
    assert len(unreadable(azure)) == 1
    assert "set aside" in unreadable(azure)[0]
    kept = list(azure.app.ledger.control._table.query("PartitionKey eq '~unreadable'"))
    assert [r.text("note") for r in kept] == ["mine"]
    azure.clock.forward(hours=25)
    azure.sweep()
    assert azure.owned() == {}


@pytest.mark.parametrize("garbage", GARBAGE, ids=["nothing", "words"])
def test_a_wish_that_cannot_be_read_stands_by_what_its_key_says(azure: Azure, garbage: dict[str, Any]):
    azure.world.seed(estate())
    control = azure.app.ledger.control
    azure.app.operator.protect(OPERATOR, [(f"{ATTACKER}/32", "ours")])
    control.hold(Hold(SECOND, azure.clock.now() + timedelta(hours=1), "ann", "ours", azure.clock.now()))
    for row in list(control._table.query("PartitionKey eq 'guard'")):
        control._table.upsert(row.partition, row.key, garbage)
    azure.attack()
    azure.attack(attacker=SECOND)
    assert azure.owned() == {}
    assert azure.states() == {"waiting"}, "the held one asks, the protected one is not even claimed"
    assert {b.key.address for b in azure.blocks().values()} == {SECOND}


def test_a_pause_that_cannot_be_read_pauses(azure: Azure):
    azure.world.seed(estate())
    azure.app.ledger.control._table.upsert("pause", "pause", {"on": True, "at": "garbage"})
    azure.attack()
    assert azure.blocks() == {}
    pause = azure.app.ledger.control.paused()
    assert pause is not None
    assert pause.at == NEVER


def test_a_counter_that_cannot_be_read_grants_nothing(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    control = azure.app.ledger.control
    for row in list(control._table.query("PartitionKey eq 'counter'")):
        control._table.upsert(row.partition, row.key, {"n": "many"})
    azure.start()  # another process, that has no allowance left over
    azure.attack(attacker=SECOND)
    assert azure.owned() == {d: [ATTACKER] for d in ("outbound", "inbound")}
    assert azure.states() == {"active", "waiting"}


@pytest.mark.parametrize("memory", [
    "garbage", "7", '{"rules": 7}', '{"rules": {"a": {}}}', '{"drift": {"a": "x"}}', '{"checked": "x"}'])
def test_what_a_holder_remembered_may_be_anything(azure: Azure, memory: str):
    azure.world.seed(estate())
    azure.attack()
    azure.app.ledger.leases._table.upsert(encode(nsg_id()), "lease", {"owner": "", "memory": memory})
    azure.attack(attacker=SECOND)
    assert azure.owned()["outbound"] == [ATTACKER, SECOND]
    assert azure.states() == {"active"}
    assert azure.app.ledger.leases.checked(nsg_id()) is not None, "and it is remembered anew"


def test_an_alert_whose_body_cannot_be_read_any_more_is_told_of_once_and_left(azure: Azure):
    azure.world.seed(estate())
    ledger, now = azure.app.ledger, azure.clock.now()
    one = alert(description=secrets.token_hex(INLINE_RAW))  # too long for the record's own row
    known = (name_of(one), normalise(one).accusation())
    assert ledger.alerts.receive(normalise(one), one, received=utc(now)) is not None
    ledger.alerts._table.upsert(encode(known[0]), f"raw|{known[1]}", {"raw_0": b"garbage"})
    ledger.work.alert(*known, now)
    for _ in range(3):
        azure.clock.forward(minutes=10)
        azure.sweep()
    record = ledger.alerts.get(*known)
    assert record is not None
    assert record.state.value == "done"
    assert len(azure.notices("alert-failed")) == 1
    assert list(ledger.work.due(azure.clock.now() + timedelta(days=3), 100)) == []


def test_a_hint_that_cannot_be_read_is_in_nobodys_way(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    azure.app.ledger.work._table.upsert("0", "0000-no-time|nsg|x", {"kind": "nsg", "thing": "x"})
    azure.clock.forward(hours=25)
    azure.sweep()
    assert azure.owned() == {}
    assert {b.state for b in azure.ended()} == {BlockState.LIFTED}
    assert "set aside" in unreadable(azure)[0]
