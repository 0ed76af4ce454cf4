"""Self-tests: what was begun, and what is known of each hop. In the control table, by their ids, which begin
with their time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from remediation.errors import Conflict
from remediation.ledger.forms import Row, encode, pack, unpack
from remediation.ledger.store import Tables
from remediation.model import from_utc, utc
from remediation.rehearsal.hops import Outcome, Report, hops_from_json, hops_to_json

SELFTEST = "selftest"
TRIES = 20
LATEST = timedelta(days=3)


class SelfTests:
    """The rows of self-tests."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.table("control")

    def begin(self, report: Report) -> None:
        """Record it, before anything is sent."""
        self._table.insert(SELFTEST, encode(report.id), _values(report))

    def get(self, test_id: str) -> Report | None:
        """One self-test."""
        return self._table.parsed(self._table.get(SELFTEST, encode(test_id)), _report)

    def latest(self, now: datetime) -> Report | None:
        """The last one of the last days."""
        rows = self._table.query(
            "PartitionKey eq @p and started ge @s", p=SELFTEST, s=utc(now - LATEST))
        return max(self._table.all_parsed(rows, _report), key=lambda r: r.started, default=None)

    def change(self, test_id: str, edit: Callable[[Report], Report]) -> tuple[Report, Report] | None:
        """Change it as it is now → before and after; None if there is none. Raises Conflict if others change
        it all the time."""
        for _ in range(TRIES):
            before = self.get(test_id)
            if before is None:
                return None
            after = edit(before)
            if after == before:
                return before, before
            try:
                etag = self._table.put(SELFTEST, encode(test_id), _values(after), before.etag)
            except Conflict:
                continue
            return before, replace(after, etag=etag)
        raise Conflict(f"self-test {test_id} changes all the time")

    def forget(self, before: datetime, over: Callable[[], bool]) -> int:
        """Delete old ones, until it is `over` → how many."""
        return self._table.clear("PartitionKey eq @p and started lt @t", over, p=SELFTEST, t=utc(before))


def _values(r: Report) -> dict[str, object]:
    return {"started": utc(r.started), "by": r.by, "machine": r.machine, "outcome": r.outcome.value,
            "run": r.run, "told": r.told, "ended": utc(r.ended) if r.ended else None,
            **pack("hops", hops_to_json(r.hops))}


def _report(row: Row) -> Report:
    ended = row.text("ended")
    return Report(
        id=row.key, started=from_utc(row.text("started")), by=row.text("by"), machine=row.text("machine"),
        outcome=Outcome(row.text("outcome")), run=row.text("run"),
        hops=hops_from_json(unpack(row.values, "hops") or {}),
        ended=from_utc(ended) if ended else None, told=bool(row.values.get("told")), etag=row.etag)
