"""A task is one step of an investigation on one machine (or, with no machine, for the alert as a whole).

    queued → running → done | skipped | failed
                     ↘ waiting (for a person) → running | skipped

`running` covers the long ones, too: what was started in a machine is remembered and looked at again at
`next`. What changes a machine waits for a person, unless the policy says otherwise.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from remediation.errors import Invalid
from remediation.model import from_utc, utc

MOST_SIGNS, MOST_IN_ALL = 20, 150
LONGEST_TEXT = 600
CUT = "~cut"
"""Among a task's `marks`: not all that the sources hold was read."""


class TaskState(StrEnum):
    """How far a task has come."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


ENDED = frozenset({TaskState.DONE, TaskState.SKIPPED, TaskState.FAILED})
"""Nothing more comes of these."""
SETTLED = ENDED | {TaskState.WAITING}
"""These wait for nobody but people."""


class Phase(StrEnum):
    """Does the task look, or change something?"""

    LOOK = "look"
    ACT = "act"


class Weight(StrEnum):
    """What a sign says of the machine, the gravest first."""

    CONFIRMED = "confirmed"
    LIKELY = "likely"
    NOTE = "note"

    @property
    def rank(self) -> int:
        """0 is the gravest."""
        return list(Weight).index(self)


@dataclass(frozen=True, slots=True)
class Sign:
    """Something that a person should know of a machine. `machine` where it is not the task's own."""

    weight: Weight
    text: str
    machine: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it is recorded."""
        return {"weight": self.weight.value, "text": self.text[:LONGEST_TEXT],
                **({"machine": self.machine} if self.machine else {})}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sign:
        """The inverse of `to_json`."""
        return cls(Weight(data["weight"]), str(data["text"]), str(data.get("machine") or ""))


@dataclass(frozen=True, slots=True)
class Finding:
    """What a step found. `says`: one line for people. `facts`: all of it, for the evidence. `wants`: why
    the step's change is worth a person's yes, or ''. `marks`: what of it is compared with other machines;
    `keep`: what the change is to act upon, as it was seen."""

    says: str
    signs: tuple[Sign, ...] = ()
    facts: Any = None
    wants: str = ""
    marks: tuple[str, ...] = ()
    keep: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Later:
    """What was begun goes on elsewhere: look again after so many seconds, with this memory. `signs` is what
    is seen already, `tell` what people should hear now; `idle`: it has not begun, so its time does not
    run."""

    seconds: float
    memory: Mapping[str, Any]
    why: str = ""
    signs: tuple[Sign, ...] = ()
    tell: tuple[str, ...] = ()
    idle: bool = False


def _most(signs: Sequence[Sign]) -> Iterator[Sign]:
    """So many of each machine, and of all together: one with much to say crowds out no other."""
    told: Counter[str] = Counter()
    for sign in signs:
        told[sign.machine] += 1
        if told[sign.machine] <= MOST_SIGNS and told.total() <= MOST_IN_ALL:
            yield sign


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One step on one machine, as the ledger holds it. `memory` is what a long step remembers of itself,
    `next` when it is to be looked at, `by` who asked for it, `until` when a question ends; `number` is its
    place among the steps; `claim` tells one call of it from another."""

    alert_id: str
    step: str
    machine: str = ""
    state: TaskState = TaskState.QUEUED
    phase: Phase = Phase.LOOK
    reason: str = ""
    says: str = ""
    signs: tuple[Sign, ...] = ()
    marks: tuple[str, ...] = ()
    by: str = ""
    begun: datetime | None = None
    phase_begun: datetime | None = None
    ended: datetime | None = None
    next: datetime | None = None
    until: datetime | None = None
    approval: str = ""
    approved_by: str = ""
    attempts: int = 0
    number: int = 0
    memory: Mapping[str, Any] = field(default_factory=dict)
    evidence: tuple[tuple[str, str], ...] = ()
    claim: str = ""
    etag: str = ""

    @property
    def key(self) -> str:
        """What tells it from the alert's other tasks."""
        return f"{self.machine}|{self.step}"

    @property
    def message(self) -> str:
        """The queue's message about it."""
        return json.dumps({"alert": self.alert_id, "machine": self.machine, "step": self.step})

    @property
    def gravest(self) -> Weight | None:
        """Of its signs."""
        return min((s.weight for s in self.signs), key=lambda w: w.rank, default=None)

    def ended_as(self, state: TaskState, reason: str, now: datetime) -> Task:
        """It is over; what it has begun in a machine is remembered until it is taken away."""
        left = {"commands": list(self.memory["commands"])} if self.memory.get("commands") else {}
        return replace(self, state=state, reason=reason[:LONGEST_TEXT], ended=now, next=None, memory=left)

    def with_finding(self, found: Finding, evidence: tuple[str, str]) -> Task:
        """What was found joins what was found before."""
        says = "; ".join(t for t in (self.says if self.phase is Phase.ACT else "", found.says) if t)
        signs = tuple(dict.fromkeys((*(self.signs if self.phase is Phase.ACT else ()), *found.signs)))
        kept = tuple(_most(sorted(signs, key=lambda s: s.weight.rank)))
        return replace(self, says=says[:2 * LONGEST_TEXT], signs=kept, marks=found.marks or self.marks,
                       evidence=(*self.evidence, evidence))

    def to_json(self) -> dict[str, Any]:
        """For people and for the ledger."""
        times = {"begun": self.begun, "phaseBegun": self.phase_begun, "ended": self.ended, "next": self.next,
                 "until": self.until}
        return {
            "alert": self.alert_id,
            "step": self.step,
            "machine": self.machine,
            "state": self.state.value,
            "phase": self.phase.value,
            "reason": self.reason,
            "says": self.says,
            "by": self.by,
            "signs": [s.to_json() for s in self.signs],
            "approval": self.approval,
            "approvedBy": self.approved_by,
            "attempts": self.attempts,
            "number": self.number,
            "claim": self.claim,
            "evidence": [list(e) for e in self.evidence],
            **{name: utc(at) for name, at in times.items() if at is not None},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, memory: Mapping[str, Any], marks: Sequence[str],
                  etag: str) -> Task:
        """The inverse, with what people are not shown."""
        times = {ours: from_utc(data[theirs]) if data.get(theirs) else None for ours, theirs in (
            ("begun", "begun"), ("phase_begun", "phaseBegun"), ("ended", "ended"), ("next", "next"),
            ("until", "until"))}
        return cls(
            alert_id=str(data["alert"]), step=str(data["step"]), machine=str(data["machine"]),
            state=TaskState(data["state"]), phase=Phase(data["phase"]), reason=str(data["reason"]),
            says=str(data["says"]), by=str(data["by"]), approval=str(data["approval"]),
            signs=tuple(Sign.from_json(s) for s in data["signs"]),
            approved_by=str(data["approvedBy"]), attempts=int(data["attempts"]),
            number=int(data.get("number") or 0), claim=str(data.get("claim") or ""),
            evidence=tuple((str(e[0]), str(e[1])) for e in data["evidence"]), memory=memory,
            marks=tuple(marks), etag=etag, **times)


