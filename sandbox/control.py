"""/_sandbox/{reset,seed,faults,latency,log,token,role,resources}: the strings behind the curtain."""

from __future__ import annotations

import itertools
from dataclasses import asdict, fields
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.arm.routes import rows
from sandbox.arm.state import State, Tuning
from sandbox.eventgrid import EventGrid
from sandbox.faults import Faults
from sandbox.identity import Tokens
from sandbox.log import Log
from sandbox.seed import seed


class Control:
    """The control endpoints."""

    def __init__(
        self, state: State, faults: Faults, tokens: Tokens, log: Log, grid: EventGrid
    ) -> None:
        self._state = state
        self._faults = faults
        self._tokens = tokens
        self._log = log
        self._grid = grid

    def routes(self) -> list[Route]:
        """To be mounted."""
        return [
            Route("/_sandbox/reset", self.reset, methods=["POST"]),
            Route("/_sandbox/seed", self.seed, methods=["POST"]),
            Route("/_sandbox/faults", self.faults, methods=["GET", "POST"]),
            Route("/_sandbox/latency", self.latency, methods=["GET", "POST"]),
            Route("/_sandbox/effects", self.effects, methods=["GET"]),
            Route("/_sandbox/log", self.log, methods=["GET", "DELETE"]),
            Route("/_sandbox/token", self.token, methods=["POST"]),
            Route("/_sandbox/role", self.role, methods=["GET", "POST"]),
            Route("/_sandbox/resources", self.resources, methods=["GET"]),
        ]

    async def reset(self, request: Request) -> Response:
        """POST: an empty Azure; tuning and tokens stay."""
        version, told, logic = self._state.version, self._state.on_event, self._state.logic_base
        self._state.__init__(self._state.tuning)  # type: ignore[misc]  # the same object stays in everyone's hands
        self._state.version = version + 1  # or the graph would take old rows for these
        self._state.on_event, self._state.logic_base = told, logic
        self._faults.set([])
        self._log.clear()
        self._grid.forget()
        return JSONResponse({"ok": True})

    async def seed(self, request: Request) -> Response:
        """POST: add an estate (`sandbox.seed`)."""
        return JSONResponse(seed(self._state, await request.json()))

    async def faults(self, request: Request) -> Response:
        """POST a list of faults; GET how many requests there were, and which."""
        if request.method == "POST":
            self._faults.set(await request.json())
        return JSONResponse({"seen": self._faults.seen, "trace": self._faults.trace,
                             "left": [r.times for r in self._faults.rules]})

    async def latency(self, request: Request) -> Response:
        """POST any of the tuning's fields; GET them all."""
        if request.method == "POST":
            known = {f.name for f in fields(Tuning)}
            body: dict[str, Any] = await request.json()
            unknown = sorted(set(body) - known)
            if unknown:
                return JSONResponse({"error": f"no such setting: {', '.join(unknown)}",
                                     "known": sorted(known)}, 400)
            for name, value in body.items():
                setattr(self._state.tuning, name, value)
            self._state.buckets.clear()
        return JSONResponse(asdict(self._state.tuning))

    async def log(self, request: Request) -> Response:
        """GET what was asked so far (`?since=n`), DELETE to forget it."""
        if request.method == "DELETE":
            self._log.clear()
        return JSONResponse(self._log.rows(int(request.query_params.get("since", "0"))))

    async def effects(self, request: Request) -> Response:
        """GET when which rules came into force, as the operations ended (`?since=n`: from the n-th)."""
        self._state.settle()
        since = int(request.query_params.get("since", "0"))
        return JSONResponse(list(itertools.islice(self._state.effects, since, None)))

    async def token(self, request: Request) -> Response:
        """POST {"name": …, "upn": …}: a token for a person or a program, to act on ARM as them."""
        body = await request.json()
        return JSONResponse({"token": self._tokens.issue(body["name"], body.get("upn", ""))})

    async def role(self, request: Request) -> Response:
        """POST {"caller": …, "actions": […]}: it may do only these; GET which actions each used."""
        access = self._state.access
        if request.method == "POST":
            body = await request.json()
            access.give(body["caller"], body["actions"])
        return JSONResponse({caller: sorted(used) for caller, used in access.used.items()})

    async def resources(self, request: Request) -> Response:
        """GET all resources as the graph sees them, without lag."""
        self._state.settle()
        return JSONResponse(rows(self._state))
