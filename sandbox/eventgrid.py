"""An Event Grid topic: takes CloudEvents, shakes hands with a webhook, delivers, retries, buries.

Rules (the project's facts on Event Grid): at least once, no order; 30 s to answer; retries after
10 s, 30 s, 1 min, 5 min, 10 min, 30 min, 1 h…; 400 and 413 are not tried again; dead letters hold
why. That repeated failures delay new events too is not simulated. `scale` shrinks all waiting for
demos and tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import aiohttp
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.deadletters import DeadLetters
from sandbox.log import Log

RETRIES = (10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 43_200)
ANSWER_SECONDS = 30.0
HOPELESS = (400, 413)
MAX_BYTES = 1024 * 1024


ALERTS, SYSTEM = "alerts", "system"
"""The custom topic, and what Azure itself says of the subscription: resources written and deleted."""


@dataclass
class Delivery:
    """One event on its way."""

    event: dict[str, Any]
    published: str
    attempts: int = 0
    last: str = ""
    status: int = 0
    last_at: str = ""
    done: float = 0.0


@dataclass
class Topic:
    """One topic with one webhook subscription."""

    webhooks: list[str] = field(default_factory=list)
    cloud: bool = True
    scale: float = 1.0
    max_attempts: int = 30
    deliveries: list[Delivery] = field(default_factory=list)
    dead: list[dict[str, Any]] = field(default_factory=list)
    turn: int = 0
    in_flight: asyncio.Semaphore | None = None
    """How many deliveries may be under way at once; None: as many as there are."""


class EventGrid:
    """The publisher's HTTP side, and its deliveries."""

    def __init__(self, log: Log, letters: DeadLetters | None = None) -> None:
        self.topics: dict[str, Topic] = {ALERTS: Topic(), SYSTEM: Topic()}
        self._log = log
        self._letters = letters
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    @property
    def _client(self) -> aiohttp.ClientSession:
        """Made on the loop that uses it. A server closes what was idle for seconds: it does so before."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
                connector=aiohttp.TCPConnector(limit=500, keepalive_timeout=2))
        return self._session

    async def close(self) -> None:
        """No delivery goes on, and the connections are let go of."""
        for task in self._tasks:
            task.cancel()
        if self._session is not None:
            await self._session.close()

    async def publish(self, request: Request) -> Response:
        """POST /topics/{name}/api/events: one event, or a list."""
        raw = await request.body()
        if len(raw) > MAX_BYTES:
            return JSONResponse({"error": {"code": "PayloadTooLarge"}}, 413)
        try:
            events = json.loads(raw)
        except ValueError:
            return JSONResponse({"error": {"code": "BadRequest", "message": "not JSON"}}, 400)
        events = events if isinstance(events, list) else [events]
        for event in events:
            missing = [k for k in ("id", "source", "type", "specversion") if k not in event]
            if missing:
                return JSONResponse({"error": {"code": "BadRequest", "message":
                                               f"not a CloudEvent: {missing} missing"}}, 400)
        for event in events:
            self.send(event, str(request.path_params["name"]))
        return Response(status_code=200)

    def send(self, event: dict[str, Any], to: str = ALERTS) -> Delivery:
        """Start delivering one event."""
        event.setdefault("time", _now())
        delivery, topic = Delivery(event, _now()), self._topic(to)
        topic.deliveries.append(delivery)
        task = asyncio.create_task(self._deliver(delivery, topic))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return delivery

    def happened(self, event: dict[str, Any]) -> None:
        """Something was written in the subscription; without a subscription to it nobody hears of it."""
        if self.topics[SYSTEM].webhooks:
            self.send(event, SYSTEM)

    def forget(self) -> None:
        """All deliveries so far; subscriptions stay."""
        for name, topic in self.topics.items():
            self.topics[name] = Topic(topic.webhooks, topic.cloud, topic.scale, topic.max_attempts,
                                      in_flight=topic.in_flight)

    def _topic(self, name: str) -> Topic:
        return self.topics.setdefault(name, Topic())

    async def subscribe(self, request: Request) -> Response:
        """PUT /topics/{name}/subscription {"webhooks": […], "scale": …, "inFlight": …}: with the
        handshake."""
        body, topic = await request.json(), self._topic(str(request.path_params["name"]))
        topic.webhooks = list(body["webhooks"])
        topic.scale = float(body.get("scale", topic.scale))
        topic.max_attempts = int(body.get("maxAttempts", topic.max_attempts))
        most = int(body.get("inFlight", 0))
        topic.in_flight = asyncio.Semaphore(most) if most else None
        for url in topic.webhooks:
            problem = await self._handshake(url)
            if problem:
                return JSONResponse({"error": problem}, 400)
        return JSONResponse({"ok": True})

    async def _handshake(self, url: str) -> str:
        """CloudEvents' abuse protection; the older schema's validation event too."""
        async with self._client.options(
                url, allow_redirects=False,
                headers={"WebHook-Request-Origin": "eventgrid.azure.net"}) as options:
            allowed = options.headers.get("webhook-allowed-origin", "")
            if options.status != HTTPStatus.OK or allowed not in ("*", "eventgrid.azure.net"):
                return f"handshake refused: {options.status} {allowed}"
        code = str(uuid.uuid4())
        body = [{"id": code, "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
                 "subject": "", "topic": "", "eventTime": _now(), "dataVersion": "1",
                 "data": {"validationCode": code}}]
        async with self._client.post(
                url, json=body, allow_redirects=False,
                headers={"aeg-event-type": "SubscriptionValidation"}) as answer:
            said = await answer.json(content_type=None) if answer.status == HTTPStatus.OK else {}
            return "" if said.get("validationResponse") == code else f"validation refused: {answer.status}"

    async def _deliver(self, delivery: Delivery, topic: Topic) -> None:
        while True:
            async with topic.in_flight or contextlib.nullcontext():
                delivery.attempts += 1
                delivery.last_at = _now()
                delivery.last = await self._once(delivery, topic)
            if delivery.last == "Delivered":
                delivery.done = time.time()
                return
            spent = delivery.attempts > len(RETRIES) or delivery.attempts >= topic.max_attempts
            if spent or delivery.status in HOPELESS:
                await self._bury(
                    delivery, topic, "MaxDeliveryAttemptsExceeded" if spent else "Undeliverable")
                return
            await asyncio.sleep(RETRIES[delivery.attempts - 1] * topic.scale)

    async def _once(self, delivery: Delivery, topic: Topic) -> str:
        if not topic.webhooks:
            return "NotFound"
        url = topic.webhooks[topic.turn % len(topic.webhooks)]
        topic.turn += 1
        started = time.perf_counter()
        status = 0
        try:
            async with self._client.post(
                url, data=json.dumps(delivery.event), allow_redirects=False,
                headers={"aeg-event-type": "Notification",
                         "content-type": "application/cloudevents+json; charset=utf-8"},
            ) as answer:
                status = answer.status
            outcome = "Delivered" if status < 300 else (
                "BadRequest" if status in (400, 401, 403, 404, 413) else "GenericError")
        except TimeoutError:
            outcome = "TimedOut"
        except aiohttp.ClientError:
            outcome = "SocketError"
        delivery.status = status
        self._log.add("eventgrid", "POST", str(delivery.event.get("id", "")), status, "publisher",
                      (time.perf_counter() - started) * 1000, outcome=outcome,
                      attempt=delivery.attempts)
        return outcome

    async def _bury(self, delivery: Delivery, topic: Topic, reason: str) -> None:
        """A blob where a storage account is given; and always what `deadletters` shows."""
        letter = {
            **delivery.event, "deadletterreason": reason,
            "deliveryattempts": delivery.attempts, "lastdeliveryoutcome": delivery.last,
            "publishtime": delivery.published, "lastdeliveryattempttime": delivery.last_at,
        }
        if self._letters is not None:
            await self._letters.write([letter])
        topic.dead.append(letter)

    async def dead_letters(self, request: Request) -> Response:
        """GET /topics/{name}/deadletters: what a dead-letter blob would hold."""
        return JSONResponse(self._topic(str(request.path_params["name"])).dead)

    async def events(self, request: Request) -> Response:
        """GET /topics/{name}/events: what was published, as it was."""
        return JSONResponse([d.event for d in self._topic(str(request.path_params["name"])).deliveries])

    async def status(self, request: Request) -> Response:
        """GET /topics/{name}: all deliveries."""
        return JSONResponse([
            {"id": d.event.get("id"), "attempts": d.attempts, "last": d.last,
             "published": d.published, "done": d.done}
            for d in self._topic(str(request.path_params["name"])).deliveries
        ])


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
