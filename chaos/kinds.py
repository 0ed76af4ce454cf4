"""What can go wrong with a call, as the sandbox injects it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

ARM, TABLE, QUEUE = "arm", "table", "queue"
STUBBORN = 10_000
WRITES = ("PUT", "DELETE", "PATCH")


@dataclass(frozen=True, slots=True)
class Kind:
    """A fault. `permanent`: trying again does not help while it lasts. `slow`: it costs real time."""

    name: str
    fault: dict[str, Any]
    services: tuple[str, ...] = (ARM,)
    methods: tuple[str, ...] = ()
    only: str = ""
    """A part of the paths that it can befall; '' for all."""
    permanent: bool = False
    slow: bool = False
    times: int = 1

    def fits(self, service: str, method: str, path: str) -> bool:
        """Can this call meet it?"""
        return (service in self.services and (not self.methods or method in self.methods)
                and self.only in path)


def _error(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": "injected", "details": []}}


def _operation(status: str, code: str) -> dict[str, Any]:
    return {"status": 200, "body": {"status": status, "error": {"code": code, "message": "injected"}}}


def _stored(status: int, code: str) -> dict[str, Any]:
    """An answer of Table Storage."""
    body = {"odata.error": {"code": code, "message": {"lang": "en-US", "value": "injected"}}}
    return {"status": status, "body": json.dumps(body), "headers": {
        "content-type": "application/json", "x-ms-error-code": code}}


def _passing() -> Iterable[Kind]:
    yield Kind("429 with Retry-After", {
        "status": 429, "headers": {"retry-after": "1"}, "body": _error("TooManyRequests")})
    yield Kind("429 without Retry-After", {"status": 429, "body": _error("RetryableError")})
    yield Kind("409 AnotherOperationInProgress",
               {"status": 409, "body": _error("AnotherOperationInProgress")}, methods=WRITES)
    yield Kind("412", {"status": 412, "body": _error("PreconditionFailed")}, methods=WRITES)
    for status, code in ((500, "InternalServerError"), (503, "ServiceUnavailable"), (504, "GatewayTimeout")):
        yield Kind(str(status), {"status": status, "body": _error(code)})
    yield Kind("operation Failed", _operation("Failed", "InternalServerError"), only="/operations/")
    yield Kind("operation Canceled", _operation("Canceled", "CanceledAndSupersededDueToAnotherOperation"),
               only="/operations/")
    yield Kind("500 of the tables", _stored(500, "OperationTimedOut"), (TABLE,))
    yield Kind("503 of the tables", _stored(503, "ServerBusy"), (TABLE,))
    yield Kind("429 of the tables", _stored(429, "TooManyRequests"), (TABLE,))
    yield Kind("409 of the tables", _stored(409, "TableBeingDeleted"), (TABLE,))
    yield Kind("412 of the tables", _stored(412, "UpdateConditionNotSatisfied"), (TABLE,), WRITES)
    everything = (ARM, TABLE, QUEUE)
    yield Kind("connection reset before the server acted", {"drop": "before"}, everything)
    yield Kind("connection reset after the server acted", {"drop": "after"}, everything)
    yield Kind("60 s without an answer", {"delay": 60, "drop": "before"}, everything, slow=True)
    yield Kind("done, and answered after 60 s", {"delay": 60}, (ARM,), WRITES, slow=True)


def _lasting() -> Iterable[Kind]:
    yield Kind("403", {"status": 403, "body": _error("AuthorizationFailed")}, permanent=True,
               times=STUBBORN)
    yield Kind("404", {"status": 404, "body": _error("ResourceNotFound")}, permanent=True, times=STUBBORN,
               only="etworkSecurityGroups")
    yield Kind("403 of the tables", _stored(403, "AuthorizationPermissionMismatch"), (TABLE,), times=STUBBORN)
    yield Kind("ScopeLocked", {"status": 409, "body": _error("ScopeLocked")}, methods=WRITES,
               permanent=True, times=STUBBORN)


PASSING = tuple(_passing())
LASTING = tuple(_lasting())
"""Permanent ones last until they are taken away."""
OUTAGES = tuple(
    Kind(f"{kind.name}, again and again", kind.fault, kind.services, kind.methods, kind.only,
         times=STUBBORN)
    for kind in PASSING if kind.name in ("503", "503 of the tables", "429 without Retry-After",
                                         "connection reset after the server acted"))
"""Passing ones that outlast every budget: what is left must be found by the sweep."""
