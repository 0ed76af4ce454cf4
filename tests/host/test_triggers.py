"""Through the triggers, with keys on: the webhook, the operators' API, the queue, the timer, SIGKILL."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from remediation.__main__ import main
from remediation.investigation.seals import START, manifest, sha256
from remediation.policy import DEFAULT_POLICY
from sandbox.world import ROOT, waiting
from tests.estate import ATTACKER, SECOND, alert, estate, name_of
from tests.host.conftest import Site
from tests.intake import LOGIC, automation, logic_app
from tests.role import IDENTITY, guest_actions, inquiry_actions, role_actions, selftest_actions

BOTH = {"outbound": [ATTACKER], "inbound": [ATTACKER]}


def test_explain_asks_an_app_for_the_machines_and_what_would_be_proven(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    site.world.seed(estate())
    host = site.start()
    path = tmp_path / "alert.json"
    path.write_text(json.dumps(site.know(alert())))
    asked = ["explain", str(path), "--url", host.url, "--key", host.function_key]
    assert main(asked) == 0
    text = capsys.readouterr().out
    assert "machine    vm   (running)" in text
    assert f"outbound {ATTACKER}   effective on nsg" in text
    assert main([*asked, "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["machines"][0]["path"] == ["vm"]
    assert site.owned() == {}, "nothing was changed"
    assert main([*asked[:-1], "wrong"]) == 2
    assert "401" in capsys.readouterr().err


def test_the_self_test_goes_from_the_logic_app_through_event_grid_to_the_host(
    site: Site, capsys: pytest.CaptureFixture[str]
):
    site.world.seed(estate(resources=[logic_app(site.world), automation()]))
    site.world.role(IDENTITY, [*role_actions(), *selftest_actions()])
    host = site.start(SELFTEST_WORKFLOW=LOGIC, SWEEP_SCHEDULE="*/5 * * * * *")
    site.world.http.post(host.webhook.replace("on_alert", "on_tick"), json=[{
        "id": "t", "eventType": "Responder.Tick", "subject": "", "topic": "", "dataVersion": "1",
        "metadataVersion": "1", "eventTime": datetime.now(UTC).isoformat(), "data": {}}],
        headers={"aeg-event-type": "Notification"}).raise_for_status()
    asked = ["selftest", "--url", host.url, "--key", host.function_key]
    assert main([*asked, "--wait", "60"]) == 0, capsys.readouterr()
    text = capsys.readouterr().out
    assert "Event Grid brings the event to on_alert" in text
    assert text.endswith("the self-test passed\n")
    assert site.owned() == {}
    assert any(main([*asked, "--last"]) == 0 for _ in waiting(20)), "the day's own"
    assert main(["selftest", "--url", host.url, "--key", "wrong"]) == 2
    assert main(["selftest", "--url", ""]) == 2
    site.world.seed({"resources": [logic_app(site.world, state="Disabled")]})
    assert main(asked) == 1
    assert "FAIL" in capsys.readouterr().out


def test_importing_the_triggers_loads_no_heavy_sdk():
    code = ("import function_app, sys; print([m for m in sys.modules "
            "if m.startswith(('azure.mgmt', 'azure.identity', 'azure.data', 'azure.storage', "
            "'remediation.app'))])")
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stderr


def test_an_event_becomes_a_block_and_the_api_tells(site: Site):
    site.world.seed(estate())
    host = site.start()
    one = site.know(alert())
    site.world.publish(one)
    assert site.world.settled(30)
    assert site.owned() == BOTH
    api = site.world.api
    assert {b["state"] for b in site.blocks(host)} == {"active"}
    assert len(site.blocks(host, state="active", address=ATTACKER)) == 2
    assert site.blocks(host, state="lifted") == []
    found = api(host, "GET", f"alerts/{name_of(one)}").json()
    assert {"generated", "event", "received", "verified", "planned", "claimed"} <= set(found["hops"])
    first = api(host, "GET", "blocks", pageSize="1").json()
    second = api(host, "GET", "blocks", pageSize="1", pageToken=first["nextPageToken"]).json()
    assert first["blocks"][0]["id"] != second["blocks"][0]["id"]
    assert api(host, "GET", "health").status_code == 200

    bad: list[tuple[str, str, Any, int, str]] = [
        ("POST", "replay", {}, 400, "AlertType"), ("POST", "replay", {"alertId": 3}, 400, "alertId"),
        ("POST", "replay", {"alertId": "none"}, 404, ""),
        ("GET", "blocks?state=odd", None, 400, "state"), ("GET", "blocks?address=x", None, 400, "address"),
        ("GET", "blocks?pageSize=0", None, 400, "pageSize"),
        ("GET", "blocks?pageToken=x", None, 400, "pageToken"),
        ("POST", "blocks/revoke", {"reason": "x"}, 400, "address"),
        ("POST", "blocks/revoke", {"address": "1.2.3.4"}, 400, "reason"),
        ("POST", "blocks/revoke", {"address": "1.2.3.4", "reason": "x", "holdHours": -1}, 400, "holdHours"),
        ("POST", "blocks/revoke", {"blockId": "none", "reason": "x"}, 404, ""),
        ("POST", "blocks/extend", {"blockId": "none", "reason": "x"}, 404, ""),
        ("POST", "blocks/extend", {"reason": "x", "extra": 1}, 400, "extra"),
        ("POST", "approvals/none", {"decision": "approve", "reason": "x"}, 404, ""),
        ("POST", "approvals/none", {"decision": "maybe", "reason": "x"}, 400, "decision"),
        ("GET", "approvals?state=odd", None, 400, "state"),
        ("PUT", "protected", {"protected": [{"prefix": "x", "reason": "y"}]}, 400, "protected[0].prefix"),
        ("PUT", "protected", {"protected": 3}, 400, "protected"),
        ("POST", "pause", {"reason": "x", "lift": "odd"}, 400, "lift"),
        ("POST", "resume", {}, 400, "reason"),
        ("GET", "alerts/none", None, 404, ""),
        ("GET", "alerts/a%0Ab", None, 404, ""),
        ("GET", "alerts/" + "x" * 900, None, 404, ""),
        ("POST", "approvals/" + "x" * 900, {"decision": "approve", "reason": "x"}, 404, ""),
    ]
    for method, path, body, status, field in bad:
        answer = site.world.http.request(method, f"{host.url}/api/{path}", json=body,
                                         headers={"x-functions-key": host.function_key})
        assert answer.status_code == status, (path, answer.text)
        assert answer.json().get("field", "") == field, (path, answer.text)
    raw = site.world.http.post(f"{host.url}/api/pause", content=b"\xff{",
                               headers={"x-functions-key": host.function_key})
    assert raw.status_code == 400


def test_an_event_that_was_buried_is_replayed_from_its_dead_letter(site: Site):
    site.world.seed(estate())
    host = site.start()
    site.world.subscribe(host, max_attempts=2)
    one = site.know(alert())
    site.world.control("POST", "faults", [{"service": "table", "status": 503, "times": 10_000}])
    try:
        site.world.publish(one)
        assert any(site.world.dead_letters() for _ in waiting(40, 0.3)), site.world.deliveries()
    finally:
        site.world.control("POST", "faults", [])
    assert site.owned() == {}
    letters = [blob for blob in site.world.dead_letters() if blob[0]["id"] == name_of(one)]
    assert [blob[0]["deadletterreason"] for blob in letters] == ["MaxDeliveryAttemptsExceeded"]
    answer = site.world.api(host, "POST", "replay", letters[0])
    assert answer.status_code == 200, answer.text
    assert site.owned() == BOTH


def test_keys_are_asked_for_and_odd_events_are_answered(site: Site):
    site.world.seed(estate())
    host = site.start()
    http = site.world.http
    assert http.get(f"{host.url}/api/blocks").status_code == 401
    plain = f"{host.url}/runtime/webhooks/eventgrid?functionName=on_alert"
    headers = {"aeg-event-type": "Notification"}
    assert http.post(f"{plain}&code={host.function_key}", json={}, headers=headers).status_code == 401
    assert http.post(host.webhook.replace("on_alert", "nobody"), json={}, headers=headers).status_code == 404
    odd: list[Any] = [None, [], 3, "text", {"a": 1}]
    for data in odd:
        event = {"specversion": "1.0", "id": "1", "type": "t", "source": "/s", "data": data,
                 "time": "2026-01-01T00:00:00Z"}
        assert http.post(host.webhook, json=event, headers=headers).status_code == 202, data
    old = [{"id": "1", "eventType": "t", "subject": "s", "topic": "t", "dataVersion": "1",
            "eventTime": "2026-01-01T00:00:00Z", "data": site.know(alert())}]
    assert http.post(host.webhook, json=old, headers=headers).status_code == 202
    assert site.owned() == BOTH


@pytest.mark.parametrize("when", [
    {"service": "table", "method": "POST", "path": "[$]batch"},
    {"service": "arm", "method": "PUT", "path": "outbound"},
    {"service": "arm", "method": "PUT", "path": "outbound", "drop": "after"},
    {"service": "arm", "method": "PUT", "path": "inbound"},
], ids=["before the claim", "before the write", "after the write", "between two writes"])
def test_a_host_killed_with_sigkill_is_made_good_by_the_next(site: Site, when: dict[str, Any]):
    site.world.seed(estate())
    fast = {"RESPONDER_RESUME_SECONDS": "1", "RESPONDER_LEASE_SECONDS": "2", "RESPONDER_SWEEP_SECONDS": "1",
            "SWEEP_SCHEDULE": "* * * * * *"}
    host = site.start(**{**fast, "SWEEP_SCHEDULE": "0 0 0 1 1 *"})
    site.world.control("POST", "faults", [{**when, "kill": host.popen.pid}])
    one = site.know(alert())
    site.world.publish(one)
    assert any(not host.alive for _ in waiting(20)), "the host was to die"
    site.world.stop_host(host, kill=True)
    site.world.control("POST", "faults", [])
    again = site.start(**fast)
    assert any(
        site.owned() == BOTH and {b["state"] for b in site.blocks(again)} == {"active"}
        for _ in waiting(30, 0.3)), (site.owned(), site.blocks(again))
    assert site.world.api(again, "GET", f"alerts/{name_of(one)}").json()["state"] == "done"


def test_work_left_over_is_taken_up_by_the_queue(site: Site):
    site.world.seed(estate())
    host = site.start(RESPONDER_BUDGET_SECONDS="3")
    site.world.tune(settle=4)
    try:
        site.world.publish(site.know(alert()))
        done = any({b["state"] for b in site.blocks(host)} == {"active"} for _ in waiting(40, 0.5))
    finally:
        site.world.tune(settle=0)
    assert done, "no timer runs here: the commit queue finished it"


def test_holders_that_wait_on_many_nsgs_do_not_keep_the_next_event_waiting(site: Site):
    site.world.seed(estate(nsgs=12))
    host = site.start()
    site.world.publish(site.know(alert("vm", SECOND)))
    assert site.world.settled(30)
    site.world.tune(settle=6, busy="accept")
    try:
        for n in range(2, 13):
            site.world.publish(site.know(alert(f"vm{n}")))
        time.sleep(0.01)
        started = time.monotonic()
        answer = site.world.api(host, "GET", "approvals")
        assert answer.status_code == 200
        assert time.monotonic() - started < 4
        assert site.world.settled(60)
    finally:
        site.world.tune(settle=0, busy="429")


def test_a_bad_setting_is_named_by_the_app(site: Site):
    host = site.start(RESPONDER_MODE="yolo")
    site.world.publish(alert())
    assert any("RESPONDER_MODE: must be one of" in host.log.read_text() for _ in waiting(15))


def test_machines_are_looked_into_through_the_queues_and_the_guest_app_has_nothing_else(
    site: Site, tmp_path: Path
):
    made = estate()
    made["groups"][0]["vms"][0]["guest"] = {}
    site.world.seed(made)
    site.world.role("guest", guest_actions())
    site.world.role(IDENTITY, [*role_actions(), *inquiry_actions()])
    policy = tmp_path / "policy.toml"
    before, _, rest = DEFAULT_POLICY.read_text().partition("steps = [")
    policy.write_text(f'{before}steps = ["posture", "processes"]{rest.partition("]")[2]}')
    queue = f"guest-{site.settings['INVESTIGATION_QUEUE']}"
    more = {"RESPONDER_POLICY": str(policy), "RESPONDER_POLL_SECONDS": "0.2", "GUEST_QUEUE": queue}
    host = site.start(**more)
    guest = site.world.start_host(f"guest-{site.number}", **{
        **site.settings, **more, "RESPONDER_ROLE": "guest", "AZURE_CLIENT_ID": "guest", "GUEST_QUEUE": "",
        "INVESTIGATION_QUEUE": queue})
    site.hosts.append(guest)
    answer = site.world.api(guest, "GET", "health")
    assert answer.status_code == 404, "the guest app has no HTTP side"
    one = site.know(alert())
    site.world.publish(one)
    assert site.world.settled(30)

    def inquiry() -> dict[str, Any]:
        return dict(site.world.api(host, "GET", f"alerts/{name_of(one)}").json()["investigation"] or {})

    assert any(inquiry().get("ended") for _ in waiting(40))
    assert {t["step"]: t["state"] for t in inquiry()["tasks"]} == {"posture": "done", "processes": "done"}
    pack = site.world.api(host, "GET", f"alerts/{name_of(one)}/pack").json()
    assert "2 of 2 blocks in effect" in pack["text"]
    asked = {"alertId": name_of(one), "steps": ["nonsense"], "reason": "a test"}
    answer = site.world.api(host, "POST", "investigations", asked)
    assert (answer.status_code, answer.json()["field"]) == (400, "steps")
    assert site.world.api(host, "POST", "investigations", {**asked, "steps": ["posture"]}).status_code == 202
    run = ["--url", host.url, "--key", host.function_key]
    assert main(["pack", name_of(one), *run]) == 0
    assert main(["investigate", name_of(one), "--steps", "posture", "--reason", "a test", *run]) == 0


def test_evidence_is_checked_from_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data, seal = manifest("a1", 1, START, [("a.json", sha256(b"1"))], datetime(2026, 1, 1, tzinfo=UTC))
    (tmp_path / "a.json").write_bytes(b"1")
    (tmp_path / "manifest.json").write_bytes(data)
    assert main(["evidence", "verify", str(tmp_path), "--seal", seal]) == 0
    assert main(["evidence", "verify", str(tmp_path)]) == 0
    assert "was not compared" in capsys.readouterr().out
    (tmp_path / "a.json").write_bytes(b"2")
    assert main(["evidence", "verify", str(tmp_path), "--seal", seal]) == 1
    assert "a.json has been changed" in capsys.readouterr().out
    assert main(["evidence", "verify", "no-such-alert"]) == 2
    assert "settings" in capsys.readouterr().err
