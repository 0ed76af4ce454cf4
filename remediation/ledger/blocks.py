"""The blocks table: one row per live block, moved to the NSG's ended partition at its end.

`merge_claim` is the pure rule of how a report changes a block: it starts, prolongs or waits, and
never doubles.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from remediation.errors import Conflict
from remediation.ledger.store import MAX_TRANSACTION, Op, Row, Tables, decode, encode
from remediation.model import (
    ENDED_STATES,
    WANTED_STATES,
    BlockKey,
    BlockState,
    Direction,
    Target,
    from_utc,
    utc,
)

KEEP_ALERTS = 10
KEEP_TARGETS = 60
CLAIM_TRIES = MOVE_TRIES = 10
GETS_AT_MOST = 6
"""More rows than so are read with one query of the NSG's partition."""
LONGEST_TEXT = 30_000
"""Table Storage takes 32,768 UTF-16 units in a string."""
ENDED = "~ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block as the ledger holds it. Times are None until they happened."""

    key: BlockKey
    state: BlockState
    lifetime: timedelta
    decisive: bool
    targets: tuple[Target, ...] = ()
    alerts: tuple[str, ...] = ()
    alert_type: str = ""
    reports: int = 0
    first_claimed: datetime | None = None
    claimed: datetime | None = None
    written: datetime | None = None
    first_proven: datetime | None = None
    proven: datetime | None = None
    expires: datetime | None = None
    ended: datetime | None = None
    rule: str = ""
    priority: int = 0
    detail: str = ""
    shadowed_by: str = ""
    asks: tuple[str, ...] = ()
    question: str = ""
    overridden: str = ""
    approved_by: str = ""
    revoked_by: str = ""
    revoke_reason: str = ""
    attempts: int = 0
    retry_at: datetime | None = None
    etag: str = ""

    @property
    def wanted(self) -> bool:
        """Its address belongs in the owned rule."""
        return self.state in WANTED_STATES

    def due(self, now: datetime) -> bool:
        """Proven, and its time is up."""
        return (
            self.state in (BlockState.ACTIVE, BlockState.SHADOWED)
            and self.expires is not None
            and self.expires <= now
        )

    def to_json(self) -> dict[str, Any]:
        """For the API: plain data, times as text."""
        times = ("first_claimed", "claimed", "written", "first_proven", "proven", "expires", "ended")
        return {
            "id": self.key.id,
            "nsg": self.key.nsg_id,
            "direction": self.key.direction.value,
            "address": self.key.address,
            "state": self.state.value,
            "lifetimeSeconds": int(self.lifetime.total_seconds()),
            "decisive": self.decisive,
            "machines": sorted({t.machine_id for t in self.targets}),
            "alerts": list(self.alerts),
            "reports": self.reports,
            "rule": self.rule,
            "priority": self.priority,
            "detail": self.detail,
            "shadowedBy": self.shadowed_by,
            "asks": list(self.asks),
            "approvedBy": self.approved_by,
            "revokedBy": self.revoked_by,
            "revokeReason": self.revoke_reason,
            "times": {
                _camel(t): utc(at) for t in times if (at := getattr(self, t)) is not None
            },
        }


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(r.title() for r in rest)


@dataclass(frozen=True, slots=True)
class Claim:
    """One alert's wish for one block. `asks`: what a person must settle first, in the question of
    that id. `explicit`: a person replays or approves it, so that it prolongs even if this alert did
    before."""

    key: BlockKey
    alert_id: str
    alert_type: str
    lifetime: timedelta
    decisive: bool
    targets: tuple[Target, ...]
    asks: tuple[str, ...] = ()
    explicit: bool = False
    approved_by: str = ""
    question: str = ""
    at: datetime | None = None
    """When the wishes behind it were read, if not just now: a younger hold wins over it."""


def claim_of(block: Block) -> Claim:
    """The claim that would make this block again: what a question keeps of it."""
    return Claim(
        block.key, block.alerts[-1] if block.alerts else "", block.alert_type, block.lifetime,
        block.decisive, block.targets, block.asks,
    )


def claim_to_json(claim: Claim) -> list[Any]:
    """A claim as a question keeps it."""
    return [
        claim.key.nsg_id, claim.key.direction.value, claim.key.address, claim.alert_id,
        claim.alert_type, claim.lifetime.total_seconds(), claim.decisive, targets_to_json(claim.targets),
        list(claim.asks),
    ]


