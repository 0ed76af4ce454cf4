"""A rule of ours that is not as we left it is seen; our own interrupted write is no drift."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from remediation.drift import Drift, judge_drift, remember_drift, remembered, yields
from remediation.model import Direction, utc
from remediation.nsg import Nsg
from remediation.owned import Ownership, Wanted

OURS = Ownership("prod")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RULE = Wanted(OURS.name(Direction.INBOUND, 4), Direction.INBOUND, 4, ("198.51.100.7",), 150).as_rule(
    OURS.description("ab"))


def judge(*rules: Any, **memory: Any) -> list[tuple[str, bool]]:
    found = judge_drift({"rules": {RULE.name: remembered(RULE)}, **memory}, Nsg("/n", rules), OURS, NOW)
    return [(d.what, d.repeated) for d in found]


def test_a_rule_as_we_left_it_is_no_drift():
    assert judge(RULE) == []
    assert judge(replace(RULE, description=OURS.description("other"))) == []


def test_a_removed_or_changed_rule_is_drift():
    assert judge() == [("removed", False)]
    assert judge(replace(RULE, priority=4000)) == [("changed", False)]
    assert judge(replace(RULE, description="mine now")) == [("removed", False)]


def test_the_second_time_within_a_day_is_repeated():
    assert judge(drift={RULE.name: utc(NOW - timedelta(hours=3))}) == [("removed", True)]
    assert judge(drift={RULE.name: utc(NOW - timedelta(hours=30))}) == [("removed", False)]


def test_our_own_interrupted_write_explains_the_difference():
    assert judge(attempt={"rule": RULE.name, "token": "x"}) == []
    assert judge(attempt={"rule": "another", "token": "x"}) == [("removed", False)]


def test_a_parked_rule_is_no_drift():
    assert judge(replace(RULE, sources=("192.0.2.1",),
                         description=OURS.parked_description("ab"))) == []


def test_only_a_second_change_is_yielded_to_and_a_programs_only_by_policy():
    first, second = Drift("r", "removed", repeated=False), Drift("r", "removed", repeated=True)
    assert not yields(first, True, "yield")
    assert yields(second, True, "restore")
    assert yields(second, False, "yield")
    assert not yields(second, False, "restore")
    assert not yields(second, None, "yield"), "of nobody known"


def test_a_repair_that_was_begun_is_remembered_with_the_others():
    memory: dict[str, Any] = {"drift": {"other": utc(NOW - timedelta(hours=1))}}
    remember_drift(memory, {RULE.name}, NOW)
    assert memory["drift"] == {"other": utc(NOW - timedelta(hours=1)), RULE.name: utc(NOW)}
    assert judge(drift=memory["drift"]) == [("removed", True)]
