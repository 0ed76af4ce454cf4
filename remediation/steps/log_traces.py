"""Traces of the attacker in the logs: Azure Firewall, flow logs, WAF, activity log, sign-ins.

Once for an alert: a flow is between the attacker and whichever machine, so the hits are said of the machine
whose address they show. A source that is not collected is an answer, not an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remediation.investigation.redact import shown
from remediation.investigation.task import Finding, Sign, Weight
from remediation.steps.step import Skip, Step, StepFailed, Work, name_of

if TYPE_CHECKING:
    from remediation.cloud.logs import Traces

BEFORE = timedelta(hours=24)
PEOPLE = ("activity", "signins")
"""Sources about people and Azure, not about machines."""
REFUSED = ("deny", "denied", "blocked", "block", "drop", "d")


def look(work: Work) -> Finding:
    """A day before the activity until now."""
    if not work.tools.logs.workspaces:
        raise Skip("no Log Analytics workspace is named (RESPONDER_WORKSPACES)")
    addresses = work.tools.logs.askable(work.attackers)
    if not addresses:
        raise Skip("the alert names no attacker")
    found = work.tools.logs.traces(addresses, work.activity[0] - BEFORE, work.now, work.deadline)
    if all(t.trouble for t in found):
        raise StepFailed(f"no workspace can be asked: {found[0].trouble}")
    return judge(found, machines_of(work.head.machines), addresses)


def machines_of(machines: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Private address → machine."""
    return {str(a): str(m.get("id")) for m in machines for a in m.get("addresses") or ()}


def judge(found: Sequence[Traces], owners: Mapping[str, str], attackers: Sequence[str]) -> Finding:
    """What the sources show, said of the machines that they show. Pure."""
    signs: list[Sign] = []
    hits = 0
    for traces in found:
        for row in traces.rows:
            hits += 1
            ends = (str(row.get("source") or ""), str(row.get("destination") or ""))
            owner = next((owners[e] for e in ends if e in owners), "")
            what = _said(traces.source, row, ends)
            refused = str(row.get("action") or "").casefold() in REFUSED
            if traces.source in PEOPLE:
                signs.append(Sign(Weight.LIKELY, f"{what}: the attacker's address acts in Azure or Entra ID"))
            elif owner:
                signs.append(Sign(Weight.NOTE if refused else Weight.LIKELY, what, owner))
            elif any(e in attackers for e in ends):
                signs.append(Sign(Weight.NOTE, what))
    asked = sorted({t.source for t in found if not t.missing and not t.trouble})
    missing = sorted({t.source for t in found if t.missing} - set(asked))
    trouble = sorted({f"{t.workspace}: {t.trouble.partition(': ')[2]}" for t in found if t.trouble})
    says = f"{hits or 'no'} traces in {', '.join(asked) or 'no source'}"
    if missing:
        says += f"; not collected: {', '.join(missing)}"
    if trouble:
        says += f"; could not be asked: {shown('; '.join(trouble), 200)}"
    signs.sort(key=lambda s: s.weight.rank)
    return Finding(says, tuple(dict.fromkeys(signs)), {
        "sources": [{"source": t.source, "workspace": t.workspace, "missing": t.missing, "trouble": t.trouble,
                     "rows": list(t.rows)} for t in found]})


def _said(source: str, row: Mapping[str, Any], ends: tuple[str, str]) -> str:
    port = row.get("port")
    to = ends[1] + (f":{int(port)}" if isinstance(port, int | float) and port else "")
    return shown(
        f"{source}: {name_of(ends[0])} → {to}, {row.get('action') or '?'}, {row.get('flows') or 1} times, "
        f"last at {row.get('latest') or '?'}",
        250,
    )


STEP = Step(
    name="log_traces", does="traces of the attacker in the logs", look=look, of_alert=True,
    permissions=("Microsoft.OperationalInsights/workspaces/query/*/read",))
