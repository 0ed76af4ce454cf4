"""The steps of an investigation. A new one is one file here and one line below; the policy names them."""

from __future__ import annotations

from collections.abc import Mapping

from remediation.errors import BadPolicy
from remediation.policy import Policy
from remediation.steps import (
    antimalware,
    autoruns,
    av_scan,
    cut_flows,
    log_traces,
    msrt,
    posture,
    power_state,
    processes,
    related_alerts,
    updates,
    watch,
)
from remediation.steps.step import Step

STEPS: Mapping[str, Step] = {
    "power_state": power_state.STEP,
    "related_alerts": related_alerts.STEP,
    "log_traces": log_traces.STEP,
    "posture": posture.STEP,
    "updates": updates.STEP,
    "processes": processes.STEP,
    "autoruns": autoruns.STEP,
    "antimalware": antimalware.STEP,
    "cut_flows": cut_flows.STEP,
    "av_scan": av_scan.STEP,
    "msrt": msrt.STEP,
    "watch": watch.STEP,
}


def check_names(policy: Policy) -> None:
    """Does the policy name steps that are there? Raises BadPolicy."""
    wrong = [f"investigation: steps: {name} is no step (there are {', '.join(STEPS)})"
             for name in policy.inquiry.steps if name not in STEPS]
    wrong += [f"investigation: unasked: {name} changes nothing: it needs no yes"
              for name in policy.inquiry.unasked if name in STEPS and STEPS[name].act is None]
    if wrong:
        raise BadPolicy(wrong)
