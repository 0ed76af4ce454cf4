"""The message to the security team, from what is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from remediation.investigation.pack import Pack, make
from remediation.ledger import Block
from remediation.ledger.block import Sessions
from remediation.model import BlockKey, BlockState, Direction, Target

MAY = Sessions.MAY_REMAIN
VM = "/subscriptions/s/resourcegroups/g/providers/microsoft.compute/virtualmachines/{}"
SET = VM.format("3").replace("/virtualmachines/", "/virtualmachinescalesets/web/virtualmachines/")
NSG = "/subscriptions/s/resourcegroups/g/providers/microsoft.network/networksecuritygroups/nsg"


AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def block(state: str = "active", **changes: Any) -> dict[str, Any]:
    """As the ledger shows one: what the message reads is there."""
    written = state not in ("waiting", "pending")
    return Block(
        key=BlockKey(NSG, Direction.OUTBOUND, "198.51.100.7"), state=BlockState(state),
        lifetime=timedelta(hours=24), decisive=True, **{
            "expires": AT + timedelta(hours=24) if state == "active" else None,
            "written": AT if written else None,
            "targets": (Target(VM.format("vm"), "nic", "subnet", ("10.0.0.4",)),), **changes}).to_json()


def task(
    step: str = "processes", state: str = "done", machine: str = VM.format("vm"), **changes: Any
) -> dict[str, Any]:
    return {
        "step": step,
        "state": state,
        "machine": machine,
        "says": "",
        "reason": "",
        "signs": [],
        "approval": "",
        **changes,
    }


def pack(
    blocks: Any = (), tasks: Any = (), machines: Any = ("vm",), plan: Any = None, **inquiry: Any
) -> Pack:
    return make(
        {
            "alertId": "a1",
            "alert": {
                "display_name": "Network communication with a malicious machine detected",
                "severity": "Medium",
                "attackers": [{"address": "198.51.100.7"}],
                "start": "2026-01-02T03:04:05.000Z",
            },
            "plan": plan or {},
            "blocks": list(blocks),
            "machines": [
                m if isinstance(m, dict) else {"id": VM.format(m), "path": [m], "likelihood": "possible"}
                for m in machines
            ],
            "investigation": {"tasks": list(tasks), "machines": [VM.format("vm")], **inquiry}
            if tasks or inquiry
            else None,
        },
        {"Timeline": "https://x/api/alerts/a1"},
    )


def sign(weight: str = "likely", text: str = "odd", **more: Any) -> dict[str, Any]:
    return {"weight": weight, "text": text, **more}


def test_a_block_that_went_well_gives_no_reason_to_wake_anybody():
    found = pack([block()])
    assert found.why == ()
    assert found.proven == "1 of 1 block in effect, read back and evaluated"
    assert found.done == "198.51.100.7 denied by 1 guard, until 2026-01-03 03:04 UTC"
    assert found.open == "nothing"
    assert found.next == ("close the alert in Defender when you agree; the block ends by itself",)
    assert found.text().endswith("Timeline: https://x/api/alerts/a1")


def test_a_confirmed_machine_comes_first_and_is_to_be_isolated():
    found = pack([block()], [task(signs=[sign("note", "dull")]),
                             task(machine=VM.format("vm2"), signs=[sign("confirmed", "it talks")])],
                 ("vm", "vm2"))
    assert [m.standing for m in found.machines] == ["confirmed", "possible"]
    assert found.next[0] == "isolate vm2 and save its disks: it talks"
    assert "a machine is confirmed" in found.why


def test_what_the_logs_say_of_a_machine_makes_it_a_likely_one_and_what_it_alone_runs_is_said():
    found = pack(
        [],
        [task("log_traces", machine="", signs=[sign(machine=VM.format("vm"))]), task()],
        ("vm", "vm2"),
        peculiar={VM.format("vm2"): ["/opt/odd 9"]},
    )
    assert {m.id.rpartition("/")[2]: m.standing for m in found.machines} == {
        "vm": "likely",
        "vm2": "possible",
    }
    assert "it alone of its pool runs /opt/odd 9" in found.text()
    assert "look at vm first" in found.next


def test_what_concerns_no_machine_by_itself_is_told_all_the_same():
    signs = [sign(text="signins: eve"), sign("note", "x")]
    found = pack([], [task("log_traces", machine="", says="3 traces", signs=signs)])
    assert found.whole == ("likely: signins: eve", "note: x", "log_traces: done – 3 traces")
    assert any("revoke the sessions" in n for n in found.next)
    assert "- likely: signins: eve" in found.text()


def test_only_what_is_in_effect_is_called_denied_and_only_what_was_written_lifted():
    found = pack([block("pending"), block("shadowed"), block("revoked", written=None), block("lifted")])
    assert found.done == ("1 block being written; 1 block written without effect; 1 block lifted again; "
                          "1 block never written: there was no yes")
    assert "denied" not in found.done


def test_what_the_watch_sees_sends_nobody_after_sessions_in_azure():
    seen = sign(text="let through in spite of the block or the removal: flow_logs")
    found = pack([], [task("watch", machine="", signs=[seen])])
    assert not any("revoke the sessions" in n for n in found.next)


def test_a_shadowed_block_names_the_rule_to_change():
    found = pack([block("shadowed", shadowed_by="allow-all"), block("shadowed", detail="behind Front Door")])
    assert found.proven == (
        "outbound on nsg has NO effect: allow-all; outbound on nsg has NO effect: behind Front Door"
    )
    assert found.next[0].startswith("change or remove the rule allow-all of nsg")
    assert found.why == ("a block is shadowed",)


def test_questions_are_listed_with_the_command_that_answers_them():
    found = pack([block("waiting", question="q1", asks=["more than 10 addresses"]), block("waiting")],
                 [task("updates", "waiting", approval="q2", reason="install 2 updates")])
    assert found.open.startswith("2 questions for a person")
    assert "python -m remediation approve q1" in found.next[0]
    assert (
        found.next[1] == "answer: vm: install 2 updates – python -m remediation approve q2 approve --reason …"
    )
    assert "a question waits" in found.why


def test_what_failed_is_open_and_says_what_to_mend():
    found = pack([block("failed", detail="403 AuthorizationFailed")],
                 [task("posture", "failed", reason="403 AuthorizationFailed: no"),
                  task("log_traces", "failed", machine="", reason="x"), task("autoruns", "running")])
    assert "the block on nsg failed: 403 AuthorizationFailed" in found.open
    assert "posture on vm failed" in found.open
    assert "log_traces on the alert failed" in found.open
    assert "1 step under way" in found.open
    assert any("permission that is missing" in n for n in found.next)
    assert any("replay the alert" in n for n in found.next)


def test_sessions_that_may_live_on_are_said_until_they_were_looked_for():
    assert "may live on" in pack([block(sessions=MAY)]).open
    assert "may live on" not in pack([block(sessions=MAY)], [task("cut_flows")]).open
    refused = task("cut_flows", reason="not done (cut 2 live connections): rejected by bob: no")
    assert "may live on" in pack([block(sessions=MAY)], [refused]).open
    late = block(sessions=MAY, first_claimed=AT + timedelta(hours=1))
    looked = task("cut_flows", begun="2026-01-02T03:05:00.000Z")
    assert "may live on" in pack([late], [looked]).open, "that look knew nothing of this attacker"
    assert "may live on" not in pack([block(sessions=MAY, first_claimed=AT)], [looked]).open
    other = task("cut_flows", machine=VM.format("vm2"))
    assert "may live on" in pack([block(sessions=MAY)], [other]).open, "one machine says nothing of another"


def test_what_was_skipped_and_lifted_is_said():
    found = pack(
        [block("lifted"), block("revoked")],
        [task("msrt", "skipped", reason="no such script for linux")],
        plan={
            "mode": "enforce",
            "skipped": [
                {"address": "10.0.0.1", "reason": "private"},
                {"address": "", "resource": VM.format("vm9"), "reason": "no guard"},
            ],
            "notices": ["x"],
        },
        ended="2026-01-02T04:00:00Z",
        leftOut={VM.format("vm"): "looked into lately"},
    )
    assert found.done.startswith("2 blocks lifted again; 1 step on 1 machine: 1 skipped")
    assert "10.0.0.1 left alone: private; vm9 left alone: no guard" in found.open
    assert "not looked into: looked into lately" in found.text()
    assert found.why == (
        "a guardrail stopped something",
        "the plan has a notice",
        "the investigation has ended",
    )


def test_steps_with_one_reason_are_told_together_and_those_under_way_by_their_number():
    found = pack(
        [],
        [task(s, "skipped", reason="the machine is deallocated") for s in ("processes", "autoruns")]
        + [
            task("posture", says="fine"),
            task("updates", "waiting", reason="install 2"),
            task("msrt", "queued"),
            task("av_scan", "running"),
        ],
    )
    assert found.machines[0].steps == (
        "posture: done – fine", "updates: waits for a yes – install 2",
        "processes, autoruns: skipped – the machine is deallocated", "2 steps under way")


def test_nothing_blocked_says_why():
    assert pack(plan={"mode": "simulate", "reasons": ["a sample alert"]}).done == (
        "nothing was blocked (simulate: a sample alert)")
    assert pack(plan={"mode": "notify"}).done == "nothing was blocked (notify)"
    assert pack().done == "nothing was blocked (no plan)"


def test_many_machines_are_counted_not_listed_and_an_instance_keeps_its_sets_name():
    found = pack(machines=[f"vm{n}" for n in range(20)])
    assert (len(found.machines), found.left) == (12, 8)
    assert "and 8 machines more" in found.text()
    assert "vm0, vm1, vm2 and 17 more" in found.happened
    one = {"id": SET, "path": ["lb", "pool web", "web/3"], "likelihood": "odd"}
    found = pack(machines=[one])
    assert "web/3: not judged, by way of lb → pool web → web/3" in found.text()


def test_an_alert_about_nothing_known_still_reads():
    found = make({"alertId": "a", "alert": {"alert_type": "X", "compromised_entity": "db-1"}, "plan": None,
                  "blocks": [], "machines": [], "investigation": None}, {})
    assert found.happened == "X: db-1, since ? UTC"
    assert found.text().count("\n") == 4


def test_the_digest_changes_with_what_matters_and_not_with_time():
    before = pack([block()])
    assert before.digest == pack([block()]).digest
    assert before.digest != pack([block("shadowed")]).digest
    assert before.to_json()["counts"] == {}


def test_while_steps_are_under_way_only_what_cannot_wait_is_an_update():
    def found(*more: dict[str, Any]) -> str:
        return pack([block()], [task("autoruns", "running"), *more]).digest

    assert found() == found(task("posture", says="fine")) == found(task("msrt", "failed", reason="x"))
    assert found() != found(task("processes", signs=[sign("confirmed")]))
    assert found() != found(task("updates", "waiting", approval="q", reason="install"))
    assert found() == found(task("watch", "running", machine=""))
