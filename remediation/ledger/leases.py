"""One committer per NSG at a time, and no newcomer lost.

The lease's age is the table service's own (its Date less the row's Timestamp); no local clock
takes part. Who finds it taken knocks, on a row of its own so that knocking never makes the lease
look younger. Releasing is a transaction on both rows, conditional on the knock read before the last
look: if someone knocked since, it fails, and the holder looks again. Who knocked reads the lease
once more: if it was released before the knock landed, it takes it itself.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from remediation.clock import Clock
from remediation.cloud.table_batch import Op
from remediation.errors import Conflict, LeaseLost
from remediation.ledger.forms import Row, encode
from remediation.ledger.store import Tables
from remediation.model import from_utc

_log = logging.getLogger(__name__)

LEASE, KNOCK = "lease", "knock"
DATE_GRAIN = timedelta(seconds=1)
"""The Date header has whole seconds: an age may be wrong by this much."""


@dataclass(slots=True)
class Lease:
    """A held lease. `memory` is kept with it over holders: the rules as last written and proven."""

    nsg_id: str
    owner: str
    etag: str
    renewed: float
    seconds: float
    memory: dict[str, Any] = field(default_factory=dict)
    taken_over: bool = False
    knock_etag: str = ""

    def left(self, clock: Clock) -> float:
        """Seconds for which the lease is surely ours, counted from before its last renewal."""
        return self.seconds - (clock.monotonic() - self.renewed)


class Leases:
    """The leases table."""

    def __init__(self, tables: Tables, seconds: float) -> None:
        self._table = tables.table("leases")
        self._seconds = seconds

    def take(self, nsg_id: str, clock: Clock) -> Lease | None:
        """The lease; None if another holds it, who has then heard our knock."""
        for attempt in range(20):
            lease = self._try(nsg_id, clock)
            if lease is not None:
                return lease
            if attempt and self._held(nsg_id):
                return None
            self._knock(nsg_id)
            if self._held(nsg_id):
                return None
        return None

    def _try(self, nsg_id: str, clock: Clock) -> Lease | None:
        partition, owner = encode(nsg_id), uuid.uuid4().hex
        started = clock.monotonic()
        row, now = self._table.get_with_time(partition, LEASE)
        try:
            if row is None:
                etag = self._table.insert(partition, LEASE, {"owner": owner, "memory": "{}"})
                return Lease(nsg_id, owner, etag, started, self._seconds)
            over = row.changed is None or now - row.changed > (
                timedelta(seconds=self._seconds) + DATE_GRAIN
            )
            if row.text("owner") and not over:
                return None
            memory = row.text("memory") or "{}"
            etag = self._table.put(
                partition, LEASE, {"owner": owner, "memory": memory}, row.etag
            )
        except Conflict:
            mine = self._table.get(partition, LEASE)  # the answer to our own write may be what was lost
            if mine is None or mine.text("owner") != owner:
                return None
            etag = mine.etag
        taken_over = row is not None and bool(row.text("owner"))
        if taken_over:
            _log.warning("lease of %s taken over from a holder that is gone", nsg_id)
        return Lease(nsg_id, owner, etag, started, self._seconds, self._memory(row), taken_over)

    def _held(self, nsg_id: str) -> bool:
        row, now = self._table.get_with_time(encode(nsg_id), LEASE)
        if row is None or not row.text("owner") or row.changed is None:
            return False
        return now - row.changed <= timedelta(seconds=self._seconds) + DATE_GRAIN

    def _knock(self, nsg_id: str) -> None:
        self._table.upsert(encode(nsg_id), KNOCK, {"by": uuid.uuid4().hex})

    def listen(self, lease: Lease) -> None:
        """Remember the knock as it is now; to be called before reading the rows."""
        row = self._table.get(encode(lease.nsg_id), KNOCK)
        lease.knock_etag = row.etag if row else ""

    def knocked(self, lease: Lease) -> bool:
        """Has someone knocked since `listen`?"""
        row = self._table.get(encode(lease.nsg_id), KNOCK)
        return (row.etag if row else "") != lease.knock_etag

    def renew(self, lease: Lease, clock: Clock, **memory: Any) -> None:
        """Prove that it is still ours, keep it, and remember more. Raises LeaseLost."""
        lease.memory.update(memory)
        started = clock.monotonic()
        try:
            lease.etag = self._table.put(
                encode(lease.nsg_id), LEASE, self._values(lease.owner, lease.memory), lease.etag
            )
        except Conflict as error:
            raise LeaseLost(f"the lease of {lease.nsg_id} is someone else's now") from error
        lease.renewed = started

    def release(self, lease: Lease) -> bool:
        """Give it up, unless someone knocked since `listen`: then False, and it is still ours."""
        partition = encode(lease.nsg_id)
        free = Op("put", partition, LEASE, self._values("", lease.memory), lease.etag)
        quiet: Op
        if lease.knock_etag:
            quiet = Op("put", partition, KNOCK, {"by": ""}, lease.knock_etag)
        else:
            quiet = Op("insert", partition, KNOCK, {"by": ""})
        try:
            self._table.transaction([free, quiet])
        except Conflict:
            row = self._table.get(partition, LEASE)
            if row is None or row.text("owner") != lease.owner:
                raise LeaseLost(f"the lease of {lease.nsg_id} is someone else's now") from None
            lease.etag = row.etag
            return False
        return True

    def drop(self, lease: Lease) -> None:
        """Give it up with work left over: whoever comes next goes on."""
        try:
            self._table.put(
                encode(lease.nsg_id), LEASE, self._values("", lease.memory), lease.etag
            )
        except Conflict:
            _log.info("the lease of %s was no longer ours to drop", lease.nsg_id)

    def checked(self, nsg_id: str) -> datetime | None:
        """When a holder last proved the NSG's rules; None if none ever did."""
        row = self._table.get(encode(nsg_id), LEASE)
        text = self._memory(row).get("checked")
        return self._table.parsed(row, lambda _: from_utc(text)) if text else None

    def _memory(self, row: Row | None) -> dict[str, Any]:
        """What holders remembered; nothing, if it cannot be read: the rules tell what there is."""
        return self._table.parsed(row, _memory) or {}

    @staticmethod
    def _values(owner: str, memory: Mapping[str, Any]) -> dict[str, Any]:
        return {"owner": owner, "memory": json.dumps(memory, separators=(",", ":"))}


def _memory(row: Row) -> dict[str, Any]:
    held: Any = json.loads(row.text("memory") or "{}")
    if not isinstance(held, dict) or not all(
            isinstance(held.get(part) or {}, dict) for part in ("rules", "drift", "attempt")):
        raise ValueError("a holder's memory is an object of objects")
    for kept in (held.get("rules") or {}).values():
        _ = (kept["digest"], kept["priority"])
    for at in (held.get("drift") or {}).values():
        from_utc(at)
    return dict(held)
