"""The self-test, from the Logic App's trigger on: the Logic App is the one that `infra/` deploys."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from remediation.errors import NotFound, TemporaryError
from remediation.inputs import Request
from remediation.rehearsal.hops import AUTOMATION, DECIDED, EVENT, RUN, SWEEP, TICK, TRIGGER, Outcome
from sandbox.world import waiting
from tests.azure import OPERATOR, Azure
from tests.estate import COMPUTE, alert, estate
from tests.intake import LOGIC, automation, logic_app
from tests.role import IDENTITY, role_actions, selftest_actions


@pytest.fixture
def site(azure: Azure) -> Azure:
    """An estate with the way in, and an app that knows it."""
    azure.world.seed(estate(resources=[logic_app(azure.world), automation()]))
    azure.world.role(IDENTITY, [*role_actions(), *selftest_actions()])
    azure.start(SELFTEST_WORKFLOW=LOGIC)
    return azure


def tick(azure: Azure) -> None:
    """A tick comes; the test of the day has been."""
    azure.ledger.control.begin_job("selftest", azure.clock.now(), timedelta(0))
    azure.app.on_tick()


def published(azure: Azure) -> dict[str, Any]:
    """The event that the Logic App published."""
    for _ in waiting(5):
        if found := azure.world.published():
            return found[-1]
    raise AssertionError("nothing was published")


def deliver(azure: Azure, event: dict[str, Any]) -> Any:
    """As the Event Grid trigger would."""
    return azure.app.on_alert(event["data"], event_id=event["id"], event_time=None)


def hops(report: Any) -> dict[str, bool | None]:
    return {h["hop"]: h["ok"] for h in report.to_json()["hops"]}


def test_a_sample_alert_goes_the_whole_way_and_changes_nothing(site: Azure):
    begun = site.app.selftest.begin("ann", site.app.budget())
    assert hops(begun) == {AUTOMATION: True, TRIGGER: True, RUN: None, EVENT: None, DECIDED: None,
                           SWEEP: None, TICK: None}
    assert deliver(site, published(site)) == []
    tick(site)
    for _ in range(2):  # that the timer's sweep comes to its end is seen by the next
        site.clock.forward(minutes=1)
        site.sweep()
    report = site.app.selftest.latest(site.app.budget())
    assert report.outcome is Outcome.PASSED, report.to_json()
    assert set(hops(report).values()) == {True}
    assert "2 blocks (simulate)" in report.hops[DECIDED].detail
    assert report.machine == f"{COMPUTE}/virtualMachines/vm".lower()
    assert site.owned() == {}
    assert site.writes() == []
    assert site.ledger.alerts.bodies(report.id) == []
    assert site.notices() == []


def test_the_address_of_the_trigger_is_neither_logged_nor_recorded(
    site: Azure, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG")
    for name in ("azure", "urllib3"):
        caplog.set_level("WARNING", logger=name)  # as `remediation.start` does
    site.world.seed({"resources": [logic_app(site.world, state="Disabled")]})
    report = site.app.selftest.begin("ann", site.app.budget())
    assert not report.hops[TRIGGER].ok
    told = json.dumps(report.to_json()) + caplog.text + "".join(site.notices())
    assert "sig=" not in told
    assert "paths/invoke" not in told


def test_a_logic_app_that_takes_nothing_ends_the_test_at_once(site: Azure):
    site.world.seed({"resources": [logic_app(site.world, state="Disabled")]})
    report = site.app.selftest.begin("ann", site.app.budget())
    assert report.outcome is Outcome.FAILED
    assert report.failed == [TRIGGER, RUN, EVENT, DECIDED]
    (told,) = site.notices("selftest")
    assert "the Logic App takes an alert: no" in told


def test_an_event_that_never_comes_fails_the_test_after_ten_minutes(site: Azure):
    begun = site.app.selftest.begin("ann", site.app.budget())
    published(site)  # and nobody is subscribed
    tick(site)
    for _ in range(11):
        site.clock.forward(minutes=1)
        site.sweep()
    report = site.app.selftest.look(begun.id, site.app.budget())
    assert report.failed == [EVENT, DECIDED]
    assert "not within 10 minutes" in site.notices("selftest")[0]
    assert len(site.notices("selftest")) == 1


def test_what_the_logic_app_may_not_do_is_said_with_its_code(site: Azure):
    broken = logic_app(site.world)
    broken["properties"]["definition"]["actions"]["Publish"]["inputs"]["body"]["specversion"] = None
    del broken["properties"]["definition"]["actions"]["Publish"]["inputs"]["body"]["type"]
    site.world.seed({"resources": [broken]})
    begun = site.app.selftest.begin("ann", site.app.budget())
    for _ in waiting(5):
        report = site.app.selftest.look(begun.id, site.app.budget())
        if RUN in report.hops:
            break
    assert not report.hops[RUN].ok
    assert "Publish failed (400)" in report.hops[RUN].detail
    used = set(site.world.control("GET", "role")[IDENTITY])
    assert {a.lower() for a in selftest_actions()} <= used, "the role has nothing that is not used"


@pytest.mark.parametrize(("changed", "said"), [
    (automation(enabled=False), "the automation is disabled in"),
    (automation(leads_to=LOGIC + "-other"), "no automation leads to the Logic App in"),
])
def test_an_automation_that_does_not_send_alerts_on_fails_the_test_and_is_told_once_a_day(
    site: Azure, changed: dict[str, Any], said: str
):
    site.world.seed({"resources": [changed]})
    report = site.app.selftest.begin("ann", site.app.budget())
    assert not report.hops[AUTOMATION].ok
    assert said in report.hops[AUTOMATION].detail
    tick(site)
    site.sweep()
    assert site.notices("forwarding") == [], "it may be being deployed"
    for _ in range(3):
        site.clock.forward(hours=1.1)
        site.sweep()
    (told,) = site.notices("forwarding")
    assert said in told


def test_a_filter_that_leaves_the_alert_out_is_said_and_no_failure(site: Azure):
    site.world.seed({"resources": [automation(severity="high")]})
    report = site.app.selftest.begin("ann", site.app.budget())
    assert report.hops[AUTOMATION].ok
    assert "leaves out alerts about a command and control centre" in report.hops[AUTOMATION].detail


def decided(azure: Azure) -> Any:
    """What became of a test's alert."""
    begun = azure.app.selftest.begin("ann", azure.app.budget())
    deliver(azure, published(azure))
    return azure.app.selftest.look(begun.id, azure.app.budget()).hops[DECIDED]


