"""The blocks table: one row per live block, moved to the NSG's ended partition at its end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from remediation.cloud.table_batch import Op
from remediation.errors import Conflict
from remediation.ledger.block import (
    Block,
    Claim,
    Sessions,
    merge_claim,
    merge_moved,
    targets_from_json,
    targets_to_json,
    weak_from_json,
    weak_to_json,
)
from remediation.ledger.forms import Row, decode, encode, pack, unpack
from remediation.ledger.store import MAX_TRANSACTION, Tables
from remediation.model import (
    ENDED_STATES,
    WANTED_STATES,
    BlockKey,
    BlockState,
    Direction,
    from_utc,
    utc,
)

CLAIM_TRIES = MOVE_TRIES = 10
GETS_AT_MOST = 6
"""More rows than so are read with one query of the NSG's partition."""
LONGEST_TEXT, FEW_TARGETS = 30_000, 16
"""Table Storage takes 32,768 UTF-16 units in a string."""
ENDED = "~ended"


class Blocks:
    """The blocks table."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.table("blocks")

    def live(self, nsg_id: str) -> list[Block]:
        """All rows of an NSG that have not ended."""
        rows = self._table.query("PartitionKey eq @p", p=encode(nsg_id))
        return list(self._table.all_parsed(rows, _block, aside=True))

    def wanted_addresses(self, nsg_id: str) -> frozenset[str]:
        """The addresses that are denied or about to be; two properties of each row are read."""
        rows = self._table.query("PartitionKey eq @p", select=("address", "state"), p=encode(nsg_id))
        return frozenset(r.text("address") for r in rows if r.text("state") in WANTED_STATES)

    def get(self, key: BlockKey) -> Block | None:
        """One live block."""
        row = self._table.get(encode(key.nsg_id), _row_key(key))
        return self._table.parsed(row, _block, aside=True)

    def latest(self, key: BlockKey) -> Block | None:
        """The block, or the last one of this key that has ended."""
        live = self.get(key)
        if live is not None:
            return live
        first = f"{_row_key(key)}|"
        rows = self._table.query("PartitionKey eq @p and RowKey ge @first and RowKey lt @last",
                                 p=encode(key.nsg_id) + ENDED, first=first, last=f"{first}~")
        ended = list(self._table.all_parsed(rows, _block))
        return ended[-1] if ended else None

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
        yield from self._table.all_parsed(self._table.query(" and ".join(filters), **parameters), _block)

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
        return list(self._table.all_parsed(rows, _block)), following

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
        """First as if all were new, as most are, and nothing need be read. Where a row is there, or
        another writer changes one meanwhile, all are read and the claims merged anew."""
        for attempt in range(CLAIM_TRIES):
            blocks = self._rows(nsg_id, {c.key for c in claims}) if attempt else {}
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
                continue  # a row is there, or changed in this moment: read them and merge anew
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

    def forget_ended(self, before: datetime, over: Callable[[], bool]) -> int:
        """Delete ended rows older than that, until it is `over` → how many."""
        return self._table.clear("live eq false and ended lt @t", over, t=utc(before))


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


def _targets(block: Block) -> dict[str, Any]:
    """A few as text, which is cheap and can be read in a storage browser; a pool's many packed: a thousand
    take some 12 KiB."""
    targets = targets_to_json(block.targets)
    if len(targets) <= FEW_TARGETS:
        text = json.dumps(targets, separators=(",", ":"))
        if len(text) <= LONGEST_TEXT:
            return {"targets": text}
    return pack("targets", targets)


def _values(block: Block) -> dict[str, Any]:
    """What is filtered by as properties of their own, the rest as one text: of a storm's thousands of
    rows every property costs, in the client and on the wire (`docs/decisions/0006`)."""
    facts: dict[str, Any] = {
        "lifetime": block.lifetime.total_seconds(),
        "decisive": block.decisive,
        "alerts": block.alerts,
        "asks": block.asks,
        "reports": block.reports,
        "priority": block.priority,
        "attempts": block.attempts,
    }
    facts.update({t: text for t in _TEXTS if (text := getattr(block, t))})
    if block.weak:
        facts |= {"weak": weak_to_json(block.weak), "each": block.each}
    if block.sessions:
        facts["sessions"] = block.sessions.value
    facts.update({t: utc(at) for t in _TIMES if (at := getattr(block, t)) is not None})
    return {
        "state": block.state.value,
        "nsg": block.key.nsg_id,
        "address": block.key.address,
        "blockId": block.key.id,
        "live": True,
        "ended": utc(block.ended) if block.ended else None,
        "facts": json.dumps(facts, separators=(",", ":")),
        **_targets(block),
    }


def _block(row: Row) -> Block:
    facts = json.loads(row.text("facts"))
    direction = Direction(row.key.split("|", 1)[0])
    nsg_id = row.text("nsg") or decode(row.partition.removesuffix(ENDED))
    times: dict[str, Any] = {t: from_utc(facts[t]) if facts.get(t) else None for t in _TIMES}
    texts: dict[str, Any] = {t: str(facts.get(t, "")) for t in _TEXTS}
    return Block(
        key=BlockKey(nsg_id, direction, row.text("address")),
        state=BlockState(row.text("state")),
        lifetime=timedelta(seconds=float(facts["lifetime"])),
        decisive=bool(facts["decisive"]),
        targets=targets_from_json(
            json.loads(row.text("targets")) if row.text("targets") else unpack(row.values, "targets") or ()),
        alerts=tuple(facts["alerts"]),
        asks=tuple(facts["asks"]),
        reports=int(facts["reports"]),
        priority=int(facts["priority"]),
        attempts=int(facts["attempts"]),
        sessions=Sessions(facts.get("sessions", "")),
        weak=weak_from_json(facts.get("weak") or {}), each=bool(facts.get("each")),
        etag=row.etag,
        **times,
        **texts,
    )
