"""Table Storage, as little of it as we need: rows with etags, conditions, transactions, paging.

Errors leave as ours; those of the ledger are `LedgerDown` or `Conflict`, so that the triggers can
tell "our memory is gone, send it again" from a throttled Azure. Tables are made when first missed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from remediation.cloud.clients import Clients
from remediation.cloud.failures import translated
from remediation.cloud.retry import briefly
from remediation.cloud.table_batch import Op, change, transact
from remediation.errors import Conflict, Invalid, NotFound, RemediationError, Unavailable
from remediation.ledger.forms import Row, decode
from remediation.model import utc

if TYPE_CHECKING:
    from azure.data.tables import TableClient

MAX_TRANSACTION = 100
PAGE = 1000
ASIDE, ASIDE_TABLE = "~unreadable", "control"
"""Where rows are kept that nobody can read."""
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, OSError, EOFError,
              zlib.error)
"""What reading a row raises that someone else has written into."""
LONGEST_KEY = 500
TOO_LARGE = ("PropertyValueTooLarge", "EntityTooLarge", "RequestBodyTooLarge", "TooManyProperties")
"""A row that will never fit: trying it again is no use."""

_log = logging.getLogger(__name__)


class LedgerDown(Unavailable):
    """Table Storage does not answer: nothing may be done, the event must come again."""


class Tables:
    """The tables of one ledger. `prefix` lets several live in one account (tests)."""

    def __init__(self, clients: Clients, prefix: str = "") -> None:
        self._clients = clients
        self._prefix = prefix
        self._lock = threading.Lock()
        self._made: dict[str, TableClient] = {}
        self._told: set[tuple[str, str, str, str]] = set()
        self.tell: Callable[[str], None] = _log.error
        """How a human hears of a row that cannot be read."""

    def table(self, name: str) -> Table:
        """One table."""
        return Table(self, name)

    def client(self, name: str) -> TableClient:
        """The SDK's client of one table."""
        with self._lock:
            if name not in self._made:
                self._made[name] = self._clients.tables().get_table_client(self._prefix + name)
            return self._made[name]

    def transact(self, name: str, ops: Sequence[Op]) -> list[str]:
        """Several changes of one partition of a table, all or nothing → the new etags."""
        client, endpoint = self._clients.table_requests()
        return transact(client, endpoint, self._prefix + name, ops)

    def change(self, name: str, op: Op) -> str:
        """One row of a table → its new etag."""
        client, endpoint = self._clients.table_requests()
        return change(client, endpoint, self._prefix + name, op)

    def unreadable(self, table: str, row: Row, error: Exception, *, aside: bool) -> None:
        """Tell of a row that cannot be read, once in the life of this process."""
        what = (table, row.partition, row.key, row.etag)
        if what not in self._told:
            self.tell(f"a row of {table} cannot be read and is {'set aside' if aside else 'passed over'}: "
                      f"{decode(row.partition)} {decode(row.key)}: {type(error).__name__}: {error}"[:1000])
            self._told.add(what)

    def create(self, name: str) -> None:
        """Make the table; that it is there already is fine."""
        with _ledgering(f"create table {name}"):
            self._clients.tables().create_table_if_not_exists(self._prefix + name)


@contextlib.contextmanager
def _ledgering(doing: str) -> Iterator[None]:
    """`translated`, with what is not our own doing turned into LedgerDown."""
    try:
        with translated(doing):
            yield
    except (Conflict, NotFound):
        raise
    except RemediationError as error:
        if isinstance(error, Invalid) and error.code in TOO_LARGE:
            raise
        raise LedgerDown(str(error), code=error.code) from error


def _asked[T](doing: str, call: Callable[[], T]) -> T:
    """One request to the tables, tried again briefly if they do not answer. One that was done and
    whose answer was lost shows as a conflict: callers read again."""

    def once() -> T:
        with _ledgering(doing):
            return call()

    return briefly(once)


