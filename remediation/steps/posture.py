"""How well is the machine kept: open management ports, backup, what Defender recommends, its identity's
rights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from remediation.investigation.redact import shown
from remediation.investigation.task import Finding, Sign, Weight
from remediation.steps.step import READS_GRAPH, READS_MACHINES, Step, Work

PORTS = {22: "SSH", 3389: "RDP", 5985: "WinRM", 5986: "WinRM"}
FRESH = timedelta(days=2)
POWERFUL = {
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635": "Owner", "b24988ac-6180-42a0-ab88-20f7382dd24c": "Contributor",
    "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9": "User Access Administrator",
    "f58310d9-a9f6-439a-9e8d-f62e7b41a168": "Role Based Access Control Administrator",
}
"""Built-in roles by which an attacker in the machine could go further, by their well-known ids."""


def look(work: Work) -> Finding:
    """Four questions to the graph."""
    upkeep, guards = work.tools.upkeep, [str(g) for g in work.head.machine(work.machine).get("guards") or ()]
    identities = upkeep.identities(work.machine, work.deadline)
    rights = upkeep.posture("rights", identities, work.deadline) if identities else []
    ports = [r for g in guards for r in upkeep.posture("ports", g, work.deadline)]
    return judge(ports, upkeep.posture("assessments", f"{work.machine}/", work.deadline),
                 upkeep.posture("backup", work.machine, work.deadline),
                 rights, work.now)


def judge(
    ports: Sequence[Mapping[str, Any]], assessments: Sequence[Mapping[str, Any]],
    backups: Sequence[Mapping[str, Any]], rights: Sequence[Mapping[str, Any]], now: datetime,
) -> Finding:
    """What of it a person should know. Pure."""
    signs = []
    opened = sorted({p for r in ports for p in PORTS if _covers(r, p)})
    if opened:
        names = ", ".join(f"{PORTS[p]} ({p})" for p in opened)
        signs.append(Sign(Weight.NOTE, f"an Allow of its NSG opens it to the internet: {names}"))
    last = max((t for r in backups if (t := _moment(r.get("latest"))) is not None), default=None)
    if last is None:
        signs.append(Sign(Weight.NOTE, "no backup is known: save its disks before anything is cleaned"))
    elif any(str(r.get("status") or "Completed").casefold() != "completed" for r in backups):
        signs.append(
            Sign(Weight.NOTE, f"its last backup failed; the last that can be restored is of {last:%Y-%m-%d}")
        )
    elif now - last > FRESH:
        signs.append(Sign(Weight.NOTE, f"its last backup is of {last:%Y-%m-%d}"))
    strong = sorted(
        {POWERFUL[i] for r in rights if (i := str(r.get("role", "")).rpartition("/")[2]) in POWERFUL}
    )
    if strong:
        signs.append(
            Sign(
                Weight.NOTE,
                f"its identity is {', '.join(strong)}: whoever holds the machine can act in "
                "Azure; revoke it or watch it",
            )
        )
    bad = [shown(str(a.get("name") or ""), 80) for a in assessments
           if str(a.get("severity") or "").lower() in ("high", "critical")]
    if bad:
        signs.append(Sign(Weight.NOTE, f"Defender recommends: {', '.join(bad[:3])}"))
    says = (f"{len(opened) or 'no'} management ports open, backup {last:%Y-%m-%d}" if last else
            f"{len(opened) or 'no'} management ports open, no backup known")
    return Finding(
        f"{says}, {len(assessments) or 'no'} recommendations, {len(rights) or 'no'} role assignments",
        tuple(signs),
        {
            "ports": list(ports),
            "assessments": list(assessments),
            "backups": list(backups),
            "rights": list(rights),
        },
    )


def _covers(rule: Mapping[str, Any], port: int) -> bool:
    given = rule.get("ports")
    texts = [str(rule.get("port") or ""), *(map(str, given) if isinstance(given, list) else ())]
    for text in texts:
        low, _, high = text.partition("-")
        if text == "*" or (low.isdigit() and int(low) <= port <= int(high if high.isdigit() else low)):
            return True
    return False


def _moment(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


STEP = Step(
    name="posture", does="management ports, backup, recommendations, rights of its identity", look=look,
    permissions=(*READS_GRAPH, *READS_MACHINES, "Microsoft.Network/networkSecurityGroups/read",
                 "Microsoft.Security/assessments/read", "Microsoft.Authorization/roleAssignments/read",
                 "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems/read"))
