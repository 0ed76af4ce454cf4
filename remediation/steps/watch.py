"""While a block or a removal lives: does any flow to the attacker come through, are there new alerts?

Hourly, for as long as a block of the alert is in force, and for a week after a rule of a firewall was taken
out for it. A hit has the block proven anew, and is told. What was seen stays with the alert afterwards.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from remediation.errors import Conflict, PermanentError
from remediation.investigation.redact import shown
from remediation.investigation.task import Finding, Later, Sign, Weight
from remediation.model import BlockKey, BlockState, Direction, from_utc, utc
from remediation.steps.log_traces import PEOPLE, REFUSED, machines_of, owner_of
from remediation.steps.step import READS_GRAPH, READS_LOGS, Skip, Step, Work

if TYPE_CHECKING:
    from remediation.cloud.logs import Traces
    from remediation.ledger import Block, Ledger

EVERY_SECONDS = 3600.0
REST_SECONDS = 30.0
"""Until the sources are asked for which one call had no time."""
THROUGH = "let through in spite of the block or the removal"
LAG = timedelta(minutes=30)
"""Flow records come late: each look reaches back so far behind the last."""
REMOVAL_LIVES, CONVERGES = timedelta(days=7), timedelta(minutes=15)
"""A removal has no end: so long it is watched. A firewall takes minutes to take a change over."""
MOST_BLOCKS = 400
IN_FORCE = frozenset({BlockState.ACTIVE, BlockState.SHADOWED, BlockState.PENDING})


def look(work: Work) -> Finding | Later:
    """One look; as long as something is in force, another in an hour."""
    dismissed = _newly_dismissed(work)
    blocks, waits = _blocks(work)
    out = _taken_out(work)
    if not blocks and not out and not (work.memory.get("looks") or work.memory.get("asked")):
        if waits:
            return Later(EVERY_SECONDS, dict(work.memory), "its blocks wait for a person", idle=True)
        raise Skip("no block or removal of this alert is in force")
    since = from_utc(str(work.memory["until"])) - LAG if "until" in work.memory else work.now - LAG
    memory = dict(work.memory)
    passed, trouble, asked = _passed(work, blocks, out, since)
    fresh = [a for a in _fresh_alerts(work, since) if a not in memory.get("alerts", ())]
    passed = [f for f in passed if f not in memory.get("passed", ())]
    for guard in {b.key.nsg_id for b in blocks} if passed else ():
        work.tools.ledger.work.recheck(guard, work.now)  # is it still proven?
    earlier = str(memory.get("trouble", "")) if memory.get("asked") else ""
    trouble = "; ".join(dict.fromkeys(t for t in (earlier, trouble) if t))
    memory |= {"passed": [*memory.get("passed", ()), *passed][-20:],
               "alerts": [*memory.get("alerts", ()), *fresh][-20:], "trouble": trouble,
               "asked": asked, "from": memory.get("from") or utc(work.now)}
    if not asked:  # all sources have been asked: the next look begins where this one did
        memory |= {"until": memory.pop("from"), "looks": int(memory.get("looks", 0)) + 1}
    if not blocks and not out and not asked:
        return Finding(_said(memory), signs_of(memory), memory)
    tell = [
        *(f"{THROUGH}: {f}" for f in passed),
        *(f"a new alert: {a}" for a in fresh),
    ]
    pause = _next(work, blocks, memory, tell)
    if asked:
        pause = min(pause, REST_SECONDS)
    if dismissed:
        tell.append("the alert was dismissed in Defender: revoke its blocks, if that is right")
    return Later(pause, memory, _said(memory), signs_of(memory), tuple(tell))


def _next(work: Work, blocks: list[Block], memory: dict[str, Any], tell: list[str]) -> float:
    """Seconds until the next look: in an hour, or when the next block comes near its end. Of those that are
    near it now people are told, once for each end."""
    before = work.tools.policy.escalation.before_expiry
    ends = {utc(b.expires): b.expires for b in blocks if b.expires is not None}
    told = set(memory.get("ends", ()))
    near = [text for text, at in ends.items() if at - before <= work.now and text not in told]
    if near:
        count = sum(1 for b in blocks if b.expires is not None and utc(b.expires) in near)
        tell.append(f"{count} blocks end at {min(near)}: extend them, or close the incident")
    memory["ends"] = sorted(told | set(near))[-50:]
    waits = [(at - before - work.now).total_seconds() for at in ends.values() if at - before > work.now]
    return max(1.0, min([EVERY_SECONDS, *waits]))


def _newly_dismissed(work: Work) -> bool:
    """Has somebody dismissed the alert since the last look? As long as it is, no change is made in its
    machines."""
    dismissed = _dismissed(work)
    if dismissed == work.head.dismissed:
        return False
    try:
        work.tools.ledger.investigations.save_head(replace(work.head, dismissed=dismissed))
    except Conflict:
        return False  # it is changed in this moment: the next look sees to it
    return dismissed


def _dismissed(work: Work) -> bool:
    """Has somebody closed the alert in Defender? What cannot be asked is asked again in an hour."""
    if work.alert.ref is None:
        return False
    try:
        raw = work.tools.defender.fetch(work.alert.ref, work.deadline)
    except PermanentError:
        return False  # the look itself says what may not be read
    held = (raw or {}).get("properties") or raw or {}
    return str(held.get("status") or held.get("Status") or "").casefold() == "dismissed"


def _blocks(work: Work) -> tuple[list[Block], bool]:
    """The alert's blocks that are in force now; and does one wait for a person?"""
    known = _known(work.tools.ledger, work.task.alert_id)
    return [b for b in known if b.state in IN_FORCE], any(b.state is BlockState.WAITING for b in known)


