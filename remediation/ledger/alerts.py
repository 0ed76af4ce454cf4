"""The alerts table: every alert body that arrived, what was decided, and every action since.

The key is the alert's id and a hash of what the body accuses. So the same alert delivered again is
one row, an update with other content is another, and a forged body never takes the place of
Defender's own.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from remediation.cloud.table_batch import Op
from remediation.errors import Conflict
from remediation.ledger.forms import CHUNK, Row, encode, pack, unpack
from remediation.ledger.store import Tables
from remediation.model import Alert, Plan, Verdict, from_utc, utc

QUARANTINE = "~quarantine"
SHOWN_MACHINES, SHOWN_PER_BLOCK = 1_000, 60
"""A recorded plan names so many machines, and counts all."""
INLINE_RAW = 4 * CHUNK
LONGEST_ACTIONS = 30_000
"""Characters: Table Storage holds 32 Ki of them in a property."""


class AlertState(StrEnum):
    """How far an alert has come."""

    RECEIVED = "received"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """One alert body as the ledger holds it."""

    alert_id: str
    accusation: str
    state: AlertState
    values: Mapping[str, Any]
    etag: str

    @property
    def verdict(self) -> Verdict | None:
        """What Defender said, None before it was asked."""
        text = self.values.get("verdict")
        return Verdict(text) if text else None

    def time(self, name: str) -> datetime | None:
        """When a hop happened: event, received, verified, planned, claimed."""
        text = self.values.get(name)
        return from_utc(text) if text else None

    @property
    def attempts(self) -> int:
        """How often it was begun."""
        return int(self.values.get("attempts", 0))


class Alerts:
    """The alerts table."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.table("alerts")

    def get(self, alert_id: str, accusation: str) -> AlertRecord | None:
        """One body of an alert."""
        row = self._table.get(encode(alert_id), f"alert|{accusation}")
        return self._table.parsed(row, _record, aside=True)

    def bodies(self, alert_id: str) -> list[AlertRecord]:
        """All bodies seen under this id, the confirmed ones first."""
        rows = self._table.query(
            "PartitionKey eq @p and RowKey ge 'alert|' and RowKey lt 'alert}'", p=encode(alert_id)
        )
        return sorted(self._table.all_parsed(rows, _record),
                      key=lambda r: (r.verdict is not Verdict.CONFIRMED, str(r.values.get("received") or "")))

    def acted_on(self, alert_id: str) -> list[AlertRecord]:
        """The bodies that count (`counting`)."""
        return counting(self.bodies(alert_id))

    def whole_plan(self, bodies: Sequence[AlertRecord]) -> dict[str, Any]:
        """What was planned for an alert in all; {} where nothing was."""
        return united([p for b in counting(bodies) if (p := self.plan(b)) is not None])

    def receive(self, alert: Alert, raw: Any, **facts: Any) -> AlertRecord | None:
        """Record a new body; None if this one is known."""
        partition, key = encode(alert.alert_id), f"alert|{alert.accusation()}"
        values: dict[str, Any] = {
            "alertId": alert.alert_id,
            "alertType": alert.alert_type,
            "displayName": alert.display_name,
            "severity": alert.severity or "",
            "direction": alert.direction.value,
            "sample": alert.is_sample,
            "state": AlertState.RECEIVED.value,
            "generated": utc(alert.generated) if alert.generated else None,
            "attempts": 0,
            **facts,
        }
        packed = pack("raw", raw)
        ops = [Op("insert", partition, key, values)]
        if sum(map(len, packed.values())) <= INLINE_RAW:
            values.update(packed)
        else:
            ops.append(Op("upsert", partition, f"raw|{alert.accusation()}",
                          {"at": values.get("received"), **packed}))
        try:
            etag = self._table.transaction(ops)[0]
        except Conflict:
            return None
        return AlertRecord(alert.alert_id, alert.accusation(), AlertState.RECEIVED, values, etag)

    def raw(self, record: AlertRecord) -> Any:
        """The body as it arrived."""
        inline = unpack(record.values, "raw")
        if inline is not None:
            return inline
        row = self._table.get(encode(record.alert_id), f"raw|{record.accusation}")
        return self._table.parsed(row, lambda r: unpack(r.values, "raw"))

    def update(self, record: AlertRecord, **facts: Any) -> AlertRecord:
        """Change facts of a body as it was read. Conflict if someone else did."""
        values = {**record.values, **{k: v for k, v in facts.items() if v is not None}}
        etag = self._table.put(
            encode(record.alert_id), f"alert|{record.accusation}", values, record.etag
        )
        return AlertRecord(
            record.alert_id, record.accusation, AlertState(values["state"]), values, etag
        )

    def plan_facts(self, plan: Plan) -> dict[str, Any]:
        """A plan as facts for `update`."""
        return {"verdict": plan.verdict.value, "mode": plan.mode.value,
                **pack("plan", plan_to_json(plan))}

    def plan(self, record: AlertRecord) -> dict[str, Any] | None:
        """The recorded plan, as JSON data."""
        held = unpack(record.values, "plan")
        return held if isinstance(held, dict) else None

    def assessed(self, record: AlertRecord, assessment: Mapping[str, Any]) -> AlertRecord:
        """Record how likely each machine of the plan is. Conflict if someone else changed the record."""
        return self.update(record, **pack("assessed", assessment))

    def assessment(self, record: AlertRecord) -> dict[str, Any] | None:
        """What `assessed` recorded; None if nothing has been yet."""
        held = unpack(record.values, "assessed")
        return held if isinstance(held, dict) else None

    def note(self, alert_id: str, at: datetime, action: str, **facts: Any) -> None:
        """Record one action of an alert: what, where, before, after, result, by whom."""
        self.notes(alert_id, at, [(action, facts)])

    def notes(
        self, alert_id: str, at: datetime, actions: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> None:
        """Record several actions of one moment, in order: one row, or a few if they are many."""
        for n, texts in enumerate(_filled([_action(name, facts) for name, facts in actions])):
            self._table.upsert(encode(alert_id), f"a|{utc(at)}|{n:03}{secrets.token_hex(3)}",
                               {"at": utc(at), "actions": f"[{','.join(texts)}]"})

    def actions(self, alert_id: str) -> list[dict[str, Any]]:
        """All actions of an alert, oldest first."""
        rows = self._table.query(
            "PartitionKey eq @p and RowKey ge 'a|' and RowKey lt 'a}'", p=encode(alert_id)
        )
        return [a for actions in self._table.all_parsed(rows, _actions) for a in actions]

    def quarantine(self, raw: Any, reason: str, at: datetime) -> bool:
        """Keep what could not be read, with the reason; False if the same thing is there already."""
        text = raw if isinstance(raw, str) else json.dumps(raw, sort_keys=True, default=str)
        key = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]
        values = {"reason": reason[:1000], "at": utc(at), **pack("raw", text[:900_000])}
        try:
            self._table.insert(QUARANTINE, key, values)
        except Conflict:
            return False
        return True

    def quarantined(self) -> Iterator[dict[str, Any]]:
        """What is in quarantine."""
        rows = self._table.query("PartitionKey eq @p", p=QUARANTINE)
        yield from self._table.all_parsed(rows, lambda r: {
            "id": r.key, "reason": r.text("reason"), "at": r.text("at"), "raw": unpack(r.values, "raw")})

    def forget(self, before: datetime, over: Callable[[], bool]) -> int:
        """Delete alerts and actions older than that, until it is `over` → how many rows."""
        return self._table.clear("received lt @t or at lt @t", over, t=utc(before))


