"""Live connections with the attacker: a deny in an NSG does not end those that exist. Shown, and cut on a
yes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from remediation.guardrails import questions, refusal
from remediation.investigation.output import Output, text_of
from remediation.investigation.redact import shown
from remediation.investigation.task import Finding, Later, Sign, Weight
from remediation.steps.in_guest import run
from remediation.steps.processes import INCOMPLETE
from remediation.steps.step import POLICY, READS_MACHINES, RUNS_COMMANDS, Skip, Step, StepFailed, Work, whole

SECONDS = 120
MOST_ADDRESSES = 50


def look(work: Work) -> Finding | Later:
    """Which are there?"""
    accused = work.attackers[:MOST_ADDRESSES]
    if not accused:
        raise Skip("the alert names no attacker")
    out = run(work, "cut_flows", {"ATTACKERS": ",".join(accused), "CUT": "no"}, seconds=SECONDS)
    return out if isinstance(out, Later) else judge(out, accused, cut=False)


def act(work: Work) -> Finding | Later:
    """End those that were shown, and look again."""
    wanted = _cuttable(work)
    out = run(work, "cut_flows", {"ATTACKERS": ",".join(wanted), "CUT": "yes"}, seconds=SECONDS)
    return out if isinstance(out, Later) else judge(out, wanted, cut=True)


def _cuttable(work: Work) -> list[str]:
    """What the look has shown, and the guardrails let be cut as they let it be blocked. What they would ask a
    person about is cut after a person's yes alone; what is held, not at all."""
    around, rails = work.tools.surroundings.now(work.deadline), work.tools.policy.guardrails
    unasked = work.task.approved_by == POLICY
    if not around.estate.fresh(work.now, rails.estate_max_age):
        raise Skip("the estate's own addresses are not known freshly enough to rule them out")
    shown_then = [a for a in work.attackers if a in work.memory.get("addresses", ())]
    found, why = [], ""
    for address in shown_then:
        hold = around.holds.get(address)
        no = refusal(address, rails, around) or (
            f"held by {hold.by} ({hold.reason})" if hold is not None and hold.until > work.now else "")
        asks = questions(address, rails, around, None, work.now) if unasked and not no else ()
        if no or asks:
            why = f"{address}: {no or asks[0]}"
        else:
            found.append(address)
    if not found:
        raise Skip(f"no connection may be cut: {why}" if why else "no connection was shown")
    return found


LIVE = ("ESTAB", "ESTABLISHED", "FIN-WAIT-1", "FINWAIT1", "FIN-WAIT-2", "FINWAIT2", "CLOSE-WAIT", "CLOSEWAIT")
"""Packets can flow. An attempt (SYN-SENT) is none yet, and what waits for its time (TIME-WAIT) is none any
more."""


def judge(out: Output, asked: Sequence[str], *, cut: bool) -> Finding:
    """What was there with these addresses, and whether it is still. Pure. Raises StepFailed where that cannot
    be told."""
    before, after = (
        [r for r in out.of(kind) if text_of(r, "address") in asked] for kind in ("before", "after"))
    alive = [r for r in before if text_of(r, "state").upper() in LIVE]
    left = [r for r in after if text_of(r, "state").upper() in LIVE]
    tries = [r for r in before if text_of(r, "state").upper() in ("SYN-SENT", "SYNSENT")]
    facts = {"rows": list(out.rows), "doubt": out.doubt}
    if cut or not alive:  # "none" wants the whole answer; one that is there is there
        tools = next(iter(whole(out).of("tools")), {})
        if tools.get("ss") is not True:
            raise StepFailed("the machine has no tool that shows its connections (ss)")
    if cut:
        if left:
            raise StepFailed(
                f"{len(left)} of {len(alive)} connections with the attacker remain: restart the machine, "
                "or isolate it"
            )
        return Finding(f"{len(alive) or 'no'} live connections with the attacker were cut", (), facts)
    signs = [Sign(Weight.NOTE if r.get("inbound") is True else Weight.CONFIRMED, shown(
        f"a live connection {text_of(r, 'local')} → {text_of(r, 'peer')}"
        + (", to a port that listens" if r.get("inbound") is True else ""), 200)) for r in alive[:5]]
    if tries:
        signs.append(Sign(Weight.LIKELY, f"it tries to connect to the attacker ({len(tries)} attempts now)"))
    if not out.whole:
        signs.append(Sign(Weight.NOTE, INCOMPLETE.format(doubt=out.doubt)))
    seen = [a for a in asked if any(text_of(r, "address") == a for r in alive)]
    return Finding(
        f"{len(alive) or 'no'} live connections with the attacker",
        tuple(signs),
        facts,
        wants=f"cut {len(alive)} live connections with {', '.join(seen)}" if alive else "",
        keep={"addresses": seen},
    )


STEP = Step(
    name="cut_flows",
    does="live connections with the attacker",
    look=look,
    act=act,
    guest=True, of_attackers=True,
    changes="ends the machine's connections with the attacker (Linux: ss -K, conntrack; Windows: a reset, "
    "behind a rule of its own firewall for some seconds)",
    budget=timedelta(minutes=20),
    permissions=(*READS_MACHINES, *RUNS_COMMANDS),
)
