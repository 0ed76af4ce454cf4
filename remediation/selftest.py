"""The self-test: a sample alert is sent the whole way, from the Logic App's trigger on, and each hop is
looked at. It catches what deploys but never fires.

Nothing is changed by it: the alert is looked at as in a dry run. It is known by its id, which nobody can
guess and a row of the ledger holds; without that row the alert is a sample like any other.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from remediation.alerts import normalise
from remediation.clock import Clock, Deadline
from remediation.cloud.intake import Intake
from remediation.cloud.network import Network
from remediation.errors import MalformedAlert, NotFound, PermanentError, RemediationError
from remediation.ledger import Ledger
from remediation.ledger.store import LedgerDown
from remediation.log import say
from remediation.model import Alert
from remediation.notify import Notifier
from remediation.rehearsal.forwarding import Forwarding
from remediation.rehearsal.hops import (
    AUTOMATION,
    DECIDED,
    EVENT,
    LATEST_TICK,
    RUN,
    SWEEP,
    TICK,
    TRIGGER,
    Hop,
    Outcome,
    Report,
    concluded,
    with_hop,
)
from remediation.rehearsal.sample import sample
from remediation.settings import Settings
from remediation.survey import Decision, Survey

_log = logging.getLogger(__name__)

PREFIX = "selftest-"
LOOK_AGAIN = timedelta(minutes=1)
FIRST_LOOK = timedelta(seconds=20)
TOLD_AGAIN = timedelta(days=1)
DAILY, FORWARDING = "selftest", "forwarding"
"""Jobs of the sweep, by name."""


class SelfTest:
    """Begins self-tests, takes their alerts, and looks how far they are."""

    def __init__(
        self, *, ledger: Ledger, intake: Intake, survey: Survey, network: Network, notifier: Notifier,
        settings: Settings, clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._intake = intake
        self._survey = survey
        self._network = network
        self._notifier = notifier
        self._settings = settings
        self._clock = clock
        self._ticked = False

    @property
    def possible(self) -> bool:
        """Is the Logic App known?"""
        return bool(self._intake.workflow)

    @property
    def ready(self) -> bool:
        """Has the second step of a deployment been done? Ticks come by the same topic as alerts: before the
        first nobody is subscribed, and a test by itself would only frighten people."""
        self._ticked = self._ticked or self._ledger.control.last_job(TICK) is not None
        return self._ticked

    # --- begun ---

    def begin(self, by: str, deadline: Deadline, machine: str = "") -> Report:
        """Send a sample alert about this machine, or about any → the report so far. Raises NotFound where
        the Logic App is not known."""
        if not self.possible:
            raise NotFound("no Logic App to send an alert to: SELFTEST_WORKFLOW is not set")
        now = self._clock.now()
        test_id = f"{PREFIX}{now:%Y%m%d%H%M%S}-{secrets.token_hex(16)}"
        machine = machine or self._any_machine(deadline)
        self._ledger.work.selftest(test_id, now + FIRST_LOOK)
        self._ledger.selftests.begin(Report(test_id, now, by, machine))
        self._try(test_id, AUTOMATION, lambda: self._forwarded(deadline))
        self._try(test_id, TRIGGER, lambda: self._sent(test_id, machine, now, deadline))
        return self._conclude(test_id)

    def _any_machine(self, deadline: Deadline) -> str:
        try:
            return self._intake.machine(deadline)
        except RemediationError as error:
            say(_log, "selftest-no-machine", level=logging.WARNING, error=str(error))
            return ""

    def _try(self, test_id: str, name: str, look: Callable[[], tuple[bool, str]]) -> None:
        """Note what a hop came to; an error is what it came to."""
        try:
            ok, detail = look()
        except LedgerDown:
            raise
        except RemediationError as error:
            ok, detail = False, str(error)
        self._note(test_id, name, ok=ok, detail=detail)

    def _note(self, test_id: str, name: str, *, ok: bool, detail: str = "") -> None:
        hop = Hop(ok, self._clock.now(), detail[:500])
        self._ledger.selftests.change(test_id, lambda r: with_hop(r, name, hop))

    def _forwarded(self, deadline: Deadline) -> tuple[bool, str]:
        found = self.forwarding(deadline)
        return found.whole, found.text()

    def _sent(self, test_id: str, machine: str, now: datetime, deadline: Deadline) -> tuple[bool, str]:
        home = self._intake.home
        subscription = machine.split("/")[2] if machine else home
        alert = sample(test_id, machine or f"/subscriptions/{home}", subscription, now)
        run = self._intake.send(alert, deadline)
        self._ledger.selftests.change(test_id, lambda r: replace(r, run=run))
        return True, "" if run else "it does not say which run it began"

    # --- the alert comes back ---

    def arrived(self, data: Any, event_id: str, deadline: Deadline) -> bool:
        """Is this the alert of a self-test? Then it is looked at, and nothing else is done with it. A body
        that is not what was sent is an alert like any other, so that nothing is lost by it."""
        report = self._ledger.selftests.get(event_id) if event_id.startswith(PREFIX) else None
        if report is None:
            return False
        try:
            alert = normalise(data)
        except MalformedAlert as error:
            self._note(event_id, DECIDED, ok=False, detail=f"it cannot be read: {error}")
            return False
        if alert.alert_id != event_id or not alert.is_sample:
            self._note(event_id, DECIDED, ok=False, detail="the event has another alert's body")
            return False
        if report.outcome is not Outcome.RUNNING:
            say(_log, "selftest-late", id=event_id)
            return True
        self._note(event_id, EVENT, ok=True)
        if DECIDED not in report.hops:
            self._try(event_id, DECIDED, lambda: self._decided(alert, report, deadline))
        self._conclude(event_id)
        return True

    def _decided(self, alert: Alert, report: Report, deadline: Deadline) -> tuple[bool, str]:
        if not report.machine:
            return False, "no machine can be read: there is none, or the role is not assigned"
        decision = self._survey.look(alert, deadline, override="", reserve=False)
        return _judged(decision)

    # --- looked at ---

    def follow(self, test_id: str, deadline: Deadline) -> None:
        """As a hint says: look, and come again until there is an outcome."""
        if self.look(test_id, deadline).outcome is Outcome.RUNNING:
            self._ledger.work.selftest(test_id, self._clock.now() + LOOK_AGAIN)

    def look(self, test_id: str, deadline: Deadline) -> Report:
        """How far it is; what can be found out now is. Raises NotFound."""
        report = self._ledger.selftests.get(test_id)
        if report is None:
            raise NotFound(f"no self-test {test_id}")
        if report.outcome is Outcome.RUNNING:
            if report.run and RUN not in report.hops:
                self._look_at_run(report, deadline)
            elif RUN not in report.hops and DECIDED in report.hops:
                self._note(test_id, RUN, ok=True, detail="the event came")
            self._look_at_driver(report, SWEEP, self._settings.sweep_seconds * 3)
            self._look_at_driver(report, TICK, LATEST_TICK.total_seconds())
        return self._conclude(test_id)

    def latest(self, deadline: Deadline) -> Report:
        """The last one, looked at. Raises NotFound."""
        last = self._ledger.selftests.latest(self._clock.now())
        if last is None:
            raise NotFound("no self-test has been begun lately")
        return self.look(last.id, deadline)

    def _look_at_run(self, report: Report, deadline: Deadline) -> None:
        try:
            said = self._intake.run(report.run, deadline)
        except PermanentError as error:
            said = (False, str(error))
        if said is not None:
            self._note(report.id, RUN, ok=said[0], detail=said[1])

    def _look_at_driver(self, report: Report, name: str, seconds: float) -> None:
        last = self._ledger.control.last_job(name)
        if last is not None and (self._clock.now() - last).total_seconds() <= seconds:
            self._note(report.id, name, ok=True)

    def _conclude(self, test_id: str) -> Report:
        changed = self._ledger.selftests.change(test_id, lambda r: concluded(r, self._clock.now()))
        if changed is None:
            raise NotFound(f"no self-test {test_id}")
        before, report = changed
        if before.outcome is Outcome.RUNNING and report.outcome is not Outcome.RUNNING:
            passed = report.outcome is Outcome.PASSED
            say(_log, "selftest", level=logging.INFO if passed else logging.WARNING, id=report.id,
                outcome=report.outcome.value, failed=report.failed,
                seconds={h["hop"]: h["seconds"] for h in report.to_json()["hops"]})
            if not passed:
                self._notifier.tell("selftest", f"the self-test failed; {report.why()}", selftest=report.id)
        return report

    # --- the automations alone ---

    def forwarding(self, deadline: Deadline) -> Forwarding:
        """Which subscriptions send their alerts on."""
        subscriptions = self._settings.subscriptions or self._network.subscriptions(deadline)
        return self._intake.forwarding([s.lower() for s in subscriptions], deadline)

    def check_forwarding(self, deadline: Deadline) -> None:
        """Say how it stands, and tell people once a day while alerts are not sent on."""
        found = self.forwarding(deadline)
        say(_log, "forwarding", level=logging.INFO if found.whole else logging.WARNING, on=len(found.on),
            off=[s for s, _ in found.off], without=list(found.without[:50]))
        if not found.whole and self._ledger.control.begin_job(
                "forwarding-told", self._clock.now(), TOLD_AGAIN):
            self._notifier.tell(
                "forwarding", f"Defender does not send all alerts on: {found.text()}; they are found late, "
                "by the reconciliation alone")


def _judged(decision: Decision) -> tuple[bool, str]:
    plan = decision.plan
    said = [f"{len(plan.machines)} machines, {len(plan.blocks)} blocks ({plan.mode.value})"]
    said += [s.reason for s in plan.skipped]
    if decision.held.trouble:
        return False, decision.held.trouble
    return bool(plan.machines), "; ".join(said)
