"""A rogue rule as an incident: what is known of it, and what is to be done next. Pure.

An incident is about a machine that may go anywhere, not about a rule's name: a rule that comes back under
another name, in another collection or by an IP group belongs to the incident that it was before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from remediation.firewall.rogue import Class, Finding
from remediation.firewall.rules import FlowRule, Kind, Where
from remediation.model import Mode, from_utc, utc
from remediation.policy import Egress, FirewallAction
from remediation.spans import shown

REMEMBERED_ALERTS = 20
BY_POLICY = "policy"
"""Who decided where no person did."""
LOG_REACHES = timedelta(days=89)
"""The activity log is kept for 90 days."""


class State(StrEnum):
    """The life of an incident (docs/firewall.md has the picture)."""

    TOLD = "told"
    KEPT = "kept"
    ASKING = "asking"
    REMOVING = "removing"
    REMOVED = "removed"
    OPEN = "open"
    RESTORING = "restoring"
    RESTORED = "restored"
    GONE = "gone"
    STOPPED = "stopped"
    FAILED = "failed"


UNDER_WAY = frozenset({State.REMOVING, State.RESTORING})
CAME_BACK = frozenset({State.REMOVED, State.STOPPED, State.GONE})
"""What had been taken out and is found in these states has come back. (Where another rule was still open,
that is found next, and has been there all along.)"""


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote what let the rule in: from an event's claims, or from the activity log."""

    name: str
    at: datetime | None = None
    address: str = ""
    operation: str = ""
    correlation: str = ""

    def __str__(self) -> str:
        when = f" at {utc(self.at)}" if self.at else ""
        return f"{self.name}{when}" + (f" from {self.address}" if self.address else "")


