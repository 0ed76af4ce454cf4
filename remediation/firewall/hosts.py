"""Whose is an address behind a firewall? Pure."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from remediation.spans import Spans, point


class Hosts:
    """The machines of the networks that a firewall serves, by address; '' owns what belongs to no machine
    (a private endpoint, an appliance's frontend)."""

    def __init__(self, owners: Iterable[tuple[int, str]]) -> None:
        found = sorted(dict(owners).items())
        self._at = [number for number, _ in found]
        self._owner = [owner for _, owner in found]

    @staticmethod
    def owned(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, str]]:
        """Rows with `address` and `machine`; those without an address that can be read are passed over."""
        for row in rows:
            try:
                yield point(str(row.get("address"))), str(row.get("machine") or "").lower()
            except ValueError:
                continue

    def of(self, machine: str) -> list[int]:
        """The machine's addresses."""
        return [at for at, owner in zip(self._at, self._owner, strict=True) if owner == machine]

    def within(self, places: Spans) -> dict[str, list[int]]:
        """Owner → its addresses in these places. Two machines are enough to know that they are not one's:
        of more nothing is said."""
        found: dict[str, list[int]] = {}
        for first, last in places:
            for i in range(bisect.bisect_left(self._at, first), bisect.bisect_right(self._at, last)):
                found.setdefault(self._owner[i], []).append(self._at[i])
                if len(found) > 1 + ("" in found):
                    return found
        return found