def parse_message(text: str) -> tuple[str, str, str]:
    """(alert, machine, step) of a message of the queue. Raises Invalid."""
    try:
        held = json.loads(text)
        found = tuple(held[name] for name in ("alert", "machine", "step"))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Invalid("a message of the investigation queue without alert, machine and step") from None
    if not all(isinstance(one, str) for one in found) or not found[0] or not found[2]:
        raise Invalid("a message of the investigation queue without alert, machine and step")
    return str(found[0]), str(found[1]), str(found[2])


def gravest_of(tasks: Iterable[Task], machine: str) -> Weight | None:
    """The gravest sign on a machine, whichever task found it."""
    weights = [s.weight for t in tasks for s in t.signs if (s.machine or t.machine) == machine]
    return min(weights, key=lambda w: w.rank, default=None)


def peculiar(tasks: Sequence[Task], step: str, least: int = 3) -> dict[str, list[str]]:
    """Machine → the marks of a step that it alone has among at least so many of one alert: members of a
    pool should look alike."""
    looked = [
        t for t in tasks if t.step == step and t.state in (TaskState.DONE, TaskState.WAITING) and t.marks
    ]
    if len(looked) < least:
        return {}
    seen: dict[str, int] = {}
    for t in looked:
        for mark in set(t.marks):
            seen[mark] = seen.get(mark, 0) + 1
    return {t.machine: [m for m in t.marks if seen[m] == 1] for t in looked}


def longest_wait(attempts: int) -> timedelta:
    """How long a task that met a temporary error waits, longer with every attempt."""
    return timedelta(seconds=min(300.0, 5.0 * 2 ** min(attempts, 6)))
