"""When a timer fires: NCRONTAB (5 or 6 fields, day of month AND weekday) or a span `00:00:05`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Protocol

_RANGES = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_NAMES = {
    4: ("january february march april may june july august september october november "
        "december").split(),
    5: "sunday monday tuesday wednesday thursday friday saturday".split(),
}
_YEARS = 30


class Schedule(Protocol):
    """Gives the next time strictly after another."""

    def next(self, after: datetime) -> datetime:
        """The next time."""


def span_seconds(value: object) -> float:
    """`[d.]hh:mm:ss[.fff]` → seconds."""
    hit = re.fullmatch(r"(?:(\d+)\.)?(\d+):(\d+):(\d+(?:\.\d+)?)", str(value))
    if hit is None:
        raise ValueError(f"not a time span: {value!r}")
    days, hours, minutes, seconds = hit.groups()
    return int(days or 0) * 86400 + int(hours) * 3600 + int(minutes) * 60 + float(seconds)


class Span:
    """Every so often."""

    def __init__(self, text: str) -> None:
        self._seconds = span_seconds(text)

    def next(self, after: datetime) -> datetime:
        """That much later."""
        return after + timedelta(seconds=self._seconds)


class Cron:
    """An NCRONTAB expression."""

    def __init__(self, text: str) -> None:
        fields = text.split()
        if len(fields) == 5:
            fields.insert(0, "0")
        if len(fields) != 6:
            raise ValueError(f"{text!r}: an NCRONTAB expression has 5 or 6 fields")
        self._text = text
        self._fields = [self._field(n, f) for n, f in enumerate(fields)]

    def _value(self, field: int, text: str) -> int:
        low, high = _RANGES[field]
        if text.isdigit():
            value = int(text)
        else:
            names = _NAMES.get(field, [])
            hits = [n for n, name in enumerate(names) if text and name.startswith(text.lower())]
            value = hits[0] + low if hits else -1
        if not low <= value <= high:
            raise ValueError(f"{self._text!r}: bad value {text!r}")
        return value

    def _field(self, field: int, text: str) -> list[int]:
        low, high = _RANGES[field]
        found: set[int] = set()
        for part in text.split(","):
            span, _, step = part.partition("/")
            if span == "*":
                first, last = low, high
            elif "-" in span:
                first, last = (self._value(field, v) for v in span.split("-", 1))
            else:
                first = self._value(field, span)
                last = high if step else first
            found |= set(range(first, last + 1, int(step or 1)))
        return sorted(found)

    def next(self, after: datetime) -> datetime:
        """The next moment that all six fields allow."""
        seconds, minutes, hours, days, months, weekdays = self._fields
        at = after.replace(microsecond=0) + timedelta(seconds=1)
        for _ in range(366 * _YEARS):
            if at.month in months and at.day in days and (at.weekday() + 1) % 7 in weekdays:
                clock = (at.hour, at.minute, at.second)
                for hour in (h for h in hours if h >= at.hour):
                    for minute in (m for m in minutes if (hour, m) >= clock[:2]):
                        for second in seconds:
                            if (hour, minute, second) >= clock:
                                return at.replace(hour=hour, minute=minute, second=second)
            at = (at + timedelta(days=1)).replace(hour=0, minute=0, second=0)
        raise ValueError(f"{self._text!r} never fires")


def schedule(text: str) -> Schedule:
    """Either kind."""
    return Cron(text) if len(text.split()) > 1 else Span(text)
