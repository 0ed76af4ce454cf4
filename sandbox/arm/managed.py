"""What Virtual Network Manager lays over a virtual network: the security admin rules in effect."""

from __future__ import annotations

from typing import Any

from sandbox.arm.call import Answer, Call
from sandbox.arm.errors import not_found
from sandbox.arm.vnet import TYPE

PAGE = 50
MANAGER = ("{scope}/providers/Microsoft.Network/networkManagers/manager/securityAdminConfigurations/config"
           "/ruleCollections/collection/rules/{name}")


def effective(call: Call) -> Answer:
    """POST: the rules in effect, a page at a time; the next is asked for with its `skipToken`."""
    vnet = call.state.get(call.id)
    if vnet is None:
        raise not_found(TYPE, call.names[0], call.group)
    rules = [_render(call, dict(r)) for r in vnet.facts.get("adminRules") or ()]
    asked = call.json() if call.raw else {}
    start = int(asked.get("skipToken") or 0)
    body: dict[str, Any] = {"value": rules[start:start + PAGE]}
    if start + PAGE < len(rules):
        body["skipToken"] = str(start + PAGE)
    return Answer(200, body)


def _render(call: Call, given: dict[str, Any]) -> dict[str, Any]:
    name = given.pop("name")
    scope = "/".join(call.id.split("/")[:5])
    return {
        "id": MANAGER.format(scope=scope, name=name), "kind": "Custom",
        "configurationDescription": "", "ruleCollectionDescription": "",
        "ruleCollectionAppliesToGroups": [], "ruleGroups": [],
        "properties": {
            "protocol": "Any", "sources": [], "destinations": [], "sourcePortRanges": ["0-65535"],
            "destinationPortRanges": ["0-65535"], "provisioningState": "Succeeded", **given,
        },
    }
