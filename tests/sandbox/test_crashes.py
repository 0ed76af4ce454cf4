"""SIGKILL before any outbound request of a block's life: after the next sweeps the rules are right
and the ledger is complete, and at no moment is there an address in our rules without a row."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
import time
from typing import Any

import pytest

from remediation.model import BlockState
from sandbox.world import ROOT
from tests.estate import ATTACKER, alert, estate
from tests.sandbox.conftest import Azure

BOTH = {"outbound": [ATTACKER], "inbound": [ATTACKER]}
SETTINGS = {"RESPONDER_LEASE_SECONDS": "2", "RESPONDER_DRIFT_SECONDS": "86400"}
PARTS = 6
MOST_REQUESTS = 120


def die_before(azure: Azure, request: int, order: dict[str, Any]) -> bool:
    """Run a child that is killed before its n-th outbound request; False if it came to its end."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.sandbox.crash_child"], cwd=ROOT, text=True,
        env=azure.world.environment(**azure.settings), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout:
        child.stdin.write(json.dumps(order) + "\n")
        child.stdin.flush()
        assert child.stdout.readline() == "ready\n"
        azure.faults({"skip": request, "kill": child.pid})
        child.stdin.write("go\n")
        child.stdin.flush()
        last = child.stdout.readline()
    child.wait(30)
    azure.faults()
    return last != "done\n"


def no_orphans(azure: Azure) -> None:
    """Record before acting: whatever stands in our rules has a row."""
    known = {(b.key.direction.value, b.key.address) for b in azure.blocks().values()}
    for name, prefixes in azure.owned().items():
        for prefix in prefixes:
            for host in ipaddress.ip_network(prefix):
                assert (name, str(host)) in known


def recover(azure: Azure, done: Any) -> None:
    """Sweep, as a new process would every minute, until it is done."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        azure.clock.forward(seconds=90)
        azure.sweep()
        if done():
            return
        time.sleep(0.05)
    raise AssertionError(f"not recovered: {azure.states()} {azure.owned()}")


def fresh(azure: Azure, number: int) -> None:
    """An empty Azure and empty tables for the next death."""
    azure.world.control("POST", "reset")
    azure.clock.shift *= 0
    own = azure.settings["RESPONDER_TABLE_PREFIX"].partition("x")[0]
    azure.start(**SETTINGS, RESPONDER_TABLE_PREFIX=f"{own}x{number}")
    azure.world.seed(estate())


@pytest.mark.parametrize("part", range(PARTS))
def test_death_at_any_moment_of_an_alert_leaves_nothing_undone(azure: Azure, part: int):
    died = 0
    for request in range(part, MOST_REQUESTS, PARTS):
        fresh(azure, request)
        one = azure.know(alert())
        killed = die_before(azure, request, {"alert": one, "hours": 0})
        no_orphans(azure)
        azure.deliver(one)  # Event Grid delivers again what was not answered
        recover(azure, lambda: azure.states() == {"active"} and azure.owned() == BOTH)
        found = azure.timeline(one)
        assert found["state"] == "done"
        assert {a["direction"] for a in found["actions"] if a["action"] == "proven"} == {
            "outbound", "inbound"}
        assert "users-own" in azure.rules()
        if not killed:
            break
        died += 1
    assert died > 3


@pytest.mark.parametrize("part", range(PARTS))
def test_death_at_any_moment_of_a_lift_leaves_nothing_behind(azure: Azure, part: int):
    died = 0
    for request in range(part, MOST_REQUESTS, PARTS):
        fresh(azure, request)
        one = azure.attack()
        azure.sweep()  # the daily jobs are done, the rest is the lift
        killed = die_before(azure, request, {"alert": None, "hours": 24.2})
        azure.clock.forward(hours=24.2)
        no_orphans(azure)
        recover(azure, lambda: azure.blocks() == {} and azure.owned() == {})
        assert {b.state for b in azure.ended()} == {BlockState.LIFTED}
        assert len(azure.ended()) == 2
        lifted = [a for a in azure.timeline(one)["actions"] if a["action"] == "lifted"]
        assert {a["direction"] for a in lifted} == {"outbound", "inbound"}
        if not killed:
            break
        died += 1
    assert died > 3
