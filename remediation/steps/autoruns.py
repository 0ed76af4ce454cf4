"""What starts by itself in the machine: services, timers, cron, run keys, profiles, preloaded libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from remediation.investigation.output import Output, number_of, text_of
from remediation.investigation.redact import shown
from remediation.investigation.task import Finding, Later, Sign, Weight
from remediation.steps.in_guest import run
from remediation.steps.processes import UNUSUAL
from remediation.steps.step import READS_MACHINES, RUNS_COMMANDS, Step, Work

SECONDS = 600
RECENT = timedelta(days=7)
FETCHES = (
    "curl ",
    "wget ",
    "invoke-webrequest",
    "downloadstring",
    "frombase64string",
    "base64 -d",
    "/dev/tcp/",
    "certutil -urlcache",
    "mshta ",
    "regsvr32 /i:http",
    " -enc ",
    "-encodedcommand",
)
"""What such an entry seldom has a reason to do, lower-cased."""
MOST_NAMED, MOST_MARKS = 8, 400


def look(work: Work) -> Finding | Later:
    """One script; what it says is judged here."""
    out = run(work, "autoruns", {}, seconds=SECONDS)
    if isinstance(out, Later):
        return out
    return judge(out, work.activity[0], work.now, work.tools.policy.inquiry.familiar)


def judge(out: Output, start: datetime, now: datetime, familiar: Sequence[str] = ()) -> Finding:
    """What of it a person should know: what runs from where anyone may write, what fetches from the internet,
    what is preloaded, and what has changed since shortly before the activity. Pure."""
    signs: list[Sign] = []
    fresh = 0
    for row in out.rows:
        path, what = text_of(row, "path"), text_of(row, "what")
        low = f"{path} {what}".lower()
        since = number_of(row, "modified")
        changed = datetime.fromtimestamp(since, UTC) if since else None
        new = changed is not None and start - RECENT <= changed <= now
        fresh += new
        if any(f.lower() in low for f in familiar):
            continue
        name = shown(f"{path}: {what}" if what else path, 220)
        if row.get("kind") == "preload" and what:
            signs.append(Sign(Weight.LIKELY, f"{name} is loaded into every process"))
        elif any(u in low for u in UNUSUAL):
            signs.append(Sign(Weight.LIKELY, f"{name} starts from where anyone may write"))
        elif any(f in low for f in FETCHES):
            signs.append(Sign(Weight.LIKELY, f"{name} fetches or hides what it runs"))
        elif new and changed is not None:
            signs.append(Sign(Weight.NOTE, f"{name} was changed on {changed:%Y-%m-%d %H:%M}Z"))
    signs.sort(key=lambda s: s.weight.rank)
    says = f"{len(out.rows)} entries, {fresh or 'none'} changed since a week before the activity"
    if out.doubt:
        says += f" ({out.doubt})"
    return Finding(says, tuple(signs[:MOST_NAMED]), {"rows": list(out.rows), "doubt": out.doubt},
                   marks=tuple(dict.fromkeys(map(_mark, out.rows)))[:MOST_MARKS])


def _mark(row: Mapping[str, Any]) -> str:
    return shown(f"{row.get('kind')} {text_of(row, 'path')} {text_of(row, 'what')}", 160)


STEP = Step(
    name="autoruns", does="what starts by itself", look=look, guest=True, budget=timedelta(minutes=40),
    permissions=(*READS_MACHINES, *RUNS_COMMANDS))
