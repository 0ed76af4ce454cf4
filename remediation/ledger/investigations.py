"""The investigations table: per alert a head, its tasks, and what people were told of it; and of each machine
who is at work in it, and when it was last investigated.

| PartitionKey | RowKey                  | holds                                               |
|--------------|-------------------------|-----------------------------------------------------|
| alert id     | `head`                  | the machines, the manifests of the evidence         |
| alert id     | `task|<machine>|<step>` | a task                                              |
| alert id     | `told`                  | the escalation: what was said last, to which channel |
| `~machines`  | machine id              | by which alert it was investigated last, and when   |
| `~slots`     | machine id              | the task that has a command in it                   |
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from remediation.cloud.table_batch import Op
from remediation.errors import Conflict
from remediation.investigation.task import Task
from remediation.ledger.forms import Row, encode, pack, unpack
from remediation.ledger.store import MAX_TRANSACTION, Tables
from remediation.model import from_utc, utc

ABANDONED = timedelta(minutes=2)
MOST_TIMES = 4
"""A machine is looked into so often within `[investigation] again`, whatever alerts come: who can make alerts
must not be able to keep a machine busy with scripts."""
HEAD, TOLD, TASK = "head", "told", "task|"
MACHINES, SLOTS = "~machines", "~slots"


@dataclass(frozen=True, slots=True)
class Head:
    """An investigation as a whole.

    `machines`: id, path and private addresses of each; `left_out`: machine → why it is not looked into.
    `manifests`: number of manifests, `seal` the last one's; `sealed`: each manifest as it is to be written,
    `written` how many are. `closed`: when the alert was resolved in Defender; `trusted`: Defender confirms
    it, and it is no sample; `dismissed`: the watch has seen it dismissed. `covered`: the bodies of the alert
    (their accusations) of which every machine has been thought of; `redo`: steps that are to be done anew,
    since when: what was begun of them before does not count."""

    alert_id: str
    accusation: str
    begun: datetime
    by: str = ""
    machines: tuple[Mapping[str, Any], ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    ended: datetime | None = None
    manifests: int = 0
    seal: str = ""
    sealed: tuple[Mapping[str, Any], ...] = ()
    written: int = 0
    closed: datetime | None = None
    trusted: bool = False
    covered: tuple[str, ...] = ()
    dismissed: bool = False
    redo: Mapping[str, datetime] = field(default_factory=dict)
    etag: str = ""

    def machine(self, machine_id: str) -> Mapping[str, Any]:
        """What was known of a machine when it began."""
        return next((m for m in self.machines if m.get("id") == machine_id), {})

    def to_json(self) -> dict[str, Any]:
        """For people."""
        return {"begun": utc(self.begun), "by": self.by, "ended": utc(self.ended) if self.ended else None,
                "machines": [m.get("id") for m in self.machines], "leftOut": dict(self.left_out),
                "manifests": self.manifests, "seal": self.seal,
                "closed": utc(self.closed) if self.closed else None}


@dataclass(frozen=True, slots=True)
class Told:
    """What people were told of an alert: how often, the last message's digest, and where it has arrived.
    `until`: somebody sends it in this moment, and is left alone so long."""

    version: int = 0
    digest: str = ""
    at: datetime | None = None
    arrived: tuple[str, ...] = ()
    attempts: int = 0
    said: Mapping[str, Any] = field(default_factory=dict)
    until: datetime | None = None
    etag: str = ""


class Investigations:
    """The investigations table."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.table("investigations")

    # --- the head ---

    def begun(self, alert_id: str) -> bool:
        """Has one been begun?"""
        return self._table.get(encode(alert_id), HEAD) is not None

    def begin(self, head: Head, tasks: Sequence[Task]) -> bool:
        """Record a new investigation with its tasks; False if there is one."""
        partition = encode(head.alert_id)
        if self.begun(head.alert_id):
            return False
        if not self._insert(partition, tasks) and not (
                self._left_without(head) and self._insert(partition, tasks)):
            return False  # another begins it in this moment
        try:
            self._table.insert(partition, HEAD, _head_values(head))
        except Conflict:
            return False
        return True

    def _insert(self, partition: str, tasks: Sequence[Task]) -> bool:
        """The tasks, none of which may be there."""
        ops = [Op("insert", partition, _key(t), _values(t)) for t in tasks]
        try:
            for some in itertools.batched(ops, MAX_TRANSACTION, strict=False):
                self._table.transaction(some)
        except Conflict:
            return False
        return True

    def _left_without(self, head: Head) -> bool:
        """Are there tasks that somebody recorded some time ago, who then died before the head? They are taken
        away: without a head nobody follows them."""
        old = self.tasks(head.alert_id)
        if any(t.begun is None or head.begun - t.begun < ABANDONED for t in old):
            return False
        return all(self._table.delete(encode(head.alert_id), _key(t), t.etag) for t in old)

    def head(self, alert_id: str) -> Head | None:
        """The investigation of an alert."""
        return self._table.parsed(self._table.get(encode(alert_id), HEAD), _head)

    def save_head(self, head: Head) -> Head:
        """Change it as it was read. Raises Conflict."""
        etag = self._table.put(encode(head.alert_id), HEAD, _head_values(head), head.etag)
        return replace(head, etag=etag)

    # --- tasks ---

    def task(self, alert_id: str, machine: str, step: str) -> Task | None:
        """One task."""
        row = self._table.get(encode(alert_id), f"{TASK}{encode(machine)}|{step}")
        return self._table.parsed(row, _task)

    def tasks(self, alert_id: str) -> list[Task]:
        """All tasks of an alert."""
        rows = self._table.query("PartitionKey eq @p and RowKey ge 'task|' and RowKey lt 'task}'",
                                 p=encode(alert_id))
        return list(self._table.all_parsed(rows, _task))

    def add(self, task: Task) -> bool:
        """A task more; False if it is there."""
        try:
            self._table.insert(encode(task.alert_id), _key(task), _values(task))
        except Conflict:
            return False
        return True

    def save(self, task: Task) -> Task:
        """Change a task as it was read. Raises Conflict if someone else did; the answer to our own write
        may be what was lost."""
        values = _values(task)
        try:
            etag = self._table.put(encode(task.alert_id), _key(task), values, task.etag)
        except Conflict:
            there = self._table.get(encode(task.alert_id), _key(task))
            if there is None or unpack(there.values, "task") != unpack(values, "task") or (
                    unpack(there.values, "memory") != unpack(values, "memory")):
                raise
            etag = there.etag
        return replace(task, etag=etag)

    # --- machines ---

    def claim_machine(
        self, machine: str, alert_id: str, attackers: Sequence[str], now: datetime, again: timedelta
    ) -> str:
        """'' if the machine is this alert's to look into; else why not: other alerts had it looked into
        lately, with the same attackers or too often, or one has in this moment. `again` counts from the
        first."""
        key = encode(machine)
        row = self._table.get(MACHINES, key)
        last = self._table.parsed(row, lambda r: (
            r.text("alert"), from_utc(r.text("since")), int(r.text("times")),
            frozenset(unpack(r.values, "attackers") or ())))
        since, times, known = now, 1, frozenset(attackers)
        if last and now - last[1] < again:
            since, times, known = last[1], last[2] + (last[0] != alert_id), last[3] | known
            if last[0] != alert_id and last[3] == known:
                return f"looked into since {utc(since)} for alert {last[0]}"
            if times > MOST_TIMES:
                return f"looked into {last[2]} times since {utc(since)}, the last for alert {last[0]}"
        try:
            self._table.write(row, MACHINES, key, {"alert": alert_id, "since": utc(since),
                                                   "times": str(times), **pack("attackers", sorted(known))})
        except Conflict:
            there = self._table.get(MACHINES, key)
            if there is None or there.text("alert") != alert_id:
                return "another alert has it looked into in this moment"
        return ""

    def take_slot(self, machine: str, task: Task, lasting: timedelta) -> bool:
        """One command at a time in a machine: True if it is this task's now, for so long. The age of
        another's is judged by the service's own clock."""
        key, mine = encode(machine), f"{task.alert_id}|{task.step}"
        row, now = self._table.get_with_time(SLOTS, key)
        values = {"task": mine, "seconds": lasting.total_seconds(), "at": utc(now)}
        if row is not None and row.text("task") not in ("", mine) and row.changed is not None:
            held = self._table.parsed(row, lambda r: float(r.text("seconds"))) or 0.0
            if now - row.changed < timedelta(seconds=held):
                return False
        try:
            self._table.write(row, SLOTS, key, values)
        except Conflict:
            there = self._table.get(SLOTS, key)
            return there is not None and there.text("task") == mine
        return True

    def free_slot(self, machine: str, task: Task) -> None:
        """The task's command has ended."""
        row = self._table.get(SLOTS, encode(machine))
        if row is not None and row.text("task") == f"{task.alert_id}|{task.step}":
            self._table.delete(SLOTS, encode(machine), row.etag)

    # --- what people were told ---

    def told(self, alert_id: str) -> Told:
        """The escalation of an alert, or of what concerns none."""
        return self._table.parsed(self._table.get(encode(alert_id), TOLD), _told) or Told()

    def save_told(self, alert_id: str, told: Told) -> Told:
        """Change it as it was read. Raises Conflict if someone else did; the answer to our own write may be
        what was lost."""
        values = {"claim": secrets.token_hex(8),  # tells our own write from one that says the same
                  "version": told.version, "digest": told.digest, "at": utc(told.at) if told.at else None,
                  "until": utc(told.until) if told.until else "", "attempts": told.attempts,
                  **pack("arrived", list(told.arrived)), **pack("said", told.said)}
        before = Row(encode(alert_id), TOLD, {}, told.etag) if told.etag else None
        try:
            etag = self._table.write(before, encode(alert_id), TOLD, values)
        except Conflict:
            there = self._table.get(encode(alert_id), TOLD)
            if there is None or there.text("claim") != values["claim"]:
                raise
            etag = there.etag
        return replace(told, etag=etag)

    def forget(self, before: datetime, over: Callable[[], bool]) -> int:
        """Delete what is older than that, until it is `over` → how many rows."""
        return self._table.clear("begun lt @t or at lt @t", over, t=utc(before))


