"""Defender's alerts, the activity log, management locks and service tags."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import Any

from sandbox.arm.call import Answer, Call
from sandbox.arm.errors import ArmError
from sandbox.arm.state import State

ALERT_ACTIONS = {"dismiss": "Dismissed", "activate": "Active", "resolve": "Resolved",
                 "inprogress": "InProgress"}
SERVICE_TAGS = {
    "AzureFrontDoor.Frontend": ["13.107.208.0/24", "13.107.213.0/24"],
    "AzureFrontDoor": ["13.107.208.0/24", "13.107.213.0/24"],
    "AzureActiveDirectory": ["20.190.128.0/18", "40.126.0.0/18"],
    "AzureCloud": ["13.64.0.0/11", "20.33.0.0/16", "40.74.0.0/15"],
    "Storage": ["20.38.96.0/19", "52.239.128.0/17"],
}
"""A few of the real ones, enough to tell Microsoft's addresses from others."""


def alert_body(state: State, subscription: str, properties: dict[str, Any]) -> dict[str, Any]:
    """An alert in REST form from its properties; it is kept and can be fetched from now on."""
    name = str(properties["systemAlertId"])
    resources = properties.get("resourceIdentifiers") or []
    first = str(resources[0].get("azureResourceId", "")) if resources else ""
    hit = re.search(r"/resourcegroups/([^/]+)", first, re.IGNORECASE)
    group = f"/resourceGroups/{hit[1]}" if hit else ""
    body = {
        "id": f"/subscriptions/{subscription}{group}/providers/Microsoft.Security/locations/"
              f"centralus/alerts/{name}",
        "name": name,
        "type": "Microsoft.Security/Locations/alerts",
        "properties": properties,
    }
    state.alerts[name.lower()] = body
    state.version += 1
    return body


def get_alert(call: Call) -> Answer:
    """GET one alert; the path may or may not name the resource group."""
    body = call.state.alerts.get(call.names[1].lower())
    if body is None or f"/subscriptions/{call.subscription}/".lower() not in body["id"].lower():
        raise ArmError(404, "ResourceNotFound", f"Alert {call.names[1]} was not found.",
                       gateway=True)
    return Answer(200, body)


def list_alerts(call: Call) -> Answer:
    """GET all alerts of the subscription."""
    prefix = f"/subscriptions/{call.subscription}/".lower()
    return Answer(200, {"value": [a for a in call.state.alerts.values()
                                  if a["id"].lower().startswith(prefix)]})


def onboardings(call: Call) -> Answer:
    """GET …/mdeOnboardings: what makes machines the organisation's in Defender for Endpoint, if it is on."""
    shown = {"id": f"/subscriptions/{call.subscription}/providers/Microsoft.Security/mdeOnboardings/default",
             "name": "default", "type": "Microsoft.Security/mdeOnboardings",
             "properties": {"onboardingPackageWindows": call.state.onboarding,
                            "onboardingPackageLinux": call.state.onboarding}}
    return Answer(200, {"value": [shown] if call.state.onboarding else []})


def act_on_alert(call: Call) -> Answer:
    """POST …/alerts/{name}/{dismiss|activate|resolve|inProgress}"""
    status = ALERT_ACTIONS.get(call.types[2].lower())
    body = call.state.alerts.get(call.names[1].lower())
    if status is None or body is None:
        raise ArmError(404, "ResourceNotFound", "There is no such alert or action.", gateway=True)
    properties = {**body["properties"], "status": status}
    call.state.alerts[call.names[1].lower()] = {**body, "properties": properties}
    call.state.version += 1
    return Answer(204)


def note(state: State, call: Call, status: int) -> None:
    """One entry of the activity log for a write or delete."""
    action = call.method == "POST" and call.kind.endswith("/deploy")
    if call.method not in ("PUT", "PATCH", "DELETE", "POST") or (call.is_list and not action):
        return
    verb = {"PUT": "write", "PATCH": "write", "DELETE": "delete"}.get(call.method, "action")
    claims = {"appid": call.caller.name}
    if call.caller.upn:
        claims = {"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn": call.caller.upn}
    state.activity.append({
        "resourceId": call.id,
        "subscriptionId": call.subscription,
        "resourceGroupName": call.group,
        "operationName": {"value": f"{call.kind}/{verb}", "localizedValue": ""},
        "caller": call.caller.upn or call.caller.name,
        "claims": claims,
        "status": {"value": "Succeeded" if status < 400 else "Failed", "localizedValue": ""},
        "eventTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z"),
    })


EVENTS = {"write": "Microsoft.Resources.ResourceWriteSuccess",
          "delete": "Microsoft.Resources.ResourceDeleteSuccess",
          "action": "Microsoft.Resources.ResourceActionSuccess"}
TOLD = ("microsoft.network/azurefirewalls", "microsoft.network/firewallpolicies",
        "microsoft.network/ipgroups")


