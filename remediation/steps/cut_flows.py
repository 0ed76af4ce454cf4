"""Live connections with the attacker: a deny in an NSG does not end those that exist. Shown, and cut on a
yes."""

from __future__ import annotations

import ipaddress
from datetime import timedelta

from remediation.investigation.output import Output, text_of
from remediation.investigation.redact import shown
from remediation.investigation.task import Finding, Later, Sign, Weight
from remediation.prefixes import network
from remediation.steps.in_guest import run
from remediation.steps.step import READS_MACHINES, RUNS_COMMANDS, Skip, Step, StepFailed, Work, whole

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
    """Those accused; after a yes, those that were shown. None that people protect or hold."""
    protected, holds = work.tools.ledger.control.wishes()
    nets = [n for n in (network(p.prefix) for p in protected) if n is not None]
    wanted = [a for a in work.memory.get("addresses") or work.attackers[:MOST_ADDRESSES]
              if a not in holds and not any(ipaddress.ip_address(a) in n for n in nets)]
    if not wanted:
        raise Skip("the alert names no attacker that may be acted upon")
    return ",".join(wanted)


LIVE = ("ESTAB", "ESTABLISHED", "FIN-WAIT-1", "FINWAIT1", "FIN-WAIT-2", "FINWAIT2", "CLOSE-WAIT", "CLOSEWAIT")
"""Packets can flow. An attempt (SYN-SENT) is none yet, and what waits for its time (TIME-WAIT) is none any
more."""


def judge(out: Output, *, cut: bool) -> Finding:
    """What was there, and whether it is still. Pure. Raises StepFailed where that cannot be told."""
    tools = next(iter(whole(out).of("tools")), {})
    if tools.get("ss") is not True:
        raise StepFailed("the machine has no tool that shows its connections (ss)")
    alive = [r for r in out.of("before") if text_of(r, "state").upper() in LIVE]
    left = [r for r in out.of("after") if text_of(r, "state").upper() in LIVE]
    tries = [r for r in out.of("before") if text_of(r, "state").upper() in ("SYN-SENT", "SYNSENT")]
    facts = {"rows": list(out.rows), "doubt": out.doubt}
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
    seen = list(dict.fromkeys(text_of(r, "address") for r in alive))
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
    guest=True,
    changes="ends the machine's connections with the attacker (Linux: ss -K, conntrack; Windows: a reset, "
    "behind a rule of its own firewall for some seconds)",
    budget=timedelta(minutes=20),
    permissions=(*READS_MACHINES, *RUNS_COMMANDS),
)
