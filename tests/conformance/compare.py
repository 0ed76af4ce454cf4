"""When does an answer match a recorded one? The rules are the issue's, one function each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.conformance.recordings import Interaction

HEADERS = ("etag", "location", "azure-asyncoperation", "azure-asyncnotification", "retry-after")
GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
AUTHORITY = re.compile(r"^https?://[^/]+")


@dataclass
class Answer:
    """What a model answered."""

    status: int
    headers: dict[str, str]
    body: Any


def differences(recorded: Interaction, answer: Answer) -> list[str]:
    """All that does not match; none for a match."""
    found = []
    if recorded.status != answer.status:
        found.append(f"status {answer.status}, recorded {recorded.status}")
    if _codes(recorded.response) != _codes(answer.body):
        found.append(f"codes {_codes(answer.body)}, recorded {_codes(recorded.response)}")
    found += _header_differences(recorded.headers, answer.headers)
    theirs, ours = set(shape(recorded.response)), set(shape(answer.body))
    if theirs - ours:
        found.append(f"missing {sorted(theirs - ours)[:6]}")
    if ours - theirs:
        found.append(f"extra {sorted(ours - theirs)[:6]}")
    if not (theirs ^ ours):
        found += _value_differences(recorded, answer.body)
    return found


def _codes(body: Any) -> tuple[str, ...]:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return ()
    return (str(error.get("code")), *(str(d.get("code")) for d in error.get("details") or []))


def _header_differences(recorded: dict[str, str], ours: dict[str, str]) -> Iterator[str]:
    for name, value in recorded.items():
        if name not in HEADERS and not name.startswith("x-ms-ratelimit-"):
            continue
        if name not in ours:
            yield f"header {name} is missing"
        elif form(name, value) != form(name, ours[name]):
            yield f"header {name}: {form(name, ours[name])}, recorded {form(name, value)}"


def form(name: str, value: str) -> str:
    """The form of a header's value: guids, numbers, hosts, signatures and policy names aside."""
    text = GUID.sub("<guid>", value)
    if name in ("location", "azure-asyncoperation"):
        text = AUTHORITY.sub("", text).lower()
        path, _, query = text.partition("?")
        path = re.sub(r"/locations/[^/]+/", "/locations/<l>/", path)
        names = {p.partition("=")[0] for p in query.split("&")} - {"t", "c", "s", "h"}
        return f"{path}?{'&'.join(sorted(names))}"
    if name == "x-ms-ratelimit-remaining-resource":
        return ",".join("policy;n" for _ in text.split(","))
    return re.sub(r"\d+", "<n>", text)


def shape(value: Any, path: str = "$") -> Iterator[tuple[str, str]]:
    """All (path, type), list indexes collapsed."""
    kind = {dict: "object", list: "list", str: "string", bool: "bool", int: "number",
            float: "number", type(None): "null"}[type(value)]
    yield path, kind
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from shape(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from shape(inner, f"{path}[]")


def normal(value: Any) -> str:
    """A value with ids, guids, etags and casing aside."""
    text = GUID.sub("<guid>", str(value)).lower()
    return re.sub(r'w/"[^"]*"', "<etag>", text)


def _leaves(value: Any, path: str = "$") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, f"{path}[]")
    else:
        yield path, value


NAMED = re.compile(r"\.(id|name|type|provisioningState)$")


def _value_differences(recorded: Interaction, body: Any) -> Iterator[str]:
    """id, name, type, provisioningState, and what the request said and Azure echoed."""
    theirs = {(p, normal(v)) for p, v in _leaves(recorded.response)}
    ours = {(p, normal(v)) for p, v in _leaves(body)}
    sent = {(p, normal(v)) for p, v in _leaves(recorded.request)} if recorded.request else set()
    for path, value in sorted(theirs - ours):
        if NAMED.search(path) and not _listed_elsewhere(path, recorded):
            yield f"{path}: recorded {value[:80]}"
        elif (path, value) in sent:
            yield f"{path}: sent and echoed {value[:80]}, not here"


def _listed_elsewhere(path: str, recorded: Interaction) -> bool:
    """Values made by chance: a disk's generated name."""
    return "osDisk" in path
