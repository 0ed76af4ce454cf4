"""Hints of what to look at, and when. They make a sweep cost what is due, not what exists.

A hint is written before the row it points to, deleted only as it was read, and never the truth:
who follows one looks at the row and does what that says. Hints for the same thing in the same
moment fall together.
"""

from __future__ import annotations

import itertools
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from remediation.clock import bucket
from remediation.cloud.table_batch import Op
from remediation.gather import Gather, GatherBy
from remediation.ledger.forms import Row, encode
from remediation.ledger.store import MAX_TRANSACTION, Tables
from remediation.model import from_utc, utc

SHARDS = 4
GRAIN_SECONDS = 5
NETWORK_SECONDS = 30
LEFT_AT_MOST = 10_000
ALERTS_APART = 0.05
"""Seconds. A lone alert waits for nothing; of those that follow at once, each for a twentieth of a second."""

ALERT, NSG, RECHECK, APPROVAL = "alert", "nsg", "recheck", "approval"
FIREWALL, ROGUE = "firewall", "rogue"
"""A firewall, or a network whose firewalls are to be looked at; and an incident to go on with."""
INVESTIGATION, ESCALATION = "investigation", "escalation"
"""An alert whose machines are looked into; and one of which people are to be told."""
SELFTEST = "selftest"


@dataclass(frozen=True, slots=True)
class Hint:
    """Look at `id` of this kind, from `at` on. `values` help, but decide nothing."""

    kind: str
    id: str
    at: datetime
    values: Mapping[str, Any]
    partition: str
    key: str
    etag: str


class Work:
    """The work table."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.table("work")
        self._left: dict[str, datetime] = {}
        self._together: GatherBy[str, Op, None] = GatherBy(self._write, MAX_TRANSACTION)
        shard = str(secrets.randbelow(SHARDS))  # of this process: all its alerts go together
        self._alerts: Gather[Op, None] = Gather(partial(self._write, shard), MAX_TRANSACTION, ALERTS_APART)

    def hint(self, kind: str, thing: str, at: datetime, **values: Any) -> None:
        """Leave a hint; those that are left while another is being written are written together."""
        shard = str(zlib.crc32(f"{kind}|{thing}".encode()) % SHARDS)
        key = f"{utc(at)}|{kind}|{encode(thing)}"
        self._together(shard, Op("upsert", shard, key, {"kind": kind, "thing": thing, **values}))

    def _write(self, shard: str, ops: Sequence[Op]) -> list[None]:
        """All of one shard: of the same hint the last one."""
        self._table.transaction({op.key: replace(op, partition=shard) for op in ops}.values())
        return [None] * len(ops)

    def nsg(self, nsg_id: str, at: datetime) -> None:
        """Leave a hint to commit this NSG then; hints that fall together are one."""
        self.hint(NSG, nsg_id, bucket(at, GRAIN_SECONDS))

    def nsg_soon(self, nsg_id: str, now: datetime, wait: timedelta) -> None:
        """Leave a hint to commit this NSG after `wait`, unless this process has just left that very
        hint: nobody can have followed it yet. In a storm, one row for many claims."""
        at = bucket(now + wait, GRAIN_SECONDS)
        if wait.total_seconds() >= 2 * GRAIN_SECONDS and self._left.get(nsg_id) == at:
            return
        self.hint(NSG, nsg_id, at)
        if len(self._left) >= LEFT_AT_MOST:
            self._left.clear()
        self._left[nsg_id] = at

    def recheck(self, nsg_id: str, at: datetime) -> None:
        """Leave a hint to read this NSG then, whatever the ledger says of it."""
        self.hint(RECHECK, nsg_id, bucket(at, GRAIN_SECONDS))

    def firewall(self, thing: str, at: datetime, **values: Any) -> None:
        """Leave a hint to look at this firewall, or at the firewalls of this network, then."""
        self.hint(FIREWALL, thing, bucket(at, GRAIN_SECONDS), **values)

    def network(self, network: str, now: datetime) -> None:
        """Leave a hint to look at this network's firewalls soon, one for half a minute: in a storm many
        alerts ask for the same."""
        at = bucket(now, NETWORK_SECONDS)
        if self._left.get(network) == at:
            return
        self.hint(FIREWALL, network, at)
        if len(self._left) >= LEFT_AT_MOST:
            self._left.clear()
        self._left[network] = at

    def rogue(self, incident_id: str, at: datetime) -> None:
        """Leave a hint to go on with this incident then."""
        self.hint(ROGUE, incident_id, at)

    def investigation(self, alert_id: str, at: datetime) -> None:
        """Leave a hint to see how an alert's investigation comes on, or to begin it, then."""
        self.hint(INVESTIGATION, alert_id, bucket(at, GRAIN_SECONDS))

    def escalation(self, alert_id: str, at: datetime, *, postponed: bool = False) -> None:
        """Leave a hint to tell people of an alert then; what happens until then is told with it."""
        self.hint(ESCALATION, alert_id, bucket(at, GRAIN_SECONDS), postponed=postponed)

    def selftest(self, test_id: str, at: datetime) -> None:
        """Leave a hint to look how far a self-test is then."""
        self.hint(SELFTEST, test_id, bucket(at, GRAIN_SECONDS))

    def alert(self, alert_id: str, accusation: str, at: datetime) -> None:
        """Leave a hint to look at this body of an alert then. In a burst those of a moment are one write."""
        thing = f"{alert_id}|{accusation}"
        key = f"{utc(bucket(at, GRAIN_SECONDS))}|{ALERT}|{encode(thing)}"
        self._alerts(Op("upsert", "", key, {
            "kind": ALERT, "thing": thing, "alert": alert_id, "accusation": accusation}))

    def due(self, now: datetime, most: int) -> list[Hint]:
        """What is to be looked at now, at most so many: NSGs and questions before firewalls and
        investigations, which take long, and before alerts, so that a flood of them keeps no lift waiting;
        then the oldest first."""
        slow = " and ".join(f"kind ne '{kind}'" for kind in (ALERT, INVESTIGATION, ESCALATION, SELFTEST))
        found: list[Hint] = []
        for which in (slow, f"kind eq '{ALERT}'", f"kind eq '{INVESTIGATION}' or kind eq '{ESCALATION}'",
                      f"kind eq '{SELFTEST}'"):
            if len(found) < most:
                found += self._due(f"({which})", now, most - len(found))
        return found

    def postponed(self) -> int:
        """Of how many alerts people are told later than they would be, since many had news."""
        return len({row.text("thing") for shard in range(SHARDS) for row in self._table.query(
            "PartitionKey eq @p and kind eq @k and postponed eq true", select=("thing",),
            p=str(shard), k=ESCALATION)})

    def _due(self, which: str, now: datetime, most: int) -> list[Hint]:
        found: list[Hint] = []
        for shard in range(SHARDS):
            rows = self._table.query(
                f"PartitionKey eq @p and RowKey lt @now and {which}", p=str(shard),
                now=utc(now) + "~",
            )
            found += itertools.islice(self._table.all_parsed(rows, _hint, aside=True), most)
        return sorted(found, key=lambda h: (h.kind in (FIREWALL, ROGUE), h.at))[:most]

    def done(self, hint: Hint) -> None:
        """Take the hint away, unless someone has written it anew meanwhile."""
        self._table.delete(hint.partition, hint.key, hint.etag)


def _hint(row: Row) -> Hint:
    return Hint(row.text("kind"), row.text("thing"), from_utc(row.key.split("|", 1)[0]), row.values,
                row.partition, row.key, row.etag)
