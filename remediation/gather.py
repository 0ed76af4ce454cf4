"""Calls made together: while one is under way, those that come meanwhile gather and go as the next.

A call that comes alone goes at once and waits for nobody. In a storm the batches grow by
themselves, to what gathers while one round trip lasts, or in the time that they are to be apart. No
thread of its own: the first of those who wait leads the next batch.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence


class _Ticket[T, R]:
    """One caller's item, and what becomes of it."""

    __slots__ = ("error", "item", "leads", "result", "turn")

    def __init__(self, item: T) -> None:
        self.item = item
        self.turn = threading.Event()
        self.leads = False
        self.result: R | None = None
        self.error: BaseException | None = None


class Gather[T, R]:
    """Runs `run` on the items of all callers at hand, at most `most` at a time, one batch after
    the other, `apart` seconds from the last one's beginning. `run` gives one result per item, in order; what
    it raises, all of the batch get."""

    def __init__(
        self, run: Callable[[Sequence[T]], Sequence[R]], most: int, apart: float = 0.0
    ) -> None:
        self._run = run
        self._most = most
        self._apart = apart
        self._next = 0.0
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket[T, R]] = deque()
        self._busy = False

    def __call__(self, item: T) -> R:
        """The item's result. Blocks until its batch is done."""
        ticket: _Ticket[T, R] = _Ticket(item)
        with self._lock:
            self._waiting.append(ticket)
            ticket.leads = not self._busy
            self._busy = True
        if not ticket.leads:
            ticket.turn.wait()
        if ticket.leads:
            self._lead()
        if ticket.error is not None:
            raise ticket.error
        return ticket.result  # type: ignore[return-value]  # set by whoever led the batch

    def _lead(self) -> None:
        batch: list[_Ticket[T, R]] = []
        try:
            time.sleep(max(0.0, self._next - time.monotonic()))
            self._next = time.monotonic() + self._apart
            with self._lock:
                batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            results = self._run([t.item for t in batch])
            for ticket, result in zip(batch, results, strict=True):
                ticket.result = result
        except BaseException as error:  # noqa: BLE001 - it is every caller's error, and raised there
            for ticket in batch:
                ticket.error = error
        finally:
            self._hand_over()
            for ticket in batch:
                ticket.turn.set()

    def _hand_over(self) -> None:
        """The first of those who wait leads next; nobody waits: the next caller leads itself."""
        with self._lock:
            if not self._waiting:
                self._busy = False
                return
            follower = self._waiting[0]
            follower.leads = True
        follower.turn.set()


class GatherBy[K: Hashable, T, R]:
    """One `Gather` per key: batches of different keys do not wait for each other."""

    def __init__(self, run: Callable[[K, Sequence[T]], Sequence[R]], most: int) -> None:
        self._run = run
        self._most = most
        self._lock = threading.Lock()
        self._by_key: dict[K, tuple[Gather[T, R], int]] = {}

    def __call__(self, key: K, item: T) -> R:
        """The item's result, from a batch of this key."""
        with self._lock:
            gather, users = self._by_key.get(key) or (
                Gather[T, R](lambda items: self._run(key, items), self._most), 0)
            self._by_key[key] = (gather, users + 1)
        try:
            return gather(item)
        finally:
            with self._lock:
                _, users = self._by_key[key]
                if users == 1:
                    del self._by_key[key]  # nobody is in it: a later caller makes a new one
                else:
                    self._by_key[key] = (gather, users - 1)


class Shared[R]:
    """A read shared by those who ask while one is under way: they wait for the next one, so that
    what each gets was read after it asked."""

    def __init__(self, read: Callable[[], R], most: int = 1000) -> None:
        self._gather: Gather[None, R] = Gather(lambda items: [read()] * len(items), most)

    def __call__(self) -> R:
        """The value, as fresh as if read alone."""
        return self._gather(None)
