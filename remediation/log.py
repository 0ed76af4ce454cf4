"""Structured log lines: one JSON object each, so that a query can find all lines of one alert.

    traces | extend line = parse_json(message) | where line.alerts has '<alert id>'

JSON escapes what would break a line, so an alert's text can forge none. No raw bodies, no secrets:
callers name each fact they give.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

MOST = 2000


def say(
    log: logging.Logger, event: str, *, alerts: Iterable[str] = (), level: int = logging.INFO,
    **facts: Any,
) -> None:
    """One line: `event` is a short word to filter by, `alerts` the ids it is about."""
    if not log.isEnabledFor(level):
        return
    line: dict[str, Any] = {"event": event, "alerts": list(alerts)}
    for name, value in facts.items():
        line[name] = value[:MOST] if isinstance(value, str) else value
    log.log(level, "%s", json.dumps(line, default=str, separators=(",", ":")))
