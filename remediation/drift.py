"""Has someone changed a rule of ours? Judged only under the lease, against what the last holder
proved. Pure.

A difference that our own last attempt explains is no drift: an interrupted write may have landed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from remediation.model import from_utc, utc
from remediation.nsg import Nsg, Rule, digest
from remediation.owned import Ownership, is_parked
from remediation.policy import PipelineDrift

REMEMBER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Drift:
    """A rule of ours that is not as we left it. `repeated`: for the second time within a day."""

    rule: str
    what: str
    repeated: bool


def remembered(rule: Rule) -> dict[str, Any]:
    """What a holder keeps of a proven rule for the next one."""
    return {"digest": digest(rule), "priority": rule.priority}


def remember_drift(memory: dict[str, Any], rules: Iterable[str], now: datetime) -> None:
    """Keep when these rules were found changed: with the repair's attempt, which hides the drift
    from then on, and at the latest with the proof."""
    memory["drift"] = {**(memory.get("drift") or {}), **{rule: utc(now) for rule in rules}}


def judge_drift(
    memory: Mapping[str, Any], nsg: Nsg, ownership: Ownership, now: datetime
) -> list[Drift]:
    """Compare the owned rules with the holder's memory of them."""
    present = {r.name: r for r in nsg.rules if ownership.owns(r)}
    attempt = memory.get("attempt") or {}
    found = []
    for name, kept in (memory.get("rules") or {}).items():
        rule = present.get(name)
        if attempt.get("rule") == name:
            continue  # our own write was under way: the difference is ours
        if rule is None:
            what = "removed"
        elif digest(rule) != kept["digest"] and not is_parked(rule):
            what = "changed"
        else:
            continue
        last = (memory.get("drift") or {}).get(name)
        repeated = last is not None and now - from_utc(last) < REMEMBER
        found.append(Drift(name, what, repeated))
    return found


def yields(drift: Drift, by_person: bool | None, pipeline: PipelineDrift) -> bool:
    """Is the change left as it is? The first within a day never is. The second is if a person made
    it; if a program did (`by_person` False), the policy decides; of nobody known, it is not."""
    if not drift.repeated or by_person is None:
        return False
    return by_person or pipeline == "yield"
