"""Run a script in a machine, over several calls: begun, looked at, read.

    guest.machine   is it running, does its agent answer?    else the step is skipped, with the reason
    the slot        one command at a time in a machine       else later
    guest.start     a Run Command of a name of its own, its output to a blob
    guest.look      until it is over; then the output is read

What was begun is remembered in the task before anything waits for it, and taken away (`clean`) only after its
result is in the ledger.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path

from remediation.errors import Forbidden, NotFound, PermanentError, TemporaryError
from remediation.investigation.output import MOST_BYTES, Output, read
from remediation.investigation.task import Later
from remediation.model import from_utc, utc
from remediation.steps.step import Skip, StepFailed, Work

_SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
_KINDS = {"linux": "sh", "windows": "ps1"}
FIRST_LOOK, BUSY, LONGEST_PAUSE = 3.0, 5.0, 60.0
"""Times the pace of looks (`Tools.pace`): the first pause, and that of who waits for the machine; in seconds
the longest."""
GRACE = timedelta(minutes=3)
"""For so long after its own limit a command may still come to be read."""
INLINE_BYTES = 4_096
"""The instance view holds the last 4 KiB of an output [D]."""


@cache
def script_text(os: str, name: str) -> str:
    """A script, '' if there is none of this name for the operating system."""
    path = _SCRIPTS / os / f"{name}.{_KINDS.get(os, '')}"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def command_name(work: Work, stage: str) -> str:
    """The same for the same thing: alert, step, half and stage, of this time that it was asked for."""
    text = f"{work.task.alert_id}|{work.task.step}|{work.task.phase}|{stage}|{work.task.begun}"
    return f"responder-{work.task.step}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def run(
    work: Work, script: str, parameters: Mapping[str, str], *, seconds: int, stage: str = ""
) -> Output | Later:
    """The output of `scripts/<os>/<script>`, or when to look again. Raises Skip where it cannot run, and
    StepFailed if it failed or did not end in time."""
    name = command_name(work, stage)
    if work.memory.get("command") != name:
        return _begin(work, name, script, parameters, seconds)
    ran = work.tools.guest.look(work.machine, name, work.deadline)
    if ran is None:
        raise StepFailed("its command is gone from the machine: somebody took it away")
    if not ran.over:
        begun = from_utc(str(work.memory["started"]))
        if work.now - begun > timedelta(seconds=seconds) + GRACE:
            raise StepFailed(f"the script did not end within {seconds} s")
        polls = int(work.memory.get("polls", 0)) + 1
        work.tools.ledger.investigations.take_slot(
            work.machine, work.task, timedelta(seconds=seconds) + GRACE
        )
        return Later(_pause(work, polls), {**work.memory, "polls": polls},
                     "the script is running")
    if not ran.ok:
        said = next(
            (t.strip().splitlines()[-1] for t in (ran.error, ran.message, ran.output) if t.strip()), ""
        )
        code = "" if ran.exit_code is None else f", exit code {ran.exit_code}"
        raise StepFailed(
            f"the script ended {ran.state or 'without a word'}{code}: {said[:200]}",
            {"state": ran.state, "exit": ran.exit_code, "message": ran.message, "output": ran.output,
             "error": ran.error, "arrived": _arrived(work, name)})
    arrived = work.tools.store.arrived(_blob(work, name), MOST_BYTES)
    if arrived is None or not arrived[0]:  # the machine may not reach the storage account
        inline = ran.output.encode()
        cut = len(inline) >= INLINE_BYTES - 1
        if cut and work.memory.get("late") != name:  # or it is on its way
            return Later(_pause(work, 3), {**work.memory, "late": name}, "its output has not arrived")
        return read(inline, cut=cut)
    return read(arrived[0], cut=arrived[1])


def _arrived(work: Work, name: str) -> str:
    """What a script that failed had said until then; why that cannot be read, where it cannot."""
    try:
        told, _ = work.tools.store.arrived(_blob(work, name), MOST_BYTES) or (b"", False)
    except PermanentError as error:
        return f"cannot be read: {error}"
    return told.decode(errors="replace")


def _begin(work: Work, name: str, script: str, parameters: Mapping[str, str], seconds: int) -> Later:
    tools = work.tools
    lasting = timedelta(seconds=seconds) + GRACE
    if not tools.ledger.investigations.take_slot(work.machine, work.task, lasting):
        waits = int(work.memory.get("waits", 0))
        return Later(min(LONGEST_PAUSE, tools.pace * BUSY * 1.5 ** min(waits, 10)),
                     {**work.memory, "waits": waits + 1}, "another command runs in the machine", idle=True)
    try:
        guest = tools.guest.machine(work.machine, work.deadline)
    except NotFound:
        raise Skip("the machine is gone") from None
    except Forbidden as error:
        raise Skip(f"the machine is not ours to look at: {error}") from None
    if guest.power.lower() != "powerstate/running":
        raise Skip(f"the machine is {guest.power.rpartition('/')[2] or 'in a power state that is not known'}")
    if not guest.agent:
        raise Skip("the machine's agent does not answer")
    text = script_text(guest.os, script)
    if not text:
        raise Skip(f"there is no such script for {guest.os or 'an operating system that is not known'}")
    if tools.guest.look(work.machine, name, work.deadline) is None:  # else a crash came between
        address = tools.store.incoming(_blob(work, name), work.now, lasting + timedelta(hours=1))
        tools.guest.start(
            work.machine, name, guest.location, text, parameters, seconds, address, work.deadline
        )
    commands = list(dict.fromkeys((*work.memory.get("commands", ()), name)))
    return Later(_pause(work, 0), {**work.memory, "command": name, "commands": commands, "os": guest.os,
                              "started": utc(work.now), "polls": 0}, "the script is running")


def _pause(work: Work, polls: int) -> float:
    """Longer with every look."""
    return min(LONGEST_PAUSE, work.tools.pace * FIRST_LOOK * 1.6 ** min(polls, 10))


def clean(work: Work) -> None:
    """Take away what a task has left in its machine and in the storage account, and leave the machine to the
    next command; to be done again until it has succeeded."""
    left: PermanentError | TemporaryError | None = None
    for name in work.memory.get("commands", ()):
        try:
            with contextlib.suppress(NotFound):  # it went with its machine
                work.tools.guest.remove(work.machine, str(name), work.deadline)
            work.tools.store.forget_incoming(_blob(work, str(name)))
        except (PermanentError, TemporaryError) as error:
            left = error
    work.tools.ledger.investigations.free_slot(
        work.machine, work.task
    )  # the command is over: others may begin
    if left is not None:
        raise left


def _blob(work: Work, command: str) -> str:
    where = hashlib.sha256(work.machine.encode()).hexdigest()[:12]
    return f"{command}-{where}.jsonl"
