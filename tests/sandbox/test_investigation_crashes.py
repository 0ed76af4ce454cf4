"""SIGKILL before any outbound request of a step in a machine: begun, looked at, read, cleaned up. Whatever
was cut off, the step comes to its answer, its evidence is there once, and nothing is left in the machine."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest

from remediation.inquiry.sealing import Sealing
from remediation.investigation.seals import verify
from remediation.investigation.task import TaskState
from tests.azure import Azure
from tests.inquiry import GUEST_IDENTITY, Inquiry, machine, site
from tests.role import guest_actions
from tests.sandbox.test_crashes import die_before

MOST_REQUESTS, PARTS = 60, 2
STEP = "cut_flows"
HASH = hashlib.sha256(machine().encode()).hexdigest()[:6]


def fresh(azure: Azure, number: int) -> Inquiry:
    """An empty Azure and empty tables for the next death; an investigation just begun."""
    azure.world.control("POST", "reset")
    azure.clock.shift *= 0
    own = azure.settings["RESPONDER_TABLE_PREFIX"].partition("x")[0]
    azure.world.role(GUEST_IDENTITY, guest_actions())
    azure.settings["RESPONDER_TABLE_PREFIX"] = f"{own}x{number}"
    azure.world.seed(site({}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    return inquiry


def dies_in_guest(azure: Azure, inquiry: Inquiry, request: int) -> bool:
    """The guest app's process is killed before its n-th request of the step's next call."""
    task = inquiry.of(STEP)
    hours = azure.clock.shift.total_seconds() / 3600
    own = {k: azure.settings[k] for k in ("INVESTIGATION_QUEUE", "GUEST_QUEUE")}
    azure.settings.update({"RESPONDER_ROLE": "guest", "AZURE_CLIENT_ID": GUEST_IDENTITY,
                           "INVESTIGATION_QUEUE": own["GUEST_QUEUE"], "GUEST_QUEUE": ""})
    try:
        return die_before(azure, request, {"message": task.message, "alert": None, "hours": hours})
    finally:
        azure.settings.update({"RESPONDER_ROLE": "responder", "AZURE_CLIENT_ID": "", **own})


@pytest.mark.parametrize("call", ["that begins it", "that reads it"])
@pytest.mark.parametrize("part", range(PARTS))
def test_death_at_any_moment_of_a_step_leaves_it_done_once_and_the_machine_clean(
        azure: Azure, call: str, part: int):
    died = 0
    for request in range(part, MOST_REQUESTS, PARTS):
        inquiry = fresh(azure, request + (100 if call == "that reads it" else 0))
        if call == "that reads it":
            inquiry.deliver(inquiry.of(STEP))
            time.sleep(0.2)  # the script really runs
            inquiry.due(inquiry.of(STEP))
        killed = dies_in_guest(azure, inquiry, request)
        azure.clock.forward(minutes=3)  # what held the task is over; the sweep would send its message again
        inquiry.pump(STEP)
        inquiry.deliver(inquiry.of(STEP))  # and once more, to take away what was left behind
        task = inquiry.of(STEP)
        assert (task.state, task.memory) == (TaskState.DONE, {}), task
        assert [name for name, _ in task.evidence] == [f"vm.{HASH}-{STEP}.json"], task.evidence
        assert not azure.world.resources("microsoft.compute/virtualmachines/runcommands")
        if not killed:
            break
        died += 1
    assert died > 2


def test_a_manifest_that_was_cut_off_is_written_by_the_sweep(azure: Azure, monkeypatch: pytest.MonkeyPatch):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure, GUEST_QUEUE="")
    inquiry.begin()

    def dies(*_: Any) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as patched:
        patched.setattr(Sealing, "_write", dies)
        with pytest.raises(SystemExit):
            inquiry.pump()
    head = inquiry.head
    assert (head.manifests, head.written) == (1, 0)
    azure.clock.forward(minutes=6)
    azure.sweep()
    assert inquiry.head.written == 1
    assert verify(lambda name: azure.app.store.read(inquiry.id, name), head.seal)[0] == []
