"""The manifest of an alert's evidence: every file with its SHA-256, chained, so that a change shows. Pure.

Each entry's `seal` is the SHA-256 of the seal before it and of its own name and hash. The first follows the
seal of the manifest's own facts (which alert, which number, when), and that one the manifest before it.
The last seal stands in the ledger, in an account of its own: whoever alters a file, an entry or their order
must alter the ledger, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from remediation.model import utc

START = "0" * 64
FIELDS = {"alert", "number", "previous", "made", "files", "seal"}
ENTRY = {"name", "sha256", "seal"}


def sha256(data: bytes) -> str:
    """Its hash, as text."""
    return hashlib.sha256(data).hexdigest()


def _seal(before: str, name: str, digest: str) -> str:
    return sha256(f"{before}\n{name}\n{digest}".encode())


def _opening(previous: str, alert_id: str, number: int, made: str) -> str:
    return sha256(f"{previous}\n{alert_id}\n{number}\n{made}".encode())


def manifest(alert_id: str, number: int, previous: str, files: Sequence[tuple[str, str]],
             now: datetime) -> tuple[bytes, str]:
    """Manifest number `number` over these (name, SHA-256), after one with the seal `previous` (`START` for
    the first) → its bytes, and its own seal."""
    seal, entries = _opening(previous, alert_id, number, utc(now)), []
    for name, digest in files:
        seal = _seal(seal, name, digest)
        entries.append({"name": name, "sha256": digest, "seal": seal})
    body = {"alert": alert_id, "number": number, "previous": previous, "made": utc(now), "files": entries,
            "seal": seal}
    return json.dumps(body, indent=1).encode(), seal


def name_of(number: int) -> str:
    """The file's name: the first is `manifest.json`; what is found later is in further ones."""
    return "manifest.json" if number == 1 else f"manifest-{number}.json"


def verify(
    read: Callable[[str], bytes | None], expected: str = "", alert_id: str = ""
) -> tuple[list[str], int]:
    """Check an alert's folder → (what is wrong, how many files were checked). `read` gives a file of the
    folder, None if it is not there; `expected` is the seal that the ledger holds and `alert_id` the alert, if
    they are known."""
    wrong: list[str] = []
    previous, number, checked = START, 1, 0
    while (data := read(name_of(number))) is not None:
        where = name_of(number)
        body = _body(data)
        if body is None:
            return [*wrong, f"{where} cannot be read"], checked
        if body.get("previous") != previous or body.get("number") != number:
            wrong.append(f"{where} does not follow the manifest before it")
        if alert_id and body.get("alert") != alert_id:
            wrong.append(f"{where} is of another alert")
        if set(body) != FIELDS or any(set(e) != ENTRY for e in body["files"]):
            wrong.append(f"{where} has been changed: it has other fields")
        seal = _opening(str(body.get("previous")), str(body.get("alert")), number, str(body.get("made")))
        for entry in body["files"]:
            name, digest = str(entry.get("name")), str(entry.get("sha256"))
            seal = _seal(seal, name, digest)
            if entry.get("seal") != seal:
                wrong.append(f"{where}: the chain breaks at {name}")
                seal = str(entry.get("seal"))
            held = read(name)
            checked += 1
            if held is None:
                wrong.append(f"{name} is missing")
            elif sha256(held) != digest:
                wrong.append(f"{name} has been changed")
        if body.get("seal") != seal:
            wrong.append(f"{where} has been changed")
        previous, number = seal, number + 1
    if number == 1:
        wrong.append("there is no manifest.json")
    elif expected and previous != expected:
        wrong.append(f"the last seal is {previous}, the ledger has {expected}")
    return wrong, checked


def _body(data: bytes) -> Mapping[str, Any] | None:
    try:
        held = json.loads(data)
    except (ValueError, RecursionError):
        return None
    files = held.get("files") if isinstance(held, dict) else None
    ok = isinstance(files, list) and all(isinstance(f, dict) for f in files)
    return held if ok else None
