"""What Table Storage takes: rows, keys without forbidden characters, data packed into properties. Pure."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

CHUNK = 60 * 1024
MAX_CHUNKS = 15


@dataclass(frozen=True, slots=True)
class Row:
    """One entity: its values without keys, the etag, and when the service says it last changed."""

    partition: str
    key: str
    values: Mapping[str, Any]
    etag: str = ""
    changed: datetime | None = None

    def text(self, name: str) -> str:
        """A value as text, '' if absent."""
        value = self.values.get(name)
        return "" if value is None else str(value)


def encode(text: str) -> str:
    """Any text → a key without `/ \\ # ?` or control characters; `decode` is the inverse."""
    return re.sub(
        r"[^A-Za-z0-9_.():@+ -]",
        lambda hit: "|" if hit[0] == "/" else f"~{ord(hit[0]):x}~",
        text,
    )


def decode(key: str) -> str:
    """The inverse of `encode`."""
    return re.sub(r"~([0-9a-f]+)~", lambda hit: chr(int(hit[1], 16)), key.replace("|", "/"))


def pack(name: str, value: Any) -> dict[str, bytes]:
    """JSON data, compressed, as properties `<name>_0`… each under Table Storage's 64 KiB."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    data = gzip.compress(text.encode(errors="surrogatepass"), mtime=0)
    chunks = [data[i : i + CHUNK] for i in range(0, len(data), CHUNK)]
    if len(chunks) > MAX_CHUNKS:
        raise ValueError(f"{name}: {len(data)} bytes do not fit into one row")
    return {f"{name}_{n}": chunk for n, chunk in enumerate(chunks)}


def unpack(row: Mapping[str, Any], name: str) -> Any:
    """The inverse of `pack`; None if there is nothing."""
    data = b"".join(
        bytes(row[f"{name}_{n}"]) for n in range(MAX_CHUNKS) if f"{name}_{n}" in row
    )
    return json.loads(gzip.decompress(data).decode(errors="surrogatepass")) if data else None
