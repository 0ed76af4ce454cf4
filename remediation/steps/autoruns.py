"""What starts by itself in the machine: services, timers, cron, run keys, profiles, preloaded libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from remediation.investigation.output import Output, number_of, text_of
from remediation.investigation.redact import shown
from remediation.investigation.task import Finding, Later, Sign, Weight
from remediation.steps.in_guest import run
from remediation.steps.processes import FETCHES, INCOMPLETE, UNUSUAL
from remediation.steps.step import READS_MACHINES, RUNS_COMMANDS, Step, Work

SECONDS = 600
RECENT = timedelta(days=7)
MOST_NAMED, MOST_MARKS = 8, 400


def look(work: Work) -> Finding | Later:
    """One script; what it says is judged here."""
    out = run(work, "autoruns", {}, seconds=SECONDS)
    if isinstance(out, Later):
        return out
    return judge(out, work.activity[0], work.tools.policy.inquiry.familiar)


def judge(out: Output, start: datetime, familiar: Sequence[str] = ()) -> Finding:
    """What of it a person should know: what runs from where anyone may write, what fetches from the internet,
    what is preloaded, and what has changed since shortly before the activity. Pure."""
    signs: list[Sign] = []
    fresh, dated = 0, 0
    for row in out.rows:
        path, what = text_of(row, "path"), text_of(row, "what")
        low = f"{path} {what} ".lower()
        changed = _moment(number_of(row, "modified"))
        new = changed is not None and changed >= start - RECENT  # one in the future is somebody's doing, too
        fresh, dated = fresh + new, dated + (changed is not None)
        if any(f.lower() in low for f in familiar):
            continue
        name = shown(f"{path}: {what}" if what else path, 220)
        if row.get("kind") == "preload" and what:
            signs.append(Sign(Weight.LIKELY, f"{name} is loaded into every process"))
        elif row.get("kind") == "wmi":
            signs.append(Sign(Weight.LIKELY, f"{name} is run by an event of WMI"))
        elif any(u in low for u in UNUSUAL):
            signs.append(Sign(Weight.LIKELY, f"{name} starts from where anyone may write"))
        elif any(f in low for f in FETCHES):
            signs.append(Sign(Weight.LIKELY, f"{name} fetches or hides what it runs"))
        elif new and changed is not None:
            signs.append(Sign(Weight.NOTE, f"{name} was changed on {changed:%Y-%m-%d %H:%M}Z"))
    signs.sort(key=lambda s: s.weight.rank)
    when = (f"{fresh or 'none'} changed since a week before the activity" if dated or not out.rows else
            "when they changed is not known")
    says, kept = f"{len(out.rows)} entries, {when}", signs[:MOST_NAMED]
    if not out.whole:
        says += f" ({out.doubt})"
        kept.append(Sign(Weight.NOTE, INCOMPLETE.format(doubt=out.doubt)))
    return Finding(says, tuple(kept), {"rows": list(out.rows), "doubt": out.doubt},
                   marks=tuple(dict.fromkeys(map(_mark, out.rows)))[:MOST_MARKS])


def _moment(seconds: int | None) -> datetime | None:
    """A file's time; None where there is none, or it is none that a calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (ValueError, OverflowError, OSError):
        return None


def _mark(row: Mapping[str, Any]) -> str:
    return shown(f"{row.get('kind')} {text_of(row, 'path')} {text_of(row, 'what')}", 160)


STEP = Step(
    name="autoruns", does="what starts by itself", look=look, guest=True, budget=timedelta(minutes=40),
    permissions=(*READS_MACHINES, *RUNS_COMMANDS))
