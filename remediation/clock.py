"""The clock, as an argument: nothing in the package asks the system for the time by itself."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


class Clock:
    """Real time. Tests pass their own."""

    def now(self) -> datetime:
        """UTC, aware."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(max(0.0, seconds))


@dataclass(frozen=True, slots=True)
class Deadline:
    """A time budget: when it is spent, work is left for the sweep."""

    clock: Clock
    at: float

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> Deadline:
        """A budget of so many seconds from now."""
        return cls(clock, clock.monotonic() + seconds)

    def left(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at - self.clock.monotonic())

    @property
    def over(self) -> bool:
        """Nothing left."""
        return self.left() <= 0

    def within(self, seconds: float) -> Deadline:
        """The earlier of this and so many seconds from now."""
        return Deadline(self.clock, min(self.at, self.clock.monotonic() + seconds))


def bucket(at: datetime, seconds: int) -> datetime:
    """The next multiple of `seconds` not before `at`: times that fall together share one row."""
    epoch = at.timestamp()
    up = -(-epoch // seconds) * seconds
    return datetime.fromtimestamp(up, UTC) if up > epoch else at.replace(microsecond=0) + timedelta()


class Pace:
    """A token bucket: `burst` at once, then `per_second`. Safe to share between threads."""

    def __init__(self, clock: Clock, burst: float, per_second: float) -> None:
        self._clock = clock
        self._burst = burst
        self._rate = per_second
        self._lock = threading.Lock()
        self._tokens = burst
        self._at = clock.monotonic()

    def take(self) -> bool:
        """True if one more may go now."""
        with self._lock:
            now = self._clock.monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def wait(self, deadline: Deadline) -> None:
        """Come back when one more may go; at the deadline whatever the pace."""
        while not self.take() and not deadline.over:
            self._clock.sleep(min(1 / self._rate, deadline.left()))
