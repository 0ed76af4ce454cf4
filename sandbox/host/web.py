"""The host's HTTP side: function routes, the Event Grid webhook, the admin API, keys."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.host import timers
from sandbox.host.messages import TypedData, as_json, text
from sandbox.host.queues import Listener, Options
from sandbox.host.schedule import span_seconds
from sandbox.host.worker import Function, Result, Worker

_log = logging.getLogger("host")

VERBS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
ORIGINS = ("eventgrid.azure.net", "eventgrid.azure.us", "eventgrid.azure.cn")


class Template:
    """A function's route: literal segments before parameters, a wrong verb is no match."""

    def __init__(self, function: Function, prefix: str) -> None:
        trigger = function.trigger
        self.function = function
        self._methods = [str(m).upper() for m in trigger.get("methods") or []]
        pattern, order = "", []
        for segment in str(trigger.get("route") or function.name).strip("/").split("/"):
            hit = re.fullmatch(r"\{(\w+)(?::\w+)?(\?)?\}", segment)
            if hit is None:
                pattern += "/" + re.escape(segment)
            else:
                pattern += f"(?:/(?P<{hit[1]}>[^/]+))" + ("?" if hit[2] else "")
            order.append(0 if hit is None else 1)
        self.order = order
        self._pattern = re.compile(f"/{prefix}{pattern}/?" if prefix else f"{pattern}/?", re.IGNORECASE)

    def match(self, path: str, method: str) -> dict[str, str | None] | None:
        """The parameters if it matches."""
        hit = self._pattern.fullmatch(path)
        if hit is None or (self._methods and method not in self._methods):
            return None
        return hit.groupdict()