def claim_from_json(data: Sequence[Any]) -> Claim:
    """The inverse of `claim_to_json`."""
    nsg, direction, address, alert, kind, seconds, decisive, targets, asks = data
    return Claim(
        BlockKey(nsg, Direction(direction), address), alert, kind, timedelta(seconds=seconds),
        decisive, targets_from_json(targets), tuple(asks),
    )


def targets_to_json(targets: Sequence[Target]) -> list[list[Any]]:
    """The newest targets as plain data."""
    return [[t.machine_id, t.nic_id, t.subnet_id, list(t.addresses), t.hidden]
            for t in targets[-KEEP_TARGETS:]]


def targets_from_json(data: Iterable[Sequence[Any]]) -> tuple[Target, ...]:
    """The inverse of `targets_to_json`."""
    return tuple(Target(m, n, s, tuple(a), *hidden) for m, n, s, a, *hidden in data)


def merge_claim(block: Block | None, claim: Claim, now: datetime) -> Block | None:
    """The block after this claim; None if nothing changes.

    A new report of an active block makes it `pending` again: the commit proves it anew and counts
    its lifetime from that proof. The same alert again changes nothing, but that a body which asks
    nothing takes its block out of waiting: Defender has confirmed what an altered body accused.
    """
    if block is None:
        return Block(
            key=claim.key,
            state=BlockState.WAITING if claim.asks else BlockState.PENDING,
            lifetime=claim.lifetime,
            decisive=claim.decisive,
            targets=claim.targets,
            alerts=(claim.alert_id,),
            alert_type=claim.alert_type,
            reports=1,
            first_claimed=now,
            claimed=claim.at or now,
            asks=claim.asks,
            question=claim.question,
            approved_by=claim.approved_by,
        )
    settled = block.state is BlockState.WAITING and not claim.asks
    still_pending = block.state is BlockState.PENDING  # what was approved is not written yet
    if claim.alert_id in block.alerts and not (claim.explicit or settled):
        return None
    state, asks, question = block.state, block.asks, block.question
    if not claim.asks:
        state, asks, question = BlockState.PENDING, (), claim.question
    elif state in (BlockState.FAILED, BlockState.WAITING, BlockState.OVERRIDDEN):
        state, asks, question = BlockState.WAITING, claim.asks, claim.question
    # Else it is in force, or on its way out: neither waits for the answer, which claims anew.
    return replace(
        block,
        state=state,
        asks=asks,
        question=question,
        overridden="" if claim.explicit else block.overridden,
        lifetime=max(block.lifetime, claim.lifetime),
        decisive=block.decisive or claim.decisive,
        targets=_merged(block.targets, claim.targets),
        alerts=(*(a for a in block.alerts if a != claim.alert_id), claim.alert_id)[-KEEP_ALERTS:],
        reports=block.reports + 1,
        claimed=claim.at or now,
        approved_by=claim.approved_by or (block.approved_by if still_pending else ""),
        revoked_by="" if state is BlockState.PENDING else block.revoked_by,
        attempts=0,
        retry_at=None,
    )


def _merged(old: Sequence[Target], new: Sequence[Target]) -> tuple[Target, ...]:
    """Targets by NIC, the newer view of each."""
    by_nic = {t.nic_id: t for t in (*old, *new)}
    return tuple(by_nic.values())


def merge_moved(there: Block, old: Block) -> Block:
    """The block under the NSG's new id, with the alerts and the longer life of the one that moved.
    One that was only adopted there knows nothing of its own."""
    if not there.alerts:
        return replace(old, etag=there.etag)
    expires = max((t for t in (there.expires, old.expires) if t is not None), default=None)
    alerts = dict.fromkeys((*old.alerts, *there.alerts))
    return replace(
        there, expires=expires, alerts=tuple(alerts)[-KEEP_ALERTS:],
        targets=_merged(old.targets, there.targets),
    )


