"""Does Defender send alerts on to us? Read off the workflow automations that there are.

An automation is of one subscription; an alert goes on if any of its rule sets lets it through, and a set
does if all of its rules hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from remediation.alerts.fields import Fields, as_list

ALERT: Mapping[str, str] = {"severity": "medium", "alerttype": "network_communicationwithc2"}
"""The alert that must come: about a command and control centre. Of what else an alert says a filter may ask
anything; that is taken to be meant."""
OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "equals": lambda value, wanted: value == wanted,
    "notequals": lambda value, wanted: value != wanted,
    "contains": lambda value, wanted: wanted in value,
    "startswith": lambda value, wanted: value.startswith(wanted),
    "endswith": lambda value, wanted: value.endswith(wanted),
}


@dataclass(frozen=True, slots=True)
class Forwarding:
    """Subscriptions whose alerts are sent on; those whose automation does not, and why; those without one."""

    on: tuple[str, ...]
    off: tuple[tuple[str, str], ...]
    without: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Nothing is missed, and there is something to miss."""
        return bool(self.on) and not self.off and not self.without

    def text(self) -> str:
        """One sentence for people."""
        said = [f"{s}: {why}" for s, why in self.off[:10]]
        if len(self.off) > 10:
            said.append(f"and {len(self.off) - 10} more")
        if self.without:
            some = ", ".join(self.without[:10]) + (", …" if len(self.without) > 10 else "")
            said.append(f"no workflow automation leads to the Logic App in {len(self.without)} subscriptions "
                        f"({some})")
        return "; ".join(said) or f"of {len(self.on)} subscriptions"


def forwarding(rows: Iterable[Mapping[str, Any]], subscriptions: Iterable[str], workflow: str) -> Forwarding:
    """From automations as ARM and Resource Graph show them to what they come to for these subscriptions."""
    on: set[str] = set()
    off: dict[str, str] = {}
    for row in rows:
        properties = Fields(row.get("properties"))
        if not _leads_to(properties, workflow):
            continue
        why = _against(properties)
        name = str(row.get("name") or "")
        for scope in as_list(properties.get("scopes")):
            parts = Fields(scope).text("scopePath").lower().strip("/").split("/")
            if len(parts) != 2 or parts[0] != "subscriptions":  # a resource group's: not all of its alerts
                continue
            if why:
                off[parts[1]] = f"the automation {name} {why}"
            else:
                on.add(parts[1])
    asked = sorted({s.lower() for s in subscriptions})
    return Forwarding(
        on=tuple(s for s in asked if s in on),
        off=tuple((s, off[s]) for s in asked if s in off and s not in on),
        without=tuple(s for s in asked if s not in on and s not in off),
    )


def _leads_to(properties: Fields, workflow: str) -> bool:
    return any(Fields(a).text("logicAppResourceId").lower().rstrip("/") == workflow.lower().rstrip("/")
               for a in as_list(properties.get("actions")))


def _against(properties: Fields) -> str:
    """Why the automation does not send the alert on; '' if it does."""
    if properties.text("isEnabled").lower() != "true":
        return "is disabled"
    sources = [s for one in as_list(properties.get("sources"))
               if (s := Fields(one)).text("eventSource").lower() == "alerts"]
    if not any(_lets_through(s) for s in sources):
        return "leaves out the alert about a command and control centre (Medium)"
    return ""


def _lets_through(source: Fields) -> bool:
    sets = as_list(source.get("ruleSets"))
    return not sets or any(all(map(_holds, as_list(Fields(one).get("rules")))) for one in sets)


def _holds(rule: Any) -> bool:
    said = Fields(rule)
    value = ALERT.get(said.text("propertyJPath").lower().lstrip("$."))
    test = OPERATORS.get(said.text("operator").lower())
    return value is None or test is None or test(value, said.text("expectedValue").lower())
