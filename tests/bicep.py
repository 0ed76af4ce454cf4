"""Bicep's literals, read: objects, lists and strings as Python has them, so that tests can run what a
template would deploy. Anything else (a reference, a call) stays as the text of its line."""

from __future__ import annotations

import re
from typing import Any

_BLANK = re.compile(r"(?:\s|//[^\n]*|,)+")
_KEY = re.compile(r"(?:'([^']+)'|([A-Za-z_$]\w*))\s*:\s*")
_STRING = re.compile(r"'((?:[^'\\]|\\.)*)'")
_OTHER = re.compile(r"[^\n,\]}]+")


def literal(text: str, start: str) -> Any:
    """The value right after the first `start`."""
    return _value(text, text.index(start) + len(start))[0]


def _skip(text: str, at: int) -> int:
    hit = _BLANK.match(text, at)
    return hit.end() if hit else at


def _value(text: str, at: int) -> tuple[Any, int]:
    at = _skip(text, at)
    if text[at] == "{":
        return _object(text, at + 1)
    if text[at] == "[":
        return _list(text, at + 1)
    hit = _STRING.match(text, at)
    if hit:
        return re.sub(r"\\(.)", r"\1", hit[1]), hit.end()
    hit = _OTHER.match(text, at)
    assert hit is not None, text[at : at + 40]
    word = hit[0].strip()
    known = {"true": True, "false": False, "null": None}
    return known.get(word, int(word) if word.isdigit() else word), hit.end()


def _object(text: str, at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while text[at := _skip(text, at)] != "}":
        key = _KEY.match(text, at)
        assert key is not None, text[at : at + 40]
        found[key[1] or key[2]], at = _value(text, key.end())
    return found, at + 1


def _list(text: str, at: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    while text[at := _skip(text, at)] != "]":
        one, at = _value(text, at)
        found.append(one)
    return found, at + 1