def _key(task: Task) -> str:
    return f"{TASK}{encode(task.machine)}|{task.step}"


def _values(task: Task) -> dict[str, Any]:
    return {"state": task.state.value, "at": utc(task.begun) if task.begun else None,
            **pack("task", task.to_json()), **pack("memory", dict(task.memory)),
            **pack("marks", list(task.marks))}


def _task(row: Row) -> Task:
    return Task.from_json(unpack(row.values, "task"), memory=unpack(row.values, "memory") or {},
                          marks=unpack(row.values, "marks") or (), etag=row.etag)


def _head_values(head: Head) -> dict[str, Any]:
    return {
        "begun": utc(head.begun),
        "accusation": head.accusation,
        "by": head.by,
        "ended": utc(head.ended) if head.ended else "",
        "manifests": head.manifests,
        "seal": head.seal,
        "alert": head.alert_id,
        **pack("machines", list(head.machines)),
        **pack("sealed", list(head.sealed)),
        "written": head.written,
        "trusted": head.trusted,
        **pack("covered", list(head.covered)),
        "dismissed": head.dismissed,
        **pack("redo", {name: utc(at) for name, at in head.redo.items()}),
        "closed": utc(head.closed) if head.closed else "",
        **pack("leftOut", dict(head.left_out)),
    }


def _head(row: Row) -> Head:
    ended, closed = row.text("ended"), row.text("closed")
    return Head(
        row.text("alert"), row.text("accusation"), from_utc(row.text("begun")), row.text("by"),
        tuple(unpack(row.values, "machines") or ()), unpack(row.values, "leftOut") or {},
        from_utc(ended) if ended else None, int(row.values.get("manifests") or 0), row.text("seal"),
        tuple(unpack(row.values, "sealed") or ()), int(row.values.get("written") or 0),
        from_utc(closed) if closed else None, bool(row.values.get("trusted")),
        tuple(unpack(row.values, "covered") or ()), bool(row.values.get("dismissed")),
        {str(name): from_utc(at) for name, at in (unpack(row.values, "redo") or {}).items()}, row.etag)


def _told(row: Row) -> Told:
    at, until = row.text("at"), row.text("until")
    return Told(int(row.values.get("version") or 0), row.text("digest"), from_utc(at) if at else None,
                tuple(unpack(row.values, "arrived") or ()), int(row.values.get("attempts") or 0),
                unpack(row.values, "said") or {}, from_utc(until) if until else None, row.etag)
