"""What people are shown of each machine: its way, its likelihood, and the proof of every block for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from remediation.investigation.task import Sign, Task, TaskState, Weight
from remediation.ledger.alerts import plan_to_json
from remediation.ledger.block import Block
from remediation.likelihood import NOT_LOOKED_AT
from remediation.model import (
    BlockKey,
    BlockState,
    Direction,
    Machine,
    Mode,
    Nic,
    Plan,
    PlannedBlock,
    Target,
    Verdict,
    Weak,
)
from remediation.nsg import Nsg, Rule
from remediation.owned import Ownership
from remediation.policy import load_policy
from remediation.view import UNSEEN, expected, machines_of, with_traces

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = BlockKey("/nsg", Direction.OUTBOUND, "198.51.100.7")
ONE, TWO = (Machine(f"/vm{n}", (Nic(f"/nic{n}", "/subnet", (f"10.0.0.{n}",), subnet_nsg="/nsg"),),
                    "PowerState/running", path=("lb", f"vm{n}")) for n in (1, 2))
TARGET = Target("/vm1", "/nic1", "/subnet", ("10.0.0.1",))
PLAN = Plan("a", Mode.ENFORCE, Verdict.CONFIRMED, (ONE, TWO),
            (PlannedBlock(KEY, timedelta(hours=24), (TARGET,), decisive=True),))
ALLOW = Rule(name="allow", priority=100, direction=Direction.OUTBOUND, allow=True, sources=("10.0.0.1",))


def test_each_machine_shows_the_block_as_the_ledger_has_it_now():
    block = Block(key=KEY, state=BlockState.SHADOWED, lifetime=timedelta(hours=24), decisive=True,
                  targets=(TARGET,), proven=NOW, rule="ours", detail="rule allow comes before",
                  shadowed_by="allow")
    weighed = {"machines": {"/vm1": {"powerThen": "PowerState/running", "powerReason": "r",
                                     "likelihood": "likely", "reasons": ["named"]}}}
    one, two = machines_of(plan_to_json(PLAN), weighed, [block])
    assert (one["path"], one["likelihood"], one["reasons"]) == (["lb", "vm1"], "likely", ["named"])
    assert one["proof"] == [{
        "direction": "outbound", "address": "198.51.100.7", "guard": "/nsg", "outcome": "shadowed",
        "rule": "ours", "shadowedBy": "allow", "detail": "rule allow comes before",
        "proven": "2026-01-01T00:00:00.000Z"}]
    assert (two["likelihood"], two["reasons"]) == (None, ["not weighed yet"])
    assert (two["proof"][0]["detail"], two["proof"][0]["proven"]) == (UNSEEN, None)
    assert machines_of({}, None, [block]) == []
    elsewhere = replace(block, key=replace(KEY, nsg_id="/other"), targets=())
    assert machines_of(plan_to_json(PLAN), None, [elsewhere])[0]["proof"] == []


def test_a_plan_that_is_not_carried_out_shows_what_the_proof_would_find():
    policy, ours = load_policy(), Ownership("prod")
    free = Nsg("/nsg", (), frozenset({"/subnet"}))
    one, two = expected(PLAN, {"/nsg": free}, policy, ours)
    assert (one["proof"][0]["outcome"], one["proof"][0]["rule"]) == (
        "effective", "defender-block-prod-outbound")
    assert two["proof"] == []
    full = Nsg("/nsg", (ALLOW,), frozenset({"/subnet"}))
    (found,) = expected(PLAN, {"/nsg": full}, policy, ours)[0]["proof"]
    assert (found["outcome"], found["shadowedBy"], found["rule"]) == ("shadowed", "allow", "")
    over = {"": (replace(ALLOW, name="always", sources=("*",)),)}
    target = replace(TARGET, subnet_id="/subnets/s")
    lone = replace(PLAN, blocks=(replace(PLAN.blocks[0], targets=(target,)),))
    (found,) = expected(lone, {"/nsg": replace(free, subnets=frozenset({"/subnets/s"}))}, policy, ours, over)[
        0]["proof"]
    assert (found["outcome"], found["shadowedBy"]) == ("shadowed", "always")


def test_what_is_stopped_before_a_gateway_is_shown_with_the_gateway():
    gate = replace(PLAN, blocks=(replace(PLAN.blocks[0], targets=(Target("/agw", "/agw", "/subnet", ()),)),))
    found = expected(gate, {"/nsg": Nsg("/nsg", (), frozenset({"/subnet"}))}, load_policy(), Ownership("p"))
    assert [m["id"] for m in found] == ["/vm1", "/vm2", "/agw"]
    assert found[-1]["proof"][0]["outcome"] == "effective"


def test_of_a_pool_each_machine_shows_what_its_own_proof_found():
    both = (TARGET, Target("/vm2", "/nic2", "/subnet", ("10.0.0.2",)))
    weak = (Weak("/nic2", "unproven", "ours", "unproven: agw hides"),)
    block = Block(key=KEY, state=BlockState.SHADOWED, lifetime=timedelta(hours=24), decisive=True,
                  targets=both, proven=NOW, rule="ours", detail="unproven: agw hides", weak=weak,
                  each=True)
    one, two = machines_of(plan_to_json(PLAN), None, [block])
    assert (one["proof"][0]["outcome"], one["proof"][0]["detail"]) == ("active", "")
    assert (two["proof"][0]["outcome"], two["proof"][0]["detail"], two["proof"][0]["shadowedBy"]) == (
        "unproven", "unproven: agw hides", "")
    shadow = replace(block, weak=(Weak("/nic2", "shadowed", "allow", "comes before"),))
    assert machines_of(plan_to_json(PLAN), None, [shadow])[1]["proof"][0]["shadowedBy"] == "allow"
    part = machines_of(plan_to_json(PLAN), None, [replace(block, each=False)])[0]
    assert part["proof"][0]["outcome"] == "shadowed", "it was not looked at by itself"
    ended = machines_of(plan_to_json(PLAN), None, [replace(block, state=BlockState.LIFTED)])[1]
    assert ended["proof"][0]["outcome"] == "lifted"
    lost = replace(block, state=BlockState.ACTIVE, weak=(Weak("/nic2", "detached"),), detail="")
    one, two = machines_of(plan_to_json(PLAN), None, [lost])
    assert (one["proof"][0]["outcome"], two["proof"][0]["outcome"]) == ("active", "detached")


def test_what_is_stopped_before_a_gateway_is_shown_with_it_and_no_other_alerts_machines():
    front = Target("/agw", "/agw", "/subnet", ())
    gate = replace(PLAN, blocks=(replace(PLAN.blocks[0], targets=(front,)),))
    block = Block(key=KEY, state=BlockState.ACTIVE, lifetime=timedelta(hours=24), decisive=True, proven=NOW,
                  targets=(front, Target("/another-alerts", "/nic9", "/subnet", ())), rule="ours")
    shown = machines_of(plan_to_json(gate), None, [block])
    assert [m["id"] for m in shown] == ["/vm1", "/vm2", "/agw"]
    assert shown[-1]["proof"][0]["outcome"] == "active"


def test_flow_records_outweigh_what_was_thought_before_they_were_read():
    machines = [
        {"id": f"/vm{n}", "likelihood": "unlikely", "reasons": ["no port", NOT_LOOKED_AT]} for n in (1, 2, 3)
    ]
    looked = Task(alert_id="a", step="log_traces", state=TaskState.DONE, marks=("flow_logs",), signs=(
        Sign(Weight.LIKELY, "10.0.0.1 → 198.51.100.7:443", "/vm1"), Sign(Weight.NOTE, "denied", "/vm2")))
    one, two, three = with_traces(machines, [looked])
    assert (one["likelihood"], one["reasons"]) == (
        "likely", ["the logs show it: 10.0.0.1 → 198.51.100.7:443", "no port"])
    for other in (two, three):
        assert (other["likelihood"], other["reasons"]) == (
            "unlikely", ["the logs that are collected show nothing of it", "no port"])
    for task in (replace(looked, state=TaskState.RUNNING), replace(looked, marks=())):
        assert with_traces(machines, [task]) == machines, "nothing about machines was asked"
