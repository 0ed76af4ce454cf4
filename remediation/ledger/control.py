"""The control table: what people wish (pause, holds, protected addresses, approvals), counters,
the estate's snapshot, when a job last ran, and what humans were told.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from remediation.errors import Conflict
from remediation.gather import Shared
from remediation.guardrails import Hold, Protected
from remediation.ledger.block import Claim, claim_from_json, claim_to_json
from remediation.ledger.forms import Row, decode, encode, pack, unpack
from remediation.ledger.store import ASIDE, Tables
from remediation.model import from_utc, utc

GUARD = "guard"
TRIES = 20
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
FOREVER = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Approval:
    """A question to a person about the claims of one alert, or about what a step would change in a machine
    (`tasks`: machine and step). Single use, and it expires. `by` asked for it: who answers is somebody
    else."""

    id: str
    alert_id: str
    state: str
    claims: tuple[Claim, ...]
    asks: tuple[str, ...]
    created: datetime
    expires: datetime
    decided_by: str = ""
    decided: datetime | None = None
    reason: str = ""
    carried_out: bool = False
    tasks: tuple[tuple[str, str], ...] = ()
    by: str = ""
    etag: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the API."""
        return {
            "id": self.id, "alertId": self.alert_id, "state": self.state, "asks": list(self.asks),
            "created": utc(self.created), "expires": utc(self.expires),
            "decidedBy": self.decided_by, "reason": self.reason, "requestedBy": self.by,
            "steps": [{"machine": m, "step": s} for m, s in self.tasks],
            **({"decided": utc(self.decided)} if self.decided else {}),
            "blocks": [
                {"id": k.id, "nsg": k.nsg_id, "direction": k.direction.value, "address": k.address}
                for k in (c.key for c in self.claims)
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
        at = self._table.parsed(row, lambda r: from_utc(r.text("at")))  # unreadable: paused all the same
        return Pause(row.text("by"), row.text("reason"), at or NEVER, row.text("lift"))

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
            kind, _, about = row.key.partition("|")
            about = decode(about)  # a wish whose row cannot be read is still one: its key says about what
            if kind == "hold":
                hold = self._table.parsed(row, _hold) or Hold(
                    about, FOREVER, "someone", "the row of the hold cannot be read", NEVER)
                holds[about] = hold
            elif kind == "protected":
                protected.append(self._table.parsed(row, _protected) or Protected(
                    about, "the row of the entry cannot be read"))
        return tuple(protected), holds

    def hold(self, hold: Hold) -> None:
        """Keep an address from being blocked unasked. A longer hold by someone else stays as long."""
        key = f"hold|{encode(hold.address)}"
        for _ in range(TRIES):
            row = self._table.get(GUARD, key)
            held = self._table.parsed(row, _hold)
            until = max(hold.until, held.until) if held else hold.until
            values = {"address": hold.address, "until": utc(until), "since": utc(hold.since),
                      "by": hold.by, "reason": hold.reason}
            try:
                self._table.write(row, GUARD, key, values)
            except Conflict:
                continue  # another person holds it in this moment: read it again
            return
        raise Conflict(f"the hold on {hold.address} keeps changing")

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
        """Record a question; one of that id that is there already stays as it is."""
        with contextlib.suppress(Conflict):  # another thread asked the same in this moment
            self._table.insert("approval", approval.id, _approval_values(approval))

    def approval(self, approval_id: str) -> Approval | None:
        """One question."""
        return self._table.parsed(self._table.get("approval", encode(approval_id)), _approval)

    def approvals(self) -> Iterator[Approval]:
        """All questions, answered ones too."""
        yield from self._table.all_parsed(
            self._table.query("PartitionKey eq @p", p="approval"), _approval)

    def decide(
        self, approval: Approval, state: str, by: str, reason: str, at: datetime
    ) -> bool:
        """Answer a question that is still open as read; False if someone was faster."""
        return self._change(replace(approval, state=state, decided_by=by, reason=reason, decided=at))

    def carried_out(self, approval: Approval) -> bool:
        """The answer has been acted upon; False if the row has changed meanwhile."""
        return self._change(replace(approval, carried_out=True))

    def move_questions(self, old: str, new: str) -> None:
        """An NSG has moved: open questions about it go with it."""
        for approval in list(self.approvals()):
            if approval.state != "open" or all(c.key.nsg_id != old for c in approval.claims):
                continue
            claims = tuple(replace(c, key=replace(c.key, nsg_id=new)) if c.key.nsg_id == old else c
                           for c in approval.claims)
            self._change(replace(approval, claims=claims))

    def _change(self, approval: Approval) -> bool:
        try:
            self._table.put("approval", approval.id, _approval_values(approval), approval.etag)
        except Conflict:
            return False
        return True

    # --- counters and jobs ---

    def reserve(self, alert_type: str, at: datetime, wanted: int, most: int) -> int:
        """Take up to `wanted` of this hour's allowance for new blocks → how many were granted."""
        key = f"{at:%Y%m%d%H}|{encode(alert_type.casefold())}"
        for _ in range(TRIES):
            row = self._table.get("counter", key)
            used = self._table.parsed(row, lambda r: int(r.values["n"])) if row else 0
            if used is None:
                return 0  # how much is taken nobody can read: a person is asked
            granted = max(0, min(wanted, most - used))
            if granted == 0:
                return 0
            try:
                self._table.write(row, "counter", key, {"n": used + granted, "at": utc(at)})
            except Conflict:
                continue  # another alert took from the same hour: read it again
            return granted
        return 0

    def begin_job(self, name: str, now: datetime, every: timedelta) -> bool:
        """True for the one caller that is to run the job now; it was last begun long enough ago."""
        row = self._table.get("job", name)
        last = self._table.parsed(row, lambda r: from_utc(r.text("at")))
        if last is not None and now - last < every:
            return False
        try:
            self._table.write(row, "job", name, {"at": utc(now)})
        except Conflict:
            return False
        return True

    def unfinished_job(self, name: str) -> None:
        """The next sweep is to begin the job anew, however lately it was begun."""
        row = self._table.get("job", name)
        if row is not None:
            self._table.delete("job", name, row.etag)

    def last_job(self, name: str) -> datetime | None:
        """When the job was last begun."""
        return self._table.parsed(self._table.get("job", name), lambda r: from_utc(r.text("at")))

    # --- the estate's snapshot ---

    def save_estate(self, snapshot: Mapping[str, Any]) -> None:
        """Keep the newest snapshot."""
        self._table.upsert("estate", "estate", pack("data", snapshot))

    def estate(self) -> Mapping[str, Any] | None:
        """The newest snapshot."""
        held = self._table.parsed(
            self._table.get("estate", "estate"), lambda r: unpack(r.values, "data"))
        return held if isinstance(held, dict) else None

    # --- what humans were told ---

    def tell(self, at: datetime, kind: str, text: str, **facts: Any) -> None:
        """Record a notice."""
        self._table.upsert("notice", f"{utc(at)}|{secrets.token_hex(3)}", {
            "kind": kind, "text": text[:4000], "at": utc(at),
            "facts": json.dumps(facts, default=str)[:30_000],
        })

    def notices(self, since: datetime | None = None) -> Iterator[dict[str, Any]]:
        """All notices, or those from then on, oldest first."""
        rows = self._table.query(
            "PartitionKey eq @p and RowKey ge @k", p="notice", k=utc(since) if since else ""
        )
        yield from self._table.all_parsed(
            rows, lambda r: {
                "key": r.key, "at": r.text("at"), "kind": r.text("kind"), "text": r.text("text"),
                **json.loads(r.text("facts") or "{}")})

    def forget(self, before: datetime, over: Callable[[], bool]) -> int:
        """Delete old notices, counters, questions and holds, until it is `over` → how many."""
        return sum(
            self._table.clear(f"PartitionKey eq @p and {when} lt @t", over, p=partition, t=utc(before))
            for partition, when in (("notice", "at"), ("counter", "at"), ("approval", "expires"),
                                    (GUARD, "until"), (ASIDE, "changed")))


def _hold(row: Row) -> Hold:
    return Hold(decode(row.key.partition("|")[2]), from_utc(row.text("until")), row.text("by"),
                row.text("reason"), from_utc(row.text("since")))


def _protected(row: Row) -> Protected:
    at = row.text("at")
    prefix = decode(row.key.partition("|")[2])
    return Protected(prefix, row.text("reason"), row.text("by"), from_utc(at) if at else None)


def _approval_values(a: Approval) -> dict[str, Any]:
    return {
        "alertId": a.alert_id,
        "state": a.state,
        "created": utc(a.created),
        "expires": utc(a.expires),
        "by": a.decided_by,
        "reason": a.reason,
        "decided": utc(a.decided) if a.decided else None,
        "carriedOut": a.carried_out,
        "asks": json.dumps(list(a.asks)),
        "requestedBy": a.by,
        "tasks": json.dumps([list(t) for t in a.tasks]),
        **pack("claims", [claim_to_json(c) for c in a.claims]),
    }


def _approval(row: Row) -> Approval:
    key, values, etag = row.key, row.values, row.etag
    claims = tuple(claim_from_json(c) for c in unpack(values, "claims") or ())
    decided = values.get("decided")
    return Approval(
        id=key, alert_id=str(values["alertId"]), state=str(values["state"]), claims=claims,
        asks=tuple(json.loads(str(values.get("asks") or "[]"))),
        created=from_utc(str(values["created"])), expires=from_utc(str(values["expires"])),
        decided_by=str(values.get("by") or ""), reason=str(values.get("reason") or ""),
        decided=from_utc(str(decided)) if decided else None,
        carried_out=bool(values.get("carriedOut")), by=str(values.get("requestedBy") or ""),
        tasks=tuple((str(m), str(s)) for m, s in json.loads(str(values.get("tasks") or "[]"))), etag=etag,
    )
