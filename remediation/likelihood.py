"""Which of the machines behind an alert has most likely spoken with the attacker, and did it run then? Pure.

Of a pool behind a load balancer one machine or several may have; all are guarded, and this says where
people should look first. It never decides what is blocked.

Power now is not power then: what started or stopped a machine since is in the activity log. A machine that
is `stopped`, not `deallocated`, may have been shut down from inside, which no log of Azure's shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from remediation.model import Alert, AlertDirection, Mapped, utc

RUNNING, OFF = "PowerState/running", ("PowerState/deallocated", "PowerState/stopped")
NOT_THERE = "not created yet"
"""In place of Azure's code: the machine did not exist."""
STARTS = ("/start/action",)
STOPS = ("/deallocate/action", "/poweroff/action", "/hibernate/action", "/evictspotvm/action")
RESTARTS = ("/restart/action", "/redeploy/action", "/reimage/action", "/reapply/action")
LOG_LAGS = timedelta(minutes=20)
"""Events show in the activity log only after some minutes."""
NOT_LOOKED_AT = "flow records were not looked at"
"""They are read later, where there are any (`remediation.steps.log_traces`)."""
KNOWN_PORTS = {"rdp": 3389, "ssh": 22, "sql": 1433}


class Likelihood(StrEnum):
    """How likely a machine is the one, most likely first."""

    LIKELY = "likely"
    POSSIBLE = "possible"
    UNLIKELY = "unlikely"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A machine as it was traced: its power when it was read, and what stands before it."""

    id: str
    power: str
    ports: tuple[Mapped, ...] = ()
    speaks_out: bool | None = None
    created: datetime | None = None


@dataclass(frozen=True, slots=True)
class PowerChange:
    """Something started or stopped a machine, or a scale set with all in it. `operation` is lower-cased."""

    resource_id: str
    operation: str
    at: datetime


@dataclass(frozen=True, slots=True)
class OtherAlert:
    """Another alert that names the machine. `severity` and `status` as Defender writes them, or ''."""

    alert_id: str
    name: str
    resource_id: str
    severity: str = ""
    status: str = ""

    @property
    def grave(self) -> bool:
        """Somebody should look at it, and nobody has closed it."""
        return (self.severity.casefold() not in ("low", "informational")
                and self.status.casefold() not in ("dismissed", "resolved"))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found out; `unknown` says of each source that could not be asked, why."""

    read: datetime
    changes: tuple[PowerChange, ...] | None = None
    others: tuple[OtherAlert, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Weighed:
    """One machine's outcome. `power_then` is Azure's code, or '' where it is not known."""

    power_then: str
    power_reason: str
    likelihood: Likelihood
    reasons: tuple[str, ...]


def when(alert: Alert) -> tuple[datetime, datetime] | None:
    """From when to when the activity lasted, as far as the alert says."""
    start = alert.start or alert.end or alert.generated
    end = alert.end or start
    return None if start is None or end is None else (min(start, end), max(start, end))


def weigh(alert: Alert, suspects: Sequence[Suspect], evidence: Evidence) -> dict[str, Weighed]:
    """Every machine by its id."""
    span = when(alert)
    found = {}
    for one in suspects:
        power, why = _power(one, span, evidence)
        likelihood, reasons = _likelihood(one, alert, power, why, evidence, alone=len(suspects) == 1)
        found[one.id] = Weighed(power, why, likelihood, reasons)
    return found


# --- did it run? ---


def _power(one: Suspect, span: tuple[datetime, datetime] | None, evidence: Evidence) -> tuple[str, str]:
    """Azure's code for then, and why it is thought so."""
    if span is None:
        return "", "the alert does not say when"
    if evidence.changes is None:
        return "", "the activity log could not be read"
    start, end = span
    if one.created is not None and one.created > end:
        return NOT_THERE, f"it was created only at {utc(one.created)}"
    mine = sorted((c for c in evidence.changes if _concerns(c, one.id)), key=lambda c: c.at)
    if any(c.operation.endswith(STARTS + RESTARTS) and start <= c.at <= end for c in mine):
        return RUNNING, "it was started during the activity"
    first = next((c for c in mine if c.at > start), None)
    if first is not None and first.operation.endswith(STARTS):
        return "PowerState/stopped", f"it was started only at {utc(first.at)}"
    if first is not None:
        return RUNNING, f"it ran until {utc(first.at)} ({first.operation.rsplit('/', 2)[-2]})"
    lag = ", which lags" if evidence.read - end < LOG_LAGS else ""
    if one.power == RUNNING or one.power == OFF[0]:
        code = one.power.removeprefix("PowerState/")
        return one.power, f"it is {code}, and the activity log{lag} shows no change since"
    if one.power == OFF[1]:
        return "", "it is stopped, perhaps from inside, which no log shows"
    return "", "its power state is not known"


def _concerns(change: PowerChange, machine_id: str) -> bool:
    """Is it about the machine itself, or about the scale set it is an instance of?"""
    return change.resource_id in (machine_id, machine_id.partition("/virtualmachines/")[0])


# --- how likely is it? ---


def _likelihood(
    one: Suspect, alert: Alert, power: str, why: str, evidence: Evidence, *, alone: bool
) -> tuple[Likelihood, tuple[str, ...]]:
    """Not running then outweighs all; then what speaks for it; then what speaks against it."""
    for_it, against = [], []
    named = one.id in {r.lower().rstrip("/") for r in alert.resource_ids}
    if named:
        for_it.append("the alert names it")
    elif alone:
        for_it.append("it is the only machine behind what the alert names")
    others = list(dict.fromkeys(o.name for o in evidence.others if o.resource_id == one.id))
    if others:
        for_it.append(f"other alerts name it: {', '.join(others[:3])}"
                      + (f" and {len(others) - 3} more" if len(others) > 3 else ""))
    if alert.direction is AlertDirection.INBOUND:
        good, bad = _ports(one, _port(alert))
        for_it += good
        against += bad
    elif one.speaks_out is False and not named:
        against.append("what stands before it does not carry its traffic out")
    unknown = [*evidence.unknown, NOT_LOOKED_AT]
    if power in (*OFF, NOT_THERE):
        return Likelihood.UNLIKELY, (f"it did not run: {why}", *for_it, *against, *unknown)
    ran = [f"it ran: {why}"] if power == RUNNING else [f"whether it ran is not known: {why}"]
    if for_it:
        return Likelihood.LIKELY, (*for_it, *against, *ran, *unknown)
    return (Likelihood.UNLIKELY if against else Likelihood.POSSIBLE), (*against, *ran, *unknown)


def _port(alert: Alert) -> int | None:
    """The port of ours that an inbound alert is about: as it says, else by its kind."""
    said = next((a.port for a in alert.attackers if a.port and a.source.startswith("entities")), None)
    kind = alert.alert_type.casefold()
    return said or next((port for word, port in KNOWN_PORTS.items() if word in kind), None)


def _ports(one: Suspect, port: int | None) -> tuple[list[str], list[str]]:
    """What the mappings before the machine say of the alert's port."""
    if port is None or not one.ports:
        return [], []
    hits = [m for m in one.ports if m.front[0] <= port <= m.front[1] or m.back == port]
    if any(m.alone for m in hits):
        return [f"port {port} leads to it alone"], []
    if hits:
        return [], []  # to the others as well: it says nothing of this one
    return [], [f"no port that leads to it is {port}"]


def to_json(weighed: Mapping[str, Weighed], evidence: Evidence) -> dict[str, object]:
    """As it is recorded."""
    return {"at": utc(evidence.read), "machines": {
        machine: {"powerThen": w.power_then, "powerReason": w.power_reason,
                  "likelihood": w.likelihood.value, "reasons": list(w.reasons)}
        for machine, w in weighed.items()}}


def groups_of(machine_ids: Iterable[str]) -> list[tuple[str, str]]:
    """(subscription, resource group) of the machines, lower-cased, each once."""
    parts = (m.split("/") for m in machine_ids)
    return list(dict.fromkeys((p[2], p[4]) for p in parts if len(p) > 4))


_MAPPED = re.compile(r"(\d+)(?:-(\d+))? → (\d+)(, to it alone)?")


def suspects_of(plan: Mapping[str, Any]) -> list[Suspect]:
    """The machines of a plan as it is recorded."""
    return [
        Suspect(str(m.get("id") or ""), str(m.get("power") or ""),
                tuple(p for p in map(_mapped, m.get("ports") or ()) if p is not None), m.get("speaksOut"),
                _moment(str(m.get("created") or "")))
        for m in plan.get("machines") or ()
    ]


def _moment(text: str) -> datetime | None:
    """A time as Azure writes it, which has seven digits of a second; None if it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _mapped(text: str) -> Mapped | None:
    """The inverse of `str(Mapped)`."""
    hit = _MAPPED.fullmatch(text)
    if hit is None:
        return None
    return Mapped((int(hit[1]), int(hit[2] or hit[1])), int(hit[3]), bool(hit[4]))
