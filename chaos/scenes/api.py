"""The HTTP API, asked by someone who wants to break it."""

from __future__ import annotations

import json
import random
from functools import partial
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Err

from chaos.scenes.crowd import Crowd, crowd
from chaos.scenes.hostile import ADDRESSES, LONGEST_SECONDS, MEGABYTE, RESOURCES, TEXTS, in_time
from chaos.stage import Stage, scene
from sandbox.world import ROOT
from tests.estate import estate

SPOILED = 40
"""Requests to each operation that are as described but for one value."""

SCHEMA = ROOT / "docs" / "openapi.json"
ROUTES = tuple((method.upper(), path.lstrip("/").replace("{id}", "{}"))
               for path, methods in json.loads(SCHEMA.read_text())["paths"].items() for method in methods)
FIELDS = ("alertId", "alert", "simulate", "address", "blockId", "reason", "holdHours", "hours", "decision",
          "lift",
          "protected", "state", "pageSize", "pageToken", "nsg")
HOSTILE = (*TEXTS, *ADDRESSES, *RESOURCES, 10**400, -1, [[]], {"a": {}})


@scene("hostile: the HTTP API", alone=True)
def api(stage: Stage) -> None:
    """Never a traceback, never a server error, never a hang; and no address comes to be blocked."""
    dice = random.Random(99)  # noqa: S311 - dice
    bodies: list[bytes] = [b"", b"\xff\xfe", b"{", b"[" * 10_000, b'{"a":' * 5_000, b"null", b"7", b'"x"',
                           b"[]",
                           json.dumps({"reason": "x" * MEGABYTE}).encode()]
    for _ in range(300):
        bodies.append(json.dumps({
            dice.choice(FIELDS): dice.choice(HOSTILE) for _ in range(dice.randrange(1, 5))}).encode())
    with crowd(stage, estate()) as there:
        there.grow(1)
        host = there.hosts[0]
        for n, body in enumerate(bodies):
            for method, path in (ROUTES if n < 10 else (ROUTES[n % len(ROUTES)],)):
                part = dice.choice(["x", "..%2f..", "%00", "a" * 3000, "%F0%9F%92%A9", "'%20or%201"])
                ask = partial(_ask, there, method, path.format(part), body)
                in_time(stage, f"{method} {path} {body[:150]!r}", LONGEST_SECONDS, ask)
        denied = there.life.azure.owned()
        stage.damage.note("protected_blocked", len(denied), f"{denied}")
        stage.damage.note("ledger_gaps", int(not host.alive), "the host is gone")


@scene("hostile: the HTTP API as described, but for one value", alone=True)
def described(stage: Stage) -> None:
    """What the description allows leads deeper in than noise; one hostile value is put in its place."""
    schema = schemathesis.openapi.from_dict(json.loads(SCHEMA.read_text()))
    with crowd(stage, estate()) as there:
        there.grow(1)
        there.world.publish(there.life.attack())
        there.world.settled(30)
        before = there.life.azure.owned()
        for found in schema.get_all_operations():
            if isinstance(found, Err):
                raise found.err()
            operation = found.ok()

            def one(case: Any, where: Any, value: Any) -> None:
                _spoil(case, where, value)
                what = f"{case.method} {case.path} {case.query} {case.path_parameters} {case.body!r}"
                in_time(stage, what[:300], LONGEST_SECONDS, partial(_call, there, case))

            fuzz = given(operation.as_strategy(), st.integers(0, 99), st.sampled_from(HOSTILE))(one)
            settings(max_examples=SPOILED, deadline=None, database=None, phases=[Phase.generate],
                     suppress_health_check=list(HealthCheck))(fuzz)()
        more = {p for prefixes in there.life.azure.owned().values() for p in prefixes} - {
            p for prefixes in before.values() for p in prefixes}
        stage.damage.note("protected_blocked", len(more), f"{more}")
        stage.damage.note("ledger_gaps", int(not there.hosts[0].alive), "the host is gone")


def _spoil(case: Any, where: int, value: Any) -> None:
    """Put the value in the place of one of the request's own."""
    places: list[tuple[Any, Any]] = [
        (part, name) for part in (case.path_parameters, case.query) if isinstance(part, dict)
        for name in part]
    if isinstance(case.body, dict):
        places += [(case.body, name) for name in case.body]
    if not places:
        return
    part, name = places[where % len(places)]
    part[name] = value if part is case.body else str(value)[:4000] or "x"


def _call(there: Crowd, case: Any) -> None:
    host = there.hosts[0]
    try:
        answer = case.call(base_url=f"{host.url}/api", headers={"x-functions-key": host.function_key},
                           timeout=LONGEST_SECONDS * 2)
    except (ValueError, UnicodeError):  # no client can send that: there is nothing to be answered
        return
    _fine(case.path, answer.status_code, answer.text)


def _ask(there: Crowd, method: str, path: str, body: bytes) -> None:
    host = there.hosts[0]
    answer = there.world.http.request(method, f"{host.url}/api/{path}", content=body or None, headers={
        "x-functions-key": host.function_key, "content-type": "application/json"})
    _fine(path, answer.status_code, answer.text)


def _fine(path: str, status: int, text: str) -> None:
    away = status == 503 and path.strip("/") == "health"  # it is asked just that
    if (status >= 500 and not away) or "Traceback" in text or 'File "' in text:
        raise RuntimeError(f"{status} {text[:300]}")
