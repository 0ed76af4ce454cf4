"""`python -m remediation explain`: never a traceback, whatever the file holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remediation.__main__ import decode, main
from remediation.explain import as_text, explain
from remediation.policy import load_policy
from tests.unit.raw import ATTACKER, VM, event, flat, rest

KEYS = {"alert_id", "alert_type", "display_name", "severity", "direction", "is_sample", "resource_ids",
        "attackers", "own_addresses", "would_block", "skipped", "warnings", "error"}


def run(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[dict[str, Any]]:
    assert main(["explain", str(path), "--json", *more]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert all(set(e) == KEYS for e in found)
    return found


def test_one_object_per_alert_in_order_with_every_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "alerts.json"
    path.write_text(json.dumps({"value": [rest(), 3, flat(), event(rest("SIMULATED_X"))]}))
    found = run(path, capsys)
    assert [bool(e["error"]) for e in found] == [False, True, False, False]
    assert found[0]["would_block"] == [ATTACKER]
    assert found[0]["resource_ids"] == [VM.lower()]
    assert found[0]["attackers"] == [
        {"address": ATTACKER, "port": 443, "source": "extendedProperties.attacker ip"}]
    assert found[1]["alert_id"] is None
    assert found[3]["is_sample"]
    assert found[3]["would_block"] == []


def test_a_sample_of_an_enforced_type_blocks_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rest("SIMULATED_Network_CommunicationWithC2")))
    found = run(path, capsys)
    assert found[0]["would_block"] == []
    assert found[0]["skipped"] == [{"address": ATTACKER, "reason": "a sample alert is never acted upon"}]


def test_a_policy_that_simulates_would_block_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path, policy = tmp_path / "a.json", tmp_path / "p.toml"
    path.write_text(json.dumps(rest()))
    policy.write_text('[guardrails]\nnever = []\n[alert.Network_CommunicationWithC2]\n'
                      'mode = "simulate"\nblock = ["outbound"]\n')
    found = run(path, capsys, "--policy", str(policy))
    assert found[0]["skipped"][0]["reason"] == "the policy only simulates"


@pytest.mark.parametrize("data", [b"", b"not json", b"\xff\xfe\x00", b"\x80abc", b"{", b"[" * 5000])
def test_what_is_not_json_is_one_object_with_an_error(
    data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "a"
    path.write_bytes(data)
    found = run(path, capsys)
    assert len(found) == 1
    assert found[0]["error"].startswith("body: ")


def test_a_file_that_cannot_be_read_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["explain", str(tmp_path / "none.json")]) == 2
    assert main(["explain", str(tmp_path)]) == 2
    path = tmp_path / "a.json"
    path.write_text("[]")
    assert main(["explain", str(path), "--policy", str(tmp_path / "none.toml")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_people_get_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([rest(), 3, rest("SIMULATED_X"), rest(
        entities=[], extendedProperties={"attacker IP": "10.0.0.1", "victim IP": "203.0.113.9"},
        severity="odd")]))
    assert main(["explain", str(path)]) == 0
    text = capsys.readouterr().out
    assert f"block      {ATTACKER}" in text
    assert "skip       10.0.0.1: in 10.0.0.0/8" in text
    assert "cannot be read" in text
    assert "nothing would be blocked" in text
    path.write_text("[]")
    assert main(["explain", str(path)]) == 0
    assert "no alert in the file" in capsys.readouterr().out


def test_windows_tools_write_utf_16():
    assert decode('{"a": 1}'.encode("utf-16")) == '{"a": 1}'
    assert decode(b"\xef\xbb\xbf{}") == "{}"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_no_bytes_lead_to_a_traceback(tmp_path: Path, data: bytes):
    path = tmp_path / "any"
    path.write_bytes(data)
    assert main(["explain", str(path), "--json"]) == 0


def test_a_verb_that_needs_the_app_says_where_its_address_goes(capsys: pytest.CaptureFixture[str]):
    assert main(["health"]) == 2
    assert "--url is missing" in capsys.readouterr().err


def test_what_an_app_found_is_shown_beside_what_the_alert_says():
    (said,) = explain(json.dumps(rest()), load_policy())
    entry = {**said, "notices": ["2 machines are not traced"], "machines": [
        {"id": "/vm", "path": ["lb", "pool web", "vm"], "power": "PowerState/running", "proof": [
            {"direction": "outbound", "address": "198.51.100.7", "guard": "/x/nsg-web", "outcome": "shadowed",
             "detail": "rule allow comes before"},
            {"direction": "inbound", "address": "198.51.100.7", "guard": "/x/nsg-web",
             "outcome": "effective"}]},
        {"id": "/agw", "path": [], "power": ""}]}
    text = as_text([entry])
    assert "machine    lb → pool web → vm   (running)" in text
    assert "outbound 198.51.100.7   shadowed on nsg-web: rule allow comes before" in text
    assert "inbound  198.51.100.7   effective on nsg-web" in text
    assert "machine    /agw\n" in text + "\n"
    assert "notice     2 machines are not traced" in text


def test_people_pause_resume_and_keep_the_protected_list_from_the_command_line(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    import requests

    asked: list[tuple[str, str, Any]] = []

    def request(method: str, url: str, **given: Any) -> requests.Response:
        asked.append((method, url, json.loads(given["data"]) if given["data"] else None))
        answer = requests.Response()
        answer.status_code, answer._content = 200, b"{}"
        return answer

    monkeypatch.setattr(requests, "request", request)
    where = ["--url", "http://127.0.0.1:9"]
    (tmp_path / "list.json").write_text('[{"prefix": "198.51.100.0/24", "reason": "ours"}]')
    assert main(["pause", "--reason", "x", *where]) == main(["resume", "--reason", "y", *where]) == 0
    assert main(["protected", *where]) == main(["protected", str(tmp_path / "list.json"), *where]) == 0
    assert main(["protected", str(tmp_path / "none.json"), *where]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert [(m, u.rpartition("/")[2], b) for m, u, b in asked] == [
        ("POST", "pause", {"reason": "x", "lift": "due"}), ("POST", "resume", {"reason": "y"}),
        ("GET", "protected", None),
        ("PUT", "protected", {"protected": [{"prefix": "198.51.100.0/24", "reason": "ours"}]})]
