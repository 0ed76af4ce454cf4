"""Microsoft's Malicious Software Removal Tool, on Windows: run, and installed where missing, on a yes."""

from __future__ import annotations

from datetime import timedelta

from remediation.investigation.output import Output, number_of, text_of
from remediation.investigation.redact import shown
from remediation.investigation.task import Finding, Later, Sign, Weight
from remediation.steps.in_guest import run
from remediation.steps.step import READS_MACHINES, RUNS_COMMANDS, Step, StepFailed, Work

STATUS_SECONDS, RUN_SECONDS = 120, 6 * 3600
CLEAN = 0
MEANINGS = {0: "no infection was found", 6: "an infection was found and not removed",
            7: "an infection was found and not removed", 8: "an infection was found, manual steps are needed",
            9: "an infection was found, manual steps are needed", 10: "an infection was found and removed",
            11: "an infection was found and removed", 12: "an infection was found, manual steps are needed",
            13: "an infection was found, manual steps are needed"}
"""Its exit codes, as Microsoft documents them for its deployment (KB891716)."""


def look(work: Work) -> Finding | Later:
    """Is it there, and what did it say last?"""
    out = run(work, "msrt", {"Do": "status"}, seconds=STATUS_SECONDS)
    if isinstance(out, Later):
        return out
    tool = next(iter(out.of("tool")), {})
    there = tool.get("there") is True
    last = next((text_of(r, "text") for r in reversed(out.of("log")) if text_of(r, "text").strip()), "")
    says = f"version {shown(text_of(tool, 'version'), 40)} is there" if there else "it is missing"
    if last:
        says += f"; its log ends: {shown(last, 120)}"
    return Finding(
        says, (), {"rows": list(out.rows)}, wants="run it" if there else "fetch it from Microsoft and run it"
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
    meaning = MEANINGS.get(code, f"it ended with code {code}")
    signs = () if code == CLEAN else (Sign(Weight.CONFIRMED if code in MEANINGS else Weight.NOTE, meaning),)
    return Finding(meaning, signs, {"rows": list(out.rows)})


STEP = Step(
    name="msrt",
    does="the Malicious Software Removal Tool",
    look=look,
    act=act,
    guest=True,
    changes="fetches the tool where it is missing, runs it; it removes what it finds",
    budget=timedelta(hours=8),
    permissions=(*READS_MACHINES, *RUNS_COMMANDS),
)
