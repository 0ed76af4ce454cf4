"""A look at a firewall: what it lets out, what is known of it, and what comes next.

Looked at are: a firewall that someone changed, the firewalls of a machine that an alert names, and all of
them once a day. A look changes nothing in Azure; what is to be done is recorded, and `removal` does it.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from remediation.clock import Clock, Deadline
from remediation.cloud.activity import ActivityLog
from remediation.cloud.firewalls import Firewalls
from remediation.cloud.machines import Machines
from remediation.errors import Conflict, PermanentError, RemediationError
from remediation.firewall.incident import (
    Around,
    Author,
    Do,
    Incident,
    Next,
    State,
    consider,
    in_hand,
    together,
)
from remediation.firewall.rogue import Class, Finding, find
from remediation.firewall.rules import FlowRule
from remediation.ledger import Ledger
from remediation.ledger.block import Block
from remediation.ledger.control import NEVER
from remediation.ledger.firewall import Looked
from remediation.log import say
from remediation.model import ResourceId, from_utc
from remediation.notify import Notifier
from remediation.policy import FirewallAction, Policy
from remediation.rogues.removal import Removal
from remediation.settings import Settings
from remediation.topology import FIREWALL, kind_of, name_of

_log = logging.getLogger(__name__)

ONCE_MORE = timedelta(seconds=90)
"""After a change the firewall is looked at once more: the graph, which knows the machines, lags."""
CHANGED = ("microsoft.network/firewallpolicies", "microsoft.network/azurefirewalls",
           "microsoft.network/ipgroups")
WRITES = ("Microsoft.Resources.ResourceWriteSuccess", "Microsoft.Resources.ResourceDeleteSuccess",
          "Microsoft.Resources.ResourceActionSuccess")
LAPSED = frozenset({State.TOLD, State.KEPT, State.ASKING, State.RESTORED, State.FAILED})
"""What is not found any more in these states is gone, and not by us: unless we had begun to write."""
TRIES = 3


class Watch:
    """Looks at firewalls. One instance serves all threads."""

    def __init__(
        self, *, ledger: Ledger, firewalls: Firewalls, activity: ActivityLog, machines: Machines,
        removal: Removal, notifier: Notifier, policy: Policy, settings: Settings, clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._firewalls = firewalls
        self._activity = activity
        self._machines = machines
        self._removal = removal
        self._notifier = notifier
        self._policy = policy
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._looked: dict[str, datetime] = {}

    # --- what brings a look about ---

    def changed(self, event: Mapping[str, Any], deadline: Deadline) -> list[str]:
        """An event of the subscription → the firewalls looked at. The event has no rule in it: it says where
        to look, and who did it. Other resources' events cost nothing."""
        data = event.get("data") if isinstance(event.get("data"), Mapping) else event
        resource = str((data or {}).get("resourceUri") or event.get("subject") or "").lower()
        kind = event.get("type") or event.get("eventType")
        if (kind is not None and kind not in WRITES) or not any(
                f"/providers/{one}/" in resource for one in CHANGED):
            return []
        author = _author(data or {}, event, self._clock.now())
        touched = self._firewalls.touched(resource.removesuffix("/deploy"), deadline)
        for firewall in touched:
            self._ledger.work.firewall(firewall, self._clock.now() + ONCE_MORE, **_kept(author))
        for firewall in touched:
            self.look(firewall, deadline, author=author)
        return touched

    def follow(self, thing: str, at: datetime, values: Mapping[str, Any], deadline: Deadline) -> None:
        """A hint: a firewall, or a network. One that was looked at since is not looked at again."""
        author = _read_author(values)
        firewalls = [thing] if kind_of(thing) == FIREWALL else self._firewalls.serving(thing, deadline)
        for firewall in firewalls:
            with self._lock:
                done = self._looked.get(firewall)
            if done is None or done < at:
                self.look(firewall, deadline, author=author)

    def everywhere(self, deadline: Deadline) -> int:
        """Have every firewall looked at soon → how many there are."""
        found = self._firewalls.all(deadline)
        for firewall in found:
            self._ledger.work.firewall(firewall, self._clock.now())
        return len(found)

    # --- a look ---

    def look(self, firewall: str, deadline: Deadline, author: Author | None = None) -> list[Incident]:
        """Read it, find, decide, record; take out at once what may be → the incidents found."""
        started = self._clock.now()
        try:
            enforced = self._firewalls.read(firewall, deadline)
        except PermanentError as error:
            say(_log, "firewall-unreadable", level=logging.WARNING, firewall=firewall, error=str(error))
            self._blind(firewall, self._ledger.firewall.looked(firewall), str(error))
            return []
        with self._lock:
            self._looked[firewall] = started
        last = self._ledger.firewall.looked(firewall)
        approved = {a.digest for a in self._ledger.firewall.approved(started)}
        known = self._ledger.firewall.of_firewall(firewall)
        findings = [f for f in together(find(enforced.rules, enforced.hosts, approved))
                    if not in_hand(f, known)]
        if enforced.trouble:
            say(_log, "firewall-trouble", level=logging.WARNING, firewall=firewall, trouble=enforced.trouble)
        found = [self._judge(one, author, last, deadline) for one in findings]
        if enforced.trouble:  # what cannot be read may hide what is there: nothing is called gone
            self._blind(firewall, last, "; ".join(enforced.trouble))
        else:
            self._lapse(known, {f.meaning for f in findings}, approved)
            seen = frozenset(mark_of(r) for r in enforced.rules.rules if r.allow)
            self._ledger.firewall.note_look(firewall, Looked(started, seen), started)
        say(_log, "firewall-looked", firewall=firewall, rules=len(enforced.rules.rules), findings=len(found))
        return found

    def _blind(self, firewall: str, last: Looked | None, why: str) -> None:
        """A firewall that cannot be read in full could let out anything: people are told once, and what the
        last whole look found stays known."""
        if last is None or last.trouble != why[:1000]:
            text = f"firewall {name_of(firewall)} cannot be read in full: {why}"
            self._notifier.tell("firewall-unreadable", text, firewall=firewall)
            at, found = (last.at, last.found) if last else (NEVER, frozenset())
            self._ledger.firewall.note_look(firewall, Looked(at, found, why), self._clock.now())

    def _judge(
        self, finding: Finding, author: Author | None, last: Looked | None, deadline: Deadline
    ) -> Incident:
        """Decide, record, and begin; again from what is recorded if another thread was faster. Who wrote an
        event's change wrote this rule only if a look before had not found it."""
        new = last is not None and last.at > NEVER and not any(
            mark_of(r) in last.found for r in finding.rules)
        for _ in range(TRIES):
            before = self._ledger.firewall.get(finding.meaning)
            who, logged = (author if new and not self._ours(author) else None), True
            if who is None and (before is None or before.digest != finding.digest or before.author is None):
                who, logged = self._who(finding, deadline)
            around = replace(self._around(finding, deadline), logged=logged,
                             absent=last.at if new and last else None)
            said = consider(finding, before, who, around, self._policy.firewall)
            try:
                return self._carry(said, before, deadline)
            except Conflict:
                continue  # another look, or a person, changed it in this moment: decide by what it is now
        raise Conflict(f"incident {finding.meaning} keeps changing")

    def _ours(self, author: Author | None) -> bool:
        """Is it our own write that the event tells of?"""
        return author is not None and author.name.lower() in self._activity.principal()

    def _carry(self, said: Next, before: Incident | None, deadline: Deadline) -> Incident:
        incident = said.incident
        if said.do is Do.NOTHING:
            stale = before is not None and incident.seen - before.seen > timedelta(hours=1)
            return self._ledger.firewall.save(incident) if stale or before is None else incident
        if said.do is Do.ASK and incident.until is not None:
            self._ledger.work.rogue(incident.id, incident.until)
        if said.do is Do.ACT:
            self._ledger.work.rogue(incident.id, self._clock.now())
        # Told first: a crash in between has it told twice, never not at all.
        self._notifier.tell(*_words(said), alerts=incident.alerts, incident=incident.id,
                            machine=incident.machine, by=str(incident.author or ""),
                            severity=incident.severity)
        incident = self._ledger.firewall.save(incident)
        if said.do is Do.ACT:
            incident = self._removal.go_on(incident.id, deadline) or incident
        return incident

    def _lapse(self, known: Sequence[Incident], found: set[str], approved: set[str]) -> None:
        """What was found on this firewall before the look, and is not there any more."""
        for one in known:
            if one.id in found or one.state not in LAPSED or (one.state is State.FAILED and one.written):
                continue  # what we have half written is people's to mend, and its backup theirs to put back
            silent = any(p.digest in approved for p in one.parts)
            try:
                self._ledger.firewall.save(replace(
                    one, state=State.GONE, until=None, seen=self._clock.now(),
                    detail="approved" if silent else "not there any more"))
            except Conflict:
                continue  # another look says the same
            say(_log, "rogue-gone", incident=one.id, was=one.state.value, approved=silent)

    # --- what a decision needs ---

    def _around(self, finding: Finding, deadline: Deadline) -> Around:
        now, bold = self._clock.now(), self._policy.firewall.action in (
            FirewallAction.REMOVE, FirewallAction.DENY)
        if finding.kind is not Class.ROGUE:
            return Around(now, self._settings.mode)
        blocks = self._blocks_of(finding.machine, deadline)
        return Around(
            now, self._settings.mode, active=bool(blocks),
            created=self._firewalls.machine_made(finding.machine, deadline) if bold else None,
            paused=self._ledger.control.paused() is not None,
            alerts=list(dict.fromkeys(a for b in blocks for a in b.alerts)))

    def _blocks_of(self, machine: str, deadline: Deadline) -> list[Block]:
        """The blocks in force that protect this machine: it is in an active incident."""
        parts = ResourceId.parse(machine)
        if parts is None:  # an instance of a scale set
            return []
        try:
            guards = {g for n in self._machines.one(parts, deadline).nics for g in n.guards}
        except PermanentError as error:  # in no incident that is known: a person is asked
            say(_log, "machine-unreadable", level=logging.WARNING, machine=machine, error=str(error))
            return []
        return [b for g in sorted(guards) for b in self._ledger.blocks.live(g)
                if b.wanted and any(t.machine_id == machine for t in b.targets)]

    def _who(self, finding: Finding, deadline: Deadline) -> tuple[Author | None, bool]:
        """Who wrote the groups or the firewall that these rules are in last, as the activity log has it; and
        could it be read?"""
        owners = dict.fromkeys(r.where.owner for r in finding.rules)
        ours = self._activity.principal()
        try:
            changes = [c for o in owners for c in self._activity.changes_of(o, self._clock.now(), deadline)
                       if c.caller.lower() not in ours]
        except RemediationError as error:
            say(_log, "author-unknown", incident=finding.meaning, error=str(error))
            return None, False
        newest = max(changes, key=lambda c: c.at, default=None)
        if newest is None:
            return None, True
        return Author(newest.caller, _moment(newest.at), operation=newest.operation), True


