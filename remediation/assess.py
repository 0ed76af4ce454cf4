"""Which machines behind an alert are the likely ones: evidence gathered and weighed, after the block.

Containment does not wait for it. What is found is recorded with the alert, beside the plan. In quiet times
it follows at once; in a storm, or after an error, the sweep sees to it when it comes by the alert's hint.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from remediation.alerts import normalise
from remediation.clock import Clock, Deadline
from remediation.cloud.activity import ActivityLog
from remediation.cloud.cache import Kept
from remediation.cloud.defender import Defender
from remediation.errors import Conflict, MalformedAlert, PermanentError
from remediation.gather import Gather
from remediation.ledger import AlertRecord, Ledger
from remediation.likelihood import (
    Evidence,
    OtherAlert,
    PowerChange,
    groups_of,
    suspects_of,
    to_json,
    weigh,
    when,
)
from remediation.log import say
from remediation.model import Alert

_log = logging.getLogger(__name__)

WINDOW = timedelta(hours=24)
"""Other alerts from so long before the activity on count."""
LOG_REACHES = timedelta(days=89)
MOST_GROUPS = 10
KEEP_SECONDS = 60.0
ASKED_TOGETHER = 100

type _Asked = tuple[tuple[str, ...], datetime, Deadline]


class Assessor:
    """One instance serves all threads; what is read is shared between alerts for a minute."""

    def __init__(self, ledger: Ledger, defender: Defender, activity: ActivityLog, clock: Clock) -> None:
        self._ledger = ledger
        self._defender = defender
        self._activity = activity
        self._clock = clock
        self._changes: Kept[tuple[str, str, datetime], tuple[PowerChange, ...]] = Kept(clock, KEEP_SECONDS)
        self._others: Kept[tuple[tuple[str, ...], datetime], tuple[OtherAlert, ...]] = Kept(
            clock, KEEP_SECONDS)
        self._asked: Gather[_Asked, tuple[OtherAlert, ...]] = Gather(self._ask_together, ASKED_TOGETHER)

    def assess(self, record: AlertRecord, deadline: Deadline) -> AlertRecord:
        """Weigh the machines of the recorded plan, once → the record now. Temporary errors are raised: a
        later try may find more."""
        plan = self._ledger.alerts.plan(record)
        suspects = suspects_of(plan or {})
        if not suspects or self._ledger.alerts.assessment(record) is not None:
            return record
        try:
            alert = normalise(self._ledger.alerts.raw(record))
        except MalformedAlert as error:  # it was readable when it came; what is known stays as it is
            say(_log, "not-assessed", alerts=[record.alert_id], level=logging.WARNING, error=str(error))
            return record
        evidence = self._evidence(alert, [s.id for s in suspects], deadline)
        try:
            return self._ledger.alerts.assessed(record, to_json(weigh(alert, suspects, evidence), evidence))
        except Conflict:
            say(_log, "assessed-by-another", alerts=[record.alert_id])
        return record

    def _evidence(self, alert: Alert, machines: Sequence[str], deadline: Deadline) -> Evidence:
        now = self._clock.now()
        span = when(alert)
        unknown: list[str] = []
        start = span[0] if span else now
        changes: list[PowerChange] | None = None
        if now - start > LOG_REACHES:
            unknown.append("the activity log does not reach back so far")
        elif span:
            changes = self._power(machines, start, deadline, unknown)
        others: tuple[OtherAlert, ...] = ()
        try:
            since = _floor(min(start, now) - WINDOW)
            key = (tuple(sorted(machines)), since)
            others = self._others.get(key, lambda: self._asked((*key, deadline)))
        except PermanentError as error:
            unknown.append(f"other alerts could not be looked for: {error}")
        mine = {alert.alert_id.casefold(), alert.ref.name.casefold() if alert.ref else ""}
        return Evidence(now, None if changes is None else tuple(changes),
                        tuple(o for o in others if o.alert_id.casefold() not in mine), tuple(unknown))

    def _ask_together(self, asked: Sequence[_Asked]) -> list[tuple[OtherAlert, ...]]:
        """After a storm many are asked about at once: one query for all at hand, of each hour."""
        found: dict[datetime, list[OtherAlert]] = {}
        longest = max((deadline for _, _, deadline in asked), key=lambda d: d.left())
        for since in {since for _, since, _ in asked}:
            ids = sorted({one for machines, at, _ in asked if at == since for one in machines})
            found[since] = self._defender.on(ids, since, longest)
        return [tuple(o for o in found[since] if o.resource_id in machines) for machines, since, _ in asked]

    def _power(
        self, machines: Sequence[str], start: datetime, deadline: Deadline, unknown: list[str]
    ) -> list[PowerChange] | None:
        """What started or stopped them since; None if that cannot be known."""
        groups = groups_of(machines)
        if len(groups) > MOST_GROUPS:
            unknown.append(f"the activity logs of {len(groups)} resource groups were not read")
            return None
        since = _floor(start)
        found: list[PowerChange] = []
        for subscription, group in groups:
            try:
                found += self._changes.get((subscription, group, since), lambda: tuple(
                    self._activity.power_changes(subscription, group, since, deadline)))  # noqa: B023 - called here
            except PermanentError as error:
                unknown.append(f"the activity log of {group} cannot be read: {error}")
                return None
        return found


def _floor(moment: datetime) -> datetime:
    """The hour it is in: alerts of one hour share what is read."""
    return moment.replace(minute=0, second=0, microsecond=0)
