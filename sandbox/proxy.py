"""A door before Azurite: requests pass unchanged, and the faults of the sandbox reach them."""

from __future__ import annotations

import time
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import Response

from sandbox.arm.gateway import break_connection
from sandbox.faults import Dropped, Faults
from sandbox.log import Log

_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


class Door:
    """ASGI: everything is forwarded to `target`."""

    def __init__(self, service: str, target: str, faults: Faults, log: Log) -> None:
        self._service = service
        self._target = target.rstrip("/")
        self._faults = faults
        self._log = log
        self._client = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=200))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        body = await request.body()
        raw = scope["raw_path"].decode() + (
            f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
        started = time.perf_counter()
        try:
            fault = await self._faults.before(
                self._service, request.method, raw, scope["client"][1])
            if fault is not None and fault.status:
                await Response(str(fault.body or ""), fault.status, fault.headers)(
                    scope, receive, send)
                return
            answer = await self._client.send(self._client.build_request(
                request.method, self._target + raw, content=body,
                headers=[(k, v) for k, v in request.headers.raw if k.lower() != b"connection"],
            ), stream=True)
            held = b"".join([part async for part in answer.aiter_raw()])  # as it is: encoded, if it is
            await answer.aclose()
            self._faults.after(fault)
        except Dropped:
            await break_connection(send)
            return
        self._log.add(self._service, request.method, raw, answer.status_code, "app",
                      (time.perf_counter() - started) * 1000)
        length = str(len(held))
        if request.method == "HEAD":  # which says how long the body would be
            length = answer.headers.get("content-length", "0")
        response = Response(held, answer.status_code)
        response.raw_headers = [
            (k.lower().encode(), v.encode()) for k, v in answer.headers.multi_items()
            if k.lower() not in _HOP
        ] + [(b"content-length", length.encode())]
        await response(scope, receive, send)
