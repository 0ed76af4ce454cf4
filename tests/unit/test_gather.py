"""Calls that come together go together; one that comes alone waits for nobody."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from remediation.gather import Gather, GatherBy, Shared


class Slow:
    """A batch call that the test lets through, one batch at a time."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def run(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.begun.release()
        assert self.go.acquire(timeout=10)
        if 13 in items:
            raise ValueError("unlucky")
        return [i * 10 for i in items]


class Callers:
    """Threads that call and keep what they got."""

    def __init__(self, gather: Gather[int, int]) -> None:
        self.gather = gather
        self.got: dict[int, int | str] = {}
        self.threads: list[threading.Thread] = []

    def call(self, item: int) -> None:
        def work() -> None:
            try:
                self.got[item] = self.gather(item)
            except ValueError as error:
                self.got[item] = str(error)

        waiting = len(self.gather._waiting)
        thread = threading.Thread(target=work)
        thread.start()
        self.threads.append(thread)
        if len(self.threads) > 1:  # the first leads at once; wait until a later one stands in line
            for _ in range(10_000):
                if len(self.gather._waiting) > waiting:
                    break
                threading.Event().wait(0.001)

    def join(self) -> None:
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()


def crowd(most: int, *later: int) -> tuple[Slow, Callers]:
    """One caller under way, others in line behind it; then all is let through."""
    slow = Slow()
    callers = Callers(Gather(slow.run, most))
    callers.call(1)
    assert slow.begun.acquire(timeout=10)
    for item in later:
        callers.call(item)
    for _ in range(1 + len(later)):
        slow.go.release()
    callers.join()
    return slow, callers


def test_who_comes_while_a_call_is_under_way_goes_with_the_next():
    slow, callers = crowd(100, 2, 3, 4)
    assert slow.batches == [[1], [2, 3, 4]]
    assert callers.got == {1: 10, 2: 20, 3: 30, 4: 40}
    assert callers.gather(5) == 50, "and the next comes alone again"


def test_a_batch_has_its_limit_and_the_rest_follows():
    slow, _ = crowd(2, 2, 3, 4)
    assert slow.batches == [[1], [2, 3], [4]]


def test_an_error_is_every_callers_of_its_batch_and_of_no_other():
    _, callers = crowd(2, 12, 13, 14)
    assert callers.got == {1: 10, 12: "unlucky", 13: "unlucky", 14: 140}


def test_keys_do_not_wait_for_each_other_and_leave_nothing_behind():
    by_key: GatherBy[str, int, str] = GatherBy(lambda key, items: [f"{key}{i}" for i in items], 10)
    assert by_key("a", 1) == "a1"
    assert by_key("b", 2) == "b2"
    assert by_key._by_key == {}


def test_many_threads_each_get_their_own_result():
    gather: Gather[int, int] = Gather(lambda items: [i * i for i in items], 7)
    by_key: GatherBy[int, int, int] = GatherBy(lambda key, items: [key + i for i in items], 7)
    wrong: list[int] = []

    def work(start: int) -> None:
        for i in range(start, start + 200):
            if gather(i) != i * i or by_key(i % 3, i) != i % 3 + i:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(n * 1000,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert by_key._by_key == {}


def test_a_shared_read_is_begun_after_everyone_who_gets_it_asked():
    values = iter(range(100))
    shared = Shared(lambda: next(values))
    assert [shared(), shared()] == [0, 1]


def test_a_run_that_forgets_an_item_is_an_error_not_a_hang():
    gather: Gather[int, int] = Gather(lambda items: list(items[:0]), 10)
    with pytest.raises(ValueError, match="zip"):
        gather(1)


def test_batches_that_are_to_be_apart_gather_who_comes_meanwhile_and_a_lone_call_waits_for_nobody(
    monkeypatch: pytest.MonkeyPatch
):
    sizes: list[int] = []
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        threading.Event().wait(seconds)

    def run(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return list(items)

    monkeypatch.setattr("remediation.gather.time.sleep", sleep)
    gather: Gather[int, int] = Gather(run, 100, apart=0.5)
    assert gather(0) == 0
    assert slept == [0]
    callers = [threading.Thread(target=gather, args=(n,)) for n in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sizes == [1, 20]
    assert 0 < slept[1] < 0.5
