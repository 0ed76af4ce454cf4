"""Tolerant reading of what arrives: names in any case, JSON inside strings, odd times and addresses.

Every function here takes anything JSON can hold and never raises on it.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

MAX_DEPTH = 12
"""How deep nested entities are followed; a recorded alert needs five."""


def loads(value: Any) -> Any:
    """JSON text → what it holds; anything else, and text that is not JSON, as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "[") or not value.strip():
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


class Fields:
    """A mapping whose names are matched without regard to case; the first of doubles wins."""

    def __init__(self, *sources: Any) -> None:
        self._values: dict[str, Any] = {}
        for source in sources:
            held = loads(source)
            if isinstance(held, Mapping):
                for name, value in held.items():
                    self._values.setdefault(str(name).strip().casefold(), value)

    def get(self, *names: str) -> Any:
        """The first of `names` that has a value; None if none has."""
        for name in names:
            value = self._values.get(name.casefold())
            if value is not None and value != "":
                return value
        return None

    def text(self, *names: str) -> str:
        """As `get`, as text; the activity log's `{value, localizedValue}` gives its value."""
        for name in names:
            value = self._values.get(name.casefold())
            if isinstance(value, Mapping):
                value = Fields(value).get("value")
            if isinstance(value, bool | int | float):
                value = str(value)
            if isinstance(value, str) and value.strip():
                return value.strip()
        return ""

    def mapping(self, *names: str) -> Fields:
        """As `get`, as fields of its own; empty if it is no object."""
        return Fields(self.get(*names))

    def items(self) -> Iterator[tuple[str, Any]]:
        """Folded names with their values."""
        yield from self._values.items()

    def values(self) -> Iterator[Any]:
        """The values alone."""
        yield from self._values.values()

    def __contains__(self, name: str) -> bool:
        return name.casefold() in self._values

    def __bool__(self) -> bool:
        return bool(self._values)


def as_list(value: Any) -> list[Any]:
    """A list as it is, one thing as a list of one, nothing as none. JSON text is opened."""
    held = loads(value)
    if held is None or held == "":
        return []
    return held if isinstance(held, list) else [held]


def texts(value: Any) -> tuple[str, ...]:
    """A list of words, whether it comes as a list, as JSON text or as `a, b`."""
    words: list[str] = []
    for item in as_list(value):
        if isinstance(item, str):
            words += [w.strip() for w in item.split(",")]
    return tuple(dict.fromkeys(w for w in words if w))


def moment(value: Any) -> datetime | None:
    """A time in UTC, or None. Times without a zone are UTC; year 1 means 'not set'."""
    if not isinstance(value, str) or not value.strip():
        return None
    try:
        at = datetime.fromisoformat(value.strip())
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at if at.year > 1970 else None


_TOKEN = re.compile(r"[0-9A-Fa-f:.]{3,45}(?:/\d{1,3})?(?![0-9A-Za-z_])")
_BEFORE = re.compile(r"[0-9A-Za-z_.:/-]$")


def address(token: str) -> str | None:
    """Canonical text of one address, or of a network wider than one address; None if it is neither.

    IPv4 inside IPv6 is IPv4. Octets with leading zeros (`00.00.00.00` of sample alerts) are no
    address. `192.0.2.1/32` is the address itself; a wider prefix stays one, for a guardrail to
    refuse.
    """
    text = token.strip().strip("[]")
    try:
        if "/" in text:
            network = ipaddress.ip_network(text, strict=False)
            if network.num_addresses > 1:
                return str(network)
            found = network.network_address
        else:
            found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id is not None:
            return None
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
    return str(found)


def addresses(value: Any) -> tuple[list[tuple[str, int | None]], bool]:
    """All addresses in the value of a property known to hold some, each with its port or None.

    Accepts `IP Address: 192.0.2.1`, `IP: 192.0.2.1 [3]` lines, JSON lists, `name (192.0.2.1)`
    and `192.0.2.1:443`. The flag says that there was text but no address in it.
    """
    found: list[tuple[str, int | None]] = []
    said = False
    for item in as_list(value):
        if not isinstance(item, str) or not item.strip():
            continue
        said = True
        whole = address(item)
        if whole is not None:
            found.append((whole, None))
            continue
        for hit in _TOKEN.finditer(item):
            if _BEFORE.search(item[max(0, hit.start() - 1) : hit.start()]):
                continue
            token = hit.group().rstrip(".:")
            one = address(token)
            if one is not None:
                found.append((one, None))
                continue
            host, _, tail = token.rpartition(":")
            one = address(host) if host.count(".") == 3 else None
            if one is not None:
                found.append((one, port(tail)))
    return found, said and not found


def port(value: Any) -> int | None:
    """A port number 1–65535, or None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and re.fullmatch(r"\d{1,5}", value.strip(), re.ASCII):
        value = int(value)
    return value if isinstance(value, int) and 0 < value < 65536 else None


class Entities:
    """The alert's entities, flattened, with `$ref` resolved as far as it can be.

    Some feeds have doubled ids, dangling references, entities defined inside others, or one
    object per kind instead of a list.
    """

    def __init__(self, value: Any) -> None:
        held = loads(value)
        top: list[Any] = []
        if isinstance(held, Mapping):
            for kind, group in held.items():
                top += [
                    {"Type": kind, **one} for one in as_list(group) if isinstance(one, Mapping)
                ]
        elif isinstance(held, list):
            top = held
        self._by_id: dict[str, list[Fields]] = {}
        self.all: list[tuple[str, Fields]] = []
        for n, one in enumerate(top):
            if isinstance(one, Mapping):
                self._index(one, 0)
                fields = Fields(one)
                if "$ref" not in fields:
                    self.all.append((f"entities[{n}]", fields))

    def _index(self, one: Mapping[str, Any], depth: int) -> None:
        if depth > MAX_DEPTH:
            return
        fields = Fields(one)
        name = fields.text("$id")
        if name:
            self._by_id.setdefault(name, []).append(fields)
        for value in fields.values():
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, Mapping):
                    self._index(inner, depth + 1)

    def of_kind(self, *kinds: str) -> Iterator[tuple[str, Fields]]:
        """Entities whose type is one of `kinds` (folded), with where they stand.

        Sentinel says `kind` and keeps the rest under `properties`."""
        for where, fields in self.all:
            kind = fields.text("type", "kind", "@odata.type").casefold().rsplit(".", 1)[-1]
            if kind in kinds:
                inner = fields.get("properties")
                yield where, Fields(inner, fields.get("resource")) if isinstance(
                    inner, Mapping
                ) else fields

    def resolve(self, value: Any) -> list[Fields]:
        """What an inline entity or a `{"$ref": …}` stands for; several where ids are doubled."""
        fields = Fields(value)
        name = fields.text("$ref")
        return self._by_id.get(name, []) if name else [fields] if fields else []
