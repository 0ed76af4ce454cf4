"""Does Defender send alerts on to us? Read off the workflow automations that there are.

An automation is of one subscription; an alert goes on if any of its rule sets lets it through, and a set
does if all of its rules hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remediation.alerts.fields import Fields, as_list

ALERT: Mapping[str, str] = {"severity": "medium", "alerttype": "network_communicationwithc2"}
"""The alert that matters most: about a command and control centre. Of what else an alert says a filter may
ask anything; that is taken to be meant."""
OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "equals": lambda value, wanted: value == wanted,
    "notequals": lambda value, wanted: value != wanted,
    "contains": lambda value, wanted: wanted in value,
    "startswith": lambda value, wanted: value.startswith(wanted),
    "endswith": lambda value, wanted: value.endswith(wanted),
}
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Forwarding:
    """Subscriptions whose alerts are sent on (`filtered`: but not the one about a command and control centre,
    which somebody may want so); those whose automation is off; those without one."""

    on: tuple[str, ...]
    filtered: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Nothing is missed."""
        return not self.off and not self.without

    def text(self) -> str:
        """One sentence for people."""
        said = [f"{what} in {_some(those)}" for what, those in (
            ("the automation is disabled", self.off),
            ("no automation leads to the Logic App", self.without),
            ("the automation leaves out alerts about a command and control centre (Medium)", self.filtered),
        ) if those]
        if not (self.on or self.off or self.without):
            return "no subscription has a machine that can be read"
        return "; ".join(said) or f"of {len(self.on)} subscriptions with machines"


def _some(those: Sequence[str]) -> str:
    rest = len(those) - MOST_NAMED
    return ", ".join(those[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def forwarding(rows: Iterable[Mapping[str, Any]], subscriptions: Iterable[str], workflow: str) -> Forwarding:
    """From automations as ARM and Resource Graph show them to what they come to for these subscriptions."""
    on: set[str] = set()
    partly: set[str] = set()
    off: set[str] = set()
    for row in rows:
        properties = Fields(row.get("properties"))
        if not _leads_to(properties, workflow):
            continue
        into = off if properties.text("isEnabled").lower() != "true" else (
            on if any(map(_lets_through, _sources(properties))) else partly)
        into.update(_subscriptions_of(properties))
    asked = sorted({s.lower() for s in subscriptions})
    return Forwarding(
        on=tuple(s for s in asked if s in on | partly),
        filtered=tuple(s for s in asked if s in partly - on),
        off=tuple(s for s in asked if s in off - on - partly),
        without=tuple(s for s in asked if s not in on | partly | off),
    )


def _subscriptions_of(properties: Fields) -> Iterable[str]:
    """Not those of which it has a resource group only: that is not all of their alerts."""
    for scope in as_list(properties.get("scopes")):
        parts = Fields(scope).text("scopePath").lower().strip("/").split("/")
        if len(parts) == 2 and parts[0] == "subscriptions":
            yield parts[1]


def _leads_to(properties: Fields, workflow: str) -> bool:
    return any(Fields(a).text("logicAppResourceId").lower().rstrip("/") == workflow.lower().rstrip("/")
               for a in as_list(properties.get("actions")))


def _sources(properties: Fields) -> list[Fields]:
    return [s for one in as_list(properties.get("sources"))
            if (s := Fields(one)).text("eventSource").lower() == "alerts"]


def _lets_through(source: Fields) -> bool:
    sets = as_list(source.get("ruleSets"))
    return not sets or any(all(map(_holds, as_list(Fields(one).get("rules")))) for one in sets)


def _holds(rule: Any) -> bool:
    said = Fields(rule)
    value = ALERT.get(said.text("propertyJPath").lower().lstrip("$."))
    test = OPERATORS.get(said.text("operator").lower())
    return value is None or test is None or test(value, said.text("expectedValue").lower())
