"""What was asked of the local Azure, by whom, and how it ended. The demo counts from it."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any


class Log:
    """An append-only record with a bound."""

    def __init__(self, most: int = 500_000) -> None:
        self._rows: deque[dict[str, Any]] = deque(maxlen=most)
        self._lock = threading.Lock()
        self._n = 0

    def add(
        self, service: str, method: str, path: str, status: int, by: str, ms: float, **facts: Any
    ) -> None:
        """One request, when it was answered."""
        with self._lock:
            self._n += 1
            self._rows.append({"n": self._n, "at": time.time(), "service": service,
                               "method": method, "path": path, "status": status, "by": by,
                               "ms": round(ms, 2), **{k: v for k, v in facts.items() if v}})

    def rows(self, since: int = 0) -> list[dict[str, Any]]:
        """All rows after the given number."""
        with self._lock:
            return [r for r in self._rows if r["n"] > since]

    def clear(self) -> None:
        """Forget."""
        with self._lock:
            self._rows.clear()
