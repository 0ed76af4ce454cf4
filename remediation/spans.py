"""Sets of whole numbers as ranges: ports, and addresses of both families on one line. Pure.

IPv4 addresses are their own numbers, IPv6 ones follow behind them. Everything is exact: no range is
ever widened.
"""

from __future__ import annotations

import bisect
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

V6 = 1 << 32
"""Where IPv6 begins on the line."""
END = V6 + (1 << 128) - 1


@dataclass(frozen=True)
class Spans:
    """Ranges, first and last number each: sorted, apart from each other. Make them with `spans`."""

    ranges: tuple[tuple[int, int], ...] = ()

    @cached_property
    def _firsts(self) -> list[int]:
        return [first for first, _ in self.ranges]

    @cached_property
    def size(self) -> int:
        """How many numbers there are."""
        return sum(last - first + 1 for first, last in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.ranges)

    def __contains__(self, number: int) -> bool:
        at = bisect.bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self.ranges[at][1]

    def __or__(self, other: Spans) -> Spans:
        return spans((*self.ranges, *other.ranges)) if other else self

    def __and__(self, other: Spans) -> Spans:
        found, mine, theirs = [], 0, 0
        while mine < len(self.ranges) and theirs < len(other.ranges):
            (a, b), (c, d) = self.ranges[mine], other.ranges[theirs]
            if max(a, c) <= min(b, d):
                found.append((max(a, c), min(b, d)))
            if b < d:
                mine += 1
            else:
                theirs += 1
        return Spans(tuple(found))

    def __sub__(self, other: Spans) -> Spans:
        return self & _complement(other) if other else self

    def covers(self, other: Spans) -> bool:
        """Is every number of the other in it?"""
        return (self & other) == other


def spans(pairs: Iterable[tuple[int, int]]) -> Spans:
    """Ranges in any order, overlapping or not."""
    merged: list[list[int]] = []
    for first, last in sorted(pairs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    return Spans(tuple((first, last) for first, last in merged))


NOTHING, EVERYWHERE = Spans(), Spans(((0, END),))


def _complement(of: Spans) -> Spans:
    found, start = [], 0
    for first, last in of.ranges:
        if start < first:
            found.append((start, first - 1))
        start = last + 1
    if start <= END:
        found.append((start, END))
    return Spans(tuple(found))


def point(address: str) -> int:
    """An address on the line. Raises ValueError."""
    one = ipaddress.ip_address(address.strip())
    return int(one) + (V6 if one.version == 6 else 0)


def place(text: str) -> Spans | None:
    """`*`, an address, a prefix (host bits are ignored, as Azure does) or `first-last`; None if it is
    none of these."""
    text = text.strip()
    if text == "*":
        return EVERYWHERE
    try:
        if "-" in text:
            first, last = map(point, text.split("-", 1))
            return spans([(first, last)]) if first <= last and (first < V6) == (last < V6) else None
        net = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    base = V6 if net.version == 6 else 0
    return Spans(((base + int(net.network_address), base + int(net.broadcast_address)),))


def shown(of: Spans, most: int = 8) -> list[str]:
    """For people and for comparing: `10.0.0.4`, `10.0.0.0-10.0.0.255`, `*`."""
    if of == EVERYWHERE:
        return ["*"]
    texts = [_text(first) if first == last else f"{_text(first)}-{_text(last)}"
             for first, last in of.ranges[:most]]
    more = len(of.ranges) - most
    return [*texts, f"and {more} more"] if more > 0 else texts


def _text(number: int) -> str:
    if number < V6:
        return str(ipaddress.IPv4Address(number))
    return str(ipaddress.IPv6Address(number - V6))
