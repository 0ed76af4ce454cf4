"""Taking a rogue rule out, or putting it back: backed up first, one change at a time, proven by another look.

A firewall takes minutes to take a change over. Nobody waits for it: the incident is a pending row, and the
sweep comes by until Azure is done. Whatever breaks off in between, the next pass reads what is there and
goes on: a rule that is gone is not taken out again, and what was there before is in the ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from remediation.clock import Clock, Deadline
from remediation.cloud.firewalls import Enforced, Firewalls, settled
from remediation.errors import Conflict, Invalid, PermanentError, TemporaryError, Unfinished
from remediation.firewall.edit import same, with_deny, with_restored, without, without_collections
from remediation.firewall.incident import BY_POLICY, UNDER_WAY, Incident, Part, State
from remediation.firewall.reach import ways_out
from remediation.firewall.rules import FlowRule
from remediation.ledger import Ledger
from remediation.ledger.firewall import Backup
from remediation.ledger.store import LedgerDown
from remediation.log import say
from remediation.model import Mode
from remediation.notify import Notifier
from remediation.owned import Ownership
from remediation.policy import FirewallAction
from remediation.settings import Settings
from remediation.topology import name_of

_log = logging.getLogger(__name__)

TOO_LONG = timedelta(hours=1)
"""What the policy decided so long ago, and was held back since, is decided anew."""
AGAIN_SECONDS, LATER = 20.0, timedelta(minutes=5)
"""So soon the next pass comes by: while Azure is at work, and after it has long been."""
TRIES = 3
"""So often a write that Azure accepted, and a firewall then could not take over, is made."""
TELL_AFTER = 12
"""After so many passes without an end, people are told once; the passes go on."""

type Change = Callable[[Mapping[str, Any]], dict[str, Any]]


class Removal:
    """Carries out incidents that are under way."""

    def __init__(
        self, *, ledger: Ledger, firewalls: Firewalls, notifier: Notifier, ownership: Ownership,
        settings: Settings, clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._firewalls = firewalls
        self._notifier = notifier
        self._ownership = ownership
        self._settings = settings
        self._clock = clock

    def go_on(self, incident_id: str, deadline: Deadline) -> Incident | None:
        """Take the incident as far as it goes now; the hint for the next pass is left first. Raises nothing
        but what the ledger does: what cannot be done now is done later, or told."""
        incident = self._ledger.firewall.get(incident_id)
        if incident is None:
            return None
        if incident.state is State.ASKING:
            return self._expired(incident)
        if incident.state not in UNDER_WAY:
            return incident
        self._ledger.work.rogue(
            incident.id, self._clock.now() + (self._again if incident.attempts < TELL_AFTER else LATER))
        if self._held_back(incident):
            return incident
        lease = self._ledger.leases.take(f"{incident.firewall}/incidents/{incident.id}", self._clock)
        if lease is None:  # another pass is at it
            return incident
        try:
            return self._pass(incident_id, deadline)
        finally:
            self._ledger.leases.drop(lease)

    def _pass(self, incident_id: str, deadline: Deadline) -> Incident | None:
        incident = self._ledger.firewall.get(incident_id)  # as it is under the lease
        if incident is None or incident.state not in UNDER_WAY:
            return incident
        try:
            if incident.state is State.REMOVING:
                return self._take_out(incident, deadline)
            return self._put_back(incident, deadline)
        except PermanentError as error:
            return self._failed(incident_id, str(error))
        except LedgerDown:
            raise
        except TemporaryError as error:
            say(_log, "rogue-left", incident=incident.id, error=str(error))
            return self._tried(incident_id)

    @property
    def _again(self) -> timedelta:
        return timedelta(seconds=min(AGAIN_SECONDS, self._settings.sweep_seconds))

    def _held_back(self, incident: Incident) -> bool:
        """Acting is paused, or capped below what a person said, or the policy: what is recorded stays to be
        done."""
        least = Mode.ENFORCE if incident.decided_by == BY_POLICY else Mode.APPROVE
        return self._ledger.control.paused() is not None or self._settings.mode.reach < least.reach

    def _expired(self, incident: Incident) -> Incident:
        if incident.until is None or incident.until > self._clock.now():
            return incident
        self._notifier.tell(
            "firewall", f"nobody said yes or no to the rogue rule of {name_of(incident.machine)}: it stays",
            alerts=incident.alerts, incident=incident.id)
        return self._ledger.firewall.save(replace(
            incident, state=State.TOLD, until=None, detail="nobody answered in time"))

    # --- out ---

    def _take_out(self, incident: Incident, deadline: Deadline) -> Incident:
        waited = self._clock.now() - (incident.decided or incident.seen) > TOO_LONG
        if waited and incident.decided_by == BY_POLICY and not incident.written:
            self._ledger.work.firewall(incident.firewall, self._clock.now())
            return self._ledger.firewall.save(replace(
                incident, state=State.TOLD, digest="",
                detail="held back too long: looked at anew"))
        enforced = self._firewalls.read(incident.firewall, deadline)
        if incident.action is FirewallAction.DENY:
            left = self._to_deny(incident, enforced)
        else:
            left = self._to_remove(incident, enforced)
            places = {r.where for r in enforced.rules.rules}
            if not left and enforced.trouble and any(p.where in places for p in incident.parts):
                raise Unfinished("; ".join(enforced.trouble))  # it may mean what it meant, and be unreadable
        if left:
            owner, (parts, change) = next(iter(left.items()))
            return self._write(incident, owner, enforced.bodies[owner], parts, change, deadline)
        return self._proven(incident, enforced, deadline)

    @staticmethod
    def _to_remove(incident: Incident, enforced: Enforced) -> dict[str, tuple[list[Part], Change]]:
        """By owner the incident's rules that are still there, and mean what they meant."""
        there = {(r.where, r.digest) for r in enforced.rules.rules}
        found: dict[str, tuple[list[Part], Change]] = {}
        for owner in incident.owners:
            parts = [p for p in incident.parts if p.where.owner == owner and (p.where, p.digest) in there]
            if parts:
                found[owner] = (parts, _remover(parts))
        return found

    def _to_deny(
        self, incident: Incident, enforced: Enforced
    ) -> dict[str, tuple[list[Part], Change]]:
        """By owner the incident's rules that no deny of ours stands before."""
        order = {(r.where, r.digest): n for n, r in enumerate(enforced.rules.rules)}
        ours = {(r.where.owner, r.where.collection): n for n, r in enumerate(enforced.rules.rules)}
        found: dict[str, tuple[list[Part], Change]] = {}
        for name, part in zip(self._denies(incident), incident.parts, strict=True):
            at, owner = order.get((part.where, part.digest)), part.where.owner
            if at is None or owner in found:
                continue
            mine = ours.get((owner, name))
            if mine is None:
                found[owner] = ([part], _denier(enforced.rules.rules[at], name))
            elif mine > at:
                raise Invalid(f"our Deny {name} stands behind the rule by now: someone moved one of them")
        return found

    def _denies(self, incident: Incident) -> list[str]:
        """The names of our collections for this round's rules."""
        return [f"{self._ownership.deny_prefix}-{incident.id[:8]}-{incident.round}-{n}"
                for n in range(len(incident.parts))]

    def _proven(self, incident: Incident, enforced: Enforced, deadline: Deadline) -> Incident:
        """Nothing of the incident's is left. Does the firewall enforce that, and may the machine still go out
        by another rule?"""
        written = {o: settled(o, enforced.bodies[o]) for o in incident.owners if o in enforced.bodies}
        if "Failed" in (settled(enforced.firewall, enforced.body), *written.values()):
            return self._not_taken_over(incident, written, enforced, deadline)
        other = ways_out(enforced.rules, enforced.hosts.of(incident.machine))
        if not incident.written:  # somebody else was faster, or changed it
            what = ("it is not what it was when that was decided: it is looked at anew" if other
                    else "it was taken out by someone else")
            return self._end(incident, State.GONE, what, "firewall", look=bool(other))
        done = "a Deny stands before it" if incident.action is FirewallAction.DENY else "it is taken out"
        if enforced.trouble:
            return self._end(incident, State.OPEN, (
                f"{done}, but not all of the firewall can be read, so another way out may be left: "
                f"{'; '.join(enforced.trouble)}"), "firewall-open")
        if other:
            ways = ", ".join(str(r.where) for r in other[:4])
            return self._end(incident, State.OPEN, (
                f"{done}, but {name_of(incident.machine)} may still go anywhere, or nearly, by {ways}"),
                "firewall-open", look=True)
        for one in incident.alerts:  # from now on it is watched
            self._ledger.watch_again(one, self._clock.now())
        return self._end(incident, State.REMOVED, (
            f"{done}: read back and evaluated, no rogue path is left to {name_of(incident.machine)}"),
            "firewall-removed")

    def _not_taken_over(
        self, incident: Incident, written: Mapping[str, str], enforced: Enforced, deadline: Deadline
    ) -> Incident:
        """Azure has the change, and a firewall could not take it over: it enforces what it had before. It is
        given it again, some times; then it is for people to mend."""
        if incident.failures < TRIES:
            owner = next((o for o, state in written.items() if state == "Failed"), next(iter(written), ""))
            parts = [p for p in incident.parts if p.where.owner == owner]
            if parts:
                incident = self._ledger.firewall.save(replace(incident, failures=incident.failures + 1))
                return self._write(incident, owner, enforced.bodies[owner], parts, dict, deadline, keep=False)
        raise PermanentError(
            "what is written is as it should be, but the firewall could not take that over and may still "
            "enforce what it had: mend the firewall, then update its policy once")

    # --- back ---

    def _put_back(self, incident: Incident, deadline: Deadline) -> Incident:
        written = {}
        enforced = self._firewalls.read(incident.firewall, deadline)
        backups = {b.owner: b for b in self._ledger.firewall.backups(incident)}
        for owner in self._ledger.firewall.owners(incident):
            body, _ = self._firewalls.whole(owner, deadline)
            change = self._undoer(incident, backups.get(owner))
            if not same(change(body), body):
                parts = backups[owner].parts if owner in backups else incident.parts
                return self._write(incident, owner, body, parts, change, deadline, keep=False)
            written[owner] = settled(owner, body)
        if "Failed" in (settled(enforced.firewall, enforced.body), *written.values()):
            return self._not_taken_over(incident, written, enforced, deadline)
        return self._end(incident, State.RESTORED, f"put back by {incident.decided_by}: {incident.why}",
                         "firewall-restored")

    def _undoer(self, incident: Incident, backup: Backup | None) -> Change:
        """Our Denies out, of whichever round; and what the last round took out, back."""
        prefix = f"{self._ownership.deny_prefix}-{incident.id[:8]}-"

        def undo(body: Mapping[str, Any]) -> dict[str, Any]:
            changed = without_collections(body, prefix)
            if backup is not None and not backup.denied:
                changed = with_restored(changed, backup.body, [p.where for p in backup.parts])
            return changed

        return undo

    # --- both ---

    def _write(
        self, incident: Incident, owner: str, seen: Mapping[str, Any], parts: Sequence[Part], change: Change,
        deadline: Deadline, *, keep: bool = True,
    ) -> Incident:
        """One change of one owner, under the lease of its policy: backed up, recorded, then written."""
        update = parts[0].where.update
        lease = self._ledger.leases.take(update, self._clock)
        if lease is None:
            raise Conflict(f"another change of {name_of(update)} is under way")
        try:
            body, etag = self._firewalls.whole(owner, deadline)
            settled(owner, body)
            if not same(body, seen):
                raise Conflict(f"{name_of(owner)} was changed meanwhile")
            if keep:
                self._ledger.firewall.keep(
                    incident, Backup(owner, body, tuple(parts), incident.action is FirewallAction.DENY),
                    self._clock.now())
            incident = self._ledger.firewall.save(replace(incident, written=True))
            self._ledger.leases.renew(lease, self._clock)
            self._firewalls.write(owner, change(body), etag, deadline)
            say(_log, "rogue-written", incident=incident.id, owner=owner, action=incident.action.value,
                rules=[str(p.where) for p in parts])
            return incident
        finally:
            self._ledger.leases.drop(lease)

    def _tried(self, incident_id: str) -> Incident | None:
        """One pass more without an end."""
        incident = self._ledger.firewall.get(incident_id)
        if incident is None or incident.state not in UNDER_WAY:
            return incident
        if incident.attempts + 1 == TELL_AFTER:
            self._notifier.tell(
                "firewall-slow", f"the rogue rule of {name_of(incident.machine)} is not dealt with yet after "
                f"{TELL_AFTER} passes; the service goes on trying", alerts=incident.alerts,
                incident=incident.id)
        try:
            return self._ledger.firewall.save(replace(incident, attempts=incident.attempts + 1))
        except Conflict:
            return incident

    def _failed(self, incident_id: str, why: str) -> Incident | None:
        incident = self._ledger.firewall.get(incident_id)
        if incident is None or incident.state not in UNDER_WAY:
            return incident
        return self._end(incident, State.FAILED, why[:1000], "firewall-failed")

    def _end(
        self, incident: Incident, state: State, detail: str, kind: str, *, look: bool = False
    ) -> Incident:
        """Told first: a crash in between has it told twice, never not at all. `look`: there is more to
        see."""
        now = self._clock.now()
        if look:
            self._ledger.work.firewall(incident.firewall, now + self._again)
        self._notifier.tell(
            kind, f"rogue rule {', '.join(str(p.where) for p in incident.parts)}: {detail}",
            alerts=incident.alerts, incident=incident.id, machine=incident.machine,
            by=str(incident.author or ""))
        for alert in incident.alerts:
            self._ledger.alerts.note(alert, now, kind, incident=incident.id, machine=incident.machine,
                                     rules=[str(p.where) for p in incident.parts], by=incident.decided_by,
                                     result=detail)
        return self._ledger.firewall.save(replace(
            incident, state=state, detail=detail, attempts=0, failures=0, seen=now))


def _remover(parts: Sequence[Part]) -> Change:
    return lambda body: without(body, [p.where for p in parts])


def _denier(rule: FlowRule, name: str) -> Change:
    return lambda body: with_deny(body, rule, name)