def tell(state: State, call: Call, status: int) -> None:
    """What Event Grid says of a change of a firewall's once it has succeeded. The request's body is not in
    it: who hears of it must read. Of a draft nothing is said but that it was written."""
    if state.on_event is None or status >= 400 or call.method == "GET" or not call.kind.startswith(TOLD):
        return
    verb = {"PUT": "write", "PATCH": "write", "DELETE": "delete"}.get(call.method, "action")
    operation, who = f"{call.kind}/{verb}", call.caller
    event = {
        "id": str(uuid.uuid4()), "specversion": "1.0", "type": EVENTS[verb],
        "source": f"/subscriptions/{call.subscription}", "subject": call.id,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z"),
        "data": {
            "authorization": {"scope": call.id, "action": operation, "evidence": {"role": "Contributor"}},
            "claims": {"appid": who.name, "ipaddr": "203.0.113.200", **(
                {"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn": who.upn,
                 "name": who.upn} if who.upn else {})},
            "correlationId": str(uuid.uuid4()), "httpRequest": "", "resourceProvider": call.namespace,
            "resourceUri": call.id, "operationName": operation, "status": "Succeeded",
            "subscriptionId": call.subscription, "tenantId": "00000000-0000-0000-0000-000000000000",
        },
    }
    op = state.pending(call.id_of(1))
    if op is None:
        state.say(event)
    else:
        op.event = event


def note_event(state: State, resource_id: str, operation: str, at: str) -> None:
    """Something that happened in the past, for the activity log."""
    parts = resource_id.split("/")
    state.activity.append({
        "resourceId": resource_id, "subscriptionId": parts[2], "resourceGroupName": parts[4],
        "operationName": {"value": operation, "localizedValue": ""}, "caller": "someone", "claims": {},
        "status": {"value": "Succeeded", "localizedValue": ""}, "eventTimestamp": at,
    })


def read_activity(call: Call) -> Answer:
    """GET the activity log; `eventTimestamp ge` is required, as Azure does."""
    text = call.query.get("$filter", "")
    since = re.search(r"eventTimestamp ge '([^']+)'", text)
    if since is None:
        raise ArmError(400, "BadRequest", "The $filter must hold eventTimestamp.")
    start = datetime.fromisoformat(since[1])
    group = re.search(r"resourceGroupName eq '([^']+)'", text)
    resource = re.search(r"resourceUri eq '([^']+)'", text)
    found = [
        e for e in call.state.activity
        if e["subscriptionId"].lower() == call.subscription.lower()
        and datetime.fromisoformat(e["eventTimestamp"]) >= start
        and (group is None or e["resourceGroupName"].lower() == group[1].lower())
        and (resource is None or e["resourceId"].lower() == resource[1].lower())
    ]
    return Answer(200, {"value": found[::-1]})


def put_lock(state: State, scope: str, name: str, body: dict[str, Any]) -> Answer:
    """PUT a management lock."""
    level = (body.get("properties") or {}).get("level")
    if level not in ("CanNotDelete", "ReadOnly"):
        raise ArmError(400, "InvalidLockLevel", f"The lock level '{level}' is invalid.",
                       gateway=True)
    lock_id = f"{scope}/providers/Microsoft.Authorization/locks/{name}"
    new = lock_id.lower() not in state.locks
    state.locks[lock_id.lower()] = {"scope": scope, "level": level, "name": name}
    return Answer(201 if new else 200, {
        "id": lock_id, "name": name, "type": "Microsoft.Authorization/locks",
        "properties": {"level": level},
    })


def drop_lock(state: State, scope: str, name: str) -> Answer:
    """DELETE a management lock."""
    key = f"{scope}/providers/Microsoft.Authorization/locks/{name}".lower()
    return Answer(200 if state.locks.pop(key, None) else 204)


def service_tags(call: Call) -> Answer:
    """GET …/locations/{l}/serviceTags"""
    return Answer(200, {
        "name": "Public", "id": call.id_of(1) + "/serviceTags/Public",
        "type": "Microsoft.Network/serviceTags", "changeNumber": "63", "cloud": "Public",
        "values": [
            {"name": name, "id": name, "properties": {
                "changeNumber": "1", "region": "", "systemService": name,
                "addressPrefixes": prefixes, "state": "GA"}}
            for name, prefixes in SERVICE_TAGS.items()
        ],
        "nextLink": "",
    })


def graph_row(body: dict[str, Any], subscription: str) -> dict[str, Any]:
    """An alert as Resource Graph shows it: the names in PascalCase."""
    return {**body, "subscriptionId": subscription, "properties": _pascal(body["properties"])}


def _pascal(value: Any) -> Any:
    if isinstance(value, dict):
        return {k[:1].upper() + k[1:]: _pascal(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_pascal(v) for v in value]
    return value
