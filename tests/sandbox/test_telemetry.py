"""What the service says of itself, and the queries of `infra/kql` that watch it: really executed, over log
lines that it really wrote."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import duckdb_kql
import pytest

from sandbox.world import waiting
from tests.azure import OPERATOR, Azure
from tests.estate import alert, estate
from tests.intake import LOGIC, automation, logic_app
from tests.role import IDENTITY, INFRA, role_actions, selftest_actions

KQL = {path.stem: path.read_text() for path in sorted((INFRA / "kql").glob("*.kql"))}
SHADOWING = {"name": "allow-all", "priority": 100, "direction": "Outbound", "protocol": "*",
             "destinationPortRange": "*", "sourceAddressPrefix": "*", "destinationAddressPrefix": "*"}
type Asked = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def asked(caplog: pytest.LogCaptureFixture) -> Asked:
    """A query, over the lines that were written so far, as the workspace's tables have them."""
    caplog.set_level(logging.INFO, logger="remediation")

    def run(name: str) -> list[dict[str, Any]]:
        con = duckdb_kql.connect()
        con.execute("create table AppTraces "
                    "(TimeGenerated timestamp, Message varchar, SeverityLevel integer)")
        con.execute("create table AppRequests "
                    "(TimeGenerated timestamp, Name varchar, Success boolean, ResultCode varchar)")
        lines = [(datetime.fromtimestamp(r.created, UTC).replace(tzinfo=None), r.getMessage(), 1)
                 for r in caplog.records if r.name.startswith("remediation")]
        lines.append((datetime(2026, 1, 1), "a line that is no JSON", 1))  # noqa: DTZ001 - as the table has it
        con.executemany("insert into AppTraces values (?, ?, ?)", lines)
        con.execute("insert into AppRequests values (now()::timestamp, 'on_alert', false, '500'), "
                    "(now()::timestamp, 'sweep', true, '0')")
        found = duckdb_kql.kql(con, KQL[name])
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]

    return run


def test_a_life_that_goes_well_fires_no_rule_and_shows_in_every_panel(azure: Azure, asked: Asked):
    azure.world.seed(estate())
    one = azure.know(alert())
    azure.app.on_alert(one, event_id="e", event_time=azure.clock.now())  # as Event Grid does, with a time
    azure.sweep()
    assert asked("rule_no_sweep"), "a sweep is said, though it had nothing to do"
    for name in KQL:
        if name.startswith("rule_") and name not in ("rule_no_sweep", "rule_failures", "rule_selftest"):
            assert asked(name) == [], name
    (decided,) = asked("panel_alerts")
    assert (decided["mode"], decided["verdict"], decided["alerts"]) == ("enforce", "confirmed", 1)
    assert asked("panel_blocks") == [{"state": "active", "blocks": 2}]
    (speed,) = asked("panel_time_to_block")
    assert speed["blocks"] == 1, "the decisive direction alone"
    assert 0 <= speed["slowest"] < 60
    (hops,) = asked("panel_hops")
    assert hops["alerts"] == 1
    assert 0 <= hops["p50_on_its_way"] < 120
    (sweeps,) = asked("panel_sweeps")
    assert sweeps["sweeps"] >= 1
    azure.clock.forward(hours=24.5)
    azure.sweep()
    assert {row["state"]: row["blocks"] for row in asked("panel_blocks")} == {"lifted": 2}
    assert asked("panel_sweeps")[-1]["lifted"] == 2


def test_a_block_without_effect_a_missing_right_and_a_late_lift_fire_their_rules(azure: Azure, asked: Asked):
    azure.world.seed(estate(SHADOWING))
    azure.attack()
    assert {row["state"] for row in asked("rule_block_failed")} == {"shadowed"}
    azure.world.role("responder-identity", [])
    azure.clock.forward(hours=26)
    azure.sweep()
    assert asked("rule_permissions")
    assert asked("rule_late")[0]["oldest"] > 600


def test_what_cannot_be_worked_on_and_what_never_came_fire_their_rules(azure: Azure, asked: Asked):
    azure.world.seed(estate())
    azure.app.on_poison('{"alert": "a1", "machine": "", "step": "watch"}')
    assert {row["about"] for row in asked("rule_poison")} == {"poison"}
    azure.know(alert())
    azure.clock.forward(hours=0.5)
    azure.sweep()
    assert len(asked("rule_missed")) == 1
    assert [row["Name"] for row in asked("rule_failures")] == ["on_alert"]


def test_a_self_test_that_fails_and_an_automation_that_is_off_fire_their_rules_until_mended(
    azure: Azure, asked: Asked, caplog: pytest.LogCaptureFixture
):
    azure.sweep()
    assert asked("rule_selftest") == [], "a service that has just been deployed alarms nobody"
    caplog.records[-1].created -= 27 * 3600
    assert asked("rule_selftest"), "none has passed in a day"
    caplog.clear()
    azure.world.seed(estate(resources=[logic_app(azure.world, state="Disabled"), automation(enabled=False)]))
    azure.world.role(IDENTITY, [*role_actions(), *selftest_actions()])
    azure.start(SELFTEST_WORKFLOW=LOGIC)
    azure.app.on_tick()
    azure.sweep()
    assert asked("rule_selftest"), "it failed"
    assert [(r["off"], r["without"]) for r in asked("rule_forwarding")] == [(1, 0)]
    assert asked("panel_selftests")[0]["outcome"] == "failed"
    azure.world.seed({"resources": [logic_app(azure.world), automation()]})
    azure.app.selftest.begin("ann", azure.app.budget())
    for _ in waiting(5):
        if events := azure.world.published():
            break
    azure.app.on_alert(events[-1]["data"], event_id=events[-1]["id"], event_time=None)
    for _ in range(2):
        azure.clock.forward(minutes=1)
        azure.sweep()
    assert asked("rule_selftest") == []
    assert asked("panel_selftests")[0]["outcome"] == "passed"
    assert 0 < asked("panel_selftests")[0]["arrived"] < 30


def test_what_cannot_be_read_shows_in_the_quarantine(azure: Azure, asked: Asked):
    azure.app.on_alert({"odd": 1}, event_id="e", event_time=None)
    (kept,) = asked("panel_quarantine")
    assert kept["about"] == "quarantine"


def test_what_people_did_and_were_told_shows(azure: Azure, asked: Asked):
    azure.world.seed(estate())
    azure.app.operator.pause(OPERATOR, azure.app.budget(), reason="maintenance", lift="due")
    assert any("paused by ann: maintenance" in row["said"] for row in asked("panel_notices"))


@pytest.mark.parametrize("name", KQL)
def test_every_query_is_loaded_by_the_infrastructure_and_runs(name: str, asked: Asked):
    bicep = (INFRA / "modules" / "watch.bicep").read_text()
    assert f"loadTextContent('../kql/{name}.kql')" in bicep
    asked(name)  # over nothing but a line that is no JSON


def test_the_infrastructure_loads_no_query_that_is_not_there():
    bicep = (INFRA / "modules" / "watch.bicep").read_text()
    assert set(re.findall(r"loadTextContent\('\.\./kql/(\w+)\.kql'\)", bicep)) == set(KQL)
