"""Log Analytics: KQL really executed (duckdb-kql) over tables of the documented schemas.

    POST /v1/workspaces/{id}/query {"query": "…", "timespan": "start/end"}

A workspace has the tables it was seeded with and no others: a query over another is refused as Azure refuses
it, `BadArgumentError` with `SemanticError` and `SEM0100` inside. Rows outside the timespan are not seen.
"""

from __future__ import annotations

import json
import re
import threading
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.arm.state import State
from sandbox.identity import Tokens
from sandbox.log import Log

SCHEMAS: dict[str, dict[str, str]] = {
    table: {column: kind for kind, columns in kinds.items() for column in columns.split()}
    for table, kinds in {
        "AZFWNetworkRule": {
            "timestamp": "TimeGenerated",
            "integer": "DestinationPort SourcePort",
            "varchar": "Action ActionReason DestinationIp Policy Protocol Rule RuleCollection "
            "RuleCollectionGroup SourceIp",
        },
        "NTANetAnalytics": {
            "timestamp": "TimeGenerated FlowStartTime FlowEndTime",
            "integer": "DestPort",
            "varchar": "SubType FlowType SrcIp DestIp SrcPublicIps DestPublicIps L4Protocol FlowDirection "
            "FlowStatus SrcVm DestVm",
        },
        "AzureNetworkAnalytics_CL": {
            "timestamp": "TimeGenerated FlowStartTime_t FlowEndTime_t",
            "double": "DestPort_d",
            "varchar": "SubType_s SrcIP_s DestIP_s SrcPublicIPs_s DestPublicIPs_s L4Protocol_s "
            "FlowStatus_s VM1_s VM2_s",
        },
        "AGWFirewallLogs": {
            "timestamp": "TimeGenerated",
            "varchar": "ClientIp Hostname Action RequestUri RuleId",
        },
        "AzureActivity": {
            "timestamp": "TimeGenerated",
            "varchar": "Caller CallerIpAddress OperationNameValue ActivityStatusValue",
        },
        "SigninLogs": {
            "timestamp": "TimeGenerated",
            "varchar": "UserPrincipalName IPAddress ResultType AppDisplayName",
        },
        "AADServicePrincipalSignInLogs": {
            "timestamp": "TimeGenerated",
            "varchar": "ServicePrincipalName IPAddress ResultType ResourceDisplayName",
        },
        "AADNonInteractiveUserSignInLogs": {
            "timestamp": "TimeGenerated",
            "varchar": "UserPrincipalName IPAddress ResultType AppDisplayName",
        },
    }.items()
}
"""Column → type, as Azure Monitor's table reference has them (those that are asked for, and a few more)."""
KQL_TYPES = {"TIMESTAMP": "datetime", "BIGINT": "long", "INTEGER": "int", "DOUBLE": "real", "BOOLEAN": "bool"}


class Logs:
    """All workspaces; queries take turns."""

    def __init__(self, state: State, tokens: Tokens, log: Log) -> None:
        self._state = state
        self._tokens = tokens
        self._log = log
        self._lock = threading.Lock()

    async def query(self, request: Request) -> Response:
        """POST /v1/workspaces/{id}/query"""
        import asyncio

        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        caller = self._tokens.caller(token) if scheme.lower() == "bearer" else None
        workspace = str(request.path_params["id"]).lower()
        tables = self._state.logs.get(workspace)
        body = json.loads(await request.body() or b"{}")
        if caller is None:
            answer, status = _error("InvalidTokenError", "The provided authentication is not valid"), 401
        elif tables is None or workspace in self._state.logs_denied:
            answer, status = (
                _error(
                    "InsufficientAccessError",
                    "The provided credentials have insufficient access to perform the requested operation",
                ),
                403,
            )
        else:
            answer, status = await asyncio.to_thread(self._run, tables, body)
        self._log.add("logs", "POST", request.url.path, status, caller.name if caller else "", 0,
                      code=str((answer.get("error") or {}).get("code", "")))
        return JSONResponse(answer, status)

    def _run(
        self, tables: dict[str, list[dict[str, Any]]], body: dict[str, Any]
    ) -> tuple[dict[str, Any], int]:
        import duckdb
        import duckdb_kql

        text = str(body.get("query") or "")
        missing = next((t for t in SCHEMAS if t not in tables and re.search(rf"(?m)^\s*{t}\b", text)), None)
        if missing:  # whatever else is wrong with it
            return _unresolved(missing), 400
        start, end = _span(str(body.get("timespan") or ""))
        with self._lock:
            con = duckdb_kql.connect()
            for name, rows in tables.items():
                columns = SCHEMAS[name]
                con.execute(f'create table "{name}" ({", ".join(f"{c} {t}" for c, t in columns.items())})')
                for row in rows:
                    at = str(row.get("TimeGenerated") or "")
                    if (start and at < start) or (end and at > end):
                        continue
                    con.execute(f'insert into "{name}" values ({", ".join("?" for _ in columns)})',  # noqa: S608 - our own names
                                [row.get(c) for c in columns])
            try:
                relation = duckdb_kql.kql(con, str(body.get("query") or ""))
                found = relation.fetchall()
            except duckdb.CatalogException as error:
                return _unresolved(str(error).splitlines()[0]), 400
            except (duckdb.Error, duckdb_kql.KqlError) as error:
                return _error("BadArgumentError", "The request had some invalid properties", {
                    "code": "SyntaxError", "message": str(error).splitlines()[0]}), 400
            kinds = [str(t) for t in relation.types]
            shown = [{"name": c, "type": KQL_TYPES.get(k, "string")}
                       for c, k in zip(relation.columns, kinds, strict=True)]
        return {"tables": [{"name": "PrimaryResult", "columns": shown,
                            "rows": [[_plain(v) for v in r] for r in found]}]}, 200


def _span(text: str) -> tuple[str, str]:
    """Start and end of an ISO interval, as rows have their times; '' where open."""
    start, _, end = text.partition("/")

    def plain(one: str) -> str:
        try:
            return datetime.fromisoformat(one).isoformat().replace("+00:00", "")
        except ValueError:
            return ""

    return plain(start), plain(end)


def _unresolved(message: str) -> dict[str, Any]:
    return _error("BadArgumentError", "The request had some invalid properties", {
        "code": "SemanticError", "message": "A semantic error occurred.", "innererror": {
            "code": "SEM0100", "message": f"'where' operator: Failed to resolve table or column expression: "
                                          f"{message}"}})


def _error(code: str, message: str, inner: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "code": code, **({"innererror": inner} if inner else {})}}


def _plain(value: Any) -> Any:
    return value.isoformat() + "Z" if isinstance(value, datetime) else value
