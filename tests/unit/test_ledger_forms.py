"""Keys, packed values, times and rows: what goes into Table Storage comes out the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.clock import Clock, Deadline, Pace, bucket
from remediation.cloud.cache import Kept
from remediation.cloud.network import _Typical
from remediation.ledger.alerts import LONGEST_ACTIONS, _action, _filled
from remediation.ledger.block import Block
from remediation.ledger.blocks import _block, _values
from remediation.ledger.forms import Row, decode, encode, pack, unpack
from remediation.model import BlockKey, BlockState, Direction, Target, Weak

TEXT = st.text(st.characters(codec="utf-8"), max_size=60)


@given(TEXT)
def test_any_text_makes_a_key_and_comes_back(text: str):
    key = encode(text)
    assert decode(key) == text
    assert not set(key) & set("/\\#?")
    assert all(ord(c) > 31 and ord(c) != 127 for c in key)


@given(TEXT, TEXT)
def test_different_texts_make_different_keys(one: str, other: str):
    assert (encode(one) == encode(other)) == (one == other)


@given(st.recursive(st.none() | st.integers(0, 9) | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=4), max_leaves=20))
def test_packed_data_comes_back(value: object):
    assert unpack(pack("x", value), "x") == value


def test_large_values_are_cut_into_chunks_below_the_property_limit():
    import random

    value = "".join(chr(random.Random(n).randrange(33, 127)) for n in range(200_000))
    packed = pack("raw", value)
    assert len(packed) > 1
    assert all(len(chunk) <= 64 * 1024 for chunk in packed.values())
    assert unpack(packed, "raw") == value
    assert unpack({}, "raw") is None


def test_what_fits_into_no_row_is_refused():
    import random

    rng = random.Random(1)
    with pytest.raises(ValueError, match="do not fit"):
        pack("raw", [rng.getrandbits(64) for _ in range(150_000)])


def test_times_that_fall_together_share_a_bucket():
    at = datetime(2026, 1, 1, 0, 0, 1, 500, tzinfo=UTC)
    assert bucket(at, 5) == datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)
    assert bucket(bucket(at, 5), 5) == datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)
    assert bucket(at, 5) >= at


class Hand(Clock):
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.at)


def test_a_deadline_is_over_when_its_time_is_spent():
    clock = Hand()
    deadline = Deadline.after(clock, 10)
    assert deadline.within(3).left() == 3
    assert deadline.within(30).left() == 10
    clock.at = 12
    assert deadline.over
    assert deadline.left() == 0


def test_a_kept_value_is_made_once_until_its_time_is_up():
    clock, made = Hand(), []
    kept: Kept[str, int] = Kept(clock, 10)

    def make() -> int:
        made.append(1)
        return len(made)

    assert kept.get("k", make) == kept.get("k", make) == 1
    clock.at = 11
    assert kept.get("k", make) == 2
    kept.forget("k")
    assert kept.get("k", make) == 3


def test_a_failure_is_not_kept():
    kept: Kept[str, int] = Kept(Hand(), 10)

    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        kept.get("k", fail)
    assert kept.get("k", lambda: 7) == 7


def test_only_so_many_values_are_kept():
    kept: Kept[int, int] = Kept(Hand(), 10, most=2)
    for n in range(5):
        assert kept.get(n, lambda n=n: n) == n  # type: ignore[misc]  # bound now


@pytest.mark.parametrize(("count", "length"), [(0, 1), (1, 1), (16, 1), (17, 1), (400, 1), (16, 4_000)])
def test_a_blocks_machines_come_back_however_many_and_long_they_are(count: int, length: int):
    targets = tuple(Target(f"/vm{n}{'x' * length}", f"/nic{n}", "/subnet", (f"10.0.{n >> 8}.{n & 255}",))
                    for n in range(count))
    block = Block(key=BlockKey("/nsg", Direction.INBOUND, "198.51.100.7"), state=BlockState.ACTIVE,
                  lifetime=timedelta(hours=24), decisive=True, targets=targets)
    values = _values(block)
    assert all(len(v) < 61_441 for v in values.values() if isinstance(v, str | bytes))
    assert _block(Row("/nsg", "inbound|198.51.100.7", values, "")).targets == targets
def test_a_pace_lets_a_burst_go_and_then_so_many_a_second():
    class Still(Clock):
        at = 0.0

        def monotonic(self) -> float:
            return self.at

    clock = Still()
    pace = Pace(clock, 2, 1)
    assert [pace.take() for _ in range(3)] == [True, True, False]
    clock.at = 1.5
    assert [pace.take() for _ in range(2)] == [True, False]


def test_who_waits_for_a_pace_comes_in_turn_and_at_the_deadline_whatever_the_pace():
    class Slept(Clock):
        at = 0.0

        def monotonic(self) -> float:
            return self.at

        def sleep(self, seconds: float) -> None:
            self.at += seconds

    clock = Slept()
    pace = Pace(clock, 1, 2)
    pace.wait(Deadline.after(clock, 10))
    pace.wait(Deadline.after(clock, 10))
    assert clock.at == 0.5
    pace.wait(Deadline.after(clock, 0.2))
    assert 0.69 < clock.at < 0.71


def test_the_actions_of_a_moment_share_a_row_until_it_is_full():
    small = [_action("proven", {"block": str(n)}) for n in range(3)]
    assert list(_filled(small)) == [small]
    big = [_action("proven", {"detail": "x" * 9_000}) for _ in range(5)]
    assert [len(group) for group in _filled(big)] == [3, 2]
    assert list(_filled([])) == []


def test_an_action_with_a_fact_too_long_for_a_row_keeps_its_beginning():
    text = _action("failed", {"address": "198.51.100.7", "error": "no " * 20_000})
    assert len(text) < LONGEST_ACTIONS
    assert json.loads(text)["address"] == "198.51.100.7"
    assert json.loads(text)["error"].startswith("no no no")


def test_a_write_is_first_asked_after_when_it_is_likely_to_be_over():
    clock = Clock()
    typical = _Typical()
    long = Deadline.after(clock, 60)
    assert typical.first(1, long) == 1, "nothing known: Azure's Retry-After"
    typical.learn(running=2.2, over=4.4)
    assert typical.first(1, long) == pytest.approx(3.3)
    typical.learn(running=0, over=3.3)
    assert 3 < typical.first(1, long) < 3.3, "it was over at the first look: the next comes earlier"
    assert typical.first(5, long) == 5, "never before Azure's Retry-After"
    assert typical.first(1, Deadline.after(clock, 4)) < 2.1, "never more than half of what is left"
    typical.learn(running=100, over=300)
    assert typical.first(1, long) == 10


def test_who_asked_too_early_asks_later_than_that_for_a_minute():
    clock, now = Clock(), [0.0]
    typical, long = _Typical(lambda: now[0]), Deadline.after(clock, 60)
    typical.learn(running=2.9, over=3.9)
    asked = []
    for _ in range(8):
        asked.append(typical.first(1, long))
        typical.learn(running=0, over=asked[-1])
    assert asked[0] == pytest.approx(3.4)
    assert asked[-3:] == [pytest.approx(2.9 * 1.05)] * 3, "just later than it was seen running"
    now[0] = 61
    typical.learn(running=0, over=asked[-1])
    assert typical.first(1, long) == pytest.approx(asked[-1] * 0.93), "writes may have become faster"


def test_a_block_remembers_for_whom_it_does_not_hold_and_each_reason_once():
    weak = tuple(Weak(f"/nic{n}", "shadowed", "allow", f"why {n % 2}") for n in range(60))
    proxied = Target("/vm", "/nic", "/subnet", ("10.0.0.4",), "", proxied=True)
    block = Block(key=BlockKey("/nsg", Direction.INBOUND, "198.51.100.7"), state=BlockState.SHADOWED,
                  lifetime=timedelta(hours=24), decisive=True, targets=(proxied,), weak=weak)
    held = _block(Row("/nsg", "inbound|198.51.100.7", _values(block), ""))
    assert held.weak == weak[:40]
    assert held.targets == (proxied,)
    assert json.loads(_values(block)["facts"])["weak"]["why"] == [
        ["shadowed", "allow", "why 0"], ["shadowed", "allow", "why 1"]]
