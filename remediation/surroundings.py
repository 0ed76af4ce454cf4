"""What the guardrails look at: people's wishes, read at every decision, and the estate's snapshot."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from remediation.clock import Clock, Deadline
from remediation.cloud.cache import Kept
from remediation.cloud.estate import EstateReader, Snapshot
from remediation.errors import RemediationError
from remediation.guardrails import Estate, Surroundings
from remediation.ledger import Ledger, Pause
from remediation.ledger.control import Wishes
from remediation.ledger.store import LedgerDown
from remediation.policy import Policy

_log = logging.getLogger(__name__)

KEEP_SECONDS = 30.0
LATELY_SECONDS = 0.5
"""In a storm wishes as old as this do for a plan: the commit reads them anew, under the lease."""
UNKNOWN_SECONDS = 3.0
"""An estate that is not known makes every address ask: it is looked for again soon."""
SERVICE_TAGS_LOCATION = "westeurope"
"""A reference only: the API answers with all regions wherever it is asked."""


class SurroundingsReader:
    """Reads holds and protected addresses fresh; keeps the estate's snapshot for half a minute. `reads_only`:
    it never takes a snapshot of its own, for its identity sees less of the estate than the app's."""

    def __init__(
        self, ledger: Ledger, estate: EstateReader, policy: Policy, clock: Clock, home: str,
        reads_only: bool = False,
    ) -> None:
        self._ledger = ledger
        self._reader = estate
        self._policy = policy
        self._clock = clock
        self._home = home
        self._reads_only = reads_only
        self._kept: Kept[str, Estate] = Kept(clock, KEEP_SECONDS)
        self._last: Kept[str, Estate] = Kept(clock, UNKNOWN_SECONDS)
        self._wishes: Kept[str, tuple[datetime, Wishes]] = Kept(clock, LATELY_SECONDS)
        self._paused: Kept[str, tuple[Pause | None]] = Kept(clock, LATELY_SECONDS)

    def paused(self, *, storm: bool) -> Pause | None:
        """The pause in force, if any; in a `storm` as it was a moment ago."""
        if not storm:
            return self._ledger.control.paused()
        return self._paused.get("", lambda: (self._ledger.control.paused(),))[0]

    def now(self, deadline: Deadline, subscription: str = "", *, storm: bool = False) -> Surroundings:
        """Everything the guardrails need. Without a usable snapshot the estate is unknown, and
        every address asks first."""
        read, (protected, holds) = self._wishes.get("", self._read) if storm else self._read()
        estate = self._last.get(
            "estate", lambda: self._kept.get("estate", lambda: self._estate(deadline, subscription)))
        if not estate.fresh(self._clock.now(), self._policy.guardrails.estate_max_age):
            self._kept.forget("estate")
        return Surroundings(estate, protected, holds, read)

    def _read(self) -> tuple[datetime, Wishes]:
        """What people wish, as of a moment before it was read: a later wish may not be among it."""
        at = self._clock.now()
        return at, self._ledger.control.wishes()

    def refresh(self, deadline: Deadline, subscription: str = "") -> None:
        """Take a new snapshot and keep it in the ledger."""
        snapshot = self._reader.take(
            self._clock.now(), subscription or self._home, SERVICE_TAGS_LOCATION, deadline
        )
        self._ledger.control.save_estate(snapshot.to_json())
        self._kept.forget("estate")
        self._last.forget("estate")

    def _estate(self, deadline: Deadline, subscription: str) -> Estate:
        estate = self._stored()
        half = self._policy.guardrails.estate_max_age / 2
        if not self._reads_only and not estate.fresh(self._clock.now(), max(half, timedelta(minutes=1))):
            try:
                self.refresh(deadline.within(deadline.left() / 2), subscription)
                estate = self._stored()
            except LedgerDown:
                raise
            except RemediationError as error:
                _log.warning("the estate's own addresses cannot be read now: %s", error)
        return estate

    def _stored(self) -> Estate:
        held = self._ledger.control.estate()
        return Snapshot.from_json(held).estate() if held else Estate()
