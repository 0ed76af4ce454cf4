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
from datetime import timedelta
from typing import Any

from remediation.alerts import normalise
from remediation.clock import Clock, Deadline
from remediation.cloud.intake import Intake
from remediation.errors import MalformedAlert, NotFound, PermanentError, RemediationError, TemporaryError
from remediation.ledger import Ledger
from remediation.ledger.store import LedgerDown
from remediation.log import say
from remediation.model import Alert, Mode
from remediation.notify import Notifier
from remediation.rehearsal.hops import (
    AUTOMATION,
    DECIDED,
    EVENT,
    LATEST_TICK,
    RUN,
    SWEEP,
    TICK,
    TRIGGER,
    WITHIN,
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
FIRST_LOOK, LOOK_AGAIN = timedelta(seconds=20), timedelta(minutes=1)
TOLD_AGAIN, BAD_LATELY = timedelta(days=1), timedelta(hours=3)
DAILY, FORWARDING, TIMER = "selftest", "forwarding", "timer"
"""Jobs, by name: the day's test, the look at the automations, and the sweep as the timer runs it."""
BEGIN_SECONDS = 12.0
"""With less left of a sweep none is begun: what came of it would be the hurry's."""


class SelfTest:
    """Begins self-tests, takes their alerts, and looks how far they are."""

    def __init__(
        self, *, ledger: Ledger, intake: Intake, survey: Survey, notifier: Notifier, settings: Settings,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._intake = intake
        self._survey = survey
        self._notifier = notifier
        self._settings = settings
        self._clock = clock
        self._ticked = False

    def wanted(self, deadline: Deadline) -> bool:
        """May the sweep test by itself? Not before the second step of a deployment is done: ticks come by the
        same topic as alerts, and before the first a test could only frighten people."""
        if not self._intake.workflow or deadline.left() < BEGIN_SECONDS:
            return False
        self._ticked = self._ticked or self._ledger.control.last_job(TICK) is not None
        return self._ticked

    # --- begun ---

    def daily(self, deadline: Deadline) -> None:
        """The test of the day; one that could not even be begun is begun by the next sweep."""
        try:
            self.begin("daily", deadline)
        except RemediationError:
            self._ledger.control.unfinished_job(DAILY)
            raise

    def begin(self, by: str, deadline: Deadline, machine: str = "") -> Report:
        """Send a sample alert about this machine, or about any → the report so far; of one that is under way
        already, its. Raises NotFound where the Logic App is not known."""
        if not self._intake.workflow:
            raise NotFound("no Logic App to send an alert to: SELFTEST_WORKFLOW is not set")
        now = self._clock.now()
        last = self._ledger.selftests.latest(now)
        if last is not None and last.outcome is Outcome.RUNNING and now - last.started < WITHIN:
            return last
        test_id = f"{PREFIX}{now:%Y%m%d%H%M%S}-{secrets.token_hex(16)}"
        try:
            machine = machine or self._intake.machine(deadline)
        except PermanentError as error:  # what comes of it is said when the alert comes
            say(_log, "selftest-no-machine", level=logging.WARNING, error=str(error))
        self._ledger.work.selftest(test_id, now + FIRST_LOOK)
        self._ledger.selftests.begin(Report(test_id, now, by, machine))
        self._try(test_id, AUTOMATION, lambda: self._forwarded(deadline))
        self._try(test_id, TRIGGER, lambda: self._sent(test_id, machine, deadline))
        return self._conclude(test_id)

    def _try(self, test_id: str, name: str, look: Callable[[], tuple[bool, str]]) -> None:
        """Note what a hop came to. What may pass is left open, and looked at again until the time is over."""
        try:
            ok, detail = look()
        except TemporaryError as error:
            if isinstance(error, LedgerDown):
                raise
            say(_log, "selftest-left", id=test_id, hop=name, error=str(error))
            return
        except RemediationError as error:
            ok, detail = False, str(error)
        self._note(test_id, name, ok=ok, detail=detail)

    def _note(self, test_id: str, name: str, *, ok: bool, detail: str = "") -> None:
        hop = Hop(ok, self._clock.now(), detail[:500])
        self._ledger.selftests.change(test_id, lambda r: with_hop(r, name, hop))

    def _forwarded(self, deadline: Deadline) -> tuple[bool, str]:
        found = self._intake.forwarding(deadline)
        return found.whole, found.text()

    def _sent(self, test_id: str, machine: str, deadline: Deadline) -> tuple[bool, str]:
        home = self._intake.home
        subscription = machine.split("/")[2] if machine else home
        alert = sample(test_id, machine or f"/subscriptions/{home}", subscription, self._clock.now())
        run = self._intake.send(alert, deadline)
        self._ledger.selftests.change(test_id, lambda r: replace(r, run=run))
        return True, "" if run else "it does not say which run it began"

    # --- the alert comes back ---

    def arrived(self, data: Any, event_id: str, deadline: Deadline) -> bool:
        """Is this the alert of a self-test? Then it is looked at, and nothing else is done with it. A body
        that is not what was sent is an alert like any other, so that nothing is lost by it. What may pass is
        raised: then the event comes again."""
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
            try:
                ok, detail = self._decided(alert, report, deadline)
            except PermanentError as error:
                ok, detail = False, str(error)
            self._note(event_id, DECIDED, ok=ok, detail=detail)
        self._conclude(event_id)
        return True

    def _decided(self, alert: Alert, report: Report, deadline: Deadline) -> tuple[bool, str]:
        if not (report.machine or self._intake.machine(deadline)):
            return True, "there is no machine to look for"
        decision = self._survey.look(alert, deadline, override="", reserve=False)
        paused = self._ledger.control.paused()
        ok, detail = _judged(decision)
        return ok, detail + (f"; acting is paused by {paused.by}" if paused else "")

    # --- looked at ---

    def follow(self, test_id: str, deadline: Deadline) -> None:
        """As a hint says: look, and come again until there is an outcome that people know of. What has no row
        was never begun."""
        if self._ledger.selftests.get(test_id) is None:
            return
        report = self.look(test_id, deadline, sends=True)
        if report.outcome is Outcome.RUNNING or not report.told:
            self._ledger.work.selftest(test_id, self._clock.now() + LOOK_AGAIN)

    def look(self, test_id: str, deadline: Deadline, *, sends: bool = False) -> Report:
        """How far it is; what can be found out now is. An alert that may not have been taken is sent once
        more only with `sends`: who just looks has no effect. Raises NotFound."""
        report = self._ledger.selftests.get(test_id)
        if report is None:
            raise NotFound(f"no self-test {test_id}")
        if report.outcome is Outcome.RUNNING:
            self._look_at_the_way(report, deadline, sends=sends)
            self._look_at_driver(report, SWEEP, TIMER, self._settings.sweep_seconds * 3)
            self._look_at_driver(report, TICK, TICK, LATEST_TICK.total_seconds())
        return self._conclude(test_id)

    def _look_at_the_way(self, report: Report, deadline: Deadline, *, sends: bool) -> None:
        """What was left open: by passing trouble, or since a run takes its time."""
        if AUTOMATION not in report.hops:
            self._try(report.id, AUTOMATION, lambda: self._forwarded(deadline))
        if TRIGGER not in report.hops:  # whether the Logic App has it is not known
            if EVENT in report.hops:
                self._note(report.id, TRIGGER, ok=True, detail="the event came")
            elif sends:
                self._try(report.id, TRIGGER, lambda: self._sent(report.id, report.machine, deadline))
        if RUN in report.hops:
            return
        if report.run:
            self._try_run(report, deadline)
        elif EVENT in report.hops:
            self._note(report.id, RUN, ok=True, detail="the event came")

    def _try_run(self, report: Report, deadline: Deadline) -> None:
        try:
            said = self._intake.run(report.run, deadline)
        except PermanentError as error:
            said = (False, str(error))
        except TemporaryError as error:
            say(_log, "selftest-left", id=report.id, hop=RUN, error=str(error))
            said = None
        if said is not None:
            self._note(report.id, RUN, ok=said[0], detail=said[1])

    def latest(self, deadline: Deadline) -> Report:
        """The last one, looked at. Raises NotFound."""
        last = self._ledger.selftests.latest(self._clock.now())
        if last is None:
            raise NotFound("no self-test has been begun lately")
        return self.look(last.id, deadline)

    def _look_at_driver(self, report: Report, name: str, job: str, seconds: float) -> None:
        last = self._ledger.control.last_job(job)
        if last is not None and (self._clock.now() - last).total_seconds() <= seconds:
            self._note(report.id, name, ok=True)

    def _conclude(self, test_id: str) -> Report:
        """The report with its outcome, if there is one; people are told of it once, after a crash twice."""
        changed = self._ledger.selftests.change(test_id, lambda r: concluded(r, self._clock.now()))
        if changed is None:
            raise NotFound(f"no self-test {test_id}")
        report = changed[1]
        if report.outcome is Outcome.RUNNING or report.told:
            return report
        passed = report.outcome is Outcome.PASSED
        say(_log, "selftest", level=logging.INFO if passed else logging.WARNING, id=report.id,
            outcome=report.outcome.value, failed=report.failed,
            seconds={h["hop"]: h["seconds"] for h in report.to_json()["hops"]})
        if not passed:
            self._notifier.tell("selftest", f"the self-test failed; {report.why()}", selftest=report.id)
        changed = self._ledger.selftests.change(test_id, lambda r: replace(r, told=True))
        return changed[1] if changed else report

    # --- the automations alone ---

    def check_forwarding(self, deadline: Deadline) -> None:
        """Say how it stands, and tell people once a day where alerts are not sent on at two looks."""
        found = self._intake.forwarding(deadline)
        now, control = self._clock.now(), self._ledger.control
        say(_log, "forwarding", level=logging.INFO if found.whole else logging.WARNING, on=len(found.on),
            off=len(found.off), without=len(found.without), filtered=len(found.filtered),
            which=[*found.off, *found.without][:50])
        if found.whole:
            return
        before = control.last_job("forwarding-bad")
        control.begin_job("forwarding-bad", now, timedelta(0))
        if before is not None and now - before < BAD_LATELY and control.begin_job(
                "forwarding-told", now, TOLD_AGAIN):
            self._notifier.tell("forwarding", f"Defender does not send all alerts on: {found.text()}; they "
                                "are found late, by the reconciliation alone")


def _judged(decision: Decision) -> tuple[bool, str]:
    """A machine that is guarded gets its blocks planned, unless the deployment or the policy only notifies;
    one that nothing guards is no fault of ours, but guards that cannot be read are."""
    plan = decision.plan
    guards = {g for m in plan.machines for n in m.nics for g in n.guards}
    said = [f"{len(plan.machines)} machines, {len(plan.blocks)} blocks ({plan.mode.value})"]
    said += [s.reason for s in plan.skipped]
    if decision.held.trouble:
        return False, decision.held.trouble
    planned = bool(plan.blocks) or plan.mode is Mode.NOTIFY or not guards
    return bool(plan.machines) and not guards - set(decision.nsgs) and planned, "; ".join(said)
