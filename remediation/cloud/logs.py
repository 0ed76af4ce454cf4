"""Log Analytics: the queries of `queries/logs/*.kql`, one file per source, on every workspace given.

A workspace that does not collect a source has no such table: that is an answer, not an error. It is known by
the code of the innermost error (`SEM0100`, an unresolved name), not by its text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from remediation.clock import Deadline
from remediation.cloud.clients import Clients
from remediation.cloud.failures import translated
from remediation.cloud.graph import askable, fill
from remediation.cloud.retry import retrying
from remediation.errors import Invalid, PermanentError

_QUERIES = Path(__file__).with_name("queries") / "logs"
SOURCES = tuple(sorted(p.stem for p in _QUERIES.glob("*.kql")))
NO_TABLE = ("SEM0100", "SEM0001")
MOST_ROWS = 300
LEAST_SECONDS = 3.0
"""With less of the time left no other query is begun."""


@dataclass(frozen=True, slots=True)
class Traces:
    """What one source of one workspace shows. `missing`: it is not collected there; `trouble`: why it could
    not be asked, or ''; `cut`: there were more rows than are read."""

    source: str
    workspace: str
    rows: tuple[Mapping[str, Any], ...] = ()
    missing: bool = False
    trouble: str = ""
    cut: bool = False


class Logs:
    """What we ask of Log Analytics."""

    def __init__(self, clients: Clients, workspaces: Sequence[str]) -> None:
        self._clients = clients
        self.workspaces = tuple(workspaces)
        self.sources = SOURCES

    @staticmethod
    def askable(addresses: Iterable[str]) -> list[str]:
        """Those that may stand in a query."""
        return [a for a in addresses if askable(a)]

    @property
    def count(self) -> int:
        """How many answers `traces` has in all."""
        return len(self.workspaces) * len(SOURCES)

    def traces(
        self, addresses: Sequence[str], start: datetime, end: datetime, deadline: Deadline,
        sources: Sequence[str] = SOURCES, skip: int = 0,
    ) -> list[Traces]:
        """Who spoke with these addresses then, by every source of every workspace but the first `skip`,
        until the time is over; one at least. Temporary errors are raised; what a workspace refuses is told
        beside what the others said."""
        found: list[Traces] = []
        for workspace, source in [(w, s) for w in self.workspaces for s in sources][skip:]:
            if found and deadline.left() < LEAST_SECONDS:
                break
            found.append(self._source(source, workspace, addresses, start, end, deadline))
        return found

    def _source(
        self, source: str, workspace: str, addresses: Sequence[str], start: datetime, end: datetime,
        deadline: Deadline,
    ) -> Traces:
        text = (_QUERIES / f"{source}.kql").read_text(encoding="utf-8")
        query = fill("\n".join(x for x in text.splitlines() if not x.startswith("//")), addresses=addresses)

        def call() -> tuple[list[Mapping[str, Any]], str]:
            with translated(f"query {source}"):
                answer: Any = self._clients.logs().query_workspace(
                    workspace, query, timespan=(start, end), server_timeout=25)
            tables = getattr(answer, "tables", None) or getattr(answer, "partial_data", None) or ()
            half = "" if getattr(answer, "tables", None) is not None else "the answer is not complete"
            return [dict(zip(t.columns, map(_plain, r), strict=True)) for t in tables for r in t.rows], half

        try:
            rows, half = retrying(call, deadline, what=f"query {source}")
        except Invalid as error:
            if error.code in NO_TABLE:
                return Traces(source, workspace, missing=True)
            return Traces(source, workspace, trouble=str(error)[:300])
        except PermanentError as error:
            return Traces(source, workspace, trouble=str(error)[:300])
        return Traces(source, workspace, tuple(rows[:MOST_ROWS]), trouble=half, cut=len(rows) > MOST_ROWS)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
