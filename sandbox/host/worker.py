"""Microsoft's worker library on an event loop and thread of its own, as if in its own process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import sys
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sandbox.host.messages import PROTOS, ParameterBinding, TypedData


def resolve(value: Any) -> Any:
    """`%SETTING%` in a binding's value → the setting."""
    if not isinstance(value, str):
        return value
    return re.sub(r"%([^%]+)%", lambda hit: os.environ[hit[1]], value)


@dataclass
class Function:
    """One function as the library indexed it."""

    name: str
    id: str
    bindings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def trigger(self) -> dict[str, Any]:
        """The binding that starts it."""
        return next(b for b in self.bindings if str(b["type"]).lower().endswith("trigger"))

    @property
    def kind(self) -> str:
        """Such as `httpTrigger`."""
        return str(self.trigger["type"])

    @property
    def output(self) -> str:
        """The name of the HTTP output."""
        return next((str(b["name"]) for b in self.bindings if b["type"] == "http"), "$return")


@dataclass
class Result:
    """How an invocation ended."""

    ok: bool
    output: dict[str, TypedData]
    error: str = ""


class Worker:
    """Index once, then invoke from any thread."""

    def __init__(self, app: Path) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._runtime: Any = None
        threading.Thread(target=self._loop.run_forever, name="worker", daemon=True).start()

    async def _call(self, handler: Any, **request: Any) -> tuple[Any, bool]:
        message = SimpleNamespace(request=SimpleNamespace(**request),
                                  properties={"protos": PROTOS, "host": "127.0.0.1"})
        future = asyncio.run_coroutine_threadsafe(handler(message), self._loop)
        response = await asyncio.wrap_future(future)
        return response, response.result.status == PROTOS.StatusResult.Success

    async def index(self) -> list[Function]:
        """Load the app → its functions. Raises RuntimeError with the library's own words."""
        sys.path.insert(0, str(self._app))
        os.chdir(self._app)
        import azure_functions_runtime as runtime

        self._runtime = runtime
        runtime.start_threadpool_executor()
        init = SimpleNamespace(capabilities={}, function_app_directory=str(self._app))
        response, ok = await self._call(runtime.worker_init_request, worker_init_request=init)
        if ok:
            response, ok = await self._call(runtime.functions_metadata_request)
        if not ok:
            error = response.result.exception
            raise RuntimeError(f"{error.message}\n{error.stack_trace}")
        return [
            Function(m.name, m.function_id,
                     [{k: resolve(v) for k, v in json.loads(b).items()} for b in m.raw_bindings])
            for m in response.function_metadata_results or []
        ]

    async def invoke(
        self, function: Function, data: TypedData, metadata: dict[str, TypedData]
    ) -> Result:
        """Run one function once."""
        response, ok = await self._call(
            self._runtime.invocation_request,
            invocation_request=SimpleNamespace(
                invocation_id=str(uuid.uuid4()),
                function_id=function.id,
                input_data=[ParameterBinding(str(function.trigger["name"]), data)],
                trigger_metadata=metadata,
                trace_context=SimpleNamespace(
                    trace_parent=f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00",
                    trace_state="", attributes={}),
                retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
            ),
        )
        if not ok:
            error = response.result.exception
            return Result(False, {}, f"{error.message}\n{error.stack_trace}")
        output = {p.name: p.data for p in response.output_data}
        if response.return_value is not None:
            output["$return"] = response.return_value
        return Result(True, output)

    def stop(self) -> None:
        """Let go of the threads."""
        self._loop.call_soon_threadsafe(self._loop.stop)
