"""The way by which alerts come in, for the sandbox: the Logic App as `infra/` has it, and an automation."""

from __future__ import annotations

from typing import Any

from sandbox.world import World
from tests.bicep import literal
from tests.estate import GROUP, SUB
from tests.role import INFRA

PROVIDERS = f"/subscriptions/{SUB}/resourceGroups/{GROUP}/providers"
LOGIC = f"{PROVIDERS}/Microsoft.Logic/workflows/logic-forward"
AUTOMATION_ID = f"{PROVIDERS}/Microsoft.Security/automations/forward-alerts"


def logic_app(world: World, **changes: Any) -> dict[str, Any]:
    """The forwarder, as Bicep defines it; its topic is the sandbox's."""
    text = (INFRA / "modules" / "intake.bicep").read_text()
    definition = literal(text[text.index("resource forwarder"):], "definition: ")
    inputs = definition["actions"]["Publish"]["inputs"]
    assert inputs["uri"] == "topic.properties.endpoint"
    inputs["uri"] = f"{world.addresses['eventGrid']}/api/events"
    return {"id": LOGIC, "name": "logic-forward", "type": "Microsoft.Logic/workflows",
            "location": "westeurope",
            "properties": {"state": "Enabled", "definition": definition, **changes}}


def automation(
    *, enabled: bool = True, severity: str = "medium", leads_to: str = LOGIC
) -> dict[str, Any]:
    """A workflow automation of the estate's subscription, as ARM shows it."""
    return {"id": AUTOMATION_ID, "name": "forward-alerts", "type": "Microsoft.Security/automations",
            "location": "westeurope", "properties": {
                "isEnabled": enabled, "scopes": [{"description": "", "scopePath": f"/subscriptions/{SUB}"}],
                "sources": [{"eventSource": "Alerts", "ruleSets": [{"rules": [{
                    "propertyJPath": "Severity", "propertyType": "String", "operator": "Equals",
                    "expectedValue": severity}]}]}],
                "actions": [{"actionType": "LogicApp", "logicAppResourceId": leads_to}]}}