def _known(ledger: Ledger, alert_id: str) -> list[Block]:
    planned = ledger.alerts.whole_plan(ledger.alerts.bodies(alert_id)).get("blocks") or ()
    found = (ledger.blocks.get(BlockKey(b["nsg"], Direction(b["direction"]), b["address"]))
             for b in planned[:MOST_BLOCKS])
    return [b for b in found if b is not None]


def _removals(ledger: Ledger, alert_id: str, now: datetime) -> list[datetime]:
    """Since when firewalls' rules are out for this alert, of those that are still watched."""
    return [at for i in ledger.firewall.removed(alert_id)
            if now - (at := (i.decided or i.found) + CONVERGES) < REMOVAL_LIVES]


def in_force(ledger: Ledger, alert_id: str, now: datetime) -> bool:
    """Is there anything to watch over?"""
    blocks = _known(ledger, alert_id)
    return any(b.state in IN_FORCE for b in blocks) or bool(_removals(ledger, alert_id, now))


def _taken_out(work: Work) -> dict[str, datetime]:
    """Attacker → since when a firewall's rule that let it through is out, for this alert."""
    since = _removals(work.tools.ledger, work.task.alert_id, work.now)
    return dict.fromkeys(work.attackers, min(since)) if since else {}


def _passed(
    work: Work, blocks: list[Block], out: dict[str, datetime], since: datetime
) -> tuple[list[str], str, int]:
    """Flows with an attacker that were let through after it was proven to be stopped; what could not be
    asked; and how many sources have been asked, where some are left for the next call (else 0)."""
    proven = dict(out)
    for b in blocks:
        if b.state is BlockState.ACTIVE and b.proven is not None:
            proven[b.key.address] = min(b.proven, proven.get(b.key.address, b.proven))
    addresses = work.tools.logs.askable(proven)
    if not addresses or not work.tools.logs.workspaces:
        return [], "" if addresses else "nothing is proven to be blocked", 0
    sources = [s for s in work.tools.logs.sources if s not in PEOPLE]
    before = int(work.memory.get("asked", 0))
    found = work.tools.logs.traces(addresses, since, work.now, work.deadline, sources, skip=before)
    asked = before + len(found)
    owners = machines_of(work.head.machines)
    said = [_flow(t, row) for t in found for row in t.rows
            if str(row.get("action") or "").casefold() not in REFUSED and _after(row, proven)
            and owner_of(row, owners)]
    trouble = "; ".join(sorted({t.trouble for t in found if t.trouble}))[:300]
    return said[:20], trouble, asked if asked < len(sources) * len(work.tools.logs.workspaces) else 0


def _after(row: Any, proven: dict[str, datetime]) -> bool:
    """Was the flow seen after the block was proven? A record that does not say when is told."""
    since = next((proven[a] for end in ("source", "destination") if (a := str(row.get(end))) in proven), None)
    try:
        latest = datetime.fromisoformat(str(row.get("latest")))
    except ValueError:
        return since is not None
    return since is not None and latest.astimezone(since.tzinfo) > since


def _flow(traces: Traces, row: Any) -> str:
    return shown(f"{traces.source}: {row.get('source')} → {row.get('destination')}, {row.get('action')}, "
                 f"last at {row.get('latest')}", 200)


def _fresh_alerts(work: Work, since: datetime) -> list[str]:
    own = {work.task.alert_id.casefold(), work.alert.ref.name.casefold() if work.alert.ref else ""}
    machines = [str(m.get("id")) for m in work.head.machines]
    try:
        found = work.tools.defender.on(machines, since, work.deadline) if machines else []
    except PermanentError:
        return []  # said by the step that looks for related alerts
    return [shown(f"{a.name} on {a.resource_id.rpartition('/')[2]}", 160) for a in found
            if a.alert_id.casefold() not in own]


def signs_of(memory: Any) -> tuple[Sign, ...]:
    """What of the watch a person should know. Pure."""
    return (
        *(Sign(Weight.LIKELY, f"{THROUGH}: {f}") for f in memory.get("passed", ())),
        *(Sign(Weight.LIKELY, f"a new alert: {a}") for a in memory.get("alerts", ())),
    )


def _said(memory: Any) -> str:
    text = (f"{memory.get('looks', 0)} looks: {len(memory['passed']) or 'no'} flows let through, "
            f"{len(memory['alerts']) or 'no'} new alerts")
    return f"{text} ({memory['trouble']})" if memory.get("trouble") else text


STEP = Step(
    name="watch", does="while a block or a removal lives: flows that come through, new alerts", look=look,
    of_alert=True, budget=timedelta(days=40),
    permissions=(*READS_GRAPH, "Microsoft.Security/locations/alerts/read", *READS_LOGS))
