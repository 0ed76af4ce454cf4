"""Ranges of numbers: exact, whatever is put together or taken away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.spans import END, EVERYWHERE, NOTHING, V6, Spans, place, point, shown, spans

PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted).map(tuple), max_size=6)


def members(of: Spans) -> set[int]:
    return {n for first, last in of for n in range(first, last + 1)}


@given(PAIRS, PAIRS)
def test_they_are_sets_of_numbers(one: list[tuple[int, int]], other: list[tuple[int, int]]):
    a, b = spans(one), spans(other)
    assert members(a | b) == members(a) | members(b)
    assert members(a & b) == members(a) & members(b)
    assert members(a - b) == members(a) - members(b)
    assert a.covers(b) == (members(a) >= members(b))
    assert a.size == len(members(a))
    assert all((n in a) == (n in members(a)) for n in range(45))
    assert bool(a) == bool(members(a))
    assert a - NOTHING == a
    assert a | NOTHING == a


@pytest.mark.parametrize(("text", "ranges"), [
    ("10.0.0.4", ((0x0A000004, 0x0A000004),)),
    ("10.0.0.0/30", ((0x0A000000, 0x0A000003),)),
    ("10.0.0.1/30", ((0x0A000000, 0x0A000003),)),
    ("10.0.0.1-10.0.0.9", ((0x0A000001, 0x0A000009),)),
    (" ::1 ", ((V6 + 1, V6 + 1),)),
    ("*", ((0, END),)),
])
def test_a_place_is_read(text: str, ranges: tuple[tuple[int, int], ...]):
    found = place(text)
    assert found is not None
    assert found.ranges == ranges


@pytest.mark.parametrize("text", ["Internet", "10.0.0.9-10.0.0.1", "10.0.0.1-::1", "10.0.0", "a-b", ""])
def test_what_is_no_place_is_none(text: str):
    assert place(text) is None


def test_places_are_shown_as_people_write_them():
    assert shown(EVERYWHERE) == ["*"]
    assert shown(spans([(point("10.0.0.4"),) * 2, (point("::1"), point("::5"))])) == ["10.0.0.4", "::1-::5"]
    assert shown(spans((2 * n, 2 * n) for n in range(1, 6)), 2) == ["0.0.0.2", "0.0.0.4", "and 3 more"]


def test_everything_but_everything_is_nothing():
    assert EVERYWHERE - EVERYWHERE == NOTHING
    assert EVERYWHERE - Spans(((0, 5),)) == Spans(((6, END),))
