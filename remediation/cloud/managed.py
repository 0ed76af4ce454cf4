"""What Virtual Network Manager lays over our networks, read where it may be, and kept for some minutes."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from remediation.clock import Clock, Deadline
from remediation.cloud.cache import Kept
from remediation.cloud.network import Network
from remediation.errors import PermanentError, RemediationError
from remediation.log import say
from remediation.managed import Managed, network_of, rules_from_arm
from remediation.model import Target
from remediation.nsg import Rule

_log = logging.getLogger(__name__)

KEEP_SECONDS = 600.0
"""A configuration is deployed by people, region by region, in minutes: ours may be as old."""
READ_SECONDS = 5.0
READS_AT_ONCE = 4


class ManagedRules:
    """The security admin rules over networks. One instance serves all threads."""

    def __init__(self, network: Network, clock: Clock) -> None:
        self._network = network
        self._kept: Kept[str, tuple[Rule, ...]] = Kept(clock, KEEP_SECONDS)
        self._pool = ThreadPoolExecutor(READS_AT_ONCE, "managed")

    def over(self, targets: Iterable[Target], deadline: Deadline) -> Managed:
        """By network the rules in effect on it; those that cannot be read are left out. Raises nothing: a
        block does not wait for them."""
        networks = sorted({network_of(t.subnet_id) for t in targets} - {""})
        limit = deadline.within(READ_SECONDS)
        seen = self._pool.map(lambda n: self._of(n, limit), networks)
        return {n: rules for n, rules in zip(networks, seen, strict=True) if rules is not None}

    def _of(self, network_id: str, deadline: Deadline) -> tuple[Rule, ...] | None:
        try:
            return self._kept.get(network_id, lambda: self._read(network_id, deadline))
        except RemediationError as error:  # temporary: asked again with the next proof
            say(_log, "admin-rules-unknown", level=logging.WARNING, network=network_id, error=str(error))
            return None

    def _read(self, network_id: str, deadline: Deadline) -> tuple[Rule, ...]:
        try:
            return rules_from_arm(self._network.admin_rules(network_id, deadline))
        except PermanentError as error:  # no right to it, or no such network: said once in a while
            say(_log, "admin-rules-unreadable", level=logging.WARNING, network=network_id, error=str(error))
            return ()
