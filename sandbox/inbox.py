"""A webhook on loopback that keeps what it is sent: where the story's and the tests' messages arrive."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Inbox:
    """A channel by the address `json://…`, as Apprise writes it. `down`: it refuses what comes;
    `hangs`: so many seconds pass before it answers at all."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.down, self.hangs = False, 0.0
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                time.sleep(inbox.hangs)
                if not inbox.down:
                    inbox.messages.append(json.loads(body))
                self.send_response(503 if inbox.down else 200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """For `RESPONDER_NOTIFY`."""
        return f"json://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
