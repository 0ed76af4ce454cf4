"""What a script in a machine wrote → rows. Whoever holds the machine wrote it: nothing in it is trusted, and
half of it being garbage takes the other half from nobody.

A script writes one JSON object a line. Lines that are none are counted, long texts cut, deep objects left
out.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_BYTES = 1024 * 1024
"""Of an output so much is read; what follows is only counted."""
MOST_ROWS = 5_000
LONGEST_VALUE, MOST_FIELDS = 2_000, 40


@dataclass(frozen=True, slots=True)
class Output:
    """The rows, and what was left out. `complete`: the script came to its last line, `{"kind": "end"}`."""

    rows: tuple[Mapping[str, Any], ...]
    garbage: int = 0
    cut: bool = False
    complete: bool = False

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        """The rows of one kind."""
        return [r for r in self.rows if r.get("kind") == kind]

    @property
    def whole(self) -> bool:
        """Nothing of it is missing."""
        return self.complete and not self.cut and not self.garbage

    @property
    def doubt(self) -> str:
        """What a person should know of it, or ''."""
        said = [f"{self.garbage} lines could not be read" if self.garbage else "",
                "it was longer than is kept" if self.cut else "",
                "" if self.complete or self.cut else "it broke off"]
        return ", ".join(s for s in said if s)


def read(data: bytes, *, cut: bool = False) -> Output:
    """Rows of the script's output. `cut`: there was more of it."""
    rows: list[Mapping[str, Any]] = []
    garbage, complete = 0, False
    if len(data) > MOST_BYTES:
        cut, data = True, data[:MOST_BYTES].rpartition(b"\n")[0]
    for line in data.decode(errors="replace").split("\n"):  # and at no other sign that ends a line in Unicode
        if not line.strip():
            continue
        row = _row(line)
        if row is None:
            garbage += 1
        elif row.get("kind") == "end":
            complete = True
        elif len(rows) < MOST_ROWS:
            rows.append(row)
        else:
            cut = True
    return Output(tuple(rows), garbage, cut, complete)


def _row(line: str) -> dict[str, Any] | None:
    try:
        held = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    if not isinstance(held, dict):
        return None
    return {str(k)[:60]: _plain(v) for k, v in itertools.islice(held.items(), MOST_FIELDS)}


def _no_number(text: str) -> None:
    """NaN and Infinity are no JSON, whatever Python reads. Raises ValueError."""
    raise ValueError(f"{text} is no number")


def _plain(value: Any) -> Any:
    """A text, a number, yes or no, or a short list of those; anything else is left out."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return value[:LONGEST_VALUE]
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, list):
        return [_plain(v) for v in value[:200] if isinstance(v, str | int | float | bool)]
    return None


def text_of(row: Mapping[str, Any], name: str) -> str:
    """A value as text; '' if it is none."""
    value = row.get(name)
    return value if isinstance(value, str) else "" if value is None else str(value)


def number_of(row: Mapping[str, Any], name: str) -> int | None:
    """A value as a whole number; None if it is none."""
    value = row.get(name)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and (
        len(value) < 16) else None