class Table:
    """One table. Reads give None for a missing row; writes raise Conflict when they lose."""

    def __init__(self, tables: Tables, name: str) -> None:
        self._tables = tables
        self.name = name

    def _with_table[T](self, doing: str, call: Callable[[], T]) -> T:
        """Run; if the table is missing, make it and run once more."""
        try:
            return _asked(f"{doing} {self.name}", call)
        except NotFound:
            self._tables.create(self.name)
            return _asked(f"{doing} {self.name}", call)

    def parsed[T](
        self, row: Row | None, parse: Callable[[Row], T], *, aside: bool = False
    ) -> T | None:
        """What a row holds. None, and a human is told, if it cannot be read: one row must not hold up
        the others. `aside`: it is moved to where it is in nobody's way."""
        try:
            return parse(row) if row is not None else None
        except UNREADABLE as error:
            assert row is not None  # noqa: S101 - only a row is parsed
            self._tables.unreadable(self.name, row, error, aside=aside)
            if aside:
                self._set_aside(row)
            return None

    def all_parsed[T](
        self, rows: Iterable[Row], parse: Callable[[Row], T], *, aside: bool = False
    ) -> Iterator[T]:
        """What rows hold, without those that cannot be read."""
        for row in rows:
            found = self.parsed(row, parse, aside=aside)
            if found is not None:
                yield found

    def _set_aside(self, row: Row) -> None:
        """Keep it as it is, under a key that tells where it was; then take it away."""
        key = f"{self.name}|{row.partition}|{row.key}"[-LONGEST_KEY:]
        changed = utc(row.changed) if row.changed else ""
        self._tables.table(ASIDE_TABLE).upsert(ASIDE, key, {**row.values, "changed": changed})
        self.delete(row.partition, row.key, row.etag)

    def get(self, partition: str, key: str) -> Row | None:
        """One row, or None."""
        client = self._tables.client(self.name)
        try:
            return _row(_asked(f"read {self.name}", lambda: client.get_entity(partition, key)))
        except NotFound:
            return None

    def get_with_time(self, partition: str, key: str) -> tuple[Row | None, datetime]:
        """One row, and the service's own time: the only clock that leases are judged by."""
        seen: list[str] = []

        def hook(response: Any) -> None:
            seen.append(response.http_response.headers.get("Date", ""))

        row = None
        client = self._tables.client(self.name)
        with contextlib.suppress(NotFound):  # no row: the answer carries the time all the same
            row = _row(_asked(
                f"read {self.name}",
                lambda: client.get_entity(partition, key, raw_response_hook=hook),
            ))
        if not seen or not seen[-1]:
            raise LedgerDown(f"{self.name}: an answer without a Date header")
        return row, parsedate_to_datetime(seen[-1]).astimezone(UTC)

    def insert(self, partition: str, key: str, values: Mapping[str, Any]) -> str:
        """A new row → its etag. Conflict if it is there."""
        op = Op("insert", partition, key, values)
        return self._with_table("add to", lambda: self._tables.change(self.name, op))

    def put(self, partition: str, key: str, values: Mapping[str, Any], etag: str) -> str:
        """Replace a row that is still as read → its new etag. Conflict if it is not."""
        op = Op("put", partition, key, values, etag)
        try:
            return _asked(f"update {self.name}", lambda: self._tables.change(self.name, op))
        except NotFound as error:
            raise Conflict(f"{self.name}: the row is gone") from error

    def write(
        self, before: Row | None, partition: str, key: str, values: Mapping[str, Any]
    ) -> str:
        """The row after `before`, as it was read: new if there was none → its etag. Conflict if
        someone else was faster."""
        if before is None:
            return self.insert(partition, key, values)
        return self.put(partition, key, values, before.etag)

    def upsert(self, partition: str, key: str, values: Mapping[str, Any]) -> None:
        """Write a row whatever is there: for rows that only one writer has, whose content is always
        the same, or of which the newest word counts."""
        op = Op("upsert", partition, key, values)
        self._with_table("write to", lambda: self._tables.change(self.name, op))

    def delete(self, partition: str, key: str, etag: str) -> bool:
        """Delete a row that is still as read; False if it has changed. A missing row is deleted."""
        op = Op("delete", partition, key, etag=etag)
        try:
            _asked(f"delete in {self.name}", lambda: self._tables.change(self.name, op))
        except Conflict:
            return False
        except NotFound:
            return True
        return True

    def transaction(self, ops: Iterable[Op]) -> list[str]:
        """All or nothing, in one partition, at most 100 → new etags. Conflict if one loses."""
        ops = list(ops)
        if not ops:
            return []
        if len(ops) > MAX_TRANSACTION or len({op.partition for op in ops}) > 1:
            raise ValueError("a transaction has one partition and at most 100 operations")
        if len(ops) == 1:
            return [self._single(ops[0])]
        try:
            return self._with_table("transact on", lambda: self._tables.transact(self.name, ops))
        except NotFound as error:
            raise Conflict(f"{self.name}: a row of the transaction is gone") from error

    def _single(self, op: Op) -> str:
        if op.kind == "insert":
            return self.insert(op.partition, op.key, op.values)
        if op.kind == "put":
            return self.put(op.partition, op.key, op.values, op.etag)
        if op.kind == "upsert":
            self.upsert(op.partition, op.key, op.values)
            return ""
        if not self.delete(op.partition, op.key, op.etag):
            raise Conflict(f"{self.name}: the row has changed")
        return ""

    def clear(self, text: str, over: Callable[[], bool], **parameters: Any) -> int:
        """Delete the rows of a filter, many at a time, until it is `over` → how many. Rows that
        change meanwhile stay."""
        count, token = 0, ""
        while not over():
            rows, token = self.page(text, PAGE, token, **parameters)
            by_partition: dict[str, list[Op]] = {}
            for row in rows:
                by_partition.setdefault(row.partition, []).append(
                    Op("delete", row.partition, row.key, etag=row.etag))
            for ops in by_partition.values():
                for some in itertools.batched(ops, MAX_TRANSACTION, strict=False):
                    if over():
                        return count
                    count += self._delete_together(some)
            if not token:
                break
        return count

    def _delete_together(self, ops: Sequence[Op]) -> int:
        try:
            self.transaction(ops)
        except Conflict:
            return sum(self.delete(op.partition, op.key, op.etag) for op in ops)
        return len(ops)

    def query(self, text: str, *, select: Sequence[str] = (), **parameters: Any) -> Iterator[Row]:
        """All rows of an OData filter with `@name` parameters; of each, all properties or those
        selected. A missing table has none."""
        token = ""
        while True:
            rows, token = self.page(text, PAGE, token, select=select, **parameters)
            yield from rows
            if not token:
                return

    def page(
        self, text: str, size: int, token: str = "", *, select: Sequence[str] = (), **parameters: Any
    ) -> tuple[list[Row], str]:
        """One page of a query and the token of the next, '' at the end."""
        start = json.loads(token) if token else None
        client = self._tables.client(self.name)

        def call() -> tuple[list[Row], str]:
            pages = client.query_entities(
                text, parameters=parameters, results_per_page=size,
                select=["PartitionKey", "RowKey", *select] if select else None,
            ).by_page(continuation_token=start)
            rows = [_row(e) for e in next(pages, ())]
            following = getattr(pages, "continuation_token", None)
            return rows, json.dumps(following) if following else ""

        try:
            return _asked(f"query {self.name}", call)
        except NotFound:
            return [], ""


def _row(entity: Any) -> Row:
    metadata = entity.metadata
    values = {k: v for k, v in entity.items() if k not in ("PartitionKey", "RowKey")}
    return Row(entity["PartitionKey"], entity["RowKey"], values, metadata.get("etag") or "",
               metadata.get("timestamp"))
