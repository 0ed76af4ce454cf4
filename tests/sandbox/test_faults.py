"""Azure says no, says wait, says nothing: what is recorded stays true, and the sweep finishes."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from remediation.cloud.table_batch import Op
from remediation.ledger.store import LedgerDown
from remediation.model import BlockState
from tests.azure import Azure
from tests.estate import ATTACKER, SECOND, SUB, alert, estate, nsg_id, nsg_path

BOTH = {"outbound": [ATTACKER], "inbound": [ATTACKER]}
OUTBOUND_RULE = "securityRules/defender-block-test-outbound"


def error(code: str, message: str = "no") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "details": []}}


def together(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def storm(azure: Azure, machines: int) -> None:
    """As many alerts at once as there are machines, each with an attacker of its own."""
    names = ["vm", *(f"vm{n}" for n in range(2, machines + 1))]
    alerts = [azure.know(alert(vm, f"198.51.100.{n}")) for n, vm in enumerate(names, 10)]
    together([threading.Thread(target=azure.deliver, args=(a,)) for a in alerts])
    azure.clock.forward(seconds=90)
    azure.sweep()


# --- temporary ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [
    {"status": 429, "headers": {"retry-after": "1"}, "body": error("TooManyRequests")},
    {"status": 429, "body": error("RetryableError")},
    {"status": 503, "body": error("ServiceUnavailable")},
    {"status": 504, "body": error("GatewayTimeout")},
    {"status": 409, "body": error("AnotherOperationInProgress")},
    {"status": 412, "body": error("PreconditionFailed")},
    {"status": 400, "body": error("SecurityRuleConflict")},
    {"drop": "before"}, {"drop": "after"},
], ids=lambda f: str(f.get("status") or f.get("drop")))
def test_a_passing_fault_at_the_write_is_overcome_within_the_budget(azure: Azure, fault: dict[str, Any]):
    azure.world.seed(estate())
    azure.faults({"service": "arm", "method": "PUT", "path": "securityRules", **fault})
    azure.attack()
    assert azure.owned() == BOTH
    assert azure.states() == {"active"}
    assert len([n for n in azure.rules() if n.startswith("defender")]) == 2


@pytest.mark.parametrize("path", [
    "alerts", "ResourceGraph", "virtualMachines", "networkInterfaces", "subnets",
    "networkSecurityGroups/nsg$",
])
def test_a_passing_fault_at_any_read_is_overcome(azure: Azure, path: str):
    azure.world.seed(estate())
    azure.faults({"service": "arm", "path": path, "status": 503, "body": error("x"), "times": 2})
    azure.attack()
    assert azure.world.control("GET", "faults")["left"] == [0], "it struck"
    assert azure.owned() == BOTH


def test_a_lost_answer_is_recognised_as_our_own_write(azure: Azure):
    azure.world.seed(estate())
    azure.faults(
        {"service": "arm", "method": "PUT", "path": OUTBOUND_RULE, "drop": "after"},
        {"service": "arm", "method": "PUT", "path": OUTBOUND_RULE, "status": 412,
         "body": error("PreconditionFailed")},
    )
    azure.attack()
    assert azure.owned() == BOTH
    puts = [w for w in azure.writes() if w == "PUT defender-block-test-outbound"]
    assert len(puts) == 2, "the first answer was lost, the second a conflict with ourselves: no third"


def test_an_nsg_busy_with_another_operation_is_waited_for(azure: Azure):
    azure.world.seed(estate())
    azure.world.tune(settle=1.5)
    azure.world.arm("PUT", f"{nsg_path()}/securityRules/pipeline", {"properties": {
        "protocol": "*", "access": "Deny", "direction": "Inbound", "priority": 900,
        "sourceAddressPrefix": "192.0.2.1", "destinationAddressPrefix": "*", "sourcePortRange": "*",
        "destinationPortRange": "*"}})
    azure.attack()
    assert azure.owned() == BOTH


@pytest.mark.parametrize("busy", ["429", "409", "accept"])
def test_every_way_of_refusing_a_second_write_is_lived_with(azure: Azure, busy: str):
    azure.world.seed(estate(machines=6))
    azure.world.tune(busy=busy, settle=0.2)
    storm(azure, 6)
    assert azure.states() == {"active"}
    assert len(azure.blocks()) == 12


def test_a_slow_azure_is_left_to_the_queue_and_the_sweep_in_good_time(azure: Azure):
    azure.start(RESPONDER_BUDGET_SECONDS="3", RESPONDER_LEASE_SECONDS="30")
    azure.world.seed(estate())
    azure.world.tune(settle=5)
    started = time.monotonic()
    azure.attack()
    assert time.monotonic() - started < 6
    assert azure.states() == {"pending"}
    sent = azure.app.responder.commit_nsg(nsg_id(), azure.app.sweep.budget())
    assert not sent.left
    assert azure.states() == {"active"}
    assert len([w for w in azure.writes() if "outbound" in w]) == 1, "the operation was awaited, not repeated"


def test_defender_out_of_reach_leaves_the_alert_to_the_sweep(azure: Azure):
    azure.start(RESPONDER_BUDGET_SECONDS="2")
    azure.world.seed(estate())
    azure.faults({"service": "arm", "path": "Security/locations", "status": 503, "times": 100})
    one = azure.know(alert())
    assert azure.deliver(one).outcome == "pending"
    assert azure.writes() == []
    azure.faults()
    azure.start(RESPONDER_BUDGET_SECONDS="15")
    azure.clock.forward(seconds=90)
    azure.sweep()
    assert azure.owned() == BOTH


def test_table_storage_down_means_the_event_must_come_again(azure: Azure):
    azure.world.seed(estate())
    azure.attack()  # the tables exist, the clients are warm
    azure.faults({"service": "table", "status": 503, "times": 1000})
    one = azure.know(alert(attacker=SECOND))
    with pytest.raises(LedgerDown):
        azure.deliver(one)
    azure.faults()
    assert azure.deliver(one).outcome == "enforce"
    assert azure.owned()["outbound"] == [ATTACKER, SECOND]


# --- permanent ---------------------------------------------------------------------------------------


def test_a_forbidden_write_fails_with_the_reason_and_others_go_on(azure: Azure):
    azure.world.seed({**estate(nsgs=2), "denied": [
        {"action": "securityrules/write", "scope": nsg_path("nsg2")}]})
    azure.attack()
    azure.attack("vm2", SECOND)
    assert azure.states("nsg") == {"active"}
    assert azure.states("nsg2") == {"failed"}
    assert "AuthorizationFailed" in azure.blocks("nsg2")["outbound", SECOND].detail
    assert any("AuthorizationFailed" in n for n in azure.notices("block-failed"))


def test_a_forbidden_read_is_told(azure: Azure):
    azure.world.seed({**estate(), "denied": [{"action": "networksecuritygroups/read", "scope": ""}]})
    one = azure.attack()
    assert "cannot be read" in azure.timeline(one)["plan"]["skipped"][0]["reason"]
    assert azure.notices("alert")


def test_a_lock_against_deletion_leaves_a_harmless_deny(azure: Azure):
    azure.world.seed({**estate(), "locks": [
        {"scope": f"/subscriptions/{SUB}/resourceGroups/rg", "level": "CanNotDelete"}]})
    azure.attack()
    azure.clock.forward(hours=25)
    azure.sweep()
    assert azure.owned() == {"outbound": ["192.0.2.1"], "inbound": ["192.0.2.1"]}
    assert {p["access"] for n, p in azure.rules().items() if n.startswith("defender")} == {"Deny"}
    assert {b.state for b in azure.ended()} == {BlockState.LIFTED}
    writes = len(azure.writes())
    azure.clock.forward(hours=2)
    azure.sweep()
    assert len(azure.writes()) == writes, "a parked rule is left in peace"
    azure.attack()
    assert azure.owned() == BOTH


def test_a_lift_that_is_refused_is_tried_again_hourly_and_told_once(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    azure.world.seed({"denied": [{"action": "securityrules/(write|delete)", "scope": ""}]})
    for hours in (24.5, 1.1, 1.1):
        azure.clock.forward(hours=hours)
        azure.sweep()
    assert azure.states() == {"lifting"}
    assert len(azure.notices("lift-failed")) == 2, "one per rule"
    assert azure.owned() == BOTH
    azure.world.seed({"denied": []})
    azure.clock.forward(hours=1.1)
    azure.sweep()
    assert azure.owned() == {}
    assert {b.state for b in azure.ended()} == {BlockState.LIFTED}


def test_a_read_only_lock_fails_the_block_and_is_told(azure: Azure):
    azure.world.seed({**estate(), "locks": [{"scope": nsg_path(), "level": "ReadOnly"}]})
    azure.attack()
    assert azure.states() == {"failed"}
    assert any("ScopeLocked" in n for n in azure.notices("block-failed"))


# --- many at once -----------------------------------------------------------------------------------------


def test_twenty_alerts_at_once_on_one_nsg_cost_a_handful_of_writes(azure: Azure):
    azure.world.seed(estate(machines=20))
    azure.world.tune(settle=0.3)
    storm(azure, 20)
    assert azure.states() == {"active"}
    assert len(azure.blocks()) == 40
    assert len(azure.writes()) <= 16


def test_the_same_alert_delivered_at_once_is_one_block(azure: Azure):
    azure.world.seed(estate())
    one = azure.know(alert())
    threads = [threading.Thread(target=azure.deliver, args=(one,)) for _ in range(8)]
    together(threads)
    assert azure.owned() == BOTH
    assert azure.blocks()["outbound", ATTACKER].reports == 1
    assert len(azure.writes()) == 2


def test_a_holder_that_is_gone_is_taken_over_and_looked_after(azure: Azure):
    azure.start(RESPONDER_LEASE_SECONDS="2")
    azure.world.seed(estate())
    dead = azure.app.ledger.leases.take(nsg_id(), azure.clock)
    assert dead is not None
    azure.attack()
    assert azure.states() == {"pending"}, "the dead holder's lease is respected, for a while"
    end = time.monotonic() + 10
    while azure.states() != {"active"} and time.monotonic() < end:
        azure.clock.forward(seconds=60)
        azure.sweep()
    assert azure.owned() == BOTH


def test_who_lost_the_lease_marks_nothing(azure: Azure):
    from remediation.errors import LeaseLost

    azure.start(RESPONDER_LEASE_SECONDS="2")
    leases = azure.app.ledger.leases
    first = leases.take("/nsg", azure.clock)
    assert first is not None
    second = None
    end = time.monotonic() + 10
    while second is None and time.monotonic() < end:
        second = leases.take("/nsg", azure.clock)
    assert second is not None
    assert second.taken_over
    with pytest.raises(LeaseLost):
        leases.renew(first, azure.clock)
    with pytest.raises(LeaseLost):
        leases.release(first)
    leases.drop(first)
    leases.renew(second, azure.clock)


def test_a_knock_during_the_last_look_keeps_the_holder(azure: Azure):
    leases = azure.app.ledger.leases
    held = leases.take("/nsg", azure.clock)
    assert held is not None
    leases.listen(held)
    assert leases.take("/nsg", azure.clock) is None, "and has knocked"
    assert not leases.release(held), "so the holder looks again"
    leases.listen(held)
    assert leases.release(held)
    assert leases.take("/nsg", azure.clock) is not None


def test_an_answer_of_the_tables_that_breaks_off_is_an_outage_like_any_other(azure: Azure):
    azure.app.ledger.control.begin_job("x", azure.clock.now(), timedelta(0))
    azure.faults({"service": "table", "method": "POST", "path": "control", "drop": "after", "times": 9})
    with pytest.raises(LedgerDown):
        azure.app.ledger.control._table.insert("job", "y", {"at": "now"})


def test_a_transaction_that_the_tables_do_not_answer_is_an_outage_like_any_other(azure: Azure):
    azure.app.ledger.control.begin_job("x", azure.clock.now(), timedelta(0))
    azure.faults({"service": "table", "path": "[$]batch", "status": 503, "times": 9})
    with pytest.raises(LedgerDown):
        azure.app.ledger.control._table.transaction(
            [Op("upsert", "job", key, {"at": "now"}) for key in ("y", "z")])