@dataclass(frozen=True, slots=True)
class Part:
    """One rule of an incident: where it is written, and what it meant when it was found."""

    where: Where
    digest: str
    said: str

    @classmethod
    def of(cls, rule: FlowRule) -> Part:
        """As the finding has it."""
        return cls(rule.where, rule.digest, in_words(rule))

    def to_json(self) -> dict[str, Any]:
        """For people, and for the ledger."""
        return {"owner": self.where.owner, "kind": self.where.kind.value, "collection": self.where.collection,
                "rule": self.where.rule, "digest": self.digest, "says": self.said}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Part:
        """The inverse."""
        where = Where(data["owner"], Kind(data["kind"]), data["collection"], data["rule"])
        return cls(where, data["digest"], data["says"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What the ledger keeps of one. `round`: how many removals were begun; `returns`: how often it was there
    again after one; `absent`: when it was last seen not to be there, None if nobody looked before; `decided`:
    when it was said, by the policy or a person, that something is to be done; `action`:
    what is being done or was done last; `written`: a write of ours may have been carried out in this round;
    `attempts`: passes so far; `failures`: writes that a firewall could not take over; `until`: when a
    question expires."""

    id: str
    kind: Class
    machine: str
    firewall: str
    state: State
    parts: tuple[Part, ...] = ()
    holds: str = ""
    severity: str = ""
    reasons: tuple[str, ...] = ()
    exact: bool = False
    digest: str = ""
    found: datetime
    seen: datetime
    round: int = 0
    returns: int = 0
    absent: datetime | None = None
    decided: datetime | None = None
    action: FirewallAction = FirewallAction.NOTIFY
    written: bool = False
    attempts: int = 0
    failures: int = 0
    until: datetime | None = None
    author: Author | None = None
    decided_by: str = ""
    why: str = ""
    detail: str = ""
    alerts: tuple[str, ...] = ()
    etag: str = field(default="", compare=False)

    @property
    def owners(self) -> tuple[str, ...]:
        """The groups or firewalls that its rules are written in."""
        return tuple(dict.fromkeys(p.where.owner for p in self.parts))

    def to_json(self) -> dict[str, Any]:
        """For people, and for the ledger."""
        return {
            "id": self.id, "class": self.kind.value, "machine": self.machine, "firewall": self.firewall,
            "state": self.state.value, "severity": self.severity, "holds": self.holds,
            "reasons": list(self.reasons), "exact": self.exact, "digest": self.digest,
            "rules": [p.to_json() for p in self.parts],
            "found": utc(self.found), "seen": utc(self.seen), "round": self.round, "returns": self.returns,
            "absent": utc(self.absent) if self.absent else None,
            "decided": utc(self.decided) if self.decided else None,
            "action": self.action.value, "written": self.written,
            "attempts": self.attempts, "failures": self.failures,
            "until": utc(self.until) if self.until else None,
            "author": None if self.author is None else {
                "name": self.author.name, "at": utc(self.author.at) if self.author.at else None,
                "address": self.author.address, "operation": self.author.operation,
                "correlation": self.author.correlation},
            "decidedBy": self.decided_by, "why": self.why, "detail": self.detail, "alerts": list(self.alerts),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], etag: str = "") -> Incident:
        """The inverse."""
        by = data.get("author")
        return cls(
            id=data["id"], kind=Class(data["class"]), machine=data["machine"], firewall=data["firewall"],
            state=State(data["state"]), severity=data["severity"], holds=data["holds"],
            reasons=tuple(data["reasons"]), exact=bool(data["exact"]), digest=data["digest"],
            parts=tuple(map(Part.from_json, data["rules"])),
            found=from_utc(data["found"]), seen=from_utc(data["seen"]), round=int(data["round"]),
            returns=int(data.get("returns") or 0), absent=_moment(data.get("absent")),
            decided=_moment(data.get("decided")),
            action=FirewallAction(data["action"]), written=bool(data["written"]),
            attempts=int(data["attempts"]),
            failures=int(data["failures"]), until=_moment(data.get("until")),
            author=None if by is None else Author(by["name"], _moment(by.get("at")), by["address"],
                                                  by["operation"], by["correlation"]),
            decided_by=data["decidedBy"], why=data["why"], detail=data["detail"],
            alerts=tuple(data["alerts"]), etag=etag,
        )


def _moment(text: str | None) -> datetime | None:
    return from_utc(text) if text else None


def in_words(rule: FlowRule) -> str:
    """What a rule says, for people."""
    goal = ", ".join([*shown(rule.destinations.known, 3), *rule.destinations.names[:3], *rule.fqdns[:3]])
    ports = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in rule.ports.ranges[:4])
    source = ", ".join([*shown(rule.sources.known, 3), *rule.sources.names[:3]])
    verb = "Allow" if rule.allow else "Deny"
    protocols = "/".join(sorted(rule.protocols)) or "-"
    return f"{verb} {protocols} from {source} to {goal or rule.translated}, ports {ports}"


def together(findings: Iterable[Finding]) -> list[Finding]:
    """Findings that are about the same thing are one, with the rules of all."""
    found: dict[str, Finding] = {}
    for one in findings:
        held = found.get(one.meaning)
        if held is None:
            found[one.meaning] = one
            continue
        rules = tuple({id(r): r for r in (*held.rules, *one.rules)}.values())
        found[one.meaning] = replace(
            held, rules=rules, exact=held.exact and one.exact,
            holds=held.holds if len(held.holds) >= len(one.holds) else one.holds,
            reasons=tuple(dict.fromkeys((*held.reasons, *one.reasons))))
    return list(found.values())


def in_hand(finding: Finding, known: Iterable[Incident]) -> bool:
    """Is the finding but a part of what is being dealt with: half of what is taken out, or what a Deny of
    ours stands before?"""
    rules = {(r.where, r.digest) for r in finding.rules}
    return any(
        i.id != finding.meaning and rules <= {(p.where, p.digest) for p in i.parts}
        for i in known
        if i.state in UNDER_WAY or (i.state is State.REMOVED and i.action is FirewallAction.DENY))


@dataclass(frozen=True, slots=True)
class Around:
    """What a decision needs besides the finding. `active`: the machine is in an incident of ours, alerts or
    blocks that stand; `created`: when the machine was made, None if that is not known; `absent`: when a look
    last saw the firewall without it, None if none did; `logged`: could the activity log be read? `capped`:
    what RESPONDER_MODE allows."""

    now: datetime
    capped: Mode
    active: bool = False
    created: datetime | None = None
    absent: datetime | None = None
    logged: bool = True
    paused: bool = False
    alerts: Sequence[str] = ()


class Do(StrEnum):
    """What comes next."""

    NOTHING = "nothing"
    TELL = "tell"
    ASK = "ask"
    ACT = "act"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Next:
    """What comes next, and the incident as it is to be recorded before anything is done. `returned`: it had
    been taken out, and is there again."""

    do: Do
    incident: Incident
    returned: bool = False


def consider(
    finding: Finding, before: Incident | None, author: Author | None, around: Around, policy: Egress
) -> Next:
    """A finding, and what was known of it → what comes next."""
    now = around.now
    alerts = tuple(dict.fromkeys((*(before.alerts if before else ()), *around.alerts)))[-REMEMBERED_ALERTS:]
    fresh = Incident(
        id=finding.meaning, kind=finding.kind, machine=finding.machine, firewall=finding.firewall,
        state=State.TOLD, parts=tuple(Part.of(r) for r in finding.rules), holds=finding.holds,
        severity=finding.severity, reasons=finding.reasons, exact=finding.exact, digest=finding.digest,
        found=before.found if before else now, seen=now, round=before.round if before else 0,
        returns=before.returns if before else 0,
        absent=before.absent if before and before.digest == finding.digest else around.absent,
        action=before.action if before else FirewallAction.NOTIFY,
        author=author or (before.author if before and before.digest == finding.digest else None),
        alerts=alerts, etag=before.etag if before else "",
    )
    known = before is not None and before.digest == finding.digest
    back = before is not None and around.absent is not None and before.state in (State.FAILED, State.STOPPED)
    if before is not None and (before.state in UNDER_WAY or (known and not back and before.state not in (
            State.REMOVED, State.OPEN, State.GONE, State.TOLD, State.ASKING))):
        return Next(Do.NOTHING, replace(before, seen=now, alerts=alerts))
    returned = before is not None and (back or _came_back(finding, before))
    if returned:
        fresh = replace(fresh, returns=fresh.returns + 1)
    if finding.kind is not Class.ROGUE:
        again = known and before is not None and before.state is State.TOLD
        return Next(Do.NOTHING if again else Do.TELL, fresh, returned)
    if returned and fresh.returns >= policy.rounds:
        why = (f"it came back after {fresh.round} removals: something writes it again and again, and a "
               "person must see to that")
        return Next(Do.STOP, replace(fresh, state=State.STOPPED, detail=why), returned)
    doubts = _doubts(finding, fresh, around)
    do = _reach(policy.action, around, doubts, before, known=known, returned=returned)
    if do is Do.ASK:
        fresh = replace(fresh, state=State.ASKING, until=now + policy.question, action=_wanted(policy.action),
                        detail="; ".join(doubts))
    elif do is Do.ACT:
        fresh = replace(fresh, state=State.REMOVING, action=policy.action, decided_by=BY_POLICY, decided=now,
                        round=fresh.round + 1,
                        why="it matches in every point, and its machine is in an active incident")
    elif do is Do.NOTHING and before is not None:
        fresh = replace(before, seen=now, alerts=alerts)
    return Next(do, fresh, returned)


def _came_back(finding: Finding, before: Incident) -> bool:
    """Had it been taken out, and is there again? Another way that is found while one is `open` was there all
    along; the very rule that was taken out was not."""
    if before.state is State.OPEN:
        return bool({r.digest for r in finding.rules} & {p.digest for p in before.parts})
    return before.state in CAME_BACK and (before.round > 0 or before.state is not State.GONE)


def _wanted(action: FirewallAction) -> FirewallAction:
    """What a yes has done: a removal, unless the policy would rather deny."""
    return FirewallAction.DENY if action is FirewallAction.DENY else FirewallAction.REMOVE


def _doubts(finding: Finding, fresh: Incident, around: Around) -> list[str]:
    """Why it is not taken out unasked. How old a rule is no log says: what someone wrote last may hold older
    rules. A rule that was not there when we looked before is younger than that look."""
    found = []
    if not finding.exact:
        found.append("it does not match in every point")
    if not around.active:
        found.append("its machine is in no active incident")
    if fresh.author is None and not around.logged:
        found.append("the activity log cannot be read: who wrote it, and when, is not known")
    if around.created is None:
        found.append("when the machine was made is not known")
    elif not (fresh.absent is not None and around.created <= fresh.absent) and (
            around.now - around.created < LOG_REACHES):
        found.append("the machine may be younger than the rule: its address may have been another's")
    return found


def _reach(
    action: FirewallAction, around: Around, doubts: Sequence[str], before: Incident | None, *, known: bool,
    returned: bool,
) -> Do:
    """How far the policy, the cap and the doubts let us go."""
    if action is FirewallAction.NOTIFY or around.capped.reach < Mode.APPROVE.reach:
        told = known and before is not None and before.state is State.TOLD
        return Do.NOTHING if told and not returned else Do.TELL
    may = action in (FirewallAction.REMOVE, FirewallAction.DENY) and around.capped is Mode.ENFORCE
    if may and not doubts and not around.paused:
        return Do.ACT
    asked = known and before is not None and before.state in (State.ASKING, State.TOLD)
    return Do.NOTHING if asked and not returned else Do.ASK
