"""Real alerts, recorded from the live service, are read right: each against an independent reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from remediation.alerts import normalise
from remediation.explain import explain
from remediation.policy import load_policy

EXPECTED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "recorded_alerts.json").read_text())


@pytest.mark.parametrize("want", EXPECTED, ids=lambda w: f"{w['file']}-{w['index']}")
def test_a_recorded_alert_is_read_right(want: dict[str, Any], recorded_alerts: Path):
    raw = json.loads((recorded_alerts / want["file"]).read_text())[want["index"]]
    alert = normalise(raw)
    assert alert.alert_id == want["alert_id"]
    assert alert.severity == want["severity"]
    assert alert.direction == want["direction"]
    assert alert.is_sample == want["is_sample"]
    assert sorted(alert.resource_ids) == want["resource_ids"]
    assert sorted([a.address, a.port] for a in alert.attackers) == want["attackers"]
    assert sorted(alert.own_addresses) == want["own"]


def test_every_recorded_alert_is_expected(recorded_alerts: Path):
    there = {(f.name, n) for f in recorded_alerts.glob("*.json")
             for n in range(len(json.loads(f.read_text())))}
    assert there == {(w["file"], w["index"]) for w in EXPECTED}


def test_no_recorded_sample_would_be_blocked(recorded_alerts: Path):
    policy = load_policy()
    for path in recorded_alerts.glob("*.json"):
        for entry in explain(path.read_text(), policy):
            assert entry["error"] is None
            if entry["is_sample"] or entry["direction"] in ("none", "unknown", "outbound_attack"):
                assert entry["would_block"] == []
            named = {a["address"] for a in entry["attackers"]}
            accounted = set(entry["would_block"]) | {s["address"] for s in entry["skipped"]}
            assert accounted == named