def test_an_estate_that_cannot_be_read_fails_the_test(site: Azure):
    site.world.role(IDENTITY, [*selftest_actions(), *(a for a in role_actions() if "ResourceGraph" in a
                                                      or "subscriptions/read" in a)])
    found = decided(site)
    assert not found.ok
    assert "AuthorizationFailed" in found.detail or "virtualMachines" in found.detail


def test_guards_that_cannot_be_read_fail_the_test_and_a_machine_without_any_does_not(site: Azure):
    site.world.role(IDENTITY, [*selftest_actions(), *(
        a for a in role_actions() if not a.endswith("networkSecurityGroups/read"))])
    assert not decided(site).ok
    site.world.control("POST", "reset")
    bare = estate(resources=[logic_app(site.world), automation()])
    bare["groups"][0]["vnets"][0]["subnets"][0].pop("nsg")
    site.world.seed(bare)
    site.world.role(IDENTITY, [*role_actions(), *selftest_actions()])
    site.start(RESPONDER_TABLE_PREFIX="bare" + site.settings["RESPONDER_TABLE_PREFIX"])
    assert decided(site).ok


def test_an_empty_estate_and_a_deployment_that_only_notifies_pass(azure: Azure):
    azure.world.seed({"resources": [logic_app(azure.world), automation()]})
    azure.world.role(IDENTITY, [*role_actions(), *selftest_actions()])
    azure.start(SELFTEST_WORKFLOW=LOGIC, RESPONDER_MODE="notify")
    found = decided(azure)
    assert (found.ok, found.detail) == (True, "there is no machine to look for")
    azure.world.control("POST", "reset")
    azure.world.seed(estate(resources=[logic_app(azure.world), automation()]))
    azure.start(RESPONDER_TABLE_PREFIX="notify" + azure.settings["RESPONDER_TABLE_PREFIX"])
    found = decided(azure)
    assert found.ok
    assert "0 blocks (notify)" in found.detail


def test_that_acting_is_paused_is_said(site: Azure):
    site.app.operator.pause(OPERATOR, site.app.budget(), reason="maintenance", lift="due")
    assert "acting is paused by ann" in decided(site).detail


def test_passing_trouble_fails_no_test(site: Azure):
    site.faults({"method": "POST", "path": "listCallbackUrl", "status": 503, "times": 20})
    begun = site.app.selftest.begin("ann", site.app.budget().within(2))
    assert TRIGGER not in begun.hops
    assert begun.outcome is Outcome.RUNNING
    site.faults()
    site.app.selftest.look(begun.id, site.app.budget())
    assert site.world.published() == [], "who looks sends nothing"
    site.app.selftest.follow(begun.id, site.app.budget())  # sent after all
    event = published(site)
    site.faults({"path": "Microsoft.Compute", "status": 429, "times": 100})
    with pytest.raises(TemporaryError):  # and Event Grid brings it again
        site.app.selftest.arrived(event["data"], event["id"], site.app.budget().within(1))
    site.faults({"path": "/runs/", "status": 503, "times": 1000})
    deliver(site, event)
    tick(site)
    for _ in range(11):
        site.clock.forward(minutes=1)
        site.sweep()
    report = site.app.selftest.look(begun.id, site.app.budget())
    assert report.failed == [RUN], "it comes to an end whatever cannot be read"
    site.faults()


