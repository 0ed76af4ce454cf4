"""What a self-test found out, hop by hop, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from remediation.model import from_utc, utc

AUTOMATION, TRIGGER, RUN, EVENT, DECIDED = "automation", "trigger", "run", "event", "decided"
SWEEP, TICK = "sweep", "tick"
HOPS: Mapping[str, str] = {
    AUTOMATION: "Defender has workflow automations that send alerts to the Logic App",
    TRIGGER: "the Logic App takes an alert",
    RUN: "it publishes the alert to the topic",
    EVENT: "Event Grid brings the event to on_alert",
    DECIDED: "the alert is read, its machine found, a block planned",
    SWEEP: "the timer sweeps",
    TICK: "the ticks come by which it runs without its timer",
}
"""In the order of an alert's way; the last two are what lifts the block."""
AFTER_TRIGGER = (RUN, EVENT, DECIDED)
WITHIN = timedelta(minutes=10)
"""What has not come by then does not come: Event Grid tries a failed delivery four times in it."""
LATEST_TICK = timedelta(minutes=11)
"""Ticks come every five minutes: one may be missed."""


class Outcome(StrEnum):
    """Of a self-test."""

    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Hop:
    """What is known of one."""

    ok: bool
    at: datetime
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A self-test: begun by someone, on a machine ('' if none was found)."""

    id: str
    started: datetime
    by: str
    machine: str
    outcome: Outcome = Outcome.RUNNING
    run: str = ""
    hops: Mapping[str, Hop] = field(default_factory=dict)
    ended: datetime | None = None
    told: bool = False
    etag: str = ""

    @property
    def failed(self) -> list[str]:
        """The hops that failed, in order."""
        return [name for name in HOPS if name in self.hops and not self.hops[name].ok]

    def why(self) -> str:
        """One sentence for people about what failed."""
        return "; ".join(f"{HOPS[n]}: no" + (f" ({d})" if (d := self.hops[n].detail) else "")
                         for n in self.failed)

    def to_json(self) -> dict[str, Any]:
        """For the API: every hop, also those that nothing is known of yet."""
        return {
            "id": self.id, "outcome": self.outcome.value, "started": utc(self.started), "by": self.by,
            "machine": self.machine, "ended": utc(self.ended) if self.ended else None,
            "hops": [self._hop(name) for name in HOPS],
        }

    def _hop(self, name: str) -> dict[str, Any]:
        held = self.hops.get(name)
        if held is None:
            return {"hop": name, "what": HOPS[name], "ok": None, "seconds": None, "detail": ""}
        return {"hop": name, "what": HOPS[name], "ok": held.ok, "detail": held.detail,
                "seconds": round((held.at - self.started).total_seconds(), 1)}


def with_hop(report: Report, name: str, hop: Hop) -> Report:
    """The report with this hop; what was found out first stays, and what has ended."""
    known = name in report.hops or report.outcome is not Outcome.RUNNING
    return report if known else replace(report, hops={**report.hops, name: hop})


def concluded(report: Report, now: datetime) -> Report:
    """The report with its outcome, if there is one now. Where the Logic App did not take the alert nothing
    more comes of it, and after `WITHIN` nothing is waited for."""
    if report.outcome is not Outcome.RUNNING:
        return report
    refused = TRIGGER in report.hops and not report.hops[TRIGGER].ok
    missing = [name for name in HOPS if name not in report.hops]
    if missing and not refused and now - report.started < WITHIN:
        return report
    hops = dict(report.hops)
    for name in missing:
        if not refused:
            hops[name] = Hop(False, now, f"not within {WITHIN.seconds // 60} minutes")
        elif name in AFTER_TRIGGER:
            hops[name] = Hop(False, now, "not reached")
    done = replace(report, hops=hops, ended=now)
    return replace(done, outcome=Outcome.FAILED if done.failed else Outcome.PASSED)


def hops_to_json(hops: Mapping[str, Hop]) -> dict[str, Any]:
    """For the ledger."""
    return {n: {"ok": h.ok, "at": utc(h.at), "detail": h.detail[:500]} for n, h in hops.items()}


def hops_from_json(held: Mapping[str, Any]) -> dict[str, Hop]:
    """The inverse."""
    return {n: Hop(bool(h["ok"]), from_utc(str(h["at"])), str(h["detail"]))
            for n, h in held.items() if n in HOPS}
