"""Address prefixes, many and asked often. Pure.

A rule of ours may hold 4,000 addresses, and every one of them is proven by asking it: what is asked
again and again is parsed once.
"""

from __future__ import annotations

import bisect
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address
type Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(maxsize=16_384)
def network(prefix: str) -> Network | None:
    """An address or CIDR → network; None for tags."""
    try:
        return ipaddress.ip_network(prefix, strict=False)
    except ValueError:
        return None


@lru_cache(maxsize=16_384)
def _address(text: str) -> Address:
    return ipaddress.ip_address(text)


class PrefixSet:
    """Many prefixes: does one of them hold this address? Log time, no widening."""

    def __init__(self, prefixes: Iterable[Network] = ()) -> None:
        spans: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for one in prefixes:
            spans[one.version].append((int(one.network_address), int(one.broadcast_address)))
        self._starts: dict[int, list[int]] = {}
        self._ends: dict[int, list[int]] = {}
        for version, found in spans.items():
            merged: list[list[int]] = []
            for start, end in sorted(found):
                if merged and start <= merged[-1][1] + 1:
                    merged[-1][1] = max(merged[-1][1], end)
                else:
                    merged.append([start, end])
            self._starts[version] = [m[0] for m in merged]
            self._ends[version] = [m[1] for m in merged]

    def __contains__(self, address: str) -> bool:
        one = _address(address)
        return self._meets(one.version, int(one), int(one))

    def overlaps(self, prefix: Network) -> bool:
        """Is any address of the prefix in it?"""
        return self._meets(prefix.version, int(prefix.network_address), int(prefix.broadcast_address))

    def _meets(self, version: int, first: int, last: int) -> bool:
        at = bisect.bisect_right(self._starts[version], last) - 1
        return at >= 0 and first <= self._ends[version][at]


@dataclass(frozen=True, slots=True)
class Reach:
    """What one side of a rule names: prefixes, and tags that are none (`*` among them)."""

    networks: tuple[Network, ...]
    tags: frozenset[str]
    held: PrefixSet


def reach(texts: Sequence[str]) -> Reach:
    """Costs what there are texts; asking it then costs next to nothing."""
    networks = [n for n in map(network, texts) if n is not None]
    tags = frozenset(t for t in texts if network(t) is None)
    return Reach(tuple(networks), tags, PrefixSet(networks))