def test_one_at_a_time(site: Azure):
    first = site.app.selftest.begin("ann", site.app.budget())
    assert site.app.selftest.begin("bob", site.app.budget()).id == first.id
    site.clock.forward(minutes=11)
    assert site.app.selftest.begin("bob", site.app.budget()).id != first.id


def test_people_are_told_though_the_process_died_or_an_answer_was_lost(
    site: Azure, monkeypatch: pytest.MonkeyPatch
):
    site.world.seed({"resources": [logic_app(site.world, state="Disabled")]})
    with monkeypatch.context() as patched:
        patched.setattr(site.app.selftest._notifier, "tell", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            site.app.selftest.begin("ann", site.app.budget())
    assert site.notices("selftest") == []
    site.clock.forward(minutes=1)
    site.sweep()
    site.clock.forward(minutes=1)
    site.sweep()
    assert len(site.notices("selftest")) == 1


def test_a_hint_without_a_test_is_forgotten(site: Azure):
    site.app.ledger.work.selftest("selftest-20260101000000-0", site.clock.now())
    site.clock.forward(minutes=1)
    assert site.sweep().left == 0
    assert site.sweep().followed == 0


def test_without_the_right_to_read_alerts_the_test_fails(site: Azure):
    blind = [a for a in role_actions() if "locations/alerts" not in a]
    site.world.role(IDENTITY, [*selftest_actions(), *blind])
    begun = site.app.selftest.begin("ann", site.app.budget())
    deliver(site, published(site))
    report = site.app.selftest.look(begun.id, site.app.budget())
    assert not report.hops[DECIDED].ok
    assert "Defender cannot be asked" in report.hops[DECIDED].detail


def test_another_alert_under_a_tests_id_is_an_alert_like_any_other(site: Azure):
    begun = site.app.selftest.begin("ann", site.app.budget())
    real = site.know(alert())
    (seen,) = site.app.on_alert(real, event_id=begun.id, event_time=None)
    assert seen.outcome == "enforce"
    assert site.states() == {"active"}


def test_an_event_that_comes_after_the_end_or_twice_is_no_alert(site: Azure):
    site.app.selftest.begin("ann", site.app.budget())
    event = published(site)
    site.clock.forward(minutes=11)
    site.sweep()
    assert deliver(site, event) == deliver(site, event) == []
    assert site.ledger.alerts.bodies(event["id"]) == []


def test_an_event_that_only_calls_itself_a_self_test_changes_nothing(site: Azure):
    begun = site.app.selftest.begin("ann", site.app.budget())
    event = published(site)
    site.start(RESPONDER_TABLE_PREFIX="other" + site.settings["RESPONDER_TABLE_PREFIX"])
    (seen,) = deliver(site, event)
    assert (seen.alert_id, seen.outcome) == (begun.id, "simulate")
    assert site.owned() == {}


def test_each_day_the_sweep_tests_by_itself_once_events_come(site: Azure):
    site.sweep()
    with pytest.raises(NotFound):
        site.app.selftest.latest(site.app.budget())
    site.app.on_tick()
    site.sweep()
    first = site.app.selftest.latest(site.app.budget())
    assert first.by == "daily"
    site.clock.forward(hours=12)
    site.sweep()
    assert site.app.selftest.latest(site.app.budget()).id == first.id
    site.clock.forward(hours=13)
    site.sweep()
    assert site.app.selftest.latest(site.app.budget()).id != first.id


def test_over_http_who_asks_is_told_and_bad_requests_are_refused(site: Azure):
    def call(route: str, body: str = "", **query: str) -> tuple[int, Any]:
        reply = site.app.api.serve(route, Request("http://127.0.0.1/", body.encode(), query))
        return reply.status, reply.body

    assert call("selftested")[0] == 404
    status, begun = call("selftest", json.dumps({"machine": f"{COMPUTE}/virtualMachines/vm"}))
    assert (status, begun["outcome"]) == (202, "running")
    assert call("selftested")[1]["id"] == begun["id"]
    assert call("selftested", id=begun["id"])[1]["by"] == "local operator"
    assert call("selftested", id="selftest-x")[0] == 404
    assert call("selftest", '{"machine": "vm"}')[1]["field"] == "machine"
    site.start(SELFTEST_WORKFLOW="")
    assert call("selftest", "{}")[0] == 404
    with pytest.raises(NotFound, match="SELFTEST_WORKFLOW"):
        site.app.selftest.begin("ann", site.app.budget())
