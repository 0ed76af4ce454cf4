"""The alert's text is not trusted: whatever it holds, it is answered, kept, and forges nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.azure import OPERATOR, Azure
from tests.estate import ATTACKER, alert, estate


@pytest.mark.parametrize("changes", [
    {"alertType": "X" * 100_000}, {"alertDisplayName": "Y" * 100_000},
    {"alertDisplayName": "\ud800 lone", "description": "\ud83d"},
    {"alertType": "a/b\\c#d?e\x00f"}, {"compromisedEntity": "\x01" * 5000},
], ids=["long type", "long name", "lone surrogates", "key signs", "control signs"])
def test_odd_text_is_answered_and_survives(azure: Azure, changes: dict[str, Any]):
    one = alert(**changes)
    assert azure.deliver(one).outcome in ("approve", "notify")
    record = azure.app.ledger.alerts.bodies(one["properties"]["systemAlertId"])[0]
    assert azure.app.ledger.alerts.raw(record) == one


@pytest.mark.parametrize("name", ["!" * 200, "x" * 201, "../../secrets", "a b", "~quarantine", "a\nb"])
def test_an_id_that_fits_no_key_is_quarantined_and_answered(azure: Azure, name: str):
    assert azure.deliver(alert(systemAlertId=name)).outcome == "quarantined"
    assert len(list(azure.app.ledger.alerts.quarantined())) == 1


def test_a_line_break_in_a_name_forges_no_notice(azure: Azure):
    azure.deliver(alert(alertDisplayName="harmless\nnotice approval: approved by ann\x1b[2K"))
    assert azure.notices()
    assert not any("\n" in n or "\x1b" in n for n in azure.notices())


def test_an_event_stuffed_with_alerts_is_kept_whole_and_answered(azure: Azure):
    seen = azure.app.on_alert([{"n": n} for n in range(3000)], event_id="e", event_time=None)
    assert [s.outcome for s in seen] == ["quarantined"]
    held = list(azure.app.ledger.alerts.quarantined())
    assert "3000 alerts in one event" in held[0]["reason"]


def test_one_bad_hint_keeps_no_block_from_being_lifted(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    ledger = azure.app.ledger
    ledger.work.hint("alert", "bad", azure.clock.now(), alert="bad", accusation="x")
    ledger.alerts._table.insert("bad", "alert|x", {"state": "received", "alertId": "bad",
                                                   "attempts": "no number"})
    azure.clock.forward(hours=25)
    azure.sweep()
    assert azure.owned() == {}
    assert "alert/x" in azure.notices("unreadable")[0]
    assert list(ledger.control._table.query("PartitionKey eq '~unreadable'")), "kept, out of the way"


def test_a_lowered_mode_caps_what_was_claimed_under_a_bolder_one(azure: Azure):
    azure.world.seed(estate())
    azure.deliver(alert())
    question = next(iter(azure.app.ledger.control.approvals()))
    azure.start(RESPONDER_MODE="simulate")
    azure.app.operator.decide(question.id, OPERATOR, azure.app.budget(), approve=True,
                              reason="checked")
    for _ in range(3):
        azure.clock.forward(minutes=5)
        azure.sweep()
    assert azure.writes() == []
    assert azure.states() == {"pending"}
    azure.start(RESPONDER_MODE="enforce")
    azure.clock.forward(minutes=5)
    azure.sweep()
    assert azure.owned() == {"outbound": [ATTACKER], "inbound": [ATTACKER]}


def test_a_lowered_mode_still_lifts_on_time(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    azure.start(RESPONDER_MODE="notify")
    azure.clock.forward(hours=25)
    azure.sweep()
    assert azure.owned() == {}


def test_a_flood_of_addresses_in_one_alert_makes_no_flood_of_rows(azure: Azure):
    azure.world.seed(estate())
    flood = [f"198.51.{n // 200}.{n % 200 + 1}" for n in range(3000)]
    assert azure.deliver(alert(attacker=flood)).outcome == "approve"
    assert len(azure.blocks()) == 100, "fifty addresses, two directions, all waiting"
    assert azure.states() == {"waiting"}


def test_a_flood_of_resources_is_left_off_in_good_time(azure: Azure):
    azure.start(RESPONDER_BUDGET_SECONDS="2")
    azure.world.seed(estate())
    machine = alert()["properties"]["resourceIdentifiers"][0]["azureResourceId"]
    azure.world.tune(read=0.2)
    started = time.monotonic()
    azure.deliver(alert(resourceIdentifiers=[
        {"type": "AzureResource", "azureResourceId": f"{machine}{n}"} for n in range(4000)]))
    assert time.monotonic() - started < 6


def test_an_event_of_many_alerts_is_recorded_whole_and_answered_in_time(azure: Azure):
    azure.start(RESPONDER_BUDGET_SECONDS="2")
    azure.world.seed(estate())
    azure.world.tune(read=0.3)
    alerts = [azure.know(alert(attacker=f"198.51.100.{n + 1}")) for n in range(20)]
    started = time.monotonic()
    seen = azure.app.on_alert(alerts, event_id="e", event_time=None)
    assert time.monotonic() - started < 8
    assert len(seen) == 20
    assert any(s.outcome == "pending" for s in seen)
    azure.world.tune(read=0)
    azure.start(RESPONDER_BUDGET_SECONDS="15")
    for _ in range(3):
        azure.clock.forward(seconds=90)
        azure.sweep()
    assert {k[1] for k in azure.blocks()} == {f"198.51.100.{n + 1}" for n in range(20)}
    assert azure.states() == {"active"}


def test_a_subscription_of_another_tenant_is_no_reason_to_try_for_days(azure: Azure):
    azure.world.seed(estate())
    azure.faults({"service": "arm", "path": "Security/locations", "status": 401, "times": 50,
                  "body": {"error": {"code": "InvalidAuthenticationTokenTenant", "message": "wrong"}}})
    assert azure.deliver(alert()).outcome == "approve"
    assert any("Defender cannot be asked" in n for n in azure.notices("alert"))


def test_an_alert_under_a_second_id_brings_no_lifted_block_back(azure: Azure):
    azure.world.seed(estate())
    one = azure.attack()
    azure.clock.forward(hours=25)
    azure.sweep()
    assert azure.owned() == {}
    again = {**one, "properties": {**one["properties"], "systemAlertId": "a-fresh-id"}}
    assert azure.deliver(again).outcome == "duplicate"
    assert azure.owned() == {}


def test_five_hundred_alerts_that_are_due_keep_no_lift_waiting(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    work, now = azure.app.ledger.work, azure.clock.now()
    for n in range(600):
        work.hint("alert", f"none-{n}|x", now, alert=f"none-{n}", accusation="x")
    azure.clock.forward(hours=24.5)
    first = work.due(azure.clock.now(), 500)
    assert len(first) == 500
    assert first[0].kind == "nsg"
    azure.sweep()
    assert azure.owned() == {}
