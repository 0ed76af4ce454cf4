"""What people ask and say about rogue rules: look now, yes or no, approved, put back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from remediation.clock import Clock, Deadline
from remediation.cloud.firewalls import Firewalls
from remediation.errors import BadInput, Conflict, NotFound
from remediation.firewall.incident import UNDER_WAY, Incident, State
from remediation.firewall.rogue import Class
from remediation.ledger import Approved, Ledger
from remediation.model import Caller, utc
from remediation.notify import Notifier
from remediation.policy import FirewallAction
from remediation.rogues.removal import Removal
from remediation.rogues.watch import Watch

SCAN = "firewalls"
"""The sweep's job that has all firewalls looked at."""
MAY_GO = frozenset({State.ASKING, State.TOLD, State.KEPT, State.STOPPED, State.FAILED, State.RESTORED})
"""A person may have a rule taken out that is found in one of these states."""


class Desk:
    """The operators' verbs."""

    def __init__(
        self, *, ledger: Ledger, firewalls: Firewalls, watch: Watch, removal: Removal, notifier: Notifier,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._firewalls = firewalls
        self._watch = watch
        self._removal = removal
        self._notifier = notifier
        self._clock = clock

    def incidents(self, state: str) -> dict[str, Any]:
        """All incidents, or those in one state, the newest first; and what is approved."""
        found = [i for i in self._ledger.firewall.all() if state in ("", i.state)]
        return {"incidents": [i.to_json() for i in sorted(found, key=lambda i: i.seen, reverse=True)],
                "approved": [a.to_json() for a in self._ledger.firewall.approved(self._clock.now())]}

    def scan(self, firewall: str, deadline: Deadline) -> dict[str, Any]:
        """Look at one firewall now, or have all looked at by the next sweep."""
        if not firewall:
            self._ledger.control.unfinished_job(SCAN)
            return {"queued": True}
        found = self._watch.look(firewall.lower().rstrip("/"), deadline)
        return {"incidents": [i.to_json() for i in found]}

    def decide(
        self, incident_id: str, caller: Caller, deadline: Deadline, *, act: bool, reason: str,
        digest: str = "",
    ) -> dict[str, Any]:
        """A yes or a no, to what the person saw (`digest`, of the incident as it was shown). A yes takes out
        what was found: a rule that means something else by now is left. A no stands until it changes."""
        incident = self._as_seen(incident_id, digest)
        if incident.state not in MAY_GO:
            raise Conflict(f"incident {incident.id} is {incident.state}: there is nothing to decide")
        if act and incident.kind is not Class.ROGUE:
            raise BadInput("decision", f"a rule that is {incident.kind} is not taken out by the service")
        if not act:
            return self._say(incident, caller, State.KEPT, reason, "it stays").to_json()
        wanted = incident.action if incident.action is FirewallAction.DENY else FirewallAction.REMOVE
        self._ledger.work.rogue(incident.id, self._clock.now())
        incident = self._say(
            replace(incident, action=wanted, round=incident.round + 1, written=False, attempts=0,
                    failures=0), caller, State.REMOVING, reason, "it is taken out")
        return (self._removal.go_on(incident.id, deadline) or incident).to_json()

    def restore(self, incident_id: str, caller: Caller, deadline: Deadline, reason: str) -> dict[str, Any]:
        """Put back what the last removal took out, or what of it was taken out before it failed."""
        incident = self._one(incident_id)
        if incident.state in (*UNDER_WAY, State.RESTORED) or not self._ledger.firewall.backups(incident):
            raise Conflict(f"incident {incident.id} is {incident.state}: there is nothing to put back")
        self._ledger.work.rogue(incident.id, self._clock.now())
        incident = self._say(replace(incident, attempts=0, failures=0), caller,
                             State.RESTORING, reason, "it is put back")
        return (self._removal.go_on(incident.id, deadline) or incident).to_json()

    def approve(
        self, incident_id: str, caller: Caller, lasting: timedelta, reason: str, deadline: Deadline,
        digest: str = "",
    ) -> dict[str, Any]:
        """The incident's rules are fine as they are: silent until then, or until one means something else. A
        Deny of ours before them is lifted."""
        incident, now = self._as_seen(incident_id, digest), self._clock.now()
        if incident.state in UNDER_WAY:
            raise Conflict(f"incident {incident.id} is {incident.state}: wait for its end, then restore it")
        entries = [Approved(p.digest, caller.name, now + lasting, reason, now, p.said)
                   for p in incident.parts]
        self._ledger.firewall.approve(entries)
        denied = any(b.denied for b in self._ledger.firewall.backups(incident))
        if incident.state in MAY_GO and not denied:
            incident = self._say(incident, caller, State.GONE, reason, f"approved until {utc(now + lasting)}")
        elif denied and incident.state is not State.RESTORED:
            self._ledger.work.rogue(incident.id, now)
            incident = self._say(replace(incident, attempts=0, failures=0), caller, State.RESTORING, reason,
                                 "it is approved, and our Deny lifted")
            incident = self._removal.go_on(incident.id, deadline) or incident
        return {"incident": incident.to_json(), "approved": [e.to_json() for e in entries]}

    def _one(self, incident_id: str) -> Incident:
        found = self._ledger.firewall.get(incident_id)
        if found is None:
            raise NotFound(f"no incident {incident_id}")
        return found

    def _as_seen(self, incident_id: str, digest: str) -> Incident:
        """The incident, if it is still what the person saw."""
        incident = self._one(incident_id)
        if digest and digest != incident.digest:
            raise Conflict(
                f"incident {incident.id} has changed since (it is {incident.digest} now): look again")
        return incident

    def _say(self, incident: Incident, caller: Caller, state: State, reason: str, what: str) -> Incident:
        """Record a person's word, and have others hear of it. Raises Conflict if something came between."""
        saved = self._ledger.firewall.save(replace(
            incident, state=state, until=None, decided_by=caller.name, why=reason, detail=what,
            decided=self._clock.now(), seen=self._clock.now()))
        self._notifier.tell("firewall-decided", f"{caller.name}: {what}: {reason}", alerts=incident.alerts,
                            incident=incident.id, identified=caller.identified)
        return saved