def _action(name: str, facts: Mapping[str, Any]) -> str:
    """One action as JSON; what would not fit into a row is cut to its longest facts' beginnings."""
    text = json.dumps({"action": name, **facts}, default=str)
    if len(text) > LONGEST_ACTIONS:
        short = {k: v if len(str(v)) < 500 else str(v)[:500] for k, v in facts.items()}
        text = json.dumps({"action": name, **short}, default=str)
    return text


def _filled(texts: Iterable[str]) -> Iterator[list[str]]:
    """In order, as many together as a row holds."""
    group: list[str] = []
    size = 0
    for text in texts:
        if group and size + len(text) + 1 > LONGEST_ACTIONS:
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text) + 1
    if group:
        yield group


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """A plan as plain data, as it is recorded and shown."""
    return {
        "alertId": plan.alert_id,
        "mode": plan.mode.value,
        "verdict": plan.verdict.value,
        "reasons": list(plan.reasons),
        "notices": list(plan.notices),
        "machines": [
            {
                "id": m.id,
                "path": list(m.path),
                "power": m.power,
                "ports": [str(p) for p in m.ports],
                "speaksOut": m.speaks_out,
                "addresses": [a for n in m.nics for a in n.private_addresses],
                **({"created": m.created} if m.created else {}),
                "guards": list(dict.fromkeys(g for n in m.nics for g in n.guards)),
            }
            for m in plan.machines[:SHOWN_MACHINES]
        ],
        "machineCount": len(plan.machines),
        "blocks": [
            {
                "id": b.key.id,
                "nsg": b.key.nsg_id,
                "direction": b.key.direction.value,
                "address": b.key.address,
                "lifetimeSeconds": int(b.lifetime.total_seconds()),
                "decisive": b.decisive,
                "asks": list(b.ask),
                "machines": sorted({t.machine_id for t in b.targets})[:SHOWN_PER_BLOCK],
            }
            for b in plan.blocks
        ],
        "skipped": [
            {"address": s.address, "reason": s.reason, "resource": s.resource_id} for s in plan.skipped
        ],
    }


def _record(row: Row) -> AlertRecord:
    record = AlertRecord(row.text("alertId"), row.key.split("|", 1)[1],
                         AlertState(row.text("state")), row.values, row.etag)
    # What is read of it later is read here once: a record that is half readable is none.
    _ = (record.attempts, record.time("received"), record.verdict, unpack(row.values, "raw"))
    return record


def _actions(row: Row) -> list[dict[str, Any]]:
    return [{"at": row.text("at"), **action} for action in json.loads(row.text("actions") or "[]")]


def counting(bodies: Sequence[AlertRecord]) -> list[AlertRecord]:
    """Of an alert's bodies those that count, in the order of their coming: all that Defender confirms, for it
    adds machines and attackers to an alert; else the first."""
    return [b for b in bodies if b.verdict is Verdict.CONFIRMED] or list(bodies[:1])


def united(plans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several plans of one alert as one: the last one's word, and what any of them names. A machine or a
    block that several name is the last one's."""
    if not plans:
        return {}
    lists: dict[str, Callable[[Any], Any]] = {
        "machines": lambda m: m["id"],
        "blocks": lambda b: (b["nsg"], b["direction"], b["address"]),
        "skipped": lambda s: json.dumps(s, sort_keys=True),
        "notices": str,
        "reasons": str,
    }
    whole = dict(plans[-1])
    for name, key in lists.items():
        found = {key(one): one for plan in plans for one in plan.get(name) or ()}
        if found or name in whole:
            whole[name] = list(found.values())
    return whole