class Blocks:
    """The blocks table."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.table("blocks")

    def live(self, nsg_id: str) -> list[Block]:
        """All rows of an NSG that have not ended."""
        return [_block(r) for r in self._table.query("PartitionKey eq @p", p=encode(nsg_id))]

    def get(self, key: BlockKey) -> Block | None:
        """One live block."""
        row = self._table.get(encode(key.nsg_id), _row_key(key))
        return _block(row) if row else None

    def find(self, address: str = "", block_id: str = "") -> Iterator[Block]:
        """Live blocks of an address, or of an id, over all NSGs."""
        filters = ["live eq true"]
        parameters: dict[str, Any] = {}
        if address:
            filters.append("address eq @address")
            parameters["address"] = address
        if block_id:
            filters.append("blockId eq @block")
            parameters["block"] = block_id
        for row in self._table.query(" and ".join(filters), **parameters):
            yield _block(row)

    def page(
        self, *, state: str = "", address: str = "", nsg_id: str = "", size: int = 100,
        token: str = "",
    ) -> tuple[list[Block], str]:
        """One page of all blocks, ended ones too, filtered; and the next page's token."""
        filters: list[str] = []
        parameters: dict[str, Any] = {}
        for name, value in (("state", state), ("address", address), ("nsg", nsg_id)):
            if value:
                filters.append(f"{name} eq @{name}")
                parameters[name] = value
        text = " and ".join(filters) or "PartitionKey ge ''"
        rows, following = self._table.page(text, size, token, **parameters)
        return [_block(r) for r in rows], following

    def claim(self, nsg_id: str, claims: Sequence[Claim], now: datetime) -> list[Block | None]:
        """Record claims on one NSG, a transaction for up to a hundred blocks → for each claim the
        block as it left it, None where it changed nothing."""
        results: list[Block | None] = []
        for group in _by_transaction(claims):
            results += self._claim_together(nsg_id, group, now)
        return results

    def _claim_together(
        self, nsg_id: str, claims: Sequence[Claim], now: datetime
    ) -> list[Block | None]:
        """Rows that another writer changed meanwhile are read again, and all claims merged anew."""
        for _ in range(CLAIM_TRIES):
            blocks = self._rows(nsg_id, {c.key for c in claims})
            results: list[Block | None] = []
            changed: dict[BlockKey, Block] = {}
            for claim in claims:
                after = merge_claim(blocks.get(claim.key), claim, now)
                results.append(after)
                if after is not None:
                    blocks[claim.key] = changed[claim.key] = after
            try:
                self._table.transaction(_op(b) for b in changed.values())
            except Conflict:
                continue
            return results
        raise Conflict("the blocks keep changing under these claims")

    def _rows(self, nsg_id: str, keys: Iterable[BlockKey]) -> dict[BlockKey, Block]:
        """The live blocks of these keys; those that ended, and that a crash kept here, are moved."""
        keys = set(keys)
        if len(keys) > GETS_AT_MOST:
            found = [b for b in self.live(nsg_id) if b.key in keys]
        else:
            found = [b for k in keys if (b := self.get(k)) is not None]
        for block in found:
            if block.state in ENDED_STATES:
                self.end(block)
        return {b.key: b for b in found if b.state not in ENDED_STATES}

    def save(self, blocks: Iterable[Block]) -> tuple[list[Block], list[Block]]:
        """Write changed blocks under the etags they were read with → (saved, lost).

        A lost one was changed by someone else: read it again.
        """
        saved: list[Block] = []
        lost: list[Block] = []
        todo = list(blocks)
        for i in range(0, len(todo), MAX_TRANSACTION):
            group = todo[i : i + MAX_TRANSACTION]
            try:
                etags = self._table.transaction(_op(b) for b in group)
                saved += [replace(b, etag=e) for b, e in zip(group, etags, strict=True)]
            except Conflict:
                for one in group:
                    try:
                        etag = self._table.transaction([_op(one)])[0]
                        saved.append(replace(one, etag=etag))
                    except Conflict:
                        lost.append(one)
        return saved, lost

    def end(self, block: Block) -> bool:
        """Move a block that has ended out of the live partition; False if it has changed since.

        The copy is written first and has the same key however often it is written, so that a
        crash between the two leaves nothing lost and nothing doubled.
        """
        if block.state not in ENDED_STATES:
            raise ValueError(f"a block that is {block.state} has not ended")
        key = f"{_row_key(block.key)}|{utc(block.first_claimed) if block.first_claimed else ''}"
        self._table.upsert(
            encode(block.key.nsg_id) + ENDED, key, {**_values(block), "live": False}
        )
        return self._table.delete(encode(block.key.nsg_id), _row_key(block.key), block.etag)

    def move(self, block: Block, nsg_id: str) -> None:
        """The NSG has moved: the same block under its new id. One that is there already, by a
        newer report or an earlier attempt at this, takes over what the old one knows."""
        moved = replace(block, key=replace(block.key, nsg_id=nsg_id), etag="")
        for _ in range(MOVE_TRIES):
            there = self.get(moved.key)
            after = moved if there is None else merge_moved(there, moved)
            if self.save([after])[0]:
                break
        else:
            raise Conflict(f"block {moved.key.id} keeps changing")
        self._table.delete(encode(block.key.nsg_id), _row_key(block.key), block.etag)

    def forget_ended(self, before: datetime) -> int:
        """Delete ended rows older than that → how many."""
        count = 0
        rows = self._table.query("live eq false and ended lt @t", t=utc(before))
        for row in list(rows):
            count += self._table.delete(row.partition, row.key, row.etag)
        return count


