"""A full antivirus scan, and then the proof: is what it found gone? It takes hours and may remove files, so
it waits for a yes, and is begun and looked at again rather than waited for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from remediation.investigation.output import Output, number_of, text_of
from remediation.investigation.redact import shown
from remediation.investigation.task import Finding, Later, Sign, Weight
from remediation.steps.in_guest import run
from remediation.steps.step import READS_MACHINES, RUNS_COMMANDS, Skip, Step, StepFailed, Work, whole

STATUS_SECONDS, SCAN_SECONDS = 120, 6 * 3600
GONE = frozenset(("remediated", "removed", "quarantined", "cleaned", "blocked", "no threat"))
"""Words of the scanners for what is not there any more; whatever else they say, it is."""
OLD = timedelta(days=7)
"""Scanners remember: what they found so long before the activity is no finding of this scan."""


def look(work: Work) -> Finding | Later:
    """Can a scan be made?"""
    out = run(work, "av_scan", {"DO": "status"}, seconds=STATUS_SECONDS)
    if isinstance(out, Later):
        return out
    scanner = _scanner(out)
    if not scanner:
        whole(out)
        raise Skip("no antimalware that could scan")
    return Finding(f"{scanner} can scan", (), {"rows": list(out.rows)}, wants=f"a full scan by {scanner}")


def act(work: Work) -> Finding | Later:
    """Scan; then, by a command of its own, ask what is left."""
    if not work.memory.get("scanned"):
        out = run(work, "av_scan", {"DO": "scan"}, seconds=SCAN_SECONDS, stage="scan")
        if isinstance(out, Later):
            return out
        ended = next(iter(out.of("scanned")), None)
        if ended is None or number_of(ended, "exit") != 0:
            raise StepFailed("the scan did not come to its end" + (
                f": it ended with {text_of(ended, 'exit')}" if ended is not None else ""))
        if out.of("threat") or _scanner(out) == "ClamAV":  # it has no memory: what it found, it has said
            return judge(out, work.activity[0])
        work = replace(work, task=replace(work.task, memory={**work.memory, "scanned": True}))
    out = run(work, "av_scan", {"DO": "threats"}, seconds=STATUS_SECONDS, stage="threats")
    return out if isinstance(out, Later) else judge(out, work.activity[0])


def judge(out: Output, start: datetime) -> Finding:
    """What was found, and is it gone? Pure. Raises StepFailed where "nothing" would be said from an answer
    that is not whole."""
    threats = out.of("threat")
    left = [t for t in threats if text_of(t, "status").strip().lower() not in GONE]
    fresh = [t for t in threats if t not in left and not _before(text_of(t, "seen"), start - OLD)]
    facts = {"rows": list(out.rows), "doubt": out.doubt}
    if left:
        return Finding(f"the scan knows {len(threats)} threats, {len(left)} are still there", tuple(
            Sign(Weight.CONFIRMED, f"not removed ({shown(text_of(t, 'status'), 30)}): {_named(t)}")
            for t in left[:5]), facts)
    whole(out)
    if fresh:
        return Finding(f"the scan found {len(fresh)} threats, none is left", tuple(
            Sign(Weight.LIKELY, f"found and removed: {_named(t)}") for t in fresh[:5]), facts)
    return Finding("the scan found nothing" + (
        f"; {len(threats)} threats of long ago are gone" if threats else ""), (), facts)


def _named(threat: Mapping[str, Any]) -> str:
    return shown(f"{text_of(threat, 'name')} in {text_of(threat, 'path') or '?'}", 160)


def _before(text: str, moment: datetime) -> bool:
    """Was it seen before then? A time that cannot be read is not."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return False
    return (found if found.tzinfo else found.replace(tzinfo=UTC)) < moment


def _scanner(out: Output) -> str:
    return shown(text_of(next(iter(out.of("scanner")), {}), "name"), 60)


STEP = Step(
    name="av_scan", does="a full scan, and is the threat gone?", look=look, act=act, guest=True,
    changes="runs a full scan, which may take hours and remove what it finds", budget=timedelta(hours=14),
    permissions=(*READS_MACHINES, *RUNS_COMMANDS))
