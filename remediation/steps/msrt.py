"""Microsoft's Malicious Software Removal Tool, on Windows: run on a yes; where it is missing, Microsoft
Safety Scanner is fetched in its place, which has the same engine."""

from __future__ import annotations

from datetime import timedelta

from remediation.investigation.output import Output, number_of, text_of
from remediation.investigation.redact import shown
from remediation.investigation.task import Finding, Later, Sign, Weight
from remediation.steps.in_guest import run
from remediation.steps.step import READS_MACHINES, RUNS_COMMANDS, Step, StepFailed, Work, whole

STATUS_SECONDS, RUN_SECONDS = 120, 6 * 3600
MEANINGS = {
    0: (None, "no infection was found"),
    6: (Weight.CONFIRMED, "an infection was found"),
    7: (Weight.CONFIRMED, "an infection was found, and there were errors"),
    8: (Weight.CONFIRMED, "an infection was found and removed in part: steps by hand are needed"),
    9: (
        Weight.CONFIRMED,
        "an infection was found and removed in part: steps by hand are needed, and there were errors",
    ),
    10: (Weight.LIKELY, "an infection was found and removed"),
    11: (Weight.LIKELY, "an infection was found and removed, and there were errors"),
    12: (Weight.LIKELY, "an infection was found and removed: a restart is needed"),
    13: (Weight.LIKELY, "an infection was found and removed: a restart is needed, and there were errors"),
}
"""Its exit codes, as Microsoft documents them for its deployment (KB891716); others are errors."""


def look(work: Work) -> Finding | Later:
    """Is it there, and what did it say last?"""
    out = run(work, "msrt", {"Do": "status"}, seconds=STATUS_SECONDS)
    if isinstance(out, Later):
        return out
    tool = next(iter(whole(out).of("tool")), {})
    there = tool.get("there") is True
    last = next((text_of(r, "text") for r in reversed(out.of("log")) if text_of(r, "text").strip()), "")
    says = f"version {shown(text_of(tool, 'version'), 40)} is there" if there else "it is missing"
    if last:
        says += f"; its log ends: {shown(last, 120)}"
    return Finding(
        says,
        (),
        {"rows": list(out.rows)},
        wants="run it" if there else "fetch Microsoft Safety Scanner and run it",
    )


def act(work: Work) -> Finding | Later:
    """A full run, which removes what it finds."""
    out = run(work, "msrt", {"Do": "run", "Install": "yes"}, seconds=RUN_SECONDS)
    return out if isinstance(out, Later) else judge(out)


def judge(out: Output) -> Finding:
    """What it came to. Pure. Raises StepFailed if it did not run."""
    refused = next(iter(out.of("refused")), None)
    if refused is not None:
        raise StepFailed(shown(text_of(refused, "why"), 200))
    code = number_of(next(iter(out.of("ran")), {}), "exit")
    if code is None:
        raise StepFailed("the tool did not run")
    if code not in MEANINGS:
        raise StepFailed(f"the tool ended with error {code}")
    weight, meaning = MEANINGS[code]
    name = shown(text_of(next(iter(out.of("tool")), {}), "name") or "MSRT", 40)
    return Finding(f"{name}: {meaning}", (Sign(weight, meaning),) if weight else (), {"rows": list(out.rows)})


STEP = Step(
    name="msrt",
    does="the Malicious Software Removal Tool",
    look=look,
    act=act,
    guest=True,
    changes="runs the tool, or Microsoft Safety Scanner where it is missing; either removes what it finds",
    budget=timedelta(hours=8),
    permissions=(*READS_MACHINES, *RUNS_COMMANDS),
)
