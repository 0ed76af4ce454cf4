"""Other alerts on the machine in the window, and the same attacker elsewhere."""

from __future__ import annotations

import re
from datetime import timedelta

from remediation.investigation.redact import shown
from remediation.investigation.task import Finding, Sign, Weight
from remediation.model import utc
from remediation.steps.step import READS_GRAPH, Step, Work

WINDOW = timedelta(days=3)
"""Alerts come up to three days after what they are about."""
MOST_ATTACKERS = 10


def look(work: Work) -> Finding:
    """What Defender holds besides this alert."""
    since = work.activity[0] - WINDOW
    own = {work.alert.alert_id.casefold(), work.alert.ref.name.casefold() if work.alert.ref else ""}
    here = [a for a in work.tools.defender.on([work.machine], since, work.deadline)
            if a.alert_id.casefold() not in own]
    elsewhere = []
    for address in work.attackers[:MOST_ATTACKERS]:
        rows = work.tools.graph.rows("alerts_naming", work.deadline, since=utc(since), address=address)
        elsewhere += [{k: v for k, v in {**r, "address": address}.items() if k != "said"} for r in rows
                      if str(r.get("name", "")).casefold() not in own and names(str(r.get("said")), address)]
    titles = list(dict.fromkeys(shown(a.name, 80) for a in sorted(here, key=lambda a: not a.grave)))
    places = list(dict.fromkeys(shown(str(r.get("entity") or "?"), 60) for r in elsewhere))
    signs = []
    if titles:
        signs.append(
            Sign(
                Weight.LIKELY if any(a.grave for a in here) else Weight.NOTE,
                f"{_many(len(here), 'other alert')} on it: {', '.join(titles[:4])}",
            )
        )
    if places:
        signs.append(Sign(Weight.NOTE, f"the same attacker in alerts on {', '.join(places[:6])}"))
    return Finding(
        f"{_many(len(here), 'other alert')} on it, {len(elsewhere) or 'none'} on others by the same attacker",
        tuple(signs),
        {"onMachine": [{"id": a.alert_id, "name": a.name} for a in here], "sameAttacker": elsewhere})


def names(text: str, address: str) -> bool:
    """Does the text name this very address, and not one that begins or ends like it?"""
    return re.search(rf"(?<![0-9a-f.:]){re.escape(address)}(?![0-9a-f.:])", text, re.IGNORECASE) is not None


def _many(n: int, what: str) -> str:
    return f"{n or 'no'} {what}" + ("" if n == 1 else "s")


STEP = Step(
    name="related_alerts", does="other alerts on it in the window, the same attacker elsewhere", look=look,
    permissions=(*READS_GRAPH, "Microsoft.Security/locations/alerts/read"))
