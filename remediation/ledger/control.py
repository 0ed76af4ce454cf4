"""The control table: what people wish (pause, holds, protected addresses, approvals), counters,
the estate's snapshot, when a job last ran, and what humans were told.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from remediation.errors import Conflict
from remediation.gather import Shared
from remediation.guardrails import Hold, Protected
from remediation.ledger.store import Tables, encode, pack, unpack
from remediation.model import BlockKey, Direction, from_utc, utc

GUARD = "guard"
TRIES = 20


@dataclass(frozen=True, slots=True)
class Approval:
    """A question to a person about some blocks of one alert. Single use, and it expires."""

    id: str
    alert_id: str
    state: str
    keys: tuple[BlockKey, ...]
    asks: tuple[str, ...]
    created: datetime
    expires: datetime
    decided_by: str = ""
    reason: str = ""
    etag: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the API."""
        return {
            "id": self.id, "alertId": self.alert_id, "state": self.state, "asks": list(self.asks),
            "created": utc(self.created), "expires": utc(self.expires),
            "decidedBy": self.decided_by, "reason": self.reason,
            "blocks": [
                {"id": k.id, "nsg": k.nsg_id, "direction": k.direction.value, "address": k.address}
                for k in self.keys
            ],
        }


@dataclass(frozen=True, slots=True)
class Pause:
    """Acting is stopped. `lift`: `due` lifts what is due all the same, `none` nothing."""

    by: str
    reason: str
    at: datetime
    lift: str


type Wishes = tuple[tuple[Protected, ...], Mapping[str, Hold]]
"""What people wish: the protected list, and the holds by address."""


