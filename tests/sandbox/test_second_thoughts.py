"""Corners where two things meet: a refusal and a block in force, two questions, a late write, an
outage longer than patience. Each was found by reading the code against its promises."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from remediation.alerts import normalise
from remediation.guardrails import Hold
from remediation.ledger import Approval
from remediation.model import BlockState, utc
from remediation.policy import DEFAULT_POLICY
from tests.azure import OPERATOR, Azure
from tests.estate import ATTACKER, GROUP, SECOND, SUB, alert, estate, name_of, nsg_id, nsg_path
from tests.role import IDENTITY

BOTH = {"outbound": [ATTACKER], "inbound": [ATTACKER]}
OUTBOUND = f"{nsg_path()}/securityRules/defender-block-test-outbound"
REASON = "looked at it"


def hourly(azure: Azure) -> None:
    azure.clock.forward(hours=1.1)
    azure.sweep()


def later(azure: Azure, seconds: float = 70) -> None:
    azure.clock.forward(seconds=seconds)
    azure.sweep()


def questions(azure: Azure) -> list[Approval]:
    return [a for a in azure.app.ledger.control.approvals() if a.state == "open"]


def answer(azure: Azure, question: Approval, *, yes: bool) -> dict[str, Any]:
    return azure.app.operator.decide(question.id, OPERATOR, azure.app.budget(), approve=yes, reason=REASON)


def policy(azure: Azure, folder: Path, *changes: tuple[str, str]) -> None:
    text = DEFAULT_POLICY.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    (folder / "policy.toml").write_text(text)
    azure.start(RESPONDER_POLICY=str(folder / "policy.toml"))


ASKING = ('[alert.Network_CommunicationWithC2]\nmode = "enforce"',
          '[alert.Network_CommunicationWithC2]\nmode = "approve"')


def approved(azure: Azure, folder: Path) -> dict[str, Any]:
    """An alert that asked, and was told yes."""
    policy(azure, folder, ASKING)
    azure.world.seed(estate())
    one = azure.attack()
    answer(azure, questions(azure)[0], yes=True)
    return one


# --- rules nobody remembers -----------------------------------------------------------------------


def test_an_old_rule_that_comes_back_after_the_last_lift_is_found_and_lifted(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    rule = azure.rules()["defender-block-test-outbound"]
    hourly(azure)
    azure.clock.forward(hours=24)
    azure.sweep()
    assert azure.owned() == {}
    assert azure.world.arm("PUT", OUTBOUND, {"properties": rule}).status_code == 201
    azure.clock.forward(hours=24.1)
    azure.sweep()  # the daily scan
    later(azure)
    assert azure.states() == {"active"}, "adopted"
    assert azure.notices("adopted")
    azure.clock.forward(hours=24.1)
    azure.sweep()
    assert azure.owned() == {}


def test_a_holder_that_was_replaced_has_its_late_write_found_soon(azure: Azure):
    azure.start(RESPONDER_LEASE_SECONDS="2")
    azure.world.seed(estate())
    azure.attack()
    rule = azure.rules()["defender-block-test-outbound"]
    leases = azure.app.ledger.leases
    azure.clock.forward(hours=24.1)
    assert leases.take(nsg_id(), azure.clock) is not None, "and this holder is never heard of again"
    end = time.monotonic() + 12
    while azure.owned() and time.monotonic() < end:
        later(azure, 10)
    assert azure.owned() == {}
    azure.world.arm("PUT", OUTBOUND, {"properties": rule})  # its write lands after all
    later(azure)
    assert azure.states() == {"active"}
    assert azure.notices("adopted")


# --- refusals ---------------------------------------------------------------------------------------


def test_a_rule_that_vanished_and_may_not_be_written_again_fails_its_blocks_once(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    azure.world.arm("DELETE", OUTBOUND)
    azure.world.seed({"denied": [{"action": "securityrules/write", "scope": "", "caller": IDENTITY}]})
    hourly(azure)
    assert azure.blocks()["outbound", ATTACKER].state is BlockState.FAILED
    assert azure.blocks()["inbound", ATTACKER].state is BlockState.ACTIVE, "its rule stands"
    assert len(azure.notices("block-failed")) == 1
    writes = len(azure.writes())
    for _ in range(3):
        later(azure)
    assert len(azure.writes()) == writes, "no hot loop"


def test_a_block_in_force_that_is_reported_again_survives_a_refusal(azure: Azure):
    azure.world.seed(estate(machines=2))
    azure.attack()
    expires = azure.blocks()["outbound", ATTACKER].expires
    azure.world.seed({"denied": [{"action": "securityrules/write", "scope": "", "caller": IDENTITY}]})
    azure.clock.forward(hours=1)
    azure.deliver(azure.know(alert("vm2", [ATTACKER, SECOND])))
    first, second = azure.blocks()["outbound", ATTACKER], azure.blocks()["outbound", SECOND]
    assert first.state is BlockState.ACTIVE, "its address stands in the rule, as read back"
    assert expires is not None
    assert first.expires is not None
    assert first.expires > expires
    assert second.state is BlockState.FAILED
    assert azure.owned() == BOTH


def test_an_nsg_that_may_not_be_read_leaves_proven_blocks_their_term(azure: Azure):
    azure.world.seed(estate(machines=2))
    azure.attack()
    azure.app.responder._survey._guards.forget(nsg_id())
    one = azure.know(alert("vm2", ATTACKER))
    azure.faults({"service": "arm", "method": "GET", "path": "networkSecurityGroups/nsg$", "skip": 1,
                  "status": 403, "times": 50,
                  "body": {"error": {"code": "AuthorizationFailed", "message": "no"}}})
    azure.deliver(one)
    assert azure.states() == {"active"}
    assert azure.notices("block-failed")


def test_azures_wish_to_wait_reaches_the_queue(azure: Azure):
    azure.start(RESPONDER_BUDGET_SECONDS="8")
    azure.world.seed(estate())
    azure.faults({"service": "arm", "method": "PUT", "path": "securityRules", "status": 429, "times": 50,
                  "headers": {"retry-after": "40"}})
    azure.attack()
    queue = azure.app.responder._queue._clients.queue(azure.settings["COMMIT_QUEUE"])
    assert list(queue.receive_messages()) == [], "sent, but not to be seen yet"
    assert queue.get_queue_properties().approximate_message_count == 1


# --- outages and pauses -----------------------------------------------------------------------------


def outage(azure: Azure, hours: float) -> None:
    """Defender does not answer for so long, and the alert that came meanwhile was tried often."""
    azure.start(RESPONDER_BUDGET_SECONDS="2")
    azure.world.seed(estate())
    azure.faults({"service": "arm", "path": "Security/locations", "status": 503, "times": 1000})
    one = azure.know(alert())
    azure.deliver(one)
    alerts = azure.app.ledger.alerts
    alerts.update(alerts.bodies(name_of(one))[0], attempts=50)
    later(azure, hours * 3600)


def test_an_outage_of_many_hours_loses_no_alert(azure: Azure):
    outage(azure, 48)
    assert not azure.notices("alert-failed")
    azure.faults()
    azure.start(RESPONDER_BUDGET_SECONDS="15")
    azure.clock.forward(hours=1)
    azure.sweep()
    assert azure.owned() == BOTH


def test_after_days_without_success_a_human_is_told(azure: Azure):
    outage(azure, 73)
    assert any("given up" in n for n in azure.notices("alert-failed"))


def test_alerts_that_wait_for_an_answer_do_not_keep_a_lift_waiting(azure: Azure):
    azure.world.seed(estate(nsgs=2))
    azure.attack()
    assert azure.states() == {"active"}
    azure.start(RESPONDER_BUDGET_SECONDS="5", RESPONDER_SWEEP_SECONDS="15", RESPONDER_POLL_SECONDS="0.05")
    azure.faults({"service": "arm", "path": "Security/locations", "status": 503, "times": 1000})
    for one in (alert("vm2", f"203.0.113.{n + 20}") for n in range(12)):
        record = azure.app.ledger.alerts.receive(
            normalise(one), one, received=utc(azure.clock.now()), via="test")
        assert record is not None
        azure.app.responder.hint_again(record)
    azure.clock.forward(hours=24.1)
    azure.sweep()
    assert azure.owned() == {}


def test_a_pause_of_hours_counts_as_no_attempt(azure: Azure):
    azure.world.seed(estate())
    azure.app.operator.pause(OPERATOR, azure.app.budget(), reason="drill", lift="due")
    azure.deliver(azure.know(alert()))
    for _ in range(15):
        later(azure, 120)
    azure.app.operator.resume(OPERATOR, reason="done")
    later(azure, 120)
    assert azure.owned() == BOTH


def test_while_paused_nothing_is_put_back(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    azure.app.operator.pause(OPERATOR, azure.app.budget(), reason="drill", lift="due")
    azure.world.arm("DELETE", OUTBOUND)
    hourly(azure)
    assert azure.owned() == {"inbound": [ATTACKER]}
    azure.app.operator.resume(OPERATOR, reason="done")
    hourly(azure)
    assert azure.owned() == BOTH
    assert azure.notices("drift")


def test_a_trigger_sweeps_though_the_timer_never_ran(azure: Azure):
    azure.world.seed(estate(machines=2))
    azure.attack()
    azure.clock.forward(hours=25)
    for kept in (azure.app.sweep._surroundings._kept, azure.app.sweep._surroundings._last):
        kept.forget("estate")  # it is kept for half a minute of real time
    azure.attack("vm2", SECOND)
    assert azure.owned() == {"outbound": [SECOND], "inbound": [SECOND]}


def test_an_estate_that_could_not_be_read_makes_no_alert_ask_for_longer_than_it_must(azure: Azure):
    azure.world.seed(estate(machines=2))
    azure.faults({"service": "arm", "path": "resourcegraph", "status": 503, "times": 999})
    azure.attack()
    assert azure.states() == {"waiting"}
    azure.faults()
    azure.app.sweep._surroundings._last.forget("estate")  # some seconds later
    azure.attack("vm2", SECOND)
    assert azure.blocks()["outbound", SECOND].state == "active"


# --- questions ----------------------------------------------------------------------------------------


def test_an_old_yes_answers_no_new_question(azure: Azure, tmp_path: Path):
    one = approved(azure, tmp_path)
    azure.clock.forward(hours=25)
    azure.sweep()
    assert azure.owned() == {}
    azure.app.operator.replay_raw(one, OPERATOR, azure.app.budget(), dry_run=False, override=False)
    assert azure.states() == {"waiting"}
    for _ in range(3):
        azure.clock.forward(hours=12)
        azure.sweep()
    assert azure.owned() == {}, "asked anew, answered by nobody"
    assert azure.writes().count("PUT defender-block-test-outbound") == 1


def test_a_yes_prolongs_a_block_that_is_in_force(azure: Azure, tmp_path: Path):
    approved(azure, tmp_path)
    azure.clock.forward(hours=20)
    azure.attack()
    assert azure.states() == {"active"}
    assert answer(azure, questions(azure)[0], yes=True)["blocks"]
    azure.clock.forward(hours=20)
    azure.sweep()
    assert azure.owned() == BOTH, "the second yes counts from its own proof"


def test_a_yes_after_the_lift_blocks_again(azure: Azure, tmp_path: Path):
    approved(azure, tmp_path)
    azure.clock.forward(hours=20)
    azure.attack()
    azure.clock.forward(hours=5)
    azure.sweep()
    assert azure.owned() == {}
    answer(azure, questions(azure)[0], yes=True)
    assert azure.owned() == BOTH


def test_a_no_ends_only_what_waits_for_that_question(azure: Azure, tmp_path: Path):
    policy(azure, tmp_path, ASKING)
    azure.world.seed(estate())
    azure.attack()
    azure.clock.forward(hours=1)
    azure.attack()
    first, second = sorted(questions(azure), key=lambda q: q.created)
    assert answer(azure, first, yes=False)["blocks"] == []
    assert azure.states() == {"waiting"}
    answer(azure, second, yes=True)
    assert azure.owned() == BOTH


def test_a_yes_is_carried_out_once_though_the_hint_comes_after_a_revoke(azure: Azure, tmp_path: Path):
    approved(azure, tmp_path)
    azure.app.operator.revoke(OPERATOR, azure.app.budget(), address=ATTACKER, block_id="", reason="ours",
                              hold=timedelta(hours=1))
    later(azure, 120)
    assert azure.owned() == {}


def test_a_genuine_alert_is_not_kept_waiting_by_an_altered_copy(azure: Azure):
    azure.world.seed(estate())
    genuine = azure.know(alert())
    altered = {**genuine, "properties": {**genuine["properties"], "alertType": "Network_Other_C2_Thing"}}
    azure.deliver(altered)
    assert azure.states() == {"waiting"}
    azure.sweep()  # Defender's list is compared with what came
    assert azure.owned() == BOTH


def test_a_revoke_that_meets_a_fresh_claim_wins(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    block = azure.blocks()["outbound", ATTACKER]
    claimed = azure.clock.now()
    azure.app.ledger.blocks.save([replace(block, state=BlockState.PENDING, claimed=claimed)])
    azure.clock.forward(seconds=1)
    azure.app.ledger.control.hold(Hold(ATTACKER, azure.clock.now() + timedelta(days=1), "ann", "ours",
                                       azure.clock.now()))
    azure.app.responder.commit_nsg(nsg_id(), azure.app.budget())
    assert "outbound" not in azure.owned()
    assert [b.state for b in azure.ended()] == [BlockState.REVOKED]


def test_a_revoke_between_the_plan_and_its_claim_wins(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    one = azure.know(alert())
    decision = azure.app.responder._survey.look(
        normalise(one), azure.app.budget(), override="", reserve=False)
    azure.clock.forward(seconds=1)
    azure.app.operator.revoke(OPERATOR, azure.app.budget(), address=ATTACKER, block_id="", reason="ours",
                              hold=timedelta(hours=5))
    azure.clock.forward(seconds=1)
    for key in azure.app.responder.claim(decision, explicit=False, by=""):
        azure.app.responder.commit_nsg(key.nsg_id, azure.app.budget())
    assert azure.owned() == {}


def test_a_yes_to_a_question_about_an_nsg_that_moved_blocks_at_the_new_place(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    azure.deliver(alert(attacker=SECOND))  # Defender does not know it: a question
    azure.world.seed({"subscription": SUB, "groups": [{"name": "new"}]})
    azure.world.arm("POST", f"/subscriptions/{SUB}/resourceGroups/{GROUP}/moveResources", {
        "resources": [nsg_path()], "targetResourceGroup": f"/subscriptions/{SUB}/resourceGroups/new"})
    hourly(azure)
    later(azure)
    answer(azure, questions(azure)[0], yes=True)
    assert azure.owned() == {d: [ATTACKER, SECOND] for d in BOTH}


def test_a_stale_row_of_the_graph_is_not_defenders_last_word(azure: Azure):
    azure.world.seed(estate())
    one = azure.know(alert(kind="Network_Other_C2_Thing"))
    azure.sweep()  # the graph has seen the alert as it was
    azure.world.tune(graph_lag=600)
    one["properties"]["alertType"] = "Network_CommunicationWithC2"
    azure.know(one)  # Defender has updated it
    pace = azure.app.operator._defender._pace
    pace._tokens = pace._rate = 0
    azure.deliver(one)
    assert azure.owned() == BOTH


def test_a_longer_hold_is_not_cut_short_by_someone_else(azure: Azure):
    control = azure.app.ledger.control
    now = azure.clock.now()
    control.hold(Hold(ATTACKER, now + timedelta(hours=24), "ann", "ours", now))
    control.hold(Hold(ATTACKER, now, "bob", "done", now))
    assert control.wishes()[1][ATTACKER].until >= now + timedelta(hours=23.9)


def test_a_new_report_never_shortens_an_extended_block(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    for block in azure.blocks().values():
        azure.app.operator.extend(OPERATOR, block_id=block.key.id, by=timedelta(hours=100), reason="slow")
    azure.attack()
    azure.clock.forward(hours=100)
    azure.sweep()
    assert azure.owned() == BOTH


# --- caps, limits, places ----------------------------------------------------------------------------


def test_the_cap_of_an_nsg_is_counted_under_the_lease(azure: Azure, tmp_path: Path):
    policy(azure, tmp_path, ("addresses_per_nsg = 500", "addresses_per_nsg = 3"))
    azure.world.seed(estate(machines=5))
    azure.attack()
    for n in range(1, 5):  # planned on what was read a moment ago, when one address was blocked
        azure.attack(f"vm{n + 1}", f"198.51.100.{100 + n}")
    active = {b.key.address for b in azure.blocks().values() if b.state is BlockState.ACTIVE}
    waiting = {b.key.address for b in azure.blocks().values() if b.state is BlockState.WAITING}
    assert len(active) == 3
    assert len(waiting) == 2
    assert any("on one NSG" in q.asks[0] for q in questions(azure))


def test_a_row_may_have_caps_of_its_own(azure: Azure, tmp_path: Path):
    row = "[alert.Network_CommunicationWithC2]\n"
    policy(azure, tmp_path, (row, row + "addresses_per_alert = 1\n"))
    azure.world.seed(estate())
    azure.attack(attacker=[ATTACKER, SECOND])
    states = {k: b.state for k, b in azure.blocks().items()}
    assert states["outbound", ATTACKER] is BlockState.ACTIVE
    assert states["outbound", SECOND] is BlockState.WAITING


def test_an_nsg_with_a_thousand_rules_refuses_one_more(azure: Azure):
    rules = [{"name": f"r{n}", "priority": 200 + n} for n in range(999)]
    azure.world.seed(estate(*rules))
    azure.attack()
    assert azure.states() == {"failed"}
    assert "1000 rules" in azure.blocks()["outbound", ATTACKER].detail
    assert azure.writes() == []


def test_a_machine_behind_an_application_gateway_is_not_called_guarded(azure: Azure):
    azure.world.seed(estate())
    path = nsg_path().replace("networkSecurityGroups/nsg", "networkInterfaces/nic")
    nic = azure.world.arm("GET", path).json()
    pool = nsg_path().replace("networkSecurityGroups/nsg", "applicationGateways/ag/backendAddressPools/p")
    nic["properties"]["ipConfigurations"][0]["properties"]["applicationGatewayBackendAddressPools"] = [
        {"id": pool}]
    azure.world.seed({"subscription": SUB, "resources": [nic], "groups": [{"name": GROUP}]})
    azure.attack(kind="SSH_Incoming_BF_OneToOne", alertDisplayName="Successful brute force attack")
    block = azure.blocks()["inbound", ATTACKER]
    assert block.state is BlockState.SHADOWED
    assert "application gateway ag hides" in block.detail
    assert azure.notices("unproven")


def test_a_partner_named_in_the_other_guard_on_the_path_waits_too(azure: Azure):
    data = estate()
    group = data["groups"][0]
    group["nsgs"].append({"name": "nic-nsg", "rules": [
        {"name": "partner", "priority": 250, "sourceAddressPrefix": "198.51.100.0/24"}]})
    group["vms"][0]["nics"][0]["nsg"] = "nic-nsg"
    azure.world.seed(data)
    azure.attack()
    assert azure.states() == {"waiting"}
    assert "declared partner" in questions(azure)[0].asks[0]


def test_a_guard_taken_off_the_subnet_is_noticed_before_the_plan(azure: Azure):
    azure.world.seed(estate(nsgs=2))
    azure.attack("vm", SECOND)
    subnet = nsg_path().replace("networkSecurityGroups/nsg", "virtualNetworks/vnet/subnets/sub")
    azure.world.arm("PUT", subnet, {"properties": {
        "addressPrefix": "10.0.0.0/16", "networkSecurityGroup": {"id": nsg_path("nsg2")}}})
    azure.app.responder._survey._guards.forget(nsg_id())
    azure.attack()
    assert azure.blocks("nsg2")["outbound", ATTACKER].state is BlockState.ACTIVE


def test_a_newly_protected_address_leaves_its_rule_with_the_next_sweep(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    azure.app.operator.protect(OPERATOR, [("198.51.100.0/29", "partner network")])
    later(azure, 10)
    assert azure.owned() == {}


# --- telling -------------------------------------------------------------------------------------------


def test_a_missing_right_to_read_alerts_does_not_look_like_forgery(azure: Azure):
    azure.world.seed({**estate(), "denied": [{"action": "locations/alerts/read", "scope": ""}]})
    azure.attack()
    assert azure.states() == {"waiting"}
    assert any("Defender cannot be asked" in n for n in azure.notices("alert"))


def test_a_token_that_cannot_be_had_for_a_while_gives_no_alert_up(azure: Azure):
    azure.start(RESPONDER_BUDGET_SECONDS="2")
    azure.world.seed(estate())
    azure.faults({"service": "arm", "path": "Security/locations", "status": 401, "times": 1000,
                  "body": {"error": {"code": "ExpiredAuthenticationToken", "message": "expired"}}})
    one = azure.know(alert())
    assert azure.deliver(one).outcome == "pending"
    azure.faults()
    azure.start(RESPONDER_BUDGET_SECONDS="15")
    later(azure, 90)
    assert azure.owned() == BOTH


def test_our_own_repair_is_not_taken_for_somebody_elses_change(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    azure.world.arm("DELETE", OUTBOUND, upn="eve@example.com")
    hourly(azure)
    change = azure.app.responder._commit._parts.activity.last_change(
        nsg_id(), "defender-block-test-outbound", azure.clock.now(), azure.app.budget())
    assert change is not None
    assert change.caller == "eve@example.com", "the newest entry is our own PUT"


def test_a_repair_that_was_cut_short_counts_as_the_first(azure: Azure):
    azure.start(RESPONDER_LEASE_SECONDS="30")
    azure.world.seed(estate())
    azure.attack()
    azure.start(RESPONDER_BUDGET_SECONDS="3")  # not before the SDKs are loaded: that takes as long
    azure.world.arm("DELETE", OUTBOUND, upn="eve@example.com")
    azure.world.tune(settle=4)
    hourly(azure)  # the PUT is accepted, and the budget ends before it settles
    azure.world.tune(settle=0)
    end = time.monotonic() + 15
    while azure.rules()["defender-block-test-outbound"]["provisioningState"] != "Succeeded":
        assert time.monotonic() < end
    azure.start(RESPONDER_BUDGET_SECONDS="15")
    later(azure, 10)
    azure.world.arm("DELETE", OUTBOUND, upn="eve@example.com")
    hourly(azure)
    assert azure.blocks()["outbound", ATTACKER].state is BlockState.OVERRIDDEN, "her second word"


def test_an_unreadable_alert_in_defenders_list_is_told_once(azure: Azure):
    azure.world.seed(estate())
    one = alert()
    one["properties"]["alertType"] = ""
    one["properties"]["alertDisplayName"] = ""
    azure.know(one)
    for _ in range(3):
        later(azure, 1000)
    assert len(azure.notices("quarantine")) == 1


def test_every_alert_behind_a_block_is_told_of_its_end(azure: Azure):
    azure.world.seed(estate())
    alerts = [azure.attack() for _ in range(5)]
    azure.clock.forward(hours=24.5)
    azure.sweep()
    for one in alerts:
        assert [a["action"] for a in azure.timeline(one)["actions"]].count("lifted") == 2


def test_the_health_answer_stands_though_the_overdue_sweep_cannot_run(azure: Azure):
    from remediation.inputs import Request

    azure.world.seed(estate())
    azure.attack()
    azure.faults({"service": "table", "status": 503, "times": 10_000})
    azure.clock.forward(hours=1)
    reply = azure.app.serve("health", Request("http://127.0.0.1/api/health"))
    assert reply.status == 503
    assert reply.body["checks"]["ledger"]["ok"] is False


def test_a_tick_from_outside_lifts_what_is_due_where_the_timer_has_stopped(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    azure.sweep()
    assert azure.app.on_tick() is False, "the timer runs: nothing is done twice"
    azure.clock.forward(hours=24.5)
    assert azure.app.on_tick() is True
    assert azure.owned() == {}


@pytest.mark.parametrize("name", ["AzureCloudd"])
def test_a_misspelt_service_tag_makes_every_address_ask(azure: Azure, tmp_path: Path, name: str):
    policy(azure, tmp_path, ('["AzureCloud",', f'["{name}",'))
    azure.world.seed(estate())
    azure.attack()
    assert azure.states() == {"waiting"}
    assert "service tags cannot be read" in questions(azure)[0].asks[0]
