"""The estate's own addresses and Microsoft's service tags, read from Azure into one snapshot.

A guardrail needs them at every decision, so the snapshot is kept in the ledger and refreshed by
the sweep; the pure side (`guardrails.Estate`) says when it is too old to be relied upon.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from remediation.alerts.fields import address
from remediation.clock import Deadline
from remediation.cloud.graph import Graph
from remediation.cloud.network import Network
from remediation.errors import RemediationError
from remediation.guardrails import Estate
from remediation.model import from_utc, utc
from remediation.prefixes import Network as Prefix
from remediation.prefixes import PrefixSet, network

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The estate as plain data, as it is stored."""

    taken: datetime
    public: tuple[str, ...]
    ranges: tuple[str, ...]
    services: Mapping[str, tuple[str, ...]] | None

    def to_json(self) -> dict[str, Any]:
        """For the ledger."""
        return {
            "taken": utc(self.taken), "public": list(self.public), "ranges": list(self.ranges),
            "services": None
            if self.services is None
            else {k: list(v) for k, v in self.services.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Snapshot:
        """From the ledger."""
        return cls(
            from_utc(data["taken"]), tuple(data["public"]), tuple(data["ranges"]),
            None
            if data["services"] is None
            else {k: tuple(v) for k, v in data["services"].items()},
        )

    def estate(self) -> Estate:
        """Ready to be asked.

        An estate with machines has a virtual network: a snapshot without any was taken by an
        identity that may not read, and counts as none.
        """
        services = self.services
        return Estate(
            self.taken if self.ranges else None,
            frozenset(self.public),
            PrefixSet(_prefixes(self.ranges)),
            {tag: PrefixSet(_prefixes(p)) for tag, p in (services or {}).items()},
            services_known=services is not None,
        )


def _prefixes(texts: Iterable[str]) -> list[Prefix]:
    return [n for n in map(network, texts) if n is not None]


class EstateReader:
    """Takes snapshots."""

    def __init__(self, graph: Graph, net: Network, tags: tuple[str, ...]) -> None:
        self._graph = graph
        self._network = net
        self._tags = tags

    def take(
        self, now: datetime, subscription: str, location: str, deadline: Deadline
    ) -> Snapshot:
        """Read all public addresses and ranges the identity can see.

        Service tags are asked of `subscription`, or of any that the identity sees if that is ''.
        Where they cannot be read the snapshot says so, and every address asks first.
        """
        rows = self._graph.rows("estate_addresses", deadline)
        public = [a for a in (address(str(r.get("address", ""))) for r in rows) if a]
        ranges = [
            str(r["prefix"])
            for name in ("estate_networks", "estate_prefixes")
            for r in self._graph.rows(name, deadline)
            if r.get("prefix")
        ]
        return Snapshot(now, tuple(sorted(set(public))), tuple(sorted(set(ranges))),
                        self._services(subscription, location, deadline))

    def _services(
        self, subscription: str, location: str, deadline: Deadline
    ) -> dict[str, tuple[str, ...]] | None:
        if not self._tags:
            return {}
        try:
            asked = subscription or next(iter(self._network.subscriptions(deadline)), "")
            if not asked:
                return None
            tags = self._network.service_tags(asked, location, deadline)
        except RemediationError as error:
            _log.warning("service tags cannot be read, so every address asks first: %s", error)
            return None
        wanted = {t.casefold(): t for t in self._tags}
        unknown = sorted(set(wanted) - {name.casefold() for name in tags})
        if unknown:
            _log.error("ask_first_service_tags: Azure knows no tag %s, so every address asks first",
                       ", ".join(unknown))
            return None
        return {
            wanted[name.casefold()]: tuple(prefixes)
            for name, prefixes in tags.items()
            if name.casefold() in wanted
        }
