"""Look-ups that are kept for a while and made once, however many threads ask at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

from remediation.clock import Clock


class Kept[K: Hashable, V]:
    """A small cache with single flight. Failures are not kept; the next asker tries again."""

    def __init__(self, clock: Clock, seconds: float, *, most: int = 10_000) -> None:
        self._clock = clock
        self._seconds = seconds
        self._most = most
        self._lock = threading.Lock()
        self._values: dict[K, tuple[float, V]] = {}
        self._under_way: dict[K, threading.Lock] = {}

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The kept value, or a new one. Of several askers one makes it, the others wait for it."""
        with self._lock:
            found = self._fresh(key)
            if found is not None:
                return found[1]
            gate = self._under_way.setdefault(key, threading.Lock())
        with gate:
            with self._lock:
                found = self._fresh(key)
            if found is not None:
                return found[1]
            try:
                value = make()
                self.put(key, value)
                return value
            finally:
                with self._lock:
                    self._under_way.pop(key, None)

    def peek(self, key: K) -> V | None:
        """What is kept, if anything is; nothing is made."""
        with self._lock:
            found = self._fresh(key)
        return found[1] if found is not None else None

    def put(self, key: K, value: V) -> None:
        """Keep what was found out elsewhere, whatever is kept now."""
        with self._lock:
            if len(self._values) >= self._most:
                self._values.clear()
            self._values[key] = (self._clock.monotonic() + self._seconds, value)

    def forget(self, key: K) -> None:
        """Drop one value: it is known to be wrong now."""
        with self._lock:
            self._values.pop(key, None)

    def _fresh(self, key: K) -> tuple[float, V] | None:
        found = self._values.get(key)
        if found is not None and found[0] <= self._clock.monotonic():
            del self._values[key]  # what is over takes no room
            return None
        return found