def mark_of(rule: FlowRule) -> str:
    """A rule as a look remembers it: what it means, and where it stands."""
    return hashlib.sha256(f"{rule.where.owner}|{rule.where}|{rule.digest}".encode()).hexdigest()[:12]


def _words(said: Next) -> tuple[str, str]:
    """The notice's kind, and one sentence a tired person understands."""
    one = said.incident
    rules = ", ".join(f"{p.where} ({p.said})" for p in one.parts[:3])
    whose = f" of {name_of(one.machine)}" if one.machine else ""
    by = f", written by {one.author}" if one.author else ""
    text = f"firewall {name_of(one.firewall)}: {one.kind} rule{whose}: {rules}: {'; '.join(one.reasons)}{by}"
    if said.do is Do.STOP:
        return "firewall-loop", f"{text}: {one.detail}"
    if said.returned:
        text = f"it is there again, after {one.round - (said.do is Do.ACT)} removals: {text}"
    kind = "firewall-returned" if said.returned else "firewall"
    if said.do is Do.ASK:
        doubts = f" ({one.detail})" if one.detail else ""
        return kind, f"{text}: say yes or no to incident {one.id}: {one.action}?{doubts}"
    return kind, f"{text}: it is being taken out" if said.do is Do.ACT else text


# --- who did it, from an event ---

