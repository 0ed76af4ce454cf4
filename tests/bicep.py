"""Bicep's literals, read: objects, lists and strings as Python has them, so that tests can run, and linters
look at, what a template would deploy.

A union is that of its literals, of a loop one turn is read, and anything else (a reference, a call, a choice)
stays as its text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_BLANK = re.compile(r"(?:\s|//[^\n]*|,)+")
_KEY = re.compile(r"(?:'([^']+)'|([A-Za-z_$]\w*))\s*:\s*")
_RESOURCE = re.compile(r"^( *)resource \w+ '([^'@]+)(?:@([\w-]+))?' (existing )?= ", re.MULTILINE)
OPEN, CLOSE = "{[(", "}])"


def literal(text: str, start: str) -> Any:
    """The value right after the first `start`."""
    return _value(text, text.index(start) + len(start))[0]


def resources(text: str) -> Iterator[dict[str, Any]]:
    """The resources of a template as ARM's own form has them; those inside others under their whole type."""
    above: list[tuple[int, str, str]] = []  # indentation, type and version of those around
    for hit in _RESOURCE.finditer(text):
        indent, kind, version = len(hit[1]), hit[2], hit[3]
        above = [one for one in above if one[0] < indent]
        if above:
            kind, version = f"{above[-1][1]}/{kind}", above[-1][2]
        above.append((indent, kind, version))
        if not hit[4]:
            body, _ = _value(text, hit.end())
            yield {"type": kind, "apiVersion": version, **(body[0] if isinstance(body, list) else body)}


def _skip(text: str, at: int) -> int:
    hit = _BLANK.match(text, at)
    return hit.end() if hit else at


def _string_end(text: str, at: int) -> int:
    """Behind the string that begins here; what is put into it may hold strings of its own."""
    at += 1
    while text[at] != "'":
        if text[at] == "\\":
            at += 1
        elif text.startswith("${", at):
            at = _text(text, at + 2)[1]
        at += 1
    return at + 1


def _value(text: str, at: int) -> tuple[Any, int]:
    found: Any
    at = _skip(text, at)
    if text.startswith("if ", at):
        at = _skip(text, _closed(text, text.index("(", at)))
    if text[at] == "{":
        found, end = _object(text, at + 1)
    elif text[at] == "[":
        found, end = _list(text, at + 1)
    elif text[at] == "'":
        end = _string_end(text, at)
        found = re.sub(r"\\(.)", r"\1", text[at + 1 : end - 1])
    else:
        return _expression(text, at)
    if re.match(r"[.\[]|\s*[?]", text[end:]):  # only a part of an expression
        return _expression(text, at)
    return found, end


def _expression(text: str, at: int) -> tuple[Any, int]:
    word, end = _text(text, at)
    if word.startswith("union("):
        objects = [one for one in _list(f"{word[6:-1]}]", 0)[0] if isinstance(one, dict)]
        return {k: v for one in objects for k, v in one.items()} if objects else word, end
    known = {"true": True, "false": False, "null": None}
    return known.get(word, int(word) if word.isdigit() else word), end


def _text(text: str, at: int, *, until: str = ",") -> tuple[str, int]:
    """An expression as it is written: to the end of its line, or of the brackets that it opens."""
    start, depth = at, 0
    while at < len(text):
        if text[at] == "'":
            at = _string_end(text, at)
            continue
        sign = text[at]
        if sign in CLOSE:
            if not depth:
                break
            depth -= 1
        depth += sign in OPEN
        if not depth and (sign == until or (sign == "\n" and not re.match(r"\s*[?:]", text[at:]))):
            break
        at += 1
    return text[start:at].strip(), at


def _closed(text: str, at: int) -> int:
    """Behind the bracket that closes the one here."""
    return _text(text, at + 1)[1] + 1


def _object(text: str, at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while text[at := _skip(text, at)] != "}":
        if text.startswith("resource ", at):  # yielded by itself
            at = _value(text, text.index(" = ", at) + 3)[1]
            continue
        key = _KEY.match(text, at)
        assert key is not None, text[at : at + 60]
        found[key[1] or key[2]], at = _value(text, key.end())
    return found, at + 1


def _list(text: str, at: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    if text.startswith("for ", at := _skip(text, at)):
        at = _text(text, at, until=":")[1] + 1
    while text[at := _skip(text, at)] != "]":
        one, at = _value(text, before := at)
        assert at > before, text[at : at + 60]
        found.append(one)
    return found, at + 1
