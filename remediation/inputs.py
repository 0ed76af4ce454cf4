"""What an HTTP request holds, read and checked: who asks, and what for.

Bad input is answered with the field and the reason; nothing is guessed.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from remediation.alerts import ALERT_ID
from remediation.errors import BadInput, NotFound
from remediation.model import Caller

READ, OPERATE, APPROVE = "Read", "Operate", "Approve"
ALL_ROLES = frozenset({READ, OPERATE, APPROVE})


@dataclass(frozen=True, slots=True)
class Request:
    """What a route needs of an HTTP request. Header names are lower-cased."""

    url: str
    body: bytes = b""
    query: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """Status and JSON body."""

    status: int
    body: Any

    @property
    def text(self) -> str:
        """The body as JSON text."""
        return json.dumps(self.body, default=str)


type Routes = Mapping[str, tuple[Callable[[Request, Caller], Reply], str]]
"""By name a route's handler, and the role it asks for."""


class Refused(Exception):
    """The caller is not known, or lacks the role."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def principal(header: str) -> Caller:
    """App Service's principal header: base64 of JSON with claims."""
    try:
        claims = json.loads(base64.b64decode(header, validate=True))["claims"]
        pairs = [(str(c["typ"]), str(c["val"])) for c in claims]
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise Refused(401, "not signed in") from None
    roles = frozenset(v for t, v in pairs if t in ("roles", "role") or t.endswith("/role"))
    named = dict(reversed(pairs))
    name = next(
        (named[k] for k in ("preferred_username", "upn", "name", "appid", "oid") if k in named), ""
    )
    if not name:
        raise Refused(401, "not signed in")
    return Caller(name, roles & ALL_ROLES, identified=True)


def path_id(request: Request) -> str:
    """The id in the path. One that could be none of ours is unknown, and asks no table."""
    found = request.params.get("id", "")
    if not ALERT_ID.fullmatch(found):
        raise NotFound("no such id")
    return found


def text_of(body: bytes) -> str:
    """The body as text."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise BadInput("body", "is not UTF-8") from None


def body_of(request: Request, allowed: set[str]) -> dict[str, Any]:
    """The body, a JSON object with none but these fields."""
    try:
        body = json.loads(text_of(request.body) or "{}")
    except (ValueError, RecursionError):
        raise BadInput("body", "is not JSON") from None
    if not isinstance(body, dict):
        raise BadInput("body", "must be an object")
    for extra in sorted(set(body) - allowed):
        raise BadInput(extra, f"is no field here (there are {', '.join(sorted(allowed))})")
    return body


def flag(query: Mapping[str, str], name: str) -> bool:
    """A yes or no in the query; no if it is not there."""
    text = query.get(name, "").lower()
    if text not in ("", "true", "false", "1", "0"):
        raise BadInput(name, "must be true or false")
    return text in ("true", "1")


def number(name: str, value: Any, low: int, high: int) -> int:
    """A whole number, from JSON or as digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadInput(name, f"must be a whole number from {low} to {high}")
    return value


def word(body: Mapping[str, Any], name: str) -> str:
    """A field that must be there, as text."""
    value = body.get(name)
    if not isinstance(value, str) or not value or len(value) > 200:
        raise BadInput(name, "must be text of 1-200 characters")
    return value


def reason_of(body: Mapping[str, Any], where: str = "") -> str:
    """Why someone does it: every act of a person has a reason."""
    value = body.get("reason")
    if not isinstance(value, str) or not value.strip() or len(value) > 500:
        raise BadInput(f"{where}reason", "must say why, in 1-500 characters")
    return value.strip()


def address_of(name: str, value: Any) -> str:
    """One address, in its canonical form."""
    try:
        if not isinstance(value, str):
            raise ValueError
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise BadInput(name, "must be one IP address") from None


def prefix_of(name: str, value: Any) -> str:
    """An address or a CIDR, in its canonical form."""
    try:
        if not isinstance(value, str):
            raise ValueError
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise BadInput(name, "must be an address or a CIDR without host bits") from None


def wrap_token(token: str) -> str | None:
    """A page token as callers see it."""
    return base64.urlsafe_b64encode(token.encode()).decode() if token else None


def unwrap_token(text: str) -> str:
    """The inverse. Bad input if it is none of ours."""
    if not text:
        return ""
    try:
        token = base64.urlsafe_b64decode(text.encode()).decode()
        held = json.loads(token)
    except (binascii.Error, ValueError):
        raise BadInput("pageToken", "is none of ours") from None
    if not isinstance(held, dict):
        raise BadInput("pageToken", "is none of ours")
    return token