class Host:
    """One app, one worker."""

    def __init__(self, app: Path, state: Path, *, keys: bool) -> None:
        self.worker = Worker(app)
        self.state = state
        self._check_keys = keys
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        state.mkdir(parents=True, exist_ok=True)
        config = json.loads((app / "host.json").read_text())
        extensions = config.get("extensions", {})
        self._prefix = str(extensions.get("http", {}).get("routePrefix", "api")).strip("/")
        self._queues = Options.read(extensions.get("queues", {}))
        self._timeout = span_seconds(config.get("functionTimeout", "00:30:00"))
        self.keys = self._load_keys()
        self.functions: dict[str, Function] = {}
        self._templates: list[Template] = []

    def _load_keys(self) -> dict[str, Any]:
        """Made once per state folder; a link makes the making atomic between hosts."""
        path = self.state / "keys.json"
        if not path.exists():
            made = self.state / f"keys-{os.getpid()}.json"
            key = secrets.token_urlsafe
            made.write_text(json.dumps({"master": key(30), "function": {"default": key(30)},
                                        "system": {"eventgrid_extension": key(30)}}))
            made.chmod(0o600)
            with contextlib.suppress(FileExistsError):
                os.link(made, path)
            made.unlink()
        held: dict[str, Any] = json.loads(path.read_text())
        return held

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Index, listen; at the end stop listening and let work finish."""
        self.functions = {f.name: f for f in await self.worker.index()}
        self._templates = sorted(
            (Template(f, self._prefix) for f in self.functions.values() if f.kind == "httpTrigger"),
            key=lambda t: t.order,
        )
        for function in self.functions.values():
            if function.kind == "timerTrigger":
                self._start(timers.listen(function, self.state, self._stopping, self.invoke))
            elif function.kind == "queueTrigger":
                self._start(Listener(function, self._queues, self.invoke).listen(self._stopping))
        _log.info("indexed %d functions", len(self.functions))
        yield
        self._stopping.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.worker.stop()

    def _start(self, coroutine: Any) -> None:
        async def guarded() -> None:
            try:
                await coroutine
            except Exception:  # noqa: BLE001 - one listener's end must not end the host
                _log.exception("a listener stopped")

        self._tasks.append(asyncio.create_task(guarded()))

    async def invoke(
        self, function: Function, data: TypedData, metadata: dict[str, TypedData]
    ) -> Result:
        """One invocation, within functionTimeout."""
        started = time.perf_counter()
        try:
            result = await asyncio.wait_for(
                self.worker.invoke(function, data, metadata), self._timeout)
        except TimeoutError:
            result = Result(False, {}, f"timeout value of {self._timeout} s was exceeded")
        ms = (time.perf_counter() - started) * 1000
        level = logging.INFO if result.ok else logging.ERROR
        _log.log(level, "Executed %s (%s, %.0f ms) %s", function.name,
                 "Succeeded" if result.ok else "Failed", ms, result.error)
        return result

    # --- HTTP ---

    def app(self) -> Starlette:
        """The ASGI application."""
        application = Starlette(lifespan=self.lifespan, routes=[
            Route("/runtime/webhooks/eventgrid", self.event_grid, methods=VERBS),
            Route("/admin/host/status", self.status),
            Route("/admin/functions/{name}", self.admin, methods=["GET", "POST"]),
        ])
        # The rest are the app's own routes. A pattern would not match every path: ids may hold
        # a line break.
        application.router.default = self._function_route
        return application

    async def _function_route(self, scope: Any, receive: Any, send: Any) -> None:
        response = await self.http(Request(scope, receive))
        await response(scope, receive, send)

    def _level(self, request: Request) -> str:
        """`admin`, `system`, `function` or `anonymous`, by the key in the request."""
        if not self._check_keys:
            return "admin"
        key = request.headers.get("x-functions-key") or request.query_params.get("code") or ""
        known = [("admin", self.keys["master"]),
                 *(("system", v) for v in self.keys["system"].values()),
                 *(("function", v) for v in self.keys["function"].values())]
        for level, value in known:
            if key and secrets.compare_digest(value.encode(), key.encode()):
                return level
        return "anonymous"

    async def http(self, request: Request) -> Response:
        """A function's route."""
        found = None
        for template in self._templates:
            params = template.match(request.scope["path"], request.method)
            if params is not None:
                found = (template.function, params)
                break
        if found is None:
            return Response(status_code=404)
        function, params = found
        need = str(function.trigger.get("authLevel") or "function").lower()
        if need != "anonymous" and self._level(request) not in ("admin", need):
            return Response(status_code=401)
        message = SimpleNamespace(
            method=request.method, url=str(request.url),
            body=TypedData(bytes=await request.body()), headers=dict(request.headers),
            query=dict(request.query_params), params={k: v for k, v in params.items() if v},
        )
        result = await self.invoke(function, TypedData(http=message), {})
        data = result.output.get(function.output) if result.ok else None
        if data is None:
            return Response(status_code=500)
        answer = data.value
        response = Response(answer.body.value or b"", int(answer.status_code))
        for name, value in answer.headers.items():
            response.headers[name] = value
        return response

    async def event_grid(self, request: Request) -> Response:
        """The webhook: handshake, and one invocation per event."""
        if self._level(request) not in ("admin", "system"):
            return Response(status_code=401)
        name = request.query_params.get("functionName", "")
        function = self.functions.get(name)
        if function is None or function.kind != "eventGridTrigger":
            return Response(f"cannot find function: '{name}'", 404)
        if request.method == "OPTIONS":
            origin = request.headers.get("webhook-request-origin", "")
            allowed = origin if origin in ORIGINS else ORIGINS[0]
            return Response(headers={"Webhook-Allowed-Origin": allowed})
        kind = request.headers.get("aeg-event-type", "").lower()
        if kind == "unsubscribe":
            return Response(status_code=202)
        if kind not in ("subscriptionvalidation", "notification"):
            return Response(status_code=400)
        body = json.loads(await request.body())
        if kind == "subscriptionvalidation":
            first = body[0]["data"] if isinstance(body, list) else json.loads(body["data"])
            return JSONResponse({"validationResponse": first["validationCode"]})
        events = body if isinstance(body, list) else [body]
        results = await asyncio.gather(*(
            self.invoke(function, as_json(e), {"data": as_json(e.get("data"))}) for e in events))
        if all(r.ok for r in results):
            return Response(status_code=202)
        return Response(f"Exception while executing function: Functions.{name}", 500)

    async def status(self, request: Request) -> Response:
        """GET /admin/host/status"""
        if self._level(request) != "admin":
            return Response(status_code=401)
        return JSONResponse({"state": "Running", "processId": os.getpid(),
                             "functions": sorted(self.functions)})

    async def admin(self, request: Request) -> Response:
        """POST /admin/functions/{name}: start it, and do not wait."""
        if self._level(request) != "admin":
            return Response(status_code=401)
        by_name = {k.lower(): f for k, f in self.functions.items()}
        function = by_name.get(str(request.path_params["name"]).lower())
        if function is None:
            return Response(status_code=404)
        if request.method == "GET":
            return JSONResponse({"name": function.name, "config": {"bindings": function.bindings}})
        if function.kind == "httpTrigger":
            return Response("use the HTTP route", 400)
        given = str(json.loads(await request.body() or b"{}").get("input") or "")
        if function.kind == "timerTrigger":
            data = as_json({"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None,
                            "IsPastDue": False})
        elif function.kind == "queueTrigger":
            data = text(given)
        else:
            data = TypedData(json=given)
        self._start(self._quietly(function, data))
        return Response(status_code=202)

    async def _quietly(self, function: Function, data: TypedData) -> None:
        await self.invoke(function, data, {})
