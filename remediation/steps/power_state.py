"""Was the machine running during the activity, and is it now?"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remediation.errors import Forbidden, NotFound
from remediation.investigation.task import Finding, Sign, Weight
from remediation.likelihood import OFF, RUNNING, Evidence, Suspect, groups_of, weigh
from remediation.steps.step import READS_MACHINES, Skip, Step, Work

if TYPE_CHECKING:
    from remediation.likelihood import PowerChange

LOG_REACHES = timedelta(days=89)


def look(work: Work) -> Finding:
    """The instance view now; for then, what the activity log says of starts and stops since."""
    try:
        guest = work.tools.guest.machine(work.machine, work.deadline)
    except NotFound:
        raise Skip("the machine is gone") from None
    except Forbidden as error:
        raise Skip(f"the machine is not ours to look at: {error}") from None
    start = work.activity[0]
    changes: tuple[PowerChange, ...] | None = None
    unknown: tuple[str, ...] = ()
    if work.now - start < LOG_REACHES:
        try:
            changes = tuple(
                c
                for subscription, group in groups_of([work.machine])
                for c in work.tools.activity.power_changes(subscription, group, start, work.deadline)
            )
        except Forbidden as error:
            unknown = (f"the activity log cannot be read: {error}",)
    weighed = weigh(
        work.alert, [Suspect(work.machine, guest.power)], Evidence(work.now, changes, (), unknown)
    )
    then = weighed[work.machine]
    now = guest.power.removeprefix("PowerState/") or "not known"
    word = then.power_then.removeprefix("PowerState/") or "not known"
    signs = []
    if then.power_then == RUNNING and guest.power in OFF:
        signs.append(
            Sign(Weight.NOTE, f"it ran during the activity and is {now} now: memory is lost, keep its disks")
        )
    return Finding(
        f"then: {word} ({then.power_reason}); now: {now}",
        tuple(signs),
        {
            "now": guest.power,
            "then": then.power_then,
            "reason": then.power_reason,
            "agent": guest.agent,
            "os": guest.os,
            "changes": [{"operation": c.operation, "at": c.at.isoformat()} for c in changes or ()],
            "unknown": list(unknown),
        },
    )


STEP = Step(
    name="power_state", does="was it running during the activity, is it now?", look=look,
    permissions=(*READS_MACHINES, "Microsoft.Insights/eventtypes/values/read"))
