"""What people ask for: revoke and hold, approve, override, pause, protect; and what others do to our
rules."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from remediation.clock import Deadline
from remediation.errors import Conflict, NotFound
from remediation.ledger import Approval
from remediation.model import BlockState
from remediation.policy import DEFAULT_POLICY
from tests.azure import OPERATOR, Azure
from tests.estate import ATTACKER, SECOND, alert, estate, name_of, nsg_id, nsg_path

BOTH = {"outbound": [ATTACKER], "inbound": [ATTACKER]}
DAY = timedelta(hours=24)
OUTBOUND = f"{nsg_path()}/securityRules/defender-block-test-outbound"


def revoke(azure: Azure, address: str = ATTACKER, **hold: float) -> dict[str, Any]:
    return azure.app.operator.revoke(
        OPERATOR, azure.app.budget(), address=address, block_id="", reason="partner",
        hold=timedelta(**hold) if hold else DAY)


def questions(azure: Azure) -> list[Approval]:
    return [a for a in azure.app.ledger.control.approvals() if a.state == "open"]


def answer(azure: Azure, approval: Approval, *, approve: bool = True) -> dict[str, Any]:
    return azure.app.operator.decide(approval.id, OPERATOR, azure.app.budget(),
                                     approve=approve, reason="checked")


# --- revoke and hold ------------------------------------------------------------------------------


def test_a_revoke_lifts_and_holds(azure: Azure):
    azure.world.seed(estate())
    one = azure.attack()
    assert len(revoke(azure)["revoked"]) == 2
    assert azure.owned() == {}
    assert {b.state for b in azure.ended()} == {BlockState.REVOKED}
    assert azure.ended()[0].revoked_by == "ann"
    assert azure.deliver(one).outcome == "duplicate", "the same alert never brings it back"
    azure.attack()
    assert azure.states() == {"waiting"}, "another alert on that address asks"
    assert azure.owned() == {}


def test_after_the_hold_a_new_alert_blocks_again(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    revoke(azure, hours=2)
    azure.clock.forward(hours=2.1)
    azure.attack()
    assert azure.owned() == BOTH


def test_a_block_may_be_revoked_by_its_id(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    block = azure.blocks()["outbound", ATTACKER]
    azure.app.operator.revoke(OPERATOR, azure.app.budget(), address="",
                              block_id=block.key.id, reason="x", hold=DAY)
    assert azure.owned() == {"inbound": [ATTACKER]}
    with pytest.raises(NotFound):
        azure.app.operator.revoke(OPERATOR, azure.app.budget(), address="",
                                  block_id="none", reason="x", hold=DAY)


def test_a_waiting_block_may_be_revoked(azure: Azure):
    azure.world.seed(estate())
    azure.deliver(alert())
    assert azure.states() == {"waiting"}
    revoke(azure)
    assert azure.blocks() == {}
    assert {b.state for b in azure.ended()} == {BlockState.REVOKED}


@pytest.mark.parametrize("written", [False, True])
def test_a_hold_placed_after_the_claim_is_seen_by_the_commit(
    azure: Azure, monkeypatch: pytest.MonkeyPatch, written: bool
):
    azure.world.seed(estate())
    azure.faults({"service": "arm", "path": "networkSecurityGroups/nsg$", "status": 503, "skip": 1,
                  "times": 100})
    azure.start(RESPONDER_BUDGET_SECONDS="4" if written else "2")
    if not written:  # else the read for the plan serves the write, and what fails is reading it back
        monkeypatch.setattr(azure.app.responder._commit._parts.guards, "glimpse", lambda _: None)
    azure.attack()
    assert azure.states() == {"pending"}
    assert written or azure.writes() == []
    from remediation.guardrails import Hold

    azure.app.ledger.control.hold(
        Hold(ATTACKER, azure.clock.now() + DAY, "ann", "partner", azure.clock.now()))
    azure.faults()
    azure.clock.forward(seconds=60)
    azure.sweep()
    assert azure.owned() == {}
    if written:  # in force, proven or not: the person's word lifts it
        assert {(b.state, b.revoked_by) for b in azure.ended()} == {(BlockState.REVOKED, "ann")}
    else:
        assert azure.states() == {"waiting"}
        assert "ann revoked" in questions(azure)[0].asks[0]


# --- approvals ------------------------------------------------------------------------------------


def test_a_forged_alert_waits_and_blocks_only_when_approved(azure: Azure):
    azure.world.seed(estate())
    azure.deliver(alert())
    assert azure.states() == {"waiting"}
    assert azure.writes() == []
    approval = questions(azure)[0]
    assert "Defender does not confirm" in approval.asks[0]
    answer(azure, approval)
    assert azure.owned() == BOTH
    assert azure.blocks()["outbound", ATTACKER].approved_by == "ann"
    with pytest.raises(Conflict, match="approved already"):
        answer(azure, approval)


def test_a_forged_body_never_takes_the_place_of_defenders_own(azure: Azure):
    azure.world.seed(estate())
    genuine = alert()
    forged = {**genuine, "properties": {**genuine["properties"], "entities": [],
                                        "extendedProperties": {"attacker IP": SECOND}}}
    azure.deliver(forged)
    azure.deliver(azure.know(genuine))
    assert azure.owned() == BOTH, "the real one is blocked, though its id was used before"
    assert azure.blocks()["outbound", SECOND].state is BlockState.WAITING


def test_an_alert_altered_on_its_way_is_acted_upon_as_defender_holds_it(azure: Azure):
    azure.world.seed(estate())
    genuine = azure.know(alert())
    altered = {**genuine, "properties": {**genuine["properties"], "entities": [],
                                         "extendedProperties": {"attacker IP": SECOND}}}
    azure.deliver(altered)
    assert {k[1] for k in azure.blocks()} == {ATTACKER}
    assert azure.states() == {"waiting"}


def test_a_rejected_question_ends_the_blocks(azure: Azure):
    azure.world.seed(estate())
    azure.deliver(alert())
    answer(azure, questions(azure)[0], approve=False)
    assert azure.blocks() == {}
    assert azure.writes() == []


def test_a_question_nobody_answers_expires(azure: Azure):
    azure.world.seed(estate())
    azure.deliver(alert())
    approval = questions(azure)[0]
    azure.clock.forward(hours=25)
    azure.sweep()
    assert azure.blocks() == {}
    assert questions(azure) == []
    with pytest.raises(Conflict, match="expired"):
        answer(azure, approval)


def test_an_answer_that_was_interrupted_is_carried_out_by_the_sweep(azure: Azure):
    azure.world.seed(estate())
    azure.deliver(alert())
    approval = questions(azure)[0]
    ledger = azure.app.ledger
    ledger.work.hint("approval", approval.id, azure.clock.now())
    assert ledger.control.decide(approval, "approved", "ann", "checked", azure.clock.now())
    # …and then the process died
    azure.clock.forward(seconds=60)
    azure.sweep()
    assert azure.owned() == BOTH


@pytest.mark.parametrize(("address", "word"), [
    ("8.8.8.8", "public resolver"), ("20.33.1.1", "AzureCloud"),
])
def test_addresses_that_serve_many_wait_for_approval(azure: Azure, address: str, word: str):
    azure.world.seed(estate())
    azure.attack(attacker=address)
    assert azure.states() == {"waiting"}
    assert word in questions(azure)[0].asks[0]


def test_a_declared_partner_waits_for_approval(azure: Azure):
    azure.world.seed(estate({"name": "partner", "priority": 250, "sourceAddressPrefix": "198.51.100.0/24"}))
    azure.attack()
    assert "declared partner" in questions(azure)[0].asks[0]


@pytest.mark.parametrize("address", ["168.63.129.16", "203.0.113.10", "10.0.0.4"])
def test_own_and_platform_addresses_are_never_blocked(azure: Azure, address: str):
    azure.world.seed(estate())
    one = azure.attack(attacker=address)
    assert azure.blocks() == {}
    assert azure.timeline(one)["plan"]["skipped"][0]["address"] == address


def test_more_new_blocks_in_an_hour_than_allowed_wait(azure: Azure, tmp_path: Any):
    from remediation.policy import DEFAULT_POLICY

    policy = tmp_path / "p.toml"
    policy.write_text(DEFAULT_POLICY.read_text().replace("blocks_per_hour = 100", "blocks_per_hour = 3"))
    azure.start(RESPONDER_POLICY=str(policy))
    azure.world.seed(estate(machines=2))
    azure.attack()
    azure.attack("vm2", SECOND)
    assert sorted(b.state.value for b in azure.blocks().values()) == [
        "active", "active", "active", "waiting"]


# --- replay ---------------------------------------------------------------------------------------


def replay(azure: Azure, one: dict[str, Any], **how: bool) -> dict[str, Any]:
    return azure.app.operator.replay_id(
        name_of(one), OPERATOR, azure.app.budget(),
        dry_run=how.get("dry_run", False), override=how.get("override", False))


def test_a_dry_run_shows_the_difference_and_changes_nothing(azure: Azure):
    azure.world.seed(estate())
    one = azure.know(alert())
    found = replay(azure, one, dry_run=True)
    assert [(d["write"], d["rule"], d["before"]) for d in found["difference"]] == [
        ("put", "defender-block-test-outbound", None), ("put", "defender-block-test-inbound", None)]
    assert azure.writes() == []
    assert azure.blocks() == {}
    assert azure.deliver(one).outcome == "enforce", "a dry run occupies no id"


def test_a_body_that_defender_does_not_confirm_is_a_dry_run(azure: Azure):
    azure.world.seed(estate())
    found = azure.app.operator.replay_raw(alert(), OPERATOR, azure.app.budget(),
                                          dry_run=False, override=True)
    assert found["dryRun"]
    assert "does not confirm" in found["why"]
    assert azure.writes() == []


def test_a_replay_prolongs_and_overrides_a_hold_when_told_to(azure: Azure):
    azure.world.seed(estate())
    one = azure.attack()
    revoke(azure)
    assert replay(azure, one)["claimed"] == []
    assert azure.states() == {"waiting"}
    assert len(replay(azure, one, override=True)["claimed"]) == 2
    assert azure.owned() == BOTH
    before = azure.blocks()["outbound", ATTACKER].expires
    azure.clock.forward(hours=5)
    replay(azure, one, override=True)
    after = azure.blocks()["outbound", ATTACKER].expires
    assert before is not None
    assert after is not None
    assert after - before > timedelta(hours=4)


def test_an_unknown_alert_cannot_be_replayed(azure: Azure):
    azure.world.seed(estate())
    with pytest.raises(NotFound):
        replay(azure, alert())


# --- pause, protect -------------------------------------------------------------------------------


def pause(azure: Azure, lift: str) -> dict[str, Any]:
    return azure.app.operator.pause(OPERATOR, azure.app.budget(), reason="drill", lift=lift)


def test_a_pause_stops_new_blocks_and_resuming_takes_them_up(azure: Azure):
    azure.world.seed(estate())
    pause(azure, "due")
    azure.attack()
    assert azure.blocks() == {}
    azure.clock.forward(seconds=70)
    azure.sweep()
    assert azure.writes() == []
    azure.app.operator.resume(OPERATOR, reason="over")
    azure.clock.forward(seconds=70)
    azure.sweep()
    assert azure.owned() == BOTH


@pytest.mark.parametrize(("lift", "left"), [("due", {}), ("none", BOTH)])
def test_a_pause_says_whether_what_is_due_is_lifted(azure: Azure, lift: str, left: dict[str, list[str]]):
    azure.world.seed(estate())
    azure.attack()
    pause(azure, lift)
    azure.clock.forward(hours=25)
    azure.sweep()
    assert azure.owned() == left
    azure.app.operator.resume(OPERATOR, reason="over")
    azure.clock.forward(minutes=5)
    azure.sweep()
    assert azure.owned() == {}


def test_a_pause_keeps_what_is_in_force_though_it_was_reported_again(azure: Azure):
    azure.world.seed(estate(machines=2))
    azure.attack()
    azure.clock.forward(hours=12)
    azure.attack("vm2", SECOND)
    pause(azure, "due")
    azure.clock.forward(hours=13)
    azure.sweep()
    assert azure.owned() == {"outbound": [SECOND], "inbound": [SECOND]}


def test_a_pause_may_lift_everything(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    assert pause(azure, "all")["revoked"] == 2
    assert azure.owned() == {}


def test_a_protected_address_is_refused_and_leaves_a_rule_it_is_in(azure: Azure):
    azure.world.seed(estate(machines=2))
    azure.attack()
    azure.app.operator.protect(OPERATOR, [("198.51.100.0/29", "partner network")])
    assert azure.app.operator.protected()[0]["by"] == "ann"
    one = azure.attack("vm2")
    assert "protected list" in azure.timeline(one)["plan"]["skipped"][0]["reason"]
    azure.attack("vm2", SECOND)
    assert azure.owned() == {"outbound": [SECOND], "inbound": [SECOND]}
    assert azure.notices("guardrail")
    azure.app.operator.protect(OPERATOR, [])
    assert azure.app.operator.protected() == []


# --- drift ----------------------------------------------------------------------------------------


def hourly(azure: Azure) -> None:
    azure.clock.forward(hours=1.1)
    azure.sweep()


def test_a_rule_removed_by_a_pipeline_is_put_back_and_told(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    for _ in range(2):
        azure.world.arm("DELETE", OUTBOUND)
        hourly(azure)
        assert azure.owned() == BOTH
    assert "removed by pipeline" in azure.notices("drift")[0]


def test_a_rule_moved_by_someone_keeps_its_number_while_it_is_effective(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    rule = azure.rules()["defender-block-test-outbound"]
    azure.world.arm("PUT", OUTBOUND, {"properties": {**rule, "priority": 3000}}, upn="eve@example.com")
    hourly(azure)
    assert azure.rules()["defender-block-test-outbound"]["priority"] == 3000
    assert azure.states() == {"active"}
    assert azure.notices("drift")


def test_a_rule_changed_by_someone_is_put_back(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    rule = azure.rules()["defender-block-test-outbound"]
    azure.world.arm("PUT", OUTBOUND, {"properties": {**rule, "access": "Allow"}}, upn="eve@example.com")
    hourly(azure)
    assert azure.rules()["defender-block-test-outbound"]["access"] == "Deny"
    assert any("eve@example.com" in n for n in azure.notices("drift"))


def test_a_person_who_removes_it_twice_is_obeyed(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    azure.world.arm("DELETE", OUTBOUND, upn="eve@example.com")
    hourly(azure)
    assert azure.owned() == BOTH
    azure.world.arm("DELETE", OUTBOUND, upn="eve@example.com")
    hourly(azure)
    assert azure.owned() == {"inbound": [ATTACKER]}
    assert azure.blocks()["outbound", ATTACKER].state is BlockState.OVERRIDDEN
    assert any("overridden" in n for n in azure.notices("drift"))
    azure.attack()
    assert azure.blocks()["outbound", ATTACKER].state is BlockState.WAITING, "a new alert asks"


def test_a_pipeline_that_removes_it_twice_is_obeyed_where_the_policy_says_so(azure: Azure, tmp_path: Path):
    policy = tmp_path / "policy.toml"
    policy.write_text(DEFAULT_POLICY.read_text().replace(
        'pipeline_drift = "restore"', 'pipeline_drift = "yield"'))
    azure.start(RESPONDER_POLICY=str(policy))
    azure.world.seed(estate())
    azure.attack()
    azure.world.arm("DELETE", OUTBOUND)
    hourly(azure)
    assert azure.owned() == BOTH, "the first time it is put back all the same"
    azure.world.arm("DELETE", OUTBOUND)
    hourly(azure)
    assert azure.owned() == {"inbound": [ATTACKER]}
    assert azure.blocks()["outbound", ATTACKER].state is BlockState.OVERRIDDEN


def test_a_person_who_moves_our_rule_twice_takes_nothing_back(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    for priority in (3000, 3100):
        rule = azure.rules()["defender-block-test-outbound"]
        azure.world.arm("PUT", OUTBOUND, {"properties": {**rule, "priority": priority}},
                        upn="eve@example.com")
        hourly(azure)
    assert azure.states() == {"active"}
    assert azure.owned() == BOTH


def test_owned_rules_without_rows_are_adopted_for_a_day_and_told(azure: Azure):
    azure.world.seed(estate({
        "name": "defender-block-test-outbound", "priority": 150, "direction": "Outbound",
        "access": "Deny", "destinationAddressPrefixes": ["198.51.100.20/31"],
        "description": "x [defender-responder:test] w:00"}))
    azure.sweep()  # the daily scan finds it, the next sweep looks closer
    azure.clock.forward(seconds=10)
    azure.sweep()
    assert {k[1] for k in azure.blocks()} == {"198.51.100.20", "198.51.100.21"}
    assert azure.notices("adopted")
    azure.attack()
    assert azure.owned()["outbound"] == ["198.51.100.20/31", ATTACKER]
    azure.clock.forward(hours=25)
    azure.sweep()
    assert azure.owned() == {}


# --- alerts that never reached us, and odd ones ---------------------------------------------------


def test_an_alert_that_never_reached_us_is_taken_from_defender(azure: Azure):
    azure.world.seed(estate())
    one = azure.know(alert())
    assert azure.sweep().missed == 1
    assert azure.owned() == BOTH
    assert azure.deliver(one).outcome == "duplicate", "late, but known by now"


@pytest.mark.parametrize("data", [None, 3, "text", [], {}, {"severity": "High"}, [{"x": 1}]])
def test_a_malformed_alert_is_kept_in_quarantine_and_answered(azure: Azure, data: Any):
    assert azure.deliver(data).outcome == "quarantined"
    assert len(list(azure.app.ledger.alerts.quarantined())) == 1


def test_a_raw_alert_beyond_a_row_property_survives(azure: Azure):
    import random

    azure.world.seed(estate())
    noise = "".join(chr(random.randrange(33, 127)) for _ in range(700_000))
    one = azure.attack(description=noise)
    record = azure.app.ledger.alerts.bodies(name_of(one))[0]
    assert azure.app.ledger.alerts.raw(record)["properties"]["description"] == noise
    assert azure.owned() == BOTH


def test_a_sample_changes_nothing_and_shows_what_it_would_do(azure: Azure):
    azure.world.seed(estate())
    one = azure.attack(kind="SIMULATED_Network_CommunicationWithC2")
    plan = azure.timeline(one)["plan"]
    assert plan["mode"] == "simulate"
    assert len(plan["blocks"]) == 2
    assert azure.blocks() == {}


def lifted_long_ago(azure: Azure) -> dict[str, Any]:
    """An alert whose blocks were lifted, older than the retention by now."""
    azure.start(RESPONDER_RETENTION_DAYS="2")
    azure.world.seed(estate())
    one = azure.attack()
    azure.clock.forward(hours=25)
    azure.sweep()
    azure.clock.forward(days=3)
    return one


def test_old_rows_are_cleaned_up(azure: Azure):
    one = lifted_long_ago(azure)
    azure.sweep()
    assert azure.ended() == []
    with pytest.raises(NotFound):
        azure.timeline(one)


def test_a_clean_up_that_runs_out_of_time_is_taken_up_by_the_next_sweep(azure: Azure):
    one = lifted_long_ago(azure)
    control = azure.app.ledger.control
    assert control.begin_job("retention", azure.clock.now(), timedelta(days=1))
    azure.app.sweep._clean_up(Deadline.after(azure.clock, -1))
    assert azure.timeline(one)["state"] == "done"
    azure.sweep()
    with pytest.raises(NotFound):
        azure.timeline(one)


def test_what_changes_while_it_is_cleared_stays(azure: Azure):
    table = azure.app.ledger.control._table
    for n in range(150):
        table.insert("notice", f"{n:03}", {"at": "2020"})
    looked: list[int] = []

    def over() -> bool:
        if len(looked) == 1:  # read, not deleted yet
            table.upsert("notice", "007", {"at": "2020", "text": "new"})
        looked.append(1)
        return False

    assert table.clear("PartitionKey eq @p", over, p="notice") == 149
    assert [r.key for r in table.query("PartitionKey eq @p", p="notice")] == ["007"]


def test_the_second_driver_sweeps_when_the_timer_has_stopped(azure: Azure):
    azure.world.seed(estate(machines=2))
    azure.attack()
    azure.sweep()
    azure.clock.forward(hours=25)
    azure.attack("vm2", SECOND)
    assert azure.owned() == {"outbound": [SECOND], "inbound": [SECOND]}


def test_the_commit_queue_carries_the_nsg(azure: Azure):
    from remediation.commit_queue import nsg_of
    from remediation.errors import Invalid

    azure.app.responder._queue.send(nsg_id())
    queue = azure.app.responder._queue._clients.queue(azure.settings["COMMIT_QUEUE"])
    import base64

    messages = [base64.b64decode(m.content).decode() for m in queue.receive_messages()]
    assert [nsg_of(m) for m in messages] == [nsg_id()]
    for bad in ("x", "{}", '{"nsg": 3}'):
        with pytest.raises(Invalid):
            nsg_of(bad)
