"""Writes to Table Storage as plain requests: a row, or an entity group transaction.

azure-data-tables writes each part of a transaction through azure-core's multipart support: two thread pools
of its own for every transaction, and a mail message built and read for every row. It cost 1 to 4 ms of
computing a row, this costs a tenth, and a single row half (`docs/decisions/0009`). Here the body is text. All
else, sign-in and transport among it, is azure-core's; reads and queries are azure-data-tables'.

Wire format: Microsoft's "Performing entity group transactions"; version 2019-02-02.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from remediation.cloud.failures import kind_of, translated
from remediation.errors import Unavailable

if TYPE_CHECKING:
    from azure.core import PipelineClient

VERSION = "2019-02-02"
_INT32 = 2**31
_METHODS = {"insert": "POST", "put": "PUT", "upsert": "PUT", "delete": "DELETE"}
_HEADERS = ("Content-Type: application/json\r\nAccept: application/json;odata=minimalmetadata\r\n"
            "Prefer: return-no-content\r\nDataServiceVersion: 3.0;\r\n")


@dataclass(frozen=True, slots=True)
class Op:
    """One operation. `put` replaces the row under `etag`, `upsert` whatever is there; `delete` has no
    values. A value is text, a number, a truth value or bytes; what is None is left out."""

    kind: Literal["insert", "put", "upsert", "delete"]
    partition: str
    key: str
    values: Mapping[str, Any] = field(default_factory=dict)
    etag: str = ""


def transact(
    client: PipelineClient[Any, Any], endpoint: str, table: str, parts: Sequence[Op]
) -> list[str]:
    """All or nothing, in one partition → the new etags, '' of what was deleted. Raises what the first part
    that failed stands for, by status and code."""
    from azure.core.rest import HttpRequest

    doing = f"transact on {table}"
    outer = f"batch_{uuid.uuid4()}"
    request = HttpRequest(
        "POST", f"{endpoint}/$batch", content=body(endpoint, table, parts, outer),
        headers={"Content-Type": f"multipart/mixed; boundary={outer}", **_dated()})
    with translated(doing):
        response = client.send_request(request)
        response.raise_for_status()
        text = response.read().decode("utf-8", "replace")
    return etags(text, len(parts), doing)


def change(client: PipelineClient[Any, Any], endpoint: str, table: str, op: Op) -> str:
    """One operation, as one plain request → the new etag, '' of what was deleted."""
    from azure.core.rest import HttpRequest

    headers = {"Accept": "application/json;odata=minimalmetadata", "Prefer": "return-no-content", **_dated()}
    if op.kind in ("put", "delete"):
        headers["If-Match"] = op.etag
    content = b""
    if op.kind != "delete":
        headers["Content-Type"] = "application/json"
        content = json.dumps(entity(op), separators=(",", ":")).encode()
    url = f"{endpoint}/{_row(table, op)}"
    request = HttpRequest(_METHODS[op.kind], url, headers=headers, content=content)
    with translated(f"{op.kind} in {table}"):
        response = client.send_request(request)
        response.raise_for_status()
    return str(response.headers.get("ETag") or "")


def _dated() -> dict[str, str]:
    """What every request says of its version and time."""
    return {"x-ms-version": VERSION, "x-ms-date": formatdate(usegmt=True),
            "DataServiceVersion": "3.0;", "MaxDataServiceVersion": "3.0;NetFx"}


def _row(table: str, op: Op) -> str:
    if op.kind == "insert":
        return table
    return f"{table}(PartitionKey='{_quoted(op.partition)}',RowKey='{_quoted(op.key)}')"


def body(endpoint: str, table: str, parts: Sequence[Op], outer: str) -> bytes:
    """The request's body, with one change set in it."""
    inner = outer.replace("batch", "changeset")
    found = [f"--{outer}\r\nContent-Type: multipart/mixed; boundary={inner}\r\n\r\n"]
    for part in parts:
        found.append(
            f"--{inner}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
            f"{_METHODS[part.kind]} {endpoint}/{_row(table, part)} HTTP/1.1\r\n{_HEADERS}")
        if part.kind in ("put", "delete"):
            found.append(f"If-Match: {part.etag}\r\n")
        found.append("\r\n")
        if part.kind != "delete":
            found.append(json.dumps(entity(part), separators=(",", ":")))
        found.append("\r\n")
    found.append(f"--{inner}--\r\n--{outer}--\r\n")
    return "".join(found).encode()


def entity(part: Op) -> dict[str, Any]:
    """A row in the service's JSON: whole numbers beyond 32 bits and bytes say what they are."""
    found: dict[str, Any] = {"PartitionKey": part.partition, "RowKey": part.key}
    for name, value in part.values.items():
        if isinstance(value, bytes):
            found[f"{name}@odata.type"] = "Edm.Binary"
            found[name] = base64.b64encode(value).decode()
        elif isinstance(value, int) and not -_INT32 <= value < _INT32:
            found[f"{name}@odata.type"] = "Edm.Int64"
            found[name] = str(value)
        elif value is not None:
            found[name] = value
    return found


def etags(text: str, count: int, doing: str) -> list[str]:
    """The answer's parts → etags. Raises the failed part's error; Unavailable for half an answer."""
    found: list[str] = []
    status, said = 0, ""
    for line in text.splitlines():
        if line.startswith("HTTP/1.1 "):
            status = int(line.split(" ", 2)[1])
            found.append("")
        elif status and line[:5].lower() == "etag:":
            found[-1] = line[5:].strip()
        elif status >= 300 and line.startswith("{"):
            said = line
    if status >= 300:
        code, message = _said(said)
        raise kind_of(status, code)(f"{doing}: {status} {code or 'no code'}: {message}"[:600], code=code)
    if len(found) != count:
        raise Unavailable(f"{doing}: {len(found)} answers to {count} operations")
    return found


def _said(text: str) -> tuple[str, str]:
    try:
        error = json.loads(text)["odata.error"]
        return str(error["code"]), str(error["message"]["value"]).partition("\n")[0]
    except (ValueError, LookupError, TypeError):
        return "", "no reason given"


def _quoted(key: str) -> str:
    """A key in a URL: a quote in it is doubled."""
    return quote(key.replace("'", "''"), safe="")
