"""Traces of the attacker in the logs: Azure Firewall, flow logs, WAF, activity log, sign-ins.

Once for an alert: a flow is between the attacker and whichever machine, so the hits are said of the machine
whose address they show. A source that is not collected is an answer, not an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remediation.investigation.redact import shown
from remediation.investigation.task import CUT, Finding, Later, Sign, Weight
from remediation.steps.step import READS_LOGS, Skip, Step, StepFailed, Work
from remediation.topology import name_of

if TYPE_CHECKING:
    from remediation.cloud.logs import Traces

BEFORE = timedelta(hours=24)
PEOPLE = ("activity", "signins", "signins_programs", "signins_silent")
"""Sources about people and Azure, not about machines."""
REFUSED = ("deny", "denied", "blocked", "block", "drop", "d")
SUCCEEDED = ("0", "success", "succeeded", "accept", "accepted", "start", "started")
"""Of a sign-in or an operation: it was let in. A failed one is a note."""


def look(work: Work) -> Finding | Later:
    """A day before the activity until now; as many sources in one call as its time allows."""
    from remediation.cloud.logs import Traces

    if not work.tools.logs.workspaces:
        raise Skip("no Log Analytics workspace is named (RESPONDER_WORKSPACES)")
    addresses = work.tools.logs.askable(work.attackers)
    if not addresses:
        raise Skip("the alert names no attacker")
    held = work.memory if work.memory.get("of") == addresses else {}  # attackers may have come to it
    asked = [Traces(**{**one, "rows": tuple(one["rows"])}) for one in held.get("asked", ())]
    asked += work.tools.logs.traces(
        addresses, work.activity[0] - BEFORE, work.now, work.deadline, skip=len(asked)
    )
    if len(asked) < work.tools.logs.count:
        memory = {"of": addresses, "asked": [asdict(t) for t in asked]}
        return Later(1.0, memory, "the other sources are asked")
    if all(t.trouble for t in asked):
        raise StepFailed(f"no workspace can be asked: {asked[0].trouble}")
    return judge(asked, machines_of(work.head.machines), addresses)


def machines_of(machines: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Private address → machine; of an address that two of them have, in networks of their own, neither."""
    found: dict[str, str] = {}
    for m in machines:
        for address in m.get("addresses") or ():
            found[str(address)] = (
                str(m.get("id")) if found.get(str(address), m.get("id")) == m.get("id") else ""
            )
    return {a: m for a, m in found.items() if m}


def owner_of(row: Mapping[str, Any], owners: Mapping[str, str]) -> str:
    """The machine that a flow shows, by its address and, where the record names one, its name too: another
    network may have the same address."""
    for end, vm in (("source", "from_vm"), ("destination", "to_vm")):
        machine = owners.get(str(row.get(end) or ""), "")
        named = str(row.get(vm) or "").rpartition("/")[2].casefold()
        if machine and (not named or named == machine.rpartition("/")[2].casefold()):
            return machine
    return ""


def judge(found: Sequence[Traces], owners: Mapping[str, str], attackers: Sequence[str]) -> Finding:
    """What the sources show, said of the machines that they show. `marks`: the sources about machines that
    were asked. Pure."""
    told: dict[tuple[str, str, Weight], list[Sign]] = {}
    hits = 0
    for traces in found:
        for row in traces.rows:
            hits += 1
            sign = _sign(traces.source, row, owners, attackers)
            if sign:
                told.setdefault((traces.source, sign.machine, sign.weight), []).append(sign)
    signs = [one for same in told.values() for one in _together(same)]
    cut = sorted({t.source for t in found if t.cut})
    asked = sorted({t.source for t in found if not t.missing and not t.trouble})
    missing = sorted({t.source for t in found if t.missing} - set(asked))
    trouble = sorted({f"{t.workspace}: {t.trouble.partition(': ')[2]}" for t in found if t.trouble})
    says = f"{hits or 'no'} traces in {', '.join(asked) or 'no source'}"
    if missing:
        says += f"; not collected: {', '.join(missing)}"
    if cut:
        says += f"; more than is read in {', '.join(cut)}"
    if trouble:
        says += f"; could not be asked: {shown('; '.join(trouble), 200)}"
    signs.sort(key=lambda s: s.weight.rank)
    marks = [a for a in asked if a not in PEOPLE]
    marks += [CUT] if marks and set(cut) - set(PEOPLE) else []
    facts = {
        "sources": [
            {
                "source": t.source,
                "workspace": t.workspace,
                "missing": t.missing,
                "trouble": t.trouble,
                "cut": t.cut,
                "rows": list(t.rows),
            }
            for t in found
        ]
    }
    return Finding(says, tuple(signs), facts, marks=tuple(marks))


def _together(same: Sequence[Sign]) -> list[Sign]:
    """One machine's many rows of a source crowd out no other machine's: the first, and how many more."""
    once = list(dict.fromkeys(same))
    more = f" (and {len(once) - 1} more like it)" if len(once) > 1 else ""
    return [Sign(once[0].weight, once[0].text + more, once[0].machine)]


def _sign(
    source: str, row: Mapping[str, Any], owners: Mapping[str, str], attackers: Sequence[str]
) -> Sign | None:
    ends = (str(row.get("source") or ""), str(row.get("destination") or ""))
    what, action = _said(source, row, ends), str(row.get("action") or "").casefold()
    if source in PEOPLE:
        inside = action in SUCCEEDED
        return Sign(Weight.LIKELY if inside else Weight.NOTE, f"{what}: the attacker's address "
                    f"{'acts' if inside else 'tried to act'} in Azure or Entra ID")
    owner = owner_of(row, owners)
    if owner:
        return Sign(Weight.NOTE if action in REFUSED else Weight.LIKELY, what, owner)
    return Sign(Weight.NOTE, what) if any(e in attackers for e in ends) else None


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
    permissions=READS_LOGS)
