"""SIGKILL before any outbound request of a block's life: after the next sweeps the rules are right
and the ledger is complete, and at no moment is there an address in our rules without a row."""

from __future__ import annotations

import ipaddress
import signal
import time
from datetime import timedelta
from typing import Any

import pytest

from remediation.model import BlockState
from tests.azure import Azure
from tests.estate import ATTACKER, alert, estate
from tests.sandbox.crash_child import start

BOTH = {"outbound": [ATTACKER], "inbound": [ATTACKER]}
SETTINGS = {"RESPONDER_LEASE_SECONDS": "2", "RESPONDER_DRIFT_SECONDS": "86400"}
LEASE_OVER = 3.1
"""Seconds: the lease and the grain of the table service's clock."""
JOBS = ("reconcile", "estate", "orphans", "firewalls", "retention")
PARTS = 4
MOST_REQUESTS = 120


def die_before(azure: Azure, request: int, order: dict[str, Any]) -> bool:
    """Let a child be killed before its n-th outbound request; False if it came to its end."""
    child, pipe = start(azure.world.environment(**azure.settings), order)
    with pipe:
        azure.faults({"skip": request, "kill": child.pid})
        pipe.send("go")
        child.join(60)
    azure.faults()
    assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
    return child.exitcode != 0


def no_orphans(azure: Azure) -> None:
    """Record before acting: whatever stands in our rules has a row."""
    known = {(b.key.direction.value, b.key.address) for b in azure.blocks().values()}
    for name, prefixes in azure.owned().items():
        for prefix in prefixes:
            for host in ipaddress.ip_network(prefix):
                assert (name, str(host)) in known


def recover(azure: Azure, done: Any) -> None:
    """Sweep, as a new process would every minute, until it is done."""
    for wait in (0, LEASE_OVER, 0, 0.5, 1, 2, 4):
        time.sleep(wait)  # a dead holder's lease ends by the table service's clock, which none can shift
        azure.clock.forward(seconds=90)
        azure.sweep()
        if done():
            return
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
    else:
        pytest.fail(f"it makes more than {MOST_REQUESTS} requests: not all were met")
    assert died > 3


@pytest.mark.parametrize("part", range(PARTS))
def test_death_at_any_moment_of_a_lift_leaves_nothing_behind(azure: Azure, part: int):
    died = 0
    for request in range(part, MOST_REQUESTS, PARTS):
        fresh(azure, request)
        one = azure.attack()
        for job in JOBS:  # they come after the lift and are no part of it
            azure.app.ledger.control.begin_job(job, azure.clock.now() + timedelta(hours=24.2), timedelta(0))
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
    else:
        pytest.fail(f"it makes more than {MOST_REQUESTS} requests: not all were met")
    assert died > 3
