"""Dead letters, as Event Grid keeps them: one blob per burial, a JSON array of events, in the
container of the subscription, under topic, subscription and hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from datetime import UTC, datetime
from typing import Any

CONTAINER = "deadletter"
TOPIC, SUBSCRIPTION = "alerts", "on-alert"


class DeadLetters:
    """Writes to a storage account."""

    def __init__(self, connection: str) -> None:
        self._connection = connection

    async def write(self, events: list[dict[str, Any]]) -> str:
        """Keep these events → the blob's name."""
        return await asyncio.to_thread(self._write, events)

    def _write(self, events: list[dict[str, Any]]) -> str:
        from azure.core.exceptions import ResourceExistsError
        from azure.storage.blob import BlobServiceClient

        now = datetime.now(UTC)
        name = (f"{TOPIC}/{SUBSCRIPTION}/{now.year}/{now.month}/{now.day}/{now.hour}/"
                f"{uuid.uuid4()}.json")
        with BlobServiceClient.from_connection_string(self._connection) as service:
            with contextlib.suppress(ResourceExistsError):  # made by an earlier burial
                service.create_container(CONTAINER)
            service.get_blob_client(CONTAINER, name).upload_blob(json.dumps(events).encode())
        return name