def _by_transaction(claims: Sequence[Claim]) -> Iterator[list[Claim]]:
    """Claims in order, cut so that each part touches no more rows than a transaction takes."""
    part: list[Claim] = []
    rows: set[BlockKey] = set()
    for claim in claims:
        if len(rows | {claim.key}) > MAX_TRANSACTION:
            yield part
            part, rows = [], set()
        part.append(claim)
        rows.add(claim.key)
    if part:
        yield part


def _row_key(key: BlockKey) -> str:
    return f"{key.direction}|{encode(key.address)}"


def _op(block: Block) -> Op:
    kind: Any = "put" if block.etag else "insert"
    return Op(kind, encode(block.key.nsg_id), _row_key(block.key), _values(block), block.etag)


_TIMES = ("first_claimed", "claimed", "written", "first_proven", "proven", "expires", "ended",
          "retry_at")
_TEXTS = ("alert_type", "rule", "detail", "shadowed_by", "question", "overridden", "approved_by",
          "revoked_by", "revoke_reason")


def _fitting(targets: list[list[Any]]) -> str:
    """The newest targets that fit into a property: long names leave room for fewer."""
    while len(text := json.dumps(targets, separators=(",", ":"))) > LONGEST_TEXT:
        targets = targets[1:]
    return text


def _values(block: Block) -> dict[str, Any]:
    values: dict[str, Any] = {
        "state": block.state.value,
        "nsg": block.key.nsg_id,
        "address": block.key.address,
        "blockId": block.key.id,
        "live": True,
        "lifetime": block.lifetime.total_seconds(),
        "decisive": block.decisive,
        "targets": _fitting(targets_to_json(block.targets)),
        "alerts": json.dumps(list(block.alerts)),
        "asks": json.dumps(list(block.asks)),
        "reports": block.reports,
        "priority": block.priority,
        "attempts": block.attempts,
    }
    values.update({t: getattr(block, t) for t in _TEXTS})
    values.update({t: utc(at) for t in _TIMES if (at := getattr(block, t)) is not None})
    return values


def _block(row: Row) -> Block:
    v = row.values
    direction = Direction(row.key.split("|", 1)[0])
    times: dict[str, Any] = {t: from_utc(str(v[t])) if v.get(t) else None for t in _TIMES}
    texts: dict[str, Any] = {t: row.text(t) for t in _TEXTS}
    nsg_id = row.text("nsg") or decode(row.partition.removesuffix(ENDED))
    return Block(
        key=BlockKey(nsg_id, direction, row.text("address")),
        state=BlockState(row.text("state")),
        lifetime=timedelta(seconds=float(v.get("lifetime", 0))),
        decisive=bool(v.get("decisive")),
        targets=targets_from_json(json.loads(row.text("targets") or "[]")),
        alerts=tuple(json.loads(row.text("alerts") or "[]")),
        asks=tuple(json.loads(row.text("asks") or "[]")),
        reports=int(v.get("reports", 0)),
        priority=int(v.get("priority", 0)),
        attempts=int(v.get("attempts", 0)),
        etag=row.etag,
        **times,
        **texts,
    )


