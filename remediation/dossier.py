"""All that the ledger knows of an alert, as people and the escalation read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from remediation.alerts import normalise
from remediation.errors import NotFound
from remediation.investigation.task import Task, peculiar
from remediation.ledger import Block, Head, Ledger
from remediation.ledger.alerts import counting
from remediation.model import Alert, BlockKey, Direction, joined, utc
from remediation.view import machines_of, with_traces

SHOWN_BLOCKS, LOOKS_AT_ONCE = 400, 8


class Dossier:
    """Reads. One instance serves all threads."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._looks = ThreadPoolExecutor(LOOKS_AT_ONCE, "show")

    def of(self, alert_id: str) -> dict[str, Any]:
        """Bodies, normal form, plan, blocks, machines, investigation, actions with the time of every hop.
        Raises NotFound."""
        bodies = self._ledger.alerts.bodies(alert_id)
        if not bodies:
            raise NotFound(f"no alert {alert_id}")
        first = bodies[0]
        hops = {
            name: utc(at)
            for name in ("generated", "event", "received", "verified", "planned", "claimed")
            if (at := first.time(name)) is not None
        }
        counted = counting(bodies)
        plan = self._ledger.alerts.whole_plan(bodies) or None
        weighed = [a for b in counted if (a := self._ledger.alerts.assessment(b)) is not None]
        assessment = {**weighed[-1], "machines": {
            m: held for a in weighed for m, held in (a.get("machines") or {}).items()}} if weighed else None
        blocks = self._blocks_of(plan or {})
        kept = self._ledger.investigations
        head = kept.head(alert_id)
        tasks = kept.tasks(alert_id) if head else []
        told = kept.told(alert_id)
        return {
            "alertId": alert_id,
            "state": first.state.value,
            "alert": alert_to_json(joined([normalise(self._ledger.alerts.raw(b)) for b in counted])),
            "plan": plan,
            "blocks": [_shown(b, tasks) for b in blocks],
            "machines": with_traces(
                machines_of(plan or {}, assessment, blocks), tasks),
            "investigation": _inquiry(head, tasks),
            "escalation": {"version": told.version, "at": utc(told.at), "arrived": len(told.arrived)}
            if told.at else None,
            "hops": hops,
            "actions": self._ledger.alerts.actions(alert_id),
            "bodies": [
                {"accusation": b.accusation, "state": b.state.value,
                 "verdict": b.verdict.value if b.verdict else None}
                for b in bodies
            ],
        }

    def _blocks_of(self, plan: Mapping[str, Any]) -> list[Block]:
        """The blocks that a recorded plan wanted, as they are now, ended ones too."""
        keys = [BlockKey(b["nsg"], Direction(b["direction"]), b["address"]) for b in plan.get("blocks") or ()]
        found = self._looks.map(self._ledger.blocks.latest, keys[:SHOWN_BLOCKS])
        return [b for b in found if b is not None]


def _shown(block: Block, tasks: Iterable[Task]) -> dict[str, Any]:
    """A block; of one that has ended, what the watch has seen while it stood, too."""
    seen = next((t.says or t.reason for t in tasks if t.step == "watch"), "") if block.ended else ""
    return {**block.to_json(), **({"watched": seen} if seen else {})}


def _inquiry(head: Head | None, tasks: list[Task]) -> dict[str, Any] | None:
    if head is None:
        return None
    alone: dict[str, list[str]] = {}
    for step in ("processes", "autoruns"):
        for machine, marks in peculiar(tasks, step).items():
            alone.setdefault(machine, []).extend(marks[:3])
    order = {m["id"]: n for n, m in enumerate(head.machines)}
    tasks = sorted(tasks, key=lambda t: (order.get(t.machine, -1), t.number))
    return {**head.to_json(), "tasks": [t.to_json() for t in tasks], "peculiar": alone}


def alert_to_json(alert: Alert) -> dict[str, Any]:
    """The normal form as plain data."""
    return {
        "alert_id": alert.alert_id,
        "alert_type": alert.alert_type,
        "display_name": alert.display_name,
        "severity": alert.severity,
        "status": alert.status,
        "direction": alert.direction.value,
        "is_sample": alert.is_sample,
        "intents": list(alert.intents),
        "start": utc(alert.start) if alert.start else None,
        "end": utc(alert.end) if alert.end else None,
        "generated": utc(alert.generated) if alert.generated else None,
        "resource_ids": list(alert.resource_ids),
        "attackers": [
            {"address": a.address, "port": a.port, "source": a.source, "protocol": a.protocol}
            for a in alert.attackers
        ],
        "compromised_entity": alert.compromised_entity,
        "ext": dict(alert.ext),
        "own_addresses": list(alert.own_addresses),
        "warnings": list(alert.warnings),
    }
