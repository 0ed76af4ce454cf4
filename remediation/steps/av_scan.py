"""A full antivirus scan, and then the proof: is what it found gone? It takes hours and may remove files, so
it waits for a yes, and is begun and looked at again rather than waited for."""

from __future__ import annotations

from datetime import timedelta

from remediation.investigation.output import Output, text_of
from remediation.investigation.redact import shown
from remediation.investigation.task import Finding, Later, Sign, Weight
from remediation.steps.in_guest import run
from remediation.steps.step import READS_MACHINES, RUNS_COMMANDS, Skip, Step, StepFailed, Work

STATUS_SECONDS, SCAN_SECONDS = 120, 6 * 3600
GONE = ("remediated", "removed", "quarantined", "quarantine", "cleaned", "blocked", "no threat")


def look(work: Work) -> Finding | Later:
    """Can a scan be made?"""
    out = run(work, "av_scan", {"DO": "status"}, seconds=STATUS_SECONDS)
    if isinstance(out, Later):
        return out
    scanner = _scanner(out)
    if not scanner:
        raise Skip("no antimalware that could scan")
    return Finding(f"{scanner} can scan", (), {"rows": list(out.rows)}, wants=f"a full scan by {scanner}")


def act(work: Work) -> Finding | Later:
    """Scan; then, by a command of its own, ask what is left."""
    if not work.memory.get("scanned"):
        out = run(work, "av_scan", {"DO": "scan"}, seconds=SCAN_SECONDS, stage="scan")
        if isinstance(out, Later):
            return out
        if not out.of("scanned") and not out.cut:
            raise StepFailed("the scan did not come to its end")
        begun = run(_after_scan(work), "av_scan", {"DO": "threats"}, seconds=SCAN_SECONDS, stage="threats")
        return begun if isinstance(begun, Later) else judge(begun)
    out = run(work, "av_scan", {"DO": "threats"}, seconds=SCAN_SECONDS, stage="threats")
    return out if isinstance(out, Later) else judge(out)


def _after_scan(work: Work) -> Work:
    from dataclasses import replace

    return replace(work, task=replace(work.task, memory={**work.memory, "scanned": True}))


def judge(out: Output) -> Finding:
    """What was found, and is it gone? Pure."""
    threats = out.of("threat")
    left = [t for t in threats if not any(g in text_of(t, "status").lower() for g in GONE)]
    named = [shown(f"{text_of(t, 'name')} in {text_of(t, 'path') or '?'}", 160) for t in threats[:5]]
    facts = {"rows": list(out.rows), "doubt": out.doubt}
    if left:
        return Finding(
            f"the scan found {len(threats)} threats, {len(left)} are still there",
            tuple(
                Sign(
                    Weight.CONFIRMED,
                    f"not removed: {shown(text_of(t, 'name'), 80)} in {shown(text_of(t, 'path'), 120)}",
                )
                for t in left[:5]
            ),
            facts,
        )
    if threats:
        return Finding(f"the scan found {len(threats)} threats, none is left", tuple(
            Sign(Weight.LIKELY, f"found and removed: {n}") for n in named), facts)
    return Finding("the scan found nothing", (), facts)


def _scanner(out: Output) -> str:
    return shown(text_of(next(iter(out.of("scanner")), {}), "name"), 60)


STEP = Step(
    name="av_scan", does="a full scan, and is the threat gone?", look=look, act=act, guest=True,
    changes="runs a full scan, which may take hours and remove what it finds", budget=timedelta(hours=14),
    permissions=(*READS_MACHINES, *RUNS_COMMANDS))
