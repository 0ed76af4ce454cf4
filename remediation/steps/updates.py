"""Missing updates, the last assessment, a reboot that is pending; critical and security ones installed on a
yes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from remediation.errors import Invalid
from remediation.investigation.task import Finding, Later, Sign, Weight
from remediation.steps.step import READS_GRAPH, READS_MACHINES, Skip, Step, StepFailed, Work

FRESH = timedelta(days=1)
PAUSE_SECONDS = 30.0
GRAPH_PATIENCE = 6
"""So often the graph is asked again after a new assessment, which it shows late."""
GRAVE = ("critical", "security")
OVER = ("succeeded", "failed", "canceled")


def look(work: Work) -> Finding | Later:
    """The last assessment; where it is old or missing, a new one is begun and waited for."""
    if "/virtualmachinescalesets/" in work.machine:
        raise Skip("instances of a scale set are updated with their model, not one by one")
    may = "updates" in work.tools.may_install
    held = work.tools.upkeep.patches(work.machine, work.deadline)
    if held is not None and _fresh(held, work.now) and _good(held):
        return judge(held, may=may)
    if "operation" not in work.memory:
        guest = work.tools.guest.machine(work.machine, work.deadline)
        if guest.power.lower() != "powerstate/running":
            return judge(held, may=may) if held else _never(guest.power)
        url = work.tools.upkeep.assess(work.machine, work.deadline)
        return Later(PAUSE_SECONDS, {"operation": url, "polls": 0}, "Azure is looking for missing updates")
    status = _status(work)
    polls = int(work.memory["polls"]) + 1
    if status in ("failed", "canceled"):
        raise StepFailed(f"the assessment ended {status}")
    if status == "succeeded" and polls > GRAPH_PATIENCE:
        if held is not None and not _good(held):
            raise StepFailed(f"the last assessment ended {held.get('status')}")
        return judge(held, may=may) if held else Finding("assessed, but the graph does not show the result")
    return Later(PAUSE_SECONDS, {**work.memory, "polls": polls}, "Azure is looking for missing updates")


def _never(power: str) -> Finding:
    raise Skip(f"never assessed, and the machine is {power.rpartition('/')[2] or 'not running'}")


def _status(work: Work) -> str:
    url = str(work.memory["operation"])
    if not url:
        return "succeeded"
    try:
        body = work.tools.upkeep.operation(url, work.deadline)
    except Invalid as error:
        raise StepFailed(str(error)) from error
    return str(body.get("status") or "").lower()


def judge(held: Mapping[str, Any], *, may: bool = True) -> Finding:
    """What is missing. Pure. Nobody is asked where the service has not the right to install it (`may`)."""
    given = held.get("counts")
    counts = {str(k).lower(): int(v) for k, v in (given if isinstance(given, dict) else {}).items()
              if isinstance(v, int | float)}
    grave = sum(n for k, n in counts.items() if k in GRAVE)
    reboot = str(held.get("reboot")).lower() == "true"
    signs = [Sign(Weight.NOTE, f"{grave} critical or security updates are missing")] if grave else []
    if grave and not may:
        signs.append(Sign(Weight.NOTE, "the guest app may not install them (installUpdates)"))
    if reboot:
        signs.append(Sign(Weight.NOTE, "a reboot is pending"))
    others = sum(counts.values()) - grave
    says = f"{grave or 'no'} critical or security updates missing, {others or 'no'} others"
    if reboot:
        says += ", reboot pending"
    return Finding(f"{says} (assessed {str(held.get('at') or '?')[:16]})", tuple(signs), dict(held),
                   wants=f"install {grave} critical and security updates, without a reboot"
                   if grave and may else "")


def act(work: Work) -> Finding | Later:
    """Install critical and security updates; Azure does it, for up to two hours."""
    if "operation" not in work.memory:
        windows = (
            str((work.tools.upkeep.patches(work.machine, work.deadline) or {}).get("os")).lower() == "windows"
        )
        url = work.tools.upkeep.install(work.machine, windows, work.deadline)
        return Later(PAUSE_SECONDS, {"operation": url}, "Azure is installing updates")
    body = work.tools.upkeep.operation(str(work.memory["operation"]), work.deadline)
    status = str(body.get("status") or "").lower()
    if status not in OVER:
        return Later(2 * PAUSE_SECONDS, dict(work.memory), "Azure is installing updates")
    if status != "succeeded":
        raise StepFailed(f"the installation ended {status}")
    result = body.get("properties")
    output = (result.get("output") or result) if isinstance(result, dict) else {}
    inner = str(output.get("status") or "succeeded").lower()
    if inner not in ("succeeded", "completedwithwarnings"):
        raise StepFailed(f"the installation ended {inner}")
    installed, failed = output.get("installedPatchCount", "?"), output.get("failedPatchCount", 0)
    reboot = str(output.get("rebootStatus") or "")
    return Finding(
        f"{installed} updates installed, {failed} failed" + (f", reboot: {reboot}" if reboot else ""),
        (Sign(Weight.NOTE, "updates are in force only after a reboot"),)
        if reboot.lower() == "required"
        else (),
        body,
    )


def _good(held: Mapping[str, Any]) -> bool:
    """Did the assessment come to a result? One that failed has no counts, which would read as nothing
    missing."""
    return str(held.get("status") or "").lower() in ("succeeded", "completedwithwarnings")


def _fresh(held: Mapping[str, Any], now: datetime) -> bool:
    try:
        at = datetime.fromisoformat(str(held.get("at")))
    except ValueError:
        return False
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return now - at < FRESH and str(held.get("status")).lower() != "inprogress"


STEP = Step(
    name="updates",
    does="missing updates, reboot pending",
    look=look,
    act=act,
    changes="installs critical and security updates, without a reboot",
    budget=timedelta(hours=3),
    guest=True,
    permissions=(
        *READS_GRAPH,
        *READS_MACHINES,
        "Microsoft.Compute/virtualMachines/patchAssessmentResults/*",
        "Microsoft.Compute/virtualMachines/assessPatches/action",
        "Microsoft.Compute/locations/operations/read",
    ),
    changing=("Microsoft.Compute/virtualMachines/installPatches/action",),
)
