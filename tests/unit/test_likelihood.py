"""Which machine has most likely spoken with the attacker, and whether it ran then; always with reasons."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remediation.alerts import normalise
from remediation.likelihood import (
    Evidence,
    OtherAlert,
    PowerChange,
    Suspect,
    groups_of,
    suspects_of,
    to_json,
    weigh,
    when,
)
from remediation.model import Alert, AlertDirection, Attacker, Mapped
from tests.unit.raw import rest

SUB = "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/rg/providers/"
VM, OTHER = SUB + "microsoft.compute/virtualmachines/vm", SUB + "microsoft.compute/virtualmachines/vm2"
SET = SUB + "microsoft.compute/virtualmachinescalesets/ss"
START = datetime(2026, 1, 1, 3, tzinfo=UTC)
END, READ = START + timedelta(hours=1), START + timedelta(hours=5)
RUNNING, DEALLOCATED, STOPPED = "PowerState/running", "PowerState/deallocated", "PowerState/stopped"
BALANCED = replace(normalise(rest()), resource_ids=(SUB + "microsoft.network/loadbalancers/lb",),
                   start=START, end=END)


def change(verb: str, hours: float, resource: str = VM) -> PowerChange:
    return PowerChange(resource, f"microsoft.compute/virtualmachines/{verb}/action",
                       START + timedelta(hours=hours))


def evidence(*changes: PowerChange, **more: Any) -> Evidence:
    return Evidence(READ, changes, **more)


def one(suspect: Suspect, found: Evidence, alert: Alert = BALANCED) -> Any:
    return weigh(alert, [suspect, Suspect(OTHER, RUNNING)], found)[suspect.id]


@pytest.mark.parametrize(("power", "changes", "then", "why"), [
    (RUNNING, [], RUNNING, "no change since"),
    (DEALLOCATED, [], DEALLOCATED, "no change since"),
    (STOPPED, [], "", "perhaps from inside"),
    ("", [], "", "not known"),
    (RUNNING, [change("start", 2)], STOPPED, "started only at"),
    (DEALLOCATED, [change("deallocate", 2)], RUNNING, "ran until 2026-01-01T05:00:00.000Z (deallocate)"),
    (RUNNING, [change("deallocate", 2), change("start", 3)], RUNNING, "ran until"),
    (RUNNING, [change("start", 3), change("deallocate", 2)], RUNNING, "ran until"),
    (RUNNING, [change("start", 0.5)], RUNNING, "during the activity"),
    (STOPPED, [change("powerOff", 2), change("restart", -1)], RUNNING, "ran until"),
    (RUNNING, [change("deallocate", -2), change("start", -1)], RUNNING, "no change since"),
    (DEALLOCATED, [change("deallocate", 2, OTHER)], DEALLOCATED, "no change since"),
])
def test_power_then_comes_from_power_now_and_what_changed_it(
    power: str, changes: list[PowerChange], then: str, why: str
):
    lowered = [replace(c, operation=c.operation.lower()) for c in changes]
    found = one(Suspect(VM, power), evidence(*lowered))
    assert found.power_then == then
    assert why in found.power_reason


def test_what_stops_a_scale_set_stops_its_instances():
    instance = f"{SET}/virtualmachines/3"
    found = one(Suspect(instance, DEALLOCATED), evidence(change("deallocate", 2, SET)))
    assert found.power_then == RUNNING


def test_power_then_is_unknown_where_nothing_tells():
    assert one(Suspect(VM, RUNNING), Evidence(READ)).power_reason == "the activity log could not be read"
    timeless = replace(BALANCED, start=None, end=None, generated=None)
    assert when(timeless) is None
    assert one(Suspect(VM, RUNNING), evidence(), timeless).power_reason == "the alert does not say when"
    assert when(replace(BALANCED, start=None, end=None, generated=END)) == (END, END)


def test_a_log_that_lags_is_said_to():
    assert "which lags" in one(Suspect(VM, RUNNING), replace(evidence(), read=END)).power_reason


def test_a_machine_that_did_not_run_is_unlikely_whatever_else_speaks_for_it():
    other = OtherAlert("a", "Suspicious process", VM)
    found = one(Suspect(VM, DEALLOCATED), evidence(others=(other,)))
    assert found.likelihood == "unlikely"
    assert "it did not run" in found.reasons[0]
    assert any("Suspicious process" in r for r in found.reasons)


def test_other_alerts_make_a_machine_likely_and_are_named():
    others = tuple(OtherAlert(str(n), f"alert {n}", VM) for n in range(5))
    found = one(Suspect(VM, RUNNING), evidence(others=others))
    assert found.likelihood == "likely"
    assert "alert 0, alert 1, alert 2 and 2 more" in found.reasons[0]
    assert one(Suspect(OTHER, RUNNING), evidence(others=others[:1])).likelihood == "possible"


def test_another_alert_is_grave_unless_it_is_minor_or_somebody_has_closed_it():
    def grave(severity: str, status: str) -> bool:
        return OtherAlert("1", "alert", VM, severity, status).grave

    assert [grave(s, "Active") for s in ("High", "Medium", "Low", "Informational", "")] == [
        True, True, False, False, True]
    assert [grave("High", s) for s in ("InProgress", "Resolved", "Dismissed")] == [True, False, False]


def test_the_machine_that_is_named_or_alone_is_likely():
    assert one(Suspect(VM, RUNNING), evidence(),
               replace(BALANCED, resource_ids=(VM.upper(),))).reasons[0] == "the alert names it"
    alone = weigh(BALANCED, [Suspect(VM, RUNNING)], evidence())[VM]
    assert alone.likelihood == "likely"
    assert alone.reasons[0] == "it is the only machine behind what the alert names"


def test_what_does_not_carry_a_machines_traffic_out_makes_it_unlikely():
    assert one(Suspect(VM, RUNNING, speaks_out=False), evidence()).likelihood == "unlikely"
    assert one(Suspect(VM, RUNNING, speaks_out=None), evidence()).likelihood == "possible"
    assert one(Suspect(VM, RUNNING, speaks_out=True), evidence()).likelihood == "possible"


@pytest.mark.parametrize(("ports", "likelihood"), [
    ((Mapped((50001, 50001), 22, True),), "likely"),
    ((Mapped((22, 22), 2222),), "possible"),
    ((Mapped((443, 443), 8443),), "unlikely"),
    ((Mapped((1, 100), 7),), "possible"),
    ((), "possible"),
])
def test_the_ports_before_a_machine_speak_for_or_against_it(ports: tuple[Mapped, ...], likelihood: str):
    inbound = replace(BALANCED, direction=AlertDirection.INBOUND, attackers=(
        Attacker("198.51.100.7", 22, "entities[0]"),))
    assert one(Suspect(VM, RUNNING, ports), evidence(), inbound).likelihood == likelihood


@pytest.mark.parametrize(("kind", "likelihood"), [
    ("RDP_Incoming_BF_OneToOne", "likely"), ("SSH_Incoming_BF_OneToOne", "unlikely"), ("Odd", "possible")])
def test_an_alert_without_a_port_means_that_of_its_kind(kind: str, likelihood: str):
    inbound = replace(BALANCED, direction=AlertDirection.INBOUND, alert_type=kind, attackers=())
    ports = (Mapped((50001, 50001), 3389, True),)
    assert one(Suspect(VM, RUNNING, ports), evidence(), inbound).likelihood == likelihood


def test_what_could_not_be_asked_is_said():
    found = one(Suspect(VM, RUNNING), evidence(unknown=("no log",)))
    assert found.reasons[-2:] == ("no log", "flow records were not looked at")


def test_a_recorded_plan_gives_the_suspects_back():
    ports = (Mapped((443, 443), 8443), Mapped((50000, 50009), 22), Mapped((50001, 50001), 22, True))
    plan = {"machines": [{"id": VM, "power": RUNNING, "ports": [str(p) for p in ports] + ["odd"],
                          "speaksOut": False}, {"id": OTHER}]}
    assert suspects_of(plan) == [Suspect(VM, RUNNING, ports, False), Suspect(OTHER, "")]
    assert suspects_of({}) == []


def test_it_is_recorded_with_the_time_of_reading():
    found = weigh(BALANCED, [Suspect(VM, RUNNING)], evidence())
    recorded = to_json(found, evidence())
    assert recorded["at"] == "2026-01-01T08:00:00.000Z"
    assert recorded["machines"][VM]["likelihood"] == "likely"  # type: ignore[index]  # plain data
    assert groups_of([VM, OTHER, "odd", ""]) == [("00000000-0000-0000-0000-000000000001", "rg")]


def test_a_machine_that_did_not_exist_then_is_unlikely_whatever_else_speaks_for_it():
    late = Suspect(VM, RUNNING, created=END + timedelta(minutes=1))
    found = one(late, evidence(others=(OtherAlert("b", "Malware", VM),)))
    assert (found.power_then, found.likelihood) == ("not created yet", "unlikely")
    assert "created only at 2026-01-01T04:01:00.000Z" in found.reasons[0]
    assert one(replace(late, created=START), evidence()).power_then == RUNNING


@pytest.mark.parametrize(("text", "found"), [
    ("2026-01-01T04:01:00.1234567+00:00", True), ("2026-01-01T04:01:00", True), ("", False), ("soon", False),
])
def test_when_a_machine_was_created_is_read_from_the_plan(text: str, found: bool):
    (suspect,) = suspects_of({"machines": [{"id": VM, "created": text}]})
    assert (suspect.created is not None) is found
    assert suspect.created is None or suspect.created.tzinfo is not None


def test_a_rule_for_every_port_speaks_against_nobody():
    inbound = replace(BALANCED, direction=AlertDirection.INBOUND, alert_type="RDP_Incoming_BF_OneToOne")
    found = one(Suspect(VM, RUNNING, (Mapped((0, 65535), 0),)), evidence(), inbound)
    assert found.likelihood == "possible"
