"""Live connections with the attacker: a deny in an NSG does not end those that exist. Shown, and cut on a
yes."""

from __future__ import annotations

from datetime import timedelta

from remediation.investigation.output import Output, text_of
from remediation.investigation.redact import shown
from remediation.investigation.task import Finding, Later, Sign, Weight
from remediation.steps.in_guest import run
from remediation.steps.step import READS_MACHINES, RUNS_COMMANDS, Skip, Step, StepFailed, Work

SECONDS = 120
MOST_ADDRESSES = 50


def look(work: Work) -> Finding | Later:
    """Which are there?"""
    out = run(work, "cut_flows", {"ATTACKERS": _attackers(work), "CUT": "no"}, seconds=SECONDS)
    return out if isinstance(out, Later) else judge(out, cut=False)


def act(work: Work) -> Finding | Later:
    """End them, and look again."""
    out = run(work, "cut_flows", {"ATTACKERS": _attackers(work), "CUT": "yes"}, seconds=SECONDS)
    return out if isinstance(out, Later) else judge(out, cut=True)


def _attackers(work: Work) -> str:
    if not work.attackers:
        raise Skip("the alert names no attacker")
    return ",".join(work.attackers[:MOST_ADDRESSES])


def judge(out: Output, *, cut: bool) -> Finding:
    """What was there, and whether it is still. Pure. Raises StepFailed where the tool is missing."""
    tools = next(iter(out.of("tools")), {})
    if tools.get("ss") is not True:
        raise StepFailed("the machine has no tool that shows its connections (ss)")
    before, after = out.of("before"), out.of("after")
    alive = [r for r in before if text_of(r, "state").upper() not in ("TIME-WAIT", "TIMEWAIT")]
    left = [r for r in after if text_of(r, "state").upper() not in ("TIME-WAIT", "TIMEWAIT")]
    facts = {"rows": list(out.rows), "doubt": out.doubt}
    if cut:
        if left:
            raise StepFailed(
                f"{len(left)} of {len(alive)} connections with the attacker remain: restart the machine, "
                "or isolate it"
            )
        return Finding(f"{len(alive) or 'no'} live connections with the attacker were cut", (), facts)
    signs = tuple(
        Sign(Weight.CONFIRMED, shown(f"a live connection {text_of(r, 'local')} → {text_of(r, 'peer')}", 200))
        for r in alive[:5]
    )
    return Finding(f"{len(alive) or 'no'} live connections with the attacker", signs, facts,
                   wants=f"cut {len(alive)} live connections with the attacker" if alive else "")


STEP = Step(
    name="cut_flows",
    does="live connections with the attacker",
    look=look,
    act=act,
    guest=True,
    changes="ends the machine's connections with the attacker (Linux: ss -K, conntrack; Windows: a rule of "
    "its own firewall)",
    budget=timedelta(minutes=20),
    permissions=(*READS_MACHINES, *RUNS_COMMANDS),
)