_UPN = ("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn", "upn", "name", "appid",
        "http://schemas.microsoft.com/identity/claims/objectidentifier", "objectidentifier")
LONGEST = 200


def _author(data: Mapping[str, Any], event: Mapping[str, Any], now: datetime) -> Author:
    claims = data.get("claims") if isinstance(data.get("claims"), Mapping) else {}
    name = next((str(claims[k]) for k in _UPN if (claims or {}).get(k)), "") if claims else ""
    at = _moment(str(event.get("time") or event.get("eventTime") or "")) or now
    return Author(
        (name or "someone")[:LONGEST], min(at, now), str((claims or {}).get("ipaddr") or "")[:LONGEST],
        str(data.get("operationName") or "")[:LONGEST], str(data.get("correlationId") or "")[:LONGEST])


def _moment(text: str) -> datetime | None:
    try:
        found = from_utc(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _kept(author: Author) -> dict[str, str]:
    return {"by": author.name, "byAt": author.at.isoformat() if author.at else "", "byFrom": author.address,
            "byOperation": author.operation, "byCorrelation": author.correlation}


def _read_author(values: Mapping[str, Any]) -> Author | None:
    if not values.get("by"):
        return None
    return Author(str(values["by"]), _moment(str(values.get("byAt") or "")), str(values.get("byFrom") or ""),
                  str(values.get("byOperation") or ""), str(values.get("byCorrelation") or ""))

