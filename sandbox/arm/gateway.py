"""The front door of ARM: what every request passes, in ARM's own order.

token → faults → latency → api-version → throttling → access → locks → group → provider
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sandbox.arm import compute, routes, security
from sandbox.arm.call import Answer, Call, Caller
from sandbox.arm.errors import ArmError, no_group, not_found
from sandbox.arm.move import move
from sandbox.arm.state import Resource, State
from sandbox.faults import Dropped, Faults
from sandbox.graph import Graph
from sandbox.identity import Tokens
from sandbox.log import Log

VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
_PATH = re.compile(
    r"^/subscriptions/(?P<sub>[^/]+)(?:/resourceGroups/(?P<group>[^/]+))?"
    r"/providers/(?P<ns>[^/]+)/(?P<rest>.+)$", re.IGNORECASE,
)
_OPERATION = re.compile(
    r"^locations/[^/]+/(?P<kind>(?:nfv)?(?:operations|operationResults))/(?P<id>[0-9a-f-]{36})$",
    re.IGNORECASE)
_LOCK = re.compile(
    r"^(?P<scope>/subscriptions/.+?)/providers/Microsoft\.Authorization/locks/(?P<name>[^/]+)$",
    re.IGNORECASE)
_GROUP = re.compile(r"^/subscriptions/(?P<sub>[^/]+)/resourceGroups/(?P<group>[^/]+)$", re.IGNORECASE)
_MOVE = re.compile(r"^/subscriptions/[^/]+/resourceGroups/[^/]+/moveResources$", re.IGNORECASE)


class Arm:
    """The ARM server's application."""

    def __init__(self, state: State, faults: Faults, tokens: Tokens, log: Log) -> None:
        self.state = state
        self.faults = faults
        self.tokens = tokens
        self.log = log
        self.graph = Graph(state)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        started = time.perf_counter()
        answer, caller = await self._serve(request, await request.body())
        if answer is None:  # the connection is to break
            await break_connection(send)
            return
        response = self._response(answer)
        self.log.add(
            "arm", request.method, request.url.path, answer.status, caller.upn or caller.name,
            (time.perf_counter() - started) * 1000,
            code=(answer.body or {}).get("error", {}).get("code", "")
            if isinstance(answer.body, dict) and "error" in answer.body else "",
        )
        await response(scope, receive, send)

    @staticmethod
    def _response(answer: Answer) -> Response:
        if answer.text is not None:
            kind = "text/html" if answer.text.startswith("<") else "application/json; charset=utf-8"
            return Response(answer.text, answer.status, answer.headers, media_type=kind)
        if answer.body is None:
            return Response(b"", answer.status, answer.headers)
        return Response(json.dumps(answer.body), answer.status, answer.headers,
                        media_type="application/json; charset=utf-8")

    async def _serve(self, request: Request, body: bytes) -> tuple[Answer | None, Caller]:
        caller = Caller("nobody")
        try:
            caller = self._caller(request)
            fault = await self.faults.before(
                "arm", request.method, request.url.path, request.scope["client"][1])
            if fault is not None and fault.status:
                return Answer(fault.status, fault.body, fault.headers), caller
            answer = await self._answer(request, body, caller)
            self.faults.after(fault)
            return answer, caller
        except Dropped:
            self.log.add("arm", request.method, request.url.path, 0, caller.name, 0, code="dropped")
            return None, caller
        except ArmError as error:
            headers = {**error.headers, **self._budget_headers(request.method)}
            if error.gateway:
                headers["x-ms-failure-cause"] = "gateway"
            return Answer(error.status, error.body(), headers), caller

    def _caller(self, request: Request) -> Caller:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        caller = self.tokens.caller(token) if scheme.lower() == "bearer" else None
        if caller is None:
            raise ArmError(401, "AuthenticationFailed", "Authentication failed. The 'Authorization' "
                           "header is missing or its access token is invalid.", gateway=True,
                           headers={"www-authenticate": 'Bearer authorization_uri='
                                    '"https://login.microsoftonline.com/common", error="invalid_token"'})
        return caller

    async def _answer(self, request: Request, body: bytes, caller: Caller) -> Answer:
        method, path = request.method, request.url.path
        tuning = self.state.tuning
        wait = tuning.read if method == "GET" else tuning.write
        if wait:
            await asyncio.sleep(wait)
        self.state.settle()
        query = dict(request.query_params)
        api = query.get("api-version", "")
        if not api:
            raise ArmError(400, "MissingApiVersionParameter", "The api-version query parameter "
                           "(?api-version=) is required for all requests.", gateway=True)
        if path.lower() == "/providers/microsoft.resourcegraph/resources" and method == "POST":
            _check_version("microsoft.resourcegraph", "resources", api)
            self.state.access.queried(caller.name, body.decode(errors="replace"))
            self.graph.prepare()
            return await asyncio.to_thread(self.graph.query, body, caller.name)
        self._throttle(method, caller)
        base = f"{request.url.scheme}://{request.headers.get('host', request.url.netloc)}"
        answer = self._route(method, path, base, api, query, request, body, caller)
        answer.headers = {**self._budget_headers(method), **answer.headers}
        return answer

    def _throttle(self, method: str, caller: Caller) -> None:
        if not self.state.tuning.throttle:
            return
        kind = {"GET": "reads", "HEAD": "reads", "DELETE": "deletes"}.get(method, "writes")
        wait = self.state.bucket(kind, caller.name).take()
        if wait is not None:
            seconds = max(1, round(wait + 0.5))
            raise ArmError(
                429, "SubscriptionRequestsThrottled",
                "Number of requests exceeded the limit for the subscription. Please try again after "
                f"'{seconds}' seconds.", gateway=True, headers={"retry-after": str(seconds)},
            )

    def _budget_headers(self, method: str) -> dict[str, str]:
        kind = {"GET": "reads", "HEAD": "reads", "DELETE": "deletes"}.get(method, "writes")
        left = {k: b.tokens for k, b in self.state.buckets.items() if k.startswith(kind)}
        remaining = int(min(left.values(), default=getattr(self.state.tuning, kind)[0]))
        return {
            f"x-ms-ratelimit-remaining-subscription-{kind}": str(remaining),
            f"x-ms-ratelimit-remaining-subscription-global-{kind}": str(remaining * 15),
        }

    # --- routing ---

    def _route(
        self, method: str, path: str, base: str, api: str, query: dict[str, str],
        request: Request, body: bytes, caller: Caller,
    ) -> Answer:
        if path.lower().count("/subscriptions/") > 1:
            return Answer(404, text="<!DOCTYPE html><html><head><title>404</title></head></html>")
        if path.lower().rstrip("/") == "/subscriptions" and method == "GET":
            self.state.access.check(
                caller.name, "Microsoft.Resources/subscriptions/read", "/subscriptions")
            return self._subscriptions()
        lock = _LOCK.match(path)
        if lock:
            return self._lock(method, lock["scope"], lock["name"], body)
        if _MOVE.match(path) and method == "POST":
            return move(self.state, json.loads(body or b"{}"))
        group = _GROUP.match(path)
        if group:
            return self._group(method, group["sub"], group["group"], body)
        hit = _PATH.match(path.rstrip("/"))
        if hit is None:
            raise ArmError(404, "InvalidResourcePath", f"The path '{path}' is not known.",
                           gateway=True)
        operation = _OPERATION.match(hit["rest"])
        if operation:
            kind = f"{hit['ns']}/locations/{operation['kind']}"
            self.state.access.check(caller.name, f"{kind}/read", path)
            return self._operation(operation["kind"].lower(), operation["id"], hit["ns"], request)
        call = Call(self.state, method, str(request.url), base, api, hit["sub"], hit["group"] or "",
                    hit["ns"], hit["rest"].split("/"), query,
                    {k.lower(): v for k, v in request.headers.items()}, body, caller)
        return self._provider(call)

    def _provider(self, call: Call) -> Answer:
        table = routes.LISTS if call.is_list else routes.ITEMS
        handler = table.get((call.method, call.kind))
        known = call.kind in routes.KNOWN or any(
            r.kind == call.root_kind for r in self.state.resources.values())
        if not known:
            raise ArmError(404, "InvalidResourceType", f"The resource type could not be found in "
                           f"the namespace '{call.namespace}' for api version '{call.api}'.",
                           gateway=True)
        _check_version(call.namespace, call.types[0], call.api)
        self._authorize(call)
        if call.method in ("PUT", "PATCH", "DELETE"):
            self._check_locks(call)
        self._check_group(call)
        if handler is None:
            handler = self._opaque
        try:
            answer = handler(call)
        finally:
            if call.method != "GET":  # whatever it changed, and wherever it broke off
                self.state.version += 1
        security.note(self.state, call, answer.status)
        security.tell(self.state, call, answer.status)
        return answer

    def _authorize(self, call: Call) -> None:
        verb = VERBS.get(call.method, "action")
        target = call.scope + "/" if call.is_list and len(call.parts) == 1 else call.id_of(
            max(1, len(call.names)))
        self.state.access.check(call.caller.name, f"{call.kind}/{verb}", target)
        if call.kind == compute.KIND and "instanceview" in call.query.get("$expand", "").lower():
            # Whether Azure asks for this right here is not recorded: the strict side.
            self.state.access.check(call.caller.name, f"{call.kind}/instanceView/read", target)

    def _check_locks(self, call: Call) -> None:
        levels = ("readonly", "cannotdelete") if call.method == "DELETE" else ("readonly",)
        scope = self.state.lock_over(call.id, levels)
        if scope:
            verb = "delete" if call.method == "DELETE" else "write"
            raise ArmError(
                409, "ScopeLocked",
                f"The scope '{call.id}' cannot perform {verb} operation because following scope(s) "
                f"are locked: '{scope}'. Please remove the lock and try again.", gateway=True,
            )

    def _check_group(self, call: Call) -> None:
        if not call.group or call.namespace.lower() in ("microsoft.security", "microsoft.insights"):
            return
        if self.state.has_group(call.subscription, call.group):
            return
        if len(call.names) > 1 or (call.names and call.method == "GET"):
            # A missing parent is named before the missing group (recorded).
            canonical = call.id_of(1).split("/providers/")[1].rsplit("/", 1)[0]
            raise not_found(canonical, call.names[0], call.group)
        raise no_group(call.group)

    def _opaque(self, call: Call) -> Answer:
        """Kinds we only store: seeded, readable, deletable, without rules of their own."""
        if call.is_list:
            found = [r.body for r in self.state.of_kind(call.kind, call.scope)]
            return Answer(200, {"value": found})
        resource = self.state.get(call.id)
        if call.method == "PUT":
            body = {**call.json(), "id": call.id, "name": call.names[-1], "type": call.kind}
            self.state.put(Resource(call.id, call.kind, body))
            return Answer(200 if resource else 201, body)
        if resource is None:
            raise not_found("/".join([call.namespace, *call.types]), "/".join(call.names), call.group)
        if call.method == "DELETE":
            self.state.drop(call.id)
            return Answer(200)
        if call.method != "GET":
            raise ArmError(405, "HttpMethodNotAllowed", "The method is not allowed here.",
                           gateway=True)
        return Answer(200, resource.body)

    # --- operations, groups, locks ---

    def _operation(self, kind: str, op_id: str, namespace: str, request: Request) -> Answer:
        op = self.state.operations.get(op_id.lower())
        if op is None:
            raise ArmError(404, "OperationNotFound", f"The operation {op_id} was not found.")
        op.polls += 1
        is_compute = namespace.lower() == "microsoft.compute"
        headers = compute.quota("GetOperation") if is_compute else {}
        if kind.endswith("operationresults") or "monitor" in request.query_params:
            base = f"{request.url.scheme}://{request.headers.get('host', request.url.netloc)}"
            here = f"{base}{request.url.path}?{request.url.query}"
            headers = {**headers, "location": here, "azure-asyncnotification": "Enabled"}
            if op.status == "InProgress":
                return Answer(202, None, headers)
            if op.result is not None:
                return Answer(200, op.result, headers)
            headers["azure-asyncoperation"] = here.replace("perationResults", "perations")
            return Answer(204, None, headers)
        body: dict[str, Any] = {"status": op.status}
        if is_compute:
            body = {"startTime": op.started.isoformat(), "status": op.status, "name": op.id}
            if op.status != "InProgress":
                body["endTime"] = datetime.now(UTC).isoformat()
        if op.error:
            body["error"] = op.error
        if is_compute and op.status == "Succeeded" and op.result is not None:
            body["properties"] = {"output": op.result}
        if op.status == "InProgress" and self.state.tuning.retry_after and op.retry_after:
            headers["retry-after"] = str(op.retry_after * 2 ** min(op.polls - 1, 4))
        return Answer(200, body, headers)

    def _subscriptions(self) -> Answer:
        return Answer(200, {"value": [
            {"id": f"/subscriptions/{s}", "subscriptionId": s, "displayName": name,
             "state": "Enabled", "tenantId": self.tokens.tenant}
            for s, name in self.state.subscriptions.items()
        ], "count": {"type": "Total", "value": len(self.state.subscriptions)}})

    def _group(self, method: str, subscription: str, group: str, body: bytes) -> Answer:
        key = f"/subscriptions/{subscription}/resourcegroups/{group}".lower()
        if method == "PUT":
            new = key not in self.state.groups
            location = json.loads(body or b"{}").get("location", "westeurope")
            self.state.add_group(subscription, group, location)
            return Answer(201 if new else 200, _group_body(subscription, group, location))
        if key not in self.state.groups:
            raise no_group(group)
        if method == "DELETE":
            del self.state.groups[key]
            self.state.drop(key)
            return Answer(202)
        return Answer(200, _group_body(subscription, group, self.state.groups[key]))

    def _lock(self, method: str, scope: str, name: str, body: bytes) -> Answer:
        if method == "PUT":
            return security.put_lock(self.state, scope, name, json.loads(body or b"{}"))
        if method == "DELETE":
            return security.drop_lock(self.state, scope, name)
        key = f"{scope}/providers/Microsoft.Authorization/locks/{name}".lower()
        held = self.state.locks.get(key)
        if held is None:
            raise ArmError(404, "LockNotFound", f"The lock '{name}' was not found.", gateway=True)
        return Answer(200, {"id": key, "name": name, "properties": {"level": held["level"]}})


def _group_body(subscription: str, group: str, location: str) -> dict[str, Any]:
    return {"id": f"/subscriptions/{subscription}/resourceGroups/{group}", "name": group,
            "type": "Microsoft.Resources/resourceGroups", "location": location,
            "properties": {"provisioningState": "Succeeded"}}


def _check_version(namespace: str, kind: str, api: str) -> None:
    known = routes.versions(namespace)
    if api in known or (not known and re.fullmatch(r"\d{4}-\d{2}-\d{2}(-preview)?", api)):
        return
    raise ArmError(
        400, "NoRegisteredProviderFound",
        f"No registered resource provider found for location 'westeurope' and API version '{api}' "
        f"for type '{kind}'. The supported api-versions are '{', '.join(sorted(known))}'.",
        gateway=True,
    )


async def break_connection(send: Callable[..., Any]) -> None:
    """End the connection without a valid answer: the client sees it drop."""
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"1000000")]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
