"""Azure Resource Graph: the queries of `queries/*.kql`, all pages, as rows.

Parameters are Azure resource ids and names that were checked to hold no quote. The graph lags
behind reality; where it matters a resource GET confirms.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from remediation.clock import Clock, Deadline, Pace
from remediation.cloud.clients import Clients, timeouts
from remediation.cloud.failures import translated
from remediation.cloud.retry import retrying
from remediation.errors import Invalid

_QUERIES = Path(__file__).with_name("queries")
PATIENT = ("alerts_naming", "alerts_on", "patches", "posture_")
PATIENT_AT_ONCE, PATIENT_PER_SECOND = 2.0, 0.5
"""What is asked for an investigation leaves most of the allowance to what stops attacks."""
_SAFE = re.compile(r"[\w./:() -]{1,600}", re.ASCII)
PAGE = 1000
MAX_PAGES = 200
QUERIES_AT_ONCE, QUERIES_PER_SECOND = 6.0, 2.5
"""Azure allows a user 15 queries in 5 seconds [D]. Keeping to it costs less than a refusal, which
costs the rest of the window; what waits meanwhile gathers into one query."""


@cache
def query_text(name: str) -> str:
    """The text of `queries/<name>.kql`, comments taken out."""
    lines = (_QUERIES / f"{name}.kql").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("//"))


def fill(query: str, /, **values: str | Sequence[str]) -> str:
    """Put values in place of `{name}`: text quoted, lists as `'a', 'b'`. Raises Invalid."""
    for name, value in values.items():
        many = [value] if isinstance(value, str) else list(value)
        for one in many:
            if not _SAFE.fullmatch(one):
                raise Invalid(f"not a value for a query: {one[:80]!r}")
        query = query.replace("{" + name + "}", ", ".join(f"'{one}'" for one in many))
    return query


def askable(text: str) -> bool:
    """May the text stand in a query? Names in other alphabets may not: such resources are read by GET."""
    return _SAFE.fullmatch(text) is not None


class Graph:
    """What we ask of Microsoft.ResourceGraph."""

    def __init__(
        self, clients: Clients, subscriptions: Sequence[str], management_groups: Sequence[str], clock: Clock
    ) -> None:
        self._clients = clients
        self._pace = Pace(clock, QUERIES_AT_ONCE, QUERIES_PER_SECOND)
        self._patient = Pace(clock, PATIENT_AT_ONCE, PATIENT_PER_SECOND)
        self._subscriptions = list(subscriptions) or None
        self._groups = list(management_groups) or None

    def rows(self, query: str, deadline: Deadline, /, **values: str | Sequence[str]) -> list[dict[str, Any]]:
        """Run a query; every page of its result."""
        from azure.mgmt.resourcegraph.models import QueryRequest, QueryRequestOptions

        text = fill(query_text(query), **values)
        found: list[dict[str, Any]] = []
        token: str | None = None
        for _ in range(MAX_PAGES):
            request = QueryRequest(
                subscriptions=self._subscriptions, management_groups=self._groups,
                query=text,
                options=QueryRequestOptions(top=PAGE, skip_token=token, result_format="objectArray"),
            )

            def call(request: QueryRequest = request) -> Any:
                if query.startswith(PATIENT):
                    self._patient.wait(deadline)
                self._pace.wait(deadline)
                with translated(f"graph query {query}"):
                    return self._clients.graph().resources(request, **timeouts(deadline))

            answer = retrying(call, deadline, what=f"graph query {query}")
            found += [row for row in answer.data or () if isinstance(row, dict)]
            token = answer.skip_token
            if not token:
                break
        return found