class Control:
    """The control table."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.table("control")
        self.paused: Shared[Pause | None] = Shared(self._paused)
        """The pause in force, if any; callers that ask together share a read."""
        self.wishes: Shared[Wishes] = Shared(self._wishes)
        """The protected list and all holds; callers that ask together share a read."""

    # --- pause ---

    def _paused(self) -> Pause | None:
        row = self._table.get("pause", "pause")
        if row is None or not row.values.get("on"):
            return None
        return Pause(row.text("by"), row.text("reason"), from_utc(row.text("at")), row.text("lift"))

    def pause(self, by: str, reason: str, at: datetime, lift: str) -> None:
        """Stop acting."""
        self._table.upsert("pause", "pause", {"on": True, "by": by, "reason": reason,
                                              "at": utc(at), "lift": lift})

    def resume(self, by: str, reason: str, at: datetime) -> None:
        """Act again."""
        self._table.upsert("pause", "pause", {"on": False, "by": by, "reason": reason,
                                              "at": utc(at)})

    # --- holds and protected addresses: read together, at every decision ---

    def _wishes(self) -> Wishes:
        protected, holds = [], {}
        for row in self._table.query("PartitionKey eq @p", p=GUARD):
            if row.key.startswith("hold|"):
                hold = Hold(row.text("address"), from_utc(row.text("until")), row.text("by"),
                            row.text("reason"))
                holds[hold.address] = hold
            elif row.key.startswith("protected|"):
                protected.append(Protected(row.text("prefix"), row.text("reason"), row.text("by"),
                                           from_utc(row.text("at"))))
        return tuple(protected), holds

    def hold(self, hold: Hold) -> None:
        """Keep an address from being blocked unasked."""
        self._table.upsert(GUARD, f"hold|{encode(hold.address)}", {
            "address": hold.address, "until": utc(hold.until), "by": hold.by,
            "reason": hold.reason,
        })

    def protect(self, entries: Sequence[Protected]) -> None:
        """Replace the protected list: add what is new first, then drop what is gone."""
        wanted = {f"protected|{encode(p.prefix)}": p for p in entries}
        for key, p in wanted.items():
            self._table.upsert(GUARD, key, {"prefix": p.prefix, "reason": p.reason, "by": p.by,
                                            "at": utc(p.at) if p.at else ""})
        for row in list(self._table.query("PartitionKey eq @p", p=GUARD)):
            if row.key.startswith("protected|") and row.key not in wanted:
                self._table.delete(GUARD, row.key, row.etag)

    # --- approvals ---

    def ask(self, approval: Approval) -> None:
        """Record a question; asking it again changes nothing."""
        try:
            self._table.insert("approval", approval.id, _approval_values(approval))
        except Conflict:
            return  # asked already, perhaps answered

    def approval(self, approval_id: str) -> Approval | None:
        """One question."""
        row = self._table.get("approval", encode(approval_id))
        return _approval(row.key, row.values, row.etag) if row else None

    def approvals(self) -> Iterator[Approval]:
        """All questions, answered ones too."""
        for row in self._table.query("PartitionKey eq @p", p="approval"):
            yield _approval(row.key, row.values, row.etag)

    def decide(self, approval: Approval, state: str, by: str, reason: str) -> bool:
        """Answer a question that is still open as read; False if someone was faster."""
        values = {**_approval_values(approval), "state": state, "by": by, "reason": reason}
        try:
            self._table.put("approval", approval.id, values, approval.etag)
        except Conflict:
            return False
        return True

    # --- counters and jobs ---

    def reserve(self, alert_type: str, at: datetime, wanted: int, most: int) -> int:
        """Take up to `wanted` of this hour's allowance for new blocks → how many were granted."""
        key = f"{at:%Y%m%d%H}|{encode(alert_type.casefold())}"
        for _ in range(TRIES):
            row = self._table.get("counter", key)
            used = int(row.values.get("n", 0)) if row else 0
            granted = max(0, min(wanted, most - used))
            if granted == 0:
                return 0
            try:
                if row is None:
                    self._table.insert("counter", key, {"n": granted, "at": utc(at)})
                else:
                    self._table.put("counter", key, {"n": used + granted, "at": utc(at)}, row.etag)
            except Conflict:
                continue  # another alert took from the same hour: read it again
            return granted
        return 0

    def begin_job(self, name: str, now: datetime, every: timedelta) -> bool:
        """True for the one caller that is to run the job now; it was last begun long enough ago."""
        row = self._table.get("job", name)
        if row is not None and now - from_utc(row.text("at")) < every:
            return False
        try:
            if row is None:
                self._table.insert("job", name, {"at": utc(now)})
            else:
                self._table.put("job", name, {"at": utc(now)}, row.etag)
        except Conflict:
            return False
        return True

    def last_job(self, name: str) -> datetime | None:
        """When the job was last begun."""
        row = self._table.get("job", name)
        return from_utc(row.text("at")) if row else None

    # --- the estate's snapshot ---

    def save_estate(self, snapshot: Mapping[str, Any]) -> None:
        """Keep the newest snapshot."""
        self._table.upsert("estate", "estate", pack("data", snapshot))

    def estate(self) -> Mapping[str, Any] | None:
        """The newest snapshot."""
        row = self._table.get("estate", "estate")
        held = unpack(row.values, "data") if row else None
        return held if isinstance(held, dict) else None

    # --- what humans were told ---

    def tell(self, at: datetime, kind: str, text: str, **facts: Any) -> None:
        """Record a notice."""
        self._table.upsert("notice", f"{utc(at)}|{secrets.token_hex(3)}", {
            "kind": kind, "text": text[:4000], "at": utc(at),
            "facts": json.dumps(facts, default=str)[:30_000],
        })

    def notices(self) -> Iterator[dict[str, Any]]:
        """All notices, oldest first."""
        for row in self._table.query("PartitionKey eq @p", p="notice"):
            yield {"at": row.text("at"), "kind": row.text("kind"), "text": row.text("text"),
                   **json.loads(row.text("facts") or "{}")}

    def forget(self, before: datetime) -> int:
        """Delete old notices, counters and answered questions → how many."""
        count = 0
        for partition in ("notice", "counter"):
            rows = self._table.query("PartitionKey eq @p and at lt @t", p=partition, t=utc(before))
            for row in list(rows):
                count += self._table.delete(row.partition, row.key, row.etag)
        return count


def _approval_values(a: Approval) -> dict[str, Any]:
    return {
        "alertId": a.alert_id, "state": a.state, "created": utc(a.created),
        "expires": utc(a.expires), "by": a.decided_by, "reason": a.reason,
        "asks": json.dumps(list(a.asks)),
        **pack("keys", [[k.nsg_id, k.direction.value, k.address] for k in a.keys]),
    }


def _approval(key: str, values: Mapping[str, Any], etag: str) -> Approval:
    keys = tuple(BlockKey(n, Direction(d), a) for n, d, a in unpack(values, "keys") or ())
    return Approval(
        key, str(values["alertId"]), str(values["state"]), keys,
        tuple(json.loads(str(values.get("asks") or "[]"))), from_utc(str(values["created"])),
        from_utc(str(values["expires"])), str(values.get("by") or ""),
        str(values.get("reason") or ""), etag,
    )
