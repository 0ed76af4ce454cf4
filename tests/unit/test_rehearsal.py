"""Which subscriptions send their alerts on, and what a self-test comes to."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from remediation.alerts import normalise
from remediation.model import AlertDirection
from remediation.policy import DEFAULT_POLICY, load_policy
from remediation.rehearsal.forwarding import forwarding
from remediation.rehearsal.hops import (
    AUTOMATION,
    DECIDED,
    EVENT,
    HOPS,
    RUN,
    SWEEP,
    TICK,
    TRIGGER,
    WITHIN,
    Hop,
    Outcome,
    Report,
    concluded,
    hops_from_json,
    hops_to_json,
    with_hop,
)
from remediation.rehearsal.sample import ATTACKER, sample

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
ONE, TWO = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
LOGIC = f"/subscriptions/{ONE}/resourcegroups/rg/providers/microsoft.logic/workflows/forward"
SCHEMA = Path(__file__).resolve().parents[3] / "shared" / "data" / "workflow_automation.schema.json"


def rule(path: str, value: str, operator: str = "Equals") -> dict[str, str]:
    return {"propertyJPath": path, "propertyType": "String", "operator": operator, "expectedValue": value}


def automation(subscription: str = ONE, *, enabled: Any = True, source: str = "Alerts", scope: str = "",
               sets: list[list[dict[str, str]]] | None = None, leads_to: str = LOGIC) -> dict[str, Any]:
    rule_sets = {} if sets is None else {"ruleSets": [{"rules": one} for one in sets]}
    return {"id": "x", "name": "forward", "properties": {
        "isEnabled": enabled, "scopes": [{"scopePath": scope or f"/subscriptions/{subscription.upper()}"}],
        "sources": [{"eventSource": source, **rule_sets}],
        "actions": [{"actionType": "LogicApp", "logicAppResourceId": leads_to.upper()}]}}


def test_an_automation_that_is_on_and_lets_all_through_sends_alerts_on():
    found = forwarding([automation(), automation(TWO)], [ONE, TWO], LOGIC)
    assert found.whole
    assert found.text() == "of 2 subscriptions with machines"


@pytest.mark.parametrize("sets", [
    [], [[rule("Severity", "High")], [rule("severity", "Medium")]],
    [[rule("Severity", "medium"), rule("AlertType", "Network_", "StartsWith")]],
    [[rule("$.Severity", "low", "NotEquals")]], [[rule("AlertType", "c2", "EndsWith")]],
    [[rule("AlertType", "Communication", "Contains")]],
    [[rule("AlertDisplayName", "anything")]], [[rule("Severity", "5", "GreaterThan")]],
])
def test_any_set_of_rules_that_holds_lets_the_alert_through(sets: list[list[dict[str, str]]]):
    found = forwarding([automation(sets=sets)], [ONE], LOGIC)
    assert (found.on, found.filtered) == ((ONE,), ())


@pytest.mark.parametrize("enabled", [False, "false", None])
def test_one_that_is_disabled_is_named(enabled: Any):
    found = forwarding([automation(enabled=enabled)], [ONE], LOGIC)
    assert not found.whole
    assert found.text() == f"the automation is disabled in {ONE}"
    assert forwarding([automation(enabled=enabled), automation()], [ONE], LOGIC).whole, "another is not"


@pytest.mark.parametrize("row", [
    automation(sets=[[rule("Severity", "high")]]), automation(source="Assessments"),
    automation(sets=[[rule("Severity", "medium"), rule("AlertType", "VM_", "StartsWith")]]),
])
def test_a_filter_that_leaves_the_alert_out_may_be_meant_and_is_said(row: dict[str, Any]):
    found = forwarding([row], [ONE], LOGIC)
    assert found.whole
    assert found.text().startswith("the automation leaves out alerts about a command and control centre")
    assert forwarding([row, automation()], [ONE], LOGIC).filtered == ()


@pytest.mark.parametrize("row", [
    automation(leads_to="/subscriptions/x/other"), automation(TWO), {}, {"properties": {"actions": "odd"}},
    automation(scope=f"/subscriptions/{ONE}/resourceGroups/rg"), automation(scope="/odd/path"),
])
def test_a_subscription_without_an_automation_of_its_own_is_named(row: dict[str, Any]):
    found = forwarding([row], [ONE], LOGIC)
    assert found.without == (ONE,)
    assert found.text() == f"no automation leads to the Logic App in {ONE}"


def test_of_many_subscriptions_some_are_named():
    many = [f"s{n:02}" for n in range(30)]
    found = forwarding([automation(s, enabled=False) for s in many], many, LOGIC)
    assert found.text().endswith("s09 and 20 more")
    nothing = forwarding([], [], LOGIC)
    assert nothing.whole
    assert nothing.text() == "no subscription has a machine that can be read"


def test_the_sample_is_an_alert_that_the_parser_takes_and_the_policy_acts_on():
    machine = f"/subscriptions/{ONE}/resourcegroups/rg/providers/microsoft.compute/virtualmachines/vm"
    found = normalise(sample("selftest-1", machine, ONE, NOW))
    assert (found.alert_id, found.is_sample) == ("selftest-1", True)
    assert found.direction is AlertDirection.OUTBOUND_C2
    assert [a.address for a in found.attackers] == [ATTACKER]
    assert found.resource_ids == (machine,)
    assert found.ref is not None
    assert (found.ref.subscription_id, found.ref.location) == (ONE, "centralus")
    assert re.fullmatch(r"\d{19}_[0-9a-f-]{36}", found.ref.name), "Defender is asked for a name of its form"
    assert found.warnings == ()
    assert load_policy(DEFAULT_POLICY).row_for(found).mode.reach > 1


@pytest.mark.skipif(not SCHEMA.exists(), reason="the recorded schema is not here")
def test_the_sample_has_the_form_that_defender_sends():
    def strip(value: Any) -> Any:
        """Its `$id`s are no references that a validator takes."""
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k != "$id" or not isinstance(v, str)}
        return [strip(v) for v in value] if isinstance(value, list) else value

    schema = strip(json.loads(SCHEMA.read_text()))
    del schema["properties"]["ExtendedProperties"]  # of the alert that it was made from
    said = sample("selftest-1", "/subscriptions/x", "x", NOW)
    assert [str(e) for e in jsonschema_rs.validator_for(schema).iter_errors(said)] == []


def report(*ok: str, failed: tuple[str, ...] = ()) -> Report:
    made = Report("selftest-1", NOW, "ann", "vm")
    for name in ok:
        made = with_hop(made, name, Hop(True, NOW + timedelta(seconds=2)))
    for name in failed:
        made = with_hop(made, name, Hop(False, NOW, "why"))
    return made


def test_all_hops_together_are_a_pass():
    done = concluded(report(*HOPS), NOW)
    assert (done.outcome, done.ended, done.failed) == (Outcome.PASSED, NOW, [])
    assert concluded(done, NOW + WITHIN) is done
    assert with_hop(done, EVENT, Hop(False, NOW)) is done


def test_what_is_missing_is_waited_for_and_fails_in_the_end():
    waits = report(AUTOMATION, TRIGGER, RUN, SWEEP, TICK)
    assert concluded(waits, NOW + WITHIN - timedelta(seconds=1)) is waits
    done = concluded(waits, NOW + WITHIN)
    assert done.failed == [EVENT, DECIDED]
    assert done.why().startswith("Event Grid brings the event to on_alert: no (not within 10 minutes); ")


def test_a_hop_that_failed_fails_the_test_when_all_is_known():
    assert concluded(report(*set(HOPS) - {AUTOMATION}, failed=(AUTOMATION,)), NOW).failed == [AUTOMATION]


def test_where_the_logic_app_took_nothing_nothing_is_waited_for():
    done = concluded(report(AUTOMATION, failed=(TRIGGER,)), NOW)
    assert done.failed == [TRIGGER, RUN, EVENT, DECIDED]
    assert done.hops[EVENT].detail == "not reached"
    assert SWEEP not in done.hops
    assert concluded(report(SWEEP, failed=(TRIGGER,)), NOW).outcome is Outcome.FAILED


def test_what_was_found_out_first_stays():
    assert with_hop(report(EVENT), EVENT, Hop(False, NOW)).hops[EVENT].ok


def test_a_report_shows_every_hop_also_those_unknown_yet():
    shown = report(EVENT).to_json()
    assert [h["hop"] for h in shown["hops"]] == list(HOPS)
    by_name = {h["hop"]: h for h in shown["hops"]}
    assert (by_name[EVENT]["ok"], by_name[EVENT]["seconds"]) == (True, 2.0)
    assert (by_name[RUN]["ok"], by_name[RUN]["seconds"]) == (None, None)
    assert concluded(report(*HOPS), NOW).to_json()["ended"]


def test_hops_survive_the_ledger():
    held = report(EVENT, failed=(RUN,)).hops
    assert hops_from_json({**hops_to_json(held), "unknown": {}}) == held


def test_a_failure_without_a_detail_is_said_all_the_same():
    made = with_hop(report(), TICK, Hop(False, NOW))
    assert made.why() == f"{HOPS[TICK]}: no"
