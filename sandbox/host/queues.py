"""The queue listener: batches, ten minutes' invisibility, retries, the poison queue."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import random
from dataclasses import dataclass
from typing import Any

from sandbox.host.messages import TypedData, as_json, text
from sandbox.host.schedule import span_seconds
from sandbox.host.timers import Invoke, pause
from sandbox.host.worker import Function

_log = logging.getLogger("host.queue")

TAKEN_SECONDS = 600
FIRST_POLL_SECONDS = 0.1


@dataclass
class Options:
    """`extensions.queues` of host.json, with the real host's defaults."""

    batch: int
    threshold: int
    max_dequeue: int
    visibility: float
    poll: float

    @classmethod
    def read(cls, config: dict[str, Any]) -> Options:
        """From host.json."""
        batch = int(config.get("batchSize", 16))
        return cls(
            batch, int(config.get("newBatchThreshold", batch // 2 * (os.cpu_count() or 1))),
            int(config.get("maxDequeueCount", 5)),
            span_seconds(config.get("visibilityTimeout", "00:00:00")),
            span_seconds(config.get("maxPollingInterval", "00:01:00")),
        )


class Listener:
    """Listens to one queue for one function."""

    def __init__(self, function: Function, options: Options, invoke: Invoke) -> None:
        from azure.storage.queue import QueueClient

        trigger = function.trigger
        self._function = function
        self._options = options
        self._invoke = invoke
        self._name = str(trigger["queueName"]).lower()
        connection = os.environ[str(trigger.get("connection") or "AzureWebJobsStorage")]
        self._queue = QueueClient.from_connection_string(connection, self._name)
        self._poison = QueueClient.from_connection_string(connection, f"{self._name}-poison")
        self._busy: set[asyncio.Task[None]] = set()

    async def listen(self, stopping: asyncio.Event) -> None:
        """Take messages until told to stop; poll less and less often while there are none."""
        wait = FIRST_POLL_SECONDS
        while not stopping.is_set():
            messages = await self._receive()
            for message in messages:
                task = asyncio.create_task(self._one(message))
                self._busy.add(task)
                task.add_done_callback(self._busy.discard)
            if messages:
                wait = FIRST_POLL_SECONDS
            else:
                await pause(stopping, wait)
                wait = min(self._options.poll, wait * random.uniform(1.8, 2.2))  # noqa: S311 - jitter
            while len(self._busy) > self._options.threshold:
                await asyncio.wait(self._busy, return_when=asyncio.FIRST_COMPLETED)

    async def _receive(self) -> list[Any]:
        def take() -> list[Any]:
            return list(self._queue.receive_messages(
                max_messages=self._options.batch, messages_per_page=self._options.batch,
                visibility_timeout=TAKEN_SECONDS,
            ))

        try:
            return await asyncio.to_thread(take)
        except Exception as error:  # noqa: BLE001 - a listener outlives whatever the service does
            if getattr(error, "status_code", None) != 404:  # the queue is made by its first sender
                _log.warning("queue %s: %s", self._name, str(error).splitlines()[0])
            return []

    async def _one(self, message: Any) -> None:
        try:
            body = base64.b64decode(message.content, validate=True).decode()
        except ValueError:
            await self._bury(message)
            return
        metadata = {
            "QueueTrigger": text(body), "Id": text(message.id),
            "PopReceipt": text(message.pop_receipt), "DequeueCount": as_json(message.dequeue_count),
            "InsertionTime": as_json(message.inserted_on.isoformat()),
            "ExpirationTime": as_json(message.expires_on.isoformat()),
            "NextVisibleTime": as_json(message.next_visible_on.isoformat()),
        }
        result = await self._invoke(self._function, TypedData(string=body), metadata)
        if result.ok:
            await asyncio.to_thread(self._queue.delete_message, message.id, message.pop_receipt)
        elif message.dequeue_count >= self._options.max_dequeue:
            await self._bury(message)
        else:
            await asyncio.to_thread(
                self._queue.update_message, message.id, message.pop_receipt,
                visibility_timeout=int(self._options.visibility),
            )

    async def _bury(self, message: Any) -> None:
        from azure.core.exceptions import ResourceExistsError

        _log.warning("message %s goes to %s-poison", message.id, self._name)

        def move() -> None:
            try:
                self._poison.create_queue()
            except ResourceExistsError:
                _log.debug("the poison queue is there")
            self._poison.send_message(message.content)
            self._queue.delete_message(message.id, message.pop_receipt)

        await asyncio.to_thread(move)
