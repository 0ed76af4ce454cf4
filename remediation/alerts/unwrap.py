"""From whatever arrived to the raw alerts in it: envelopes, exports, dead letters, lines of JSON."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from remediation.alerts.fields import Fields, loads
from remediation.errors import MalformedAlert

MAX_NESTED = 6
"""An alert inside an event inside a dead letter inside an export is four deep."""


def read_text(text: str) -> Any:
    """JSON, or lines of JSON, → data. Raises MalformedAlert with the place of the first mistake."""
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise MalformedAlert("body", "empty")
    try:
        return json.loads(text)
    except RecursionError:
        raise MalformedAlert("body", "nested too deeply") from None
    except ValueError as whole:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            found = [json.loads(line) for line in lines] if len(lines) > 1 else []
        except (ValueError, RecursionError):
            found = []  # not lines of JSON either: the first message says more
        if found:
            return found
        raise MalformedAlert("body", f"not JSON: {whole}") from None


def unwrap(data: Any, depth: int = 0) -> list[Any]:
    """The raw alerts in `data`, in order. What is no envelope comes back as it is."""
    data = loads(data)
    if depth > MAX_NESTED:
        return [data]
    if isinstance(data, list):
        return [raw for one in data for raw in unwrap(one, depth + 1)]
    if not isinstance(data, Mapping):
        return [data]
    fields = Fields(data)
    if isinstance(fields.get("value"), list) and "alerttype" not in fields:
        return unwrap(fields.get("value"), depth + 1)
    if isinstance(fields.get("records"), list):
        return unwrap(fields.get("records"), depth + 1)
    if isinstance(fields.get("tables"), list):
        return [row for table in fields.get("tables") for row in _rows(table)]
    if _is_event(fields):
        return unwrap(event_data(data), depth + 1)
    return [data]


def _is_event(fields: Fields) -> bool:
    """A CloudEvent, or an event in Event Grid's own schema."""
    if "specversion" in fields:
        return True
    return "data" in fields and ("eventtype" in fields or "deadletterreason" in fields)


def event_data(event: Mapping[str, Any]) -> Any:
    """The payload of an event: its `data`, or `data_base64` decoded where it is text."""
    fields = Fields(event)
    data = fields.get("data")
    if data is None and isinstance(fields.get("data_base64"), str):
        try:
            return loads(base64.b64decode(fields.get("data_base64"), validate=True).decode())
        except (binascii.Error, ValueError):
            return None
    return loads(data)


def _rows(table: Any) -> list[Any]:
    """A Log Analytics answer's table → one object per row."""
    fields = Fields(table)
    columns, rows = fields.get("columns"), fields.get("rows")
    if not isinstance(columns, list) or not isinstance(rows, list):
        return [table]
    names = [Fields(c).text("name") for c in columns]
    return [dict(zip(names, row, strict=False)) for row in rows if isinstance(row, list)]
