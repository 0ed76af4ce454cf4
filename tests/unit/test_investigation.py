"""An investigation as data: tasks, outputs, seals."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.errors import Invalid
from remediation.investigation import output, seals
from remediation.investigation.task import (
    MOST_SIGNS,
    Finding,
    Phase,
    Sign,
    Task,
    TaskState,
    Weight,
    gravest_of,
    longest_wait,
    parse_message,
    peculiar,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TASK = Task(alert_id="a1", step="processes", machine="/vm/1", by="the service", begun=NOW)


def test_a_task_reads_back_as_it_was_written():
    task = replace(
        TASK,
        state=TaskState.WAITING,
        phase=Phase.ACT,
        signs=(Sign(Weight.LIKELY, "x", "/vm/2"),),
        until=NOW + timedelta(hours=1),
        next=NOW,
        phase_begun=NOW,
        ended=NOW,
        approval="q",
        approved_by="bob",
        evidence=(("f.json", "00"),),
        memory={"polls": 2},
        marks=("m",),
        number=4,
    )
    said = json.loads(json.dumps(task.to_json()))
    assert Task.from_json(said, memory={"polls": 2}, marks=["m"], etag="") == task
    assert Task.from_json(json.loads(json.dumps(TASK.to_json())), memory={}, marks=(), etag="") == TASK


def test_what_the_change_found_joins_what_the_look_found():
    looked = TASK.with_finding(Finding("2 missing", (Sign(Weight.NOTE, "old"),), marks=("m",)), ("a", "1"))
    acted = replace(looked, phase=Phase.ACT).with_finding(
        Finding("2 installed", (Sign(Weight.CONFIRMED, "new"),)), ("b", "2"))
    assert acted.says == "2 missing; 2 installed"
    assert [s.text for s in acted.signs] == ["new", "old"]
    assert (acted.marks, acted.evidence, acted.gravest) == (
        ("m",),
        (("a", "1"), ("b", "2")),
        Weight.CONFIRMED,
    )
    again = acted.with_finding(Finding(""), ("c", "3"))
    assert again.says == "2 missing; 2 installed"


def test_looking_anew_forgets_what_an_earlier_look_said():
    looked = TASK.with_finding(Finding("one", (Sign(Weight.NOTE, "old"),)), ("a", "1"))
    assert looked.with_finding(Finding("two"), ("b", "2")).says == "two"
    assert looked.with_finding(Finding("two"), ("b", "2")).signs == ()


def test_the_gravest_signs_are_kept_where_there_are_too_many():
    signs = (*(Sign(Weight.NOTE, str(n)) for n in range(50)), Sign(Weight.CONFIRMED, "it"))
    kept = TASK.with_finding(Finding("", signs), ("a", "1")).signs
    assert (len(kept), kept[0].text) == (MOST_SIGNS, "it")


def test_a_task_that_is_over_remembers_nothing_but_why():
    over = replace(TASK, memory={"polls": 1}, next=NOW).ended_as(TaskState.SKIPPED, "gone", NOW)
    assert (over.state, over.reason, over.ended, over.next, over.memory) == (
        TaskState.SKIPPED, "gone", NOW, None, {})
    assert over.key == "/vm/1|processes"


def test_a_message_of_the_queue_names_its_task_and_anything_else_is_refused():
    assert parse_message(TASK.message) == ("a1", "/vm/1", "processes")
    for text in ("", "[]", "{}", '{"alert": "a", "machine": "m"}', '{"alert": 1, "machine": "", "step": "s"}',
                 '{"alert": "", "machine": "", "step": "s"}', "[" * 100_000):
        with pytest.raises(Invalid, match="investigation queue"):
            parse_message(text)


def test_a_sign_counts_for_the_machine_it_names():
    tasks = [replace(TASK, signs=(Sign(Weight.LIKELY, "x"),)),
             replace(TASK, step="log_traces", machine="", signs=(Sign(Weight.CONFIRMED, "y", "/vm/2"),))]
    assert gravest_of(tasks, "/vm/1") is Weight.LIKELY
    assert gravest_of(tasks, "/vm/2") is Weight.CONFIRMED
    assert gravest_of(tasks, "/vm/3") is None
    assert TASK.gravest is None


def test_what_one_of_a_pool_alone_has_shows_only_where_there_are_others_to_compare():
    def of(machine: str, *marks: str) -> Task:
        return replace(TASK, machine=machine, state=TaskState.DONE, marks=marks)

    pool = [of("1", "sshd"), of("2", "sshd"), of("3", "sshd", "odd", "odd")]
    assert peculiar(pool, "processes") == {"1": [], "2": [], "3": ["odd", "odd"]}
    assert peculiar(pool[1:], "processes") == {}
    assert peculiar([*pool[1:], replace(pool[0], state=TaskState.FAILED)], "processes") == {}
    assert peculiar(pool, "autoruns") == {}


def test_a_task_that_cannot_be_done_now_waits_longer_each_time_and_never_more_than_five_minutes():
    waits = [longest_wait(n).total_seconds() for n in range(20)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (5, 300)


# --- what scripts write ---


def test_rows_are_read_and_garbage_between_them_is_counted():
    found = output.read(b'{"kind":"a","n":1}\nnonsense\n[1]\n\n{"kind":"b","l":[1,"x",{}],"o":{"deep":1}}\n'
                        b'{"kind":"end"}\n')
    assert [r["kind"] for r in found.rows] == ["a", "b"]
    assert found.of("b") == [{"kind": "b", "l": [1, "x"], "o": None}]
    assert (found.garbage, found.complete, found.doubt) == (2, True, "2 lines could not be read")


def test_an_output_that_breaks_off_or_is_too_long_says_so():
    assert output.read(b'{"kind":"a"}').doubt == "it broke off"
    long = output.read(b'{"kind":"a"}\n' * (output.MOST_BYTES // 13 + 10))
    assert long.cut
    assert len(long.rows) == output.MOST_ROWS
    assert long.doubt == "it was longer than is kept"
    assert output.read(b'{"kind":"end"}', cut=True).doubt == "it was longer than is kept"


def test_long_values_and_wide_rows_are_cut():
    row = {"kind": "a", "long": "x" * 10_000, **{f"f{n}": n for n in range(100)}}
    (found,) = output.read(json.dumps(row).encode() + b'\n{"kind":"end"}').rows
    assert len(found) == output.MOST_FIELDS
    assert len(found["long"]) == output.LONGEST_VALUE


@given(st.binary(max_size=2000))
def test_no_output_breaks_the_reader(data: bytes):
    found = output.read(data)
    assert json.loads(json.dumps(list(found.rows), allow_nan=False)) == list(found.rows)
    lines = [line for line in data.decode(errors="replace").split("\n") if line.strip()]
    assert len(found.rows) + found.garbage + found.complete == len(lines), "no line is lost without a word"


def test_a_number_that_json_does_not_have_spoils_no_evidence():
    found = output.read(b'{"a": NaN}\n{"a": 1e999, "b": [1e999, 2]}\n{"kind":"end"}')
    assert found.garbage == 1
    assert found.rows == ({"a": None, "b": [None, 2]},)


def test_values_are_read_as_what_they_are_asked_for():
    row = {"n": 7, "t": "8", "b": True, "x": "8x", "none": None, "f": 1.5}
    assert [output.number_of(row, k) for k in ("n", "t", "b", "x", "none", "f", "absent")] == [
        7, 8, None, None, None, None, None]
    assert [output.text_of(row, k) for k in ("t", "n", "none", "absent")] == ["8", "7", "", ""]


def test_json_as_deep_as_a_well_is_garbage():
    assert output.read(b"[" * 200_000).garbage == 1


# --- seals ---


def sealed(files: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
    entries = [(name, seals.sha256(data)) for name, data in files.items()]
    first, seal = seals.manifest("a1", 1, seals.START, entries, NOW)
    return {**files, "manifest.json": first}, seal


def test_untouched_evidence_verifies_against_the_ledgers_seal():
    folder, seal = sealed({"a.json": b"1", "b.json": b"2"})
    assert seals.verify(folder.get, seal) == ([], 2)
    assert seals.verify(folder.get) == ([], 2)
    second, last = seals.manifest("a1", 2, seal, [("c.json", seals.sha256(b"3"))], NOW)
    folder |= {"c.json": b"3", "manifest-2.json": second}
    assert seals.verify(folder.get, last) == ([], 3)
    assert seals.verify(folder.get, seal)[0] == [f"the last seal is {last}, the ledger has {seal}"]


def test_every_kind_of_change_shows():
    folder, seal = sealed({"a.json": b"1", "b.json": b"2"})
    assert seals.verify({**folder, "a.json": b"9"}.get, seal)[0] == ["a.json has been changed"]
    assert seals.verify({k: v for k, v in folder.items() if k != "b.json"}.get)[0] == ["b.json is missing"]
    assert seals.verify(lambda _: None)[0] == ["there is no manifest.json"]
    for name, value in (("made", "2020-01-01T00:00:00.000Z"), ("alert", "another"), ("more", 1)):
        body = json.loads(folder["manifest.json"]) | {name: value}
        assert seals.verify({**folder, "manifest.json": json.dumps(body).encode()}.get, seal)[0] != [], name
    assert seals.verify(folder.get, seal, "a2")[0] == ["manifest.json is of another alert"]
    assert seals.verify({"manifest.json": b"{"}.get)[0] == ["manifest.json cannot be read"]
    assert seals.verify({"manifest.json": b'{"files": [1]}'}.get)[0] == ["manifest.json cannot be read"]
    body = json.loads(folder["manifest.json"])

    def told(**changes: object) -> list[str]:
        return seals.verify({**folder, "manifest.json": json.dumps({**body, **changes}).encode()}.get, seal)[
            0
        ]

    assert "does not follow" in told(previous="1" * 64)[0]
    assert told(files=body["files"][::-1])[0].startswith("manifest.json: the chain breaks at b.json")
    assert told(seal="2" * 64) == ["manifest.json has been changed"]
    forged, other = sealed({"a.json": b"9", "b.json": b"2"})
    assert seals.verify(forged.get, seal)[0] == [f"the last seal is {other}, the ledger has {seal}"]
