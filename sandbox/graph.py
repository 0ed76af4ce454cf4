"""Resource Graph: KQL really executed (duckdb-kql) over the same state, within Azure's dialect.

What Azure's dialect refuses and duckdb-kql would run is refused here by name. Paging, the quota of
15 queries per 5 s and an optional lag behind the state are the sandbox's.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from typing import Any

from sandbox.arm.call import Answer
from sandbox.arm.errors import ArmError
from sandbox.arm.routes import rows as routes_rows
from sandbox.arm.security import graph_row
from sandbox.arm.state import State

TABLES = ("resources", "resourcecontainers", "securityresources", "computeresources",
          "networkresources", "patchassessmentresources", "advisorresources", "recoveryservicesresources",
          "authorizationresources")
COLUMNS = (
    "id",
    "name",
    "type",
    "location",
    "resourceGroup",
    "subscriptionId",
    "tags",
    "properties",
    "identity",
)
AS_JSON = ("tags", "properties", "identity")
REFUSED = (
    (r"(^|\|)\s*(let|mv-apply|evaluate|parse|parse-where|serialize|render|fork|facet|invoke)\b", "operator"),
    (r"\bkind\s*=\s*(leftanti|leftsemi|rightanti|rightsemi|rightouter|anti)\b", "join kind"),
    (r"\bjoin\s+(?!kind)\(?\s*materialize", "materialize"),
)
OTHERS = (
    "patchassessmentresources",
    "advisorresources",
    "recoveryservicesresources",
    "authorizationresources",
)
"""Tables that hold nothing but what was seeded, or what an assessment left."""
OF_COMPUTE = "microsoft.compute/virtualmachinescalesets/virtualmachines"
"""Scale set instances and what is below them: in a table of their own."""
OF_NETWORK = "microsoft.network/firewallpolicies/rulecollectiongroups"
"""What the table of network resources has, of what we have."""
MAX_JOINS, MAX_MV_EXPAND, MAX_MV_LIMIT, MAX_UNIONS = 3, 3, 400, 3
PAGE_DEFAULT, PAGE_MOST = 100, 1000


class Graph:
    """One connection; queries take turns."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._con: Any = None
        self._built = self._copied = -1
        self._rows: list[dict[str, Any]] = []
        self._alerts: list[dict[str, Any]] = []
        self._shown: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        """Each alert as ARM has it, and its row: made anew only where the alert is another."""
        self._seen: tuple[int, float] = (-1, 0.0)
        self._types: set[str] = set()
        self._filled: list[dict[str, Any]] | None = None
        self._others: dict[str, list[dict[str, Any]]] = {}
        self._filled_others: dict[str, list[dict[str, Any]]] = {}

    def prepare(self) -> None:
        """Copy the state's rows if they changed; on the event loop, which alone may read them."""
        if self._copied != self._state.version:
            self._copied = self._state.version
            unseen = self._state.unseen
            self._rows = [r for r in routes_rows(self._state) if str(r["id"]).lower() not in unseen]
            self._rows += self._state.ghosts
            others: dict[str, list[dict[str, Any]]] = {}
            for row in self._state.graph_rows.values():
                others.setdefault(str(row["table"]), []).append(row)
            self._others = others
            shown = {name: old if (old := self._shown.get(name)) and old[0] is body else (
                body, graph_row(body, body["id"].split("/")[2])) for name, body in self._state.alerts.items()}
            if shown != self._shown:  # a storm writes rules, and its alerts stay as they are
                self._shown, self._alerts = shown, [row for _, row in shown.values()]

    def warm(self) -> None:
        """Load the engine and make the tables: Azure's first answer is no slower than its second."""
        self.prepare()
        self._run("resources | take 1 | project id", [], "")

    def query(self, raw: bytes, caller: str) -> Answer:
        """POST /providers/Microsoft.ResourceGraph/resources"""
        quota = self._take(caller)
        try:
            return self._answer(raw, caller, quota)
        except ArmError as error:  # recorded: a refusal says what is left, too
            error.headers = {**quota, **error.headers}
            raise

    def _answer(self, raw: bytes, caller: str, quota: dict[str, str]) -> Answer:
        try:
            body = json.loads(raw)
            text = str(body["query"])
        except (ValueError, KeyError, TypeError):
            raise _bad("InvalidQuery", "Query is missing.") from None
        options = body.get("options") or {}
        skip, before = _skip(options.get("$skipToken"))
        top = options.get("$top", options.get("top")) or before or PAGE_DEFAULT
        if not 1 <= int(top) <= PAGE_MOST:
            raise _bad("InvalidTop", f"$top must be from 1 to {PAGE_MOST}.")
        skip = skip or int(options.get("$skip") or 0)
        refuse(text)
        if text.split(None, 1)[0].lower() not in TABLES:  # recorded: without a table it is `resources`
            text = f"resources | {text}"
        columns, rows = self._run(text, self._scope(body), caller)
        page = rows[skip : skip + int(top)]
        answer: dict[str, Any] = {
            "totalRecords": len(rows), "count": len(page), "facets": [], "resultTruncated": "false",
        }
        shown = [dict(zip(columns, r, strict=True)) for r in page]
        if str(options.get("resultFormat", "objectArray")) == "table":
            answer["data"] = {"columns": [{"name": c, "type": "string"} for c in columns],
                              "rows": [list(r) for r in page]}
        else:
            answer["data"] = shown
        if skip + len(page) < len(rows):
            if "id" in columns:
                token = {"$id": "1", "MaxRows": int(top), "RowsToSkip": skip + len(page)}
                answer["$skipToken"] = base64.b64encode(json.dumps(token).encode()).decode()
            else:
                answer["resultTruncated"] = "true"
        return Answer(200, answer, quota)

    def _scope(self, body: dict[str, Any]) -> list[str]:
        """The subscriptions asked about: those named, or those of the management groups; none for all."""
        named, groups = body.get("subscriptions") or [], body.get("managementGroups") or []
        known = {name.lower(): held for name, held in self._state.management_groups.items()}
        unknown = [g for g in groups if str(g).lower() not in known]
        if unknown:
            raise _bad("InvalidManagementGroups", f"Management groups {unknown} cannot be accessed.")
        return [*named, *(s for g in groups for s in known[str(g).lower()])]

    def _take(self, caller: str) -> dict[str, str]:
        tuning = self._state.tuning
        bucket = self._state.bucket("graph", caller)
        wait = bucket.take() if tuning.throttle else None
        headers = {"x-ms-ratelimit-remaining-tenant-resource-requests": str(int(bucket.tokens)),
                   "x-ms-user-quota-remaining": str(int(bucket.tokens)),
                   "x-ms-user-quota-resets-after": "00:00:05"}
        if wait is not None:
            raise ArmError(429, "RateLimiting", "Please provide below info when asking for support.",
                           headers={**headers, "retry-after": str(max(1, round(wait)))})
        return headers

    def _run(
        self, text: str, subscriptions: list[str], caller: str
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        import duckdb
        import duckdb_kql

        with self._lock:
            con = self._fresh(duckdb_kql)
            wanted = [s.lower() for s in subscriptions]
            con.execute("create or replace table _scope(s varchar)")
            if wanted:
                con.executemany("insert into _scope values (?)", [[s] for s in wanted])
            con.execute("create or replace table _seen(t varchar)")
            seen = self._state.access.readable(caller, self._types)
            if seen:
                con.executemany("insert into _seen values (?)", [[t] for t in seen])
            con.execute("create or replace table _hidden(scope varchar, action varchar)")
            hidden = self._state.access.hidden(caller)
            if hidden:
                con.executemany("insert into _hidden values (?, ?)", [list(h) for h in hidden])
            for table in TABLES:
                where = " where type in (select t from _seen)"
                where += (" and not exists (select 1 from _hidden h where starts_with(lower(id), h.scope)"
                          " and regexp_matches(type || '/read', h.action))") if hidden else ""
                where += " and subscriptionId in (select s from _scope)" if wanted else ""
                con.execute(f"create or replace view {table} as select * from all_{table}{where}")  # noqa: S608 - our own names
            try:
                relation = duckdb_kql.kql(con, text)
                rows = relation.fetchall()
            except (duckdb.Error, duckdb_kql.KqlError) as error:
                raise _bad("InvalidQuery", INVALID, {
                    "code": "ParserFailure", "message": str(error).splitlines()[0], "line": 1,
                    "characterPositionInLine": 0, "token": "", "expectedToken": ""}) from None
            kinds = [str(t) for t in relation.types]
            names = list(relation.columns)
        return names, [tuple(_plain(v, k) for v, k in zip(r, kinds, strict=True)) for r in rows]

    def _fresh(self, duckdb_kql: Any) -> Any:
        """The tables as they should look now, no fresher than the lag allows."""
        if self._con is None:
            self._con = duckdb_kql.connect()
        version, now = self._copied, time.monotonic()
        if version != self._seen[0]:
            self._seen = (version, now)
        lag = self._state.tuning.graph_lag
        if self._built == version or (self._built >= 0 and now - self._seen[1] < lag):
            return self._con
        if self._built < 0:
            for table in TABLES:
                columns = ", ".join(f"{c} {'json' if c in AS_JSON else 'varchar'}"
                                    for c in COLUMNS)
                self._con.execute(f"create table all_{table} ({columns})")
        compute = [r for r in self._rows if r["type"].startswith(OF_COMPUTE)]
        network = [r for r in self._rows if r["type"] == OF_NETWORK]
        self._fill("resources", [r for r in self._rows
                                 if not r["type"].startswith(OF_COMPUTE) and r["type"] != OF_NETWORK])
        self._fill("networkresources", network)
        self._fill("computeresources", compute)
        others = self._others
        if self._filled is not self._alerts or self._filled_others != others:
            self._fill("securityresources", [*self._alerts, *others.get("securityresources", ())])
            for table in OTHERS:
                self._fill(table, others.get(table, []))
            self._filled, self._filled_others = self._alerts, others
        more = (r for rows in others.values() for r in rows)
        self._types = {str(r.get("type", "")).lower() for r in (*self._rows, *self._alerts, *more)}
        self._built = version
        return self._con

    def _fill(self, table: str, rows: list[dict[str, Any]]) -> None:
        values = []
        for r in rows:
            parts = str(r["id"]).split("/")
            group = parts[4] if len(parts) > 4 and parts[3].lower() == "resourcegroups" else ""
            values.append([
                r["id"], r.get("name", ""), str(r.get("type", "")).lower(), r.get("location", ""),
                group.lower(), parts[2].lower(), json.dumps(r.get("tags") or {}),
                json.dumps(r.get("properties") or {}), json.dumps(r.get("identity") or {}),
            ])
        self._con.execute(f"delete from all_{table}")  # noqa: S608 - our own names
        if values:  # by columns: a row at a time takes a millisecond each
            spread = ", ".join("unnest(?)" for _ in COLUMNS)
            self._con.execute(f"insert into all_{table} select {spread}",
                              [list(column) for column in zip(*values, strict=True)])


def refuse(text: str) -> None:
    """What Resource Graph does not take, though the engine would. Raises 400 InvalidQuery."""
    bare = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", "''", text)
    for pattern, what in REFUSED:
        hit = re.search(pattern, bare, re.IGNORECASE)
        if hit:
            raise _bad("InvalidQuery", f"Query is invalid: unsupported {what} '{hit[0].strip(' |')}'.")
    if len(re.findall(r"\|\s*join\b", bare, re.IGNORECASE)) > MAX_JOINS:
        raise _bad("InvalidQuery", f"Query is invalid: more than {MAX_JOINS} joins.")
    if len(re.findall(r"\|\s*union\b", bare, re.IGNORECASE)) > MAX_UNIONS:
        raise _bad("InvalidQuery", f"Query is invalid: more than {MAX_UNIONS} unions.")
    expands = re.findall(r"\|\s*mv-expand\b([^|]*)", bare, re.IGNORECASE)
    if len(expands) > MAX_MV_EXPAND:
        raise _bad("InvalidQuery", f"Query is invalid: more than {MAX_MV_EXPAND} mv-expand.")
    for one in expands:
        limit = re.search(r"\blimit\s+(\d+)", one, re.IGNORECASE)
        if limit is None:
            raise _bad("InvalidQuery", "The sandbox wants mv-expand with an explicit limit: Azure "
                       "silently cuts at 128.")
        if int(limit[1]) > MAX_MV_LIMIT:
            raise _bad("InvalidQuery", f"Query is invalid: mv-expand limit above {MAX_MV_LIMIT}.")


INVALID = ("Query is invalid. Please refer to the documentation for the Azure Resource Graph service and fix "
           "the error before retrying.")


def _bad(code: str, message: str, *more: dict[str, Any]) -> ArmError:
    return ArmError(400, "BadRequest", "Please provide below info when asking for support.",
                    details=[{"code": code, "message": message}, *more])


def _skip(token: Any) -> tuple[int, int]:
    """How many rows to skip, and how long pages are: a token remembers both."""
    if not token:
        return 0, 0
    try:
        held = json.loads(base64.b64decode(str(token)))
        return int(held["RowsToSkip"]), int(held["MaxRows"])
    except (ValueError, KeyError, TypeError):
        raise _bad("InvalidSkipToken", "The skip token is invalid.") from None


def _plain(value: Any, kind: str) -> Any:
    if kind == "JSON" and isinstance(value, str):
        return json.loads(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
