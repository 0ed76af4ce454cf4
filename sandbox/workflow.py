"""Runs of Logic Apps that begin with a Request trigger and send HTTP requests: as much of the workflow
language as a forwarder of alerts uses. What it does not know it refuses, so that nothing seems to work.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from datetime import UTC, datetime
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.arm.logic import by_name, signature
from sandbox.arm.state import State

_PART = re.compile(r"@\{(.*?)\}")
_FIELD = re.compile(r"triggerBody\(\)\?\['([^']+)'\]")
SECONDS = 20.0


class Unknown(Exception):
    """An expression this is too small for."""


class Workflows:
    """The data plane of Logic Apps."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._tasks: set[asyncio.Task[None]] = set()

    async def invoke(self, request: Request) -> Response:
        """POST /workflows/{name}/triggers/{trigger}/paths/invoke: 202, and a run goes on by itself."""
        workflow = self._state.get(by_name(self._state, str(request.path_params["name"])))
        if workflow is None or request.query_params.get("sig") != signature(workflow.id):
            return _error(401, "DirectApiAuthorizationRequired", "The request must be authenticated.")
        properties = workflow.body["properties"]
        trigger = str(request.path_params["trigger"])
        if properties.get("state", "Enabled") != "Enabled":
            return _error(404, "WorkflowTriggerIsNotEnabled",
                          f"Could not execute workflow trigger '{trigger}': it is not enabled.")
        try:
            body = json.loads(await request.body())
        except ValueError:
            return _error(400, "InvalidRequestContent", "The request content is not JSON.")
        run = "0858" + secrets.token_hex(12).upper() + "CU00"
        self._state.runs[workflow.id.lower(), run] = held = {
            "properties": {"status": "Running", "startTime": _now()}, "actions": {}}
        task = asyncio.create_task(self._run(properties["definition"], body, run, held))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Response(status_code=202, headers={
            "x-ms-workflow-run-id": run, "x-ms-workflow-name": workflow.name,
            "x-ms-request-id": secrets.token_hex(8)})

    async def _run(
        self, definition: dict[str, Any], body: Any, run: str, held: dict[str, dict[str, Any]]
    ) -> None:
        status, code = "Succeeded", "OK"
        for name, action in definition["actions"].items():
            status, code = await self._act(action, body, run)
            held["actions"][name] = {"status": status, "code": code, "endTime": _now()}
            if status != "Succeeded":
                break
        held["properties"] |= {"status": status, "code": code, "endTime": _now()}

    async def _act(self, action: dict[str, Any], body: Any, run: str) -> tuple[str, str]:
        if str(action.get("type")).lower() != "http":
            return "Failed", "ActionTypeNotKnown"
        try:
            inputs = evaluated(action["inputs"], body, run)
        except Unknown as error:
            return "Failed", f"InvalidTemplate: {error}"
        async with httpx.AsyncClient(timeout=SECONDS) as client:
            try:
                answer = await client.request(inputs["method"], inputs["uri"], json=inputs["body"],
                                              headers=inputs.get("headers"))
            except httpx.HTTPError as error:
                return "Failed", type(error).__name__
        return ("Succeeded", "OK") if answer.is_success else ("Failed", str(answer.status_code))


def evaluated(value: Any, body: Any, run: str) -> Any:
    """The value with its expressions evaluated."""
    if isinstance(value, dict):
        return {k: evaluated(v, body, run) for k, v in value.items()}
    if isinstance(value, list):
        return [evaluated(v, body, run) for v in value]
    if not isinstance(value, str):
        return value
    if value.startswith("@") and not value.startswith(("@{", "@@")):
        return _one(value[1:], body, run)
    return _PART.sub(lambda hit: str(_one(hit[1], body, run) or ""), value)


def _one(expression: str, body: Any, run: str) -> Any:
    if expression == "triggerBody()":
        return body
    field = _FIELD.fullmatch(expression)
    if field is not None:
        return body.get(field[1]) if isinstance(body, dict) else None
    if expression == "utcNow()":
        return _now()
    if expression == "workflow().run.name":
        return run
    raise Unknown(expression)


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status)


def _now() -> str:
    return datetime.now(UTC).isoformat()
