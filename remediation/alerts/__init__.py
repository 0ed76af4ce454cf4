"""Every shape in which a Defender for Cloud alert arrives → one normal form (`model.Alert`).

Shapes: REST, continuous export, workflow automation, a Log Analytics row, an activity log entry,
Microsoft Graph v1 and v2, a Sentinel incident, a Resource Graph row. They differ in casing, in
names, and in which parts are JSON inside strings; so fields are looked up by a list of names,
without regard to case, over the top level and `properties`.

`read` takes text, `normalise` one raw alert. The only error is MalformedAlert.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from remediation.alerts.accused import read_accused
from remediation.alerts.fields import Entities, Fields, as_list, loads, moment, texts
from remediation.alerts.kinds import direction_of, is_flagged_resource, is_sample
from remediation.alerts.unwrap import read_text, unwrap
from remediation.errors import MalformedAlert
from remediation.model import Alert, AlertRef

__all__ = ["ALERT_ID", "alert_ref", "normalise", "read", "read_text", "unwrap"]

ALERT_ID = re.compile(r"[A-Za-z0-9_.:@+-]{1,200}")
"""Defender's ids, GUIDs and incident names; what fits a table key as it is."""
LONGEST_NAME = 300
MOST_RESOURCES = 50
_RESOURCE_ID = re.compile(r"/subscriptions/[\w.()/~ -]{1,600}", re.ASCII)
_ARM_ALERT = re.compile(
    r"/subscriptions/(?P<sub>[0-9a-f-]{36})(?:/resourcegroups/(?P<group>[\w.()-]{1,90}))?"
    r"/providers/microsoft\.security/locations/(?P<location>\w{1,40})/alerts/(?P<name>[\w.-]{1,200})",
    re.IGNORECASE,
)
_PORTAL_LINK = re.compile(
    r"/alertId/(?P<name>[\w.-]{1,200})/subscriptionId/(?P<sub>[0-9a-f-]{36})"
    r"(?:/resourceGroup/(?P<group>[\w.()-]{1,90}))?.*?/location/(?P<location>\w{1,40})",
    re.IGNORECASE,
)
_SUBSCRIPTION = re.compile(r"/subscriptions/([0-9a-f-]{36})(?:/|$)", re.IGNORECASE)

_ARM_NAME = re.compile(r"\d{19}_[0-9a-f-]{36}", re.IGNORECASE)

_SEVERITIES = {s.casefold(): s for s in ("Informational", "Low", "Medium", "High")}

EXT_KEYS = frozenset(
    {
        "actiontaken",
        "attack duration",
        "attacker port",
        "destination port",
        "failed attempts",
        "number of failed authentication attempts to host",
        "port",
        "protocol",
        "resourcetype",
        "service name",
        "successful logins",
        "threat id",
        "threat name",
        "victim port",
        "was rdp session initiated",
        "was ssh session initiated",
    }
)
"""Extended properties worth keeping in the normal form: short facts, no command lines, no names."""


def read(text: str) -> list[Any]:
    """Text of any kind → the raw alerts in it. Raises MalformedAlert if it is not JSON."""
    return unwrap(read_text(text))


def normalise(raw: Any) -> Alert:
    """One raw alert → its normal form. Raises MalformedAlert, naming the field and the reason."""
    if not isinstance(raw, Mapping):
        raise MalformedAlert("alert", f"expected an object, got {_json_kind(raw)}")
    fields = _flatten(raw)
    ext = fields.mapping("extendedProperties")
    if not ext and "operationname" in fields:
        ext = Fields(raw.get("properties"))
    entities = Entities(_entities_of(fields))
    warnings: list[str] = []

    alert_type = fields.text("alertType")
    name = fields.text("alertDisplayName", "displayName", "alertName", "title", "eventName")
    if not alert_type and not name:
        raise MalformedAlert("AlertType", "missing, and there is no display name either")
    if not alert_type and "vendorinformation" in "".join(key for key, _ in fields.items()):
        alert_type = fields.text("category")  # Microsoft Graph v1; elsewhere it is a tactic
    alert_type = (alert_type or fields.text("alertName") or name)[:LONGEST_NAME]
    name = name[:LONGEST_NAME]
    alert_id = _alert_id(fields)

    flagged = is_flagged_resource(alert_type, name)
    direction = direction_of(alert_type, name)
    accused = read_accused(direction, entities, ext, flagged=flagged)
    warnings += accused.warnings
    resources = _resource_ids(fields, entities, warnings)
    severity = fields.text("severity", "alertSeverity", "reportedSeverity")
    if severity and severity.casefold() not in _SEVERITIES:
        warnings.append(f"severity: {severity[:32]!r} is none of {', '.join(_SEVERITIES.values())}")
    return Alert(
        alert_id=alert_id,
        alert_type=alert_type,
        display_name=name,
        severity=_SEVERITIES.get(severity.casefold()),
        status=fields.text("status", "state", "alertStatus"),
        direction=direction,
        is_sample=is_sample(alert_type, name, resources),
        intents=texts(fields.get("intent", "intents", "tactics")),
        start=moment(fields.get("startTimeUtc", "startTime", "firstActivityDateTime",
                                "eventDateTime", "firstActivityTime", "firstActivityTimeUtc",
                                "detectedTimeUtc", "eventTimestamp")),
        end=moment(fields.get("endTimeUtc", "endTime", "lastActivityDateTime",
                              "lastActivityTime", "lastActivityTimeUtc")),
        generated=moment(fields.get("timeGeneratedUtc", "timeGenerated", "createdDateTime",
                                    "createdTimeUtc", "createdTime", "reportedTimeUtc",
                                    "submissionTimestamp")),
        resource_ids=resources,
        attackers=accused.attackers,
        own_addresses=accused.own,
        compromised_entity=fields.text("compromisedEntity"),
        ext={k: str(v)[:200] for k, v in ext.items()
             if k in EXT_KEYS and isinstance(v, str | int | float)},
        ref=alert_ref(fields, alert_id, resources),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _flatten(raw: Mapping[str, Any]) -> Fields:
    """Top level and `properties` (and Sentinel's `object`) as one set of fields."""
    top = Fields(raw)
    incident = top.mapping("object")
    layers = [raw.get("properties"), incident.get("properties"), top.get("object"), raw]
    return Fields(*(loads(layer) for layer in layers if layer is not None))


def _alert_id(fields: Fields) -> str:
    """The id by which Defender knows the alert.

    A Log Analytics row has it in VendorOriginalId or, older, ProviderAlertId; its SystemAlertId
    is another GUID. Microsoft Graph has it in providerAlertId or id.
    """
    found = fields.text(
        "vendorOriginalId", "providerAlertId", "systemAlertId", "eventDataId", "correlationId",
        "incidentName",
    )
    identifier = fields.text("id")
    found = found or fields.text("name") or identifier.rstrip("/").rpartition("/")[2]
    if not found:
        raise MalformedAlert("SystemAlertId", "missing")
    if not ALERT_ID.fullmatch(found):
        raise MalformedAlert("SystemAlertId", f"not a plain word of 1-200 characters: {found[:64]!r}")
    return found


def _entities_of(fields: Fields) -> Any:
    for name in ("entities", "relatedEntities", "evidence"):
        held = loads(fields.get(name))
        if held:
            return held
    return [
        _graph_connection(Fields(one)) for one in as_list(fields.get("networkConnections"))
    ]


def _graph_connection(connection: Fields) -> dict[str, Any]:
    """Microsoft Graph v1 writes the ends of a connection as plain text."""
    return {
        "Type": "network-connection",
        "SourceAddress": {"Address": connection.text("sourceAddress")},
        "DestinationAddress": {"Address": connection.text("destinationAddress")},
        "DestinationPort": connection.get("destinationPort"),
        "Protocol": connection.text("protocol"),
    }


def _resource_ids(fields: Fields, entities: Entities, warnings: list[str]) -> tuple[str, ...]:
    """The assets the alert is about, lower-cased; the host entities' only if nothing else says."""
    said: list[str] = []
    for one in as_list(fields.get("resourceIdentifiers")):
        said.append(Fields(one).text("azureResourceId"))
    said.append(fields.text("azureResourceId", "associatedResource"))
    if "operationname" not in fields:  # in the activity log resourceId is the alert's own
        said.append(fields.text("resourceId"))
    if not any(said):
        for _, entity in entities.of_kind("host", "azure-resource", "azureresource",
                                          "azureresourceevidence", "deviceevidence"):
            machine = entity.mapping("vmMetadata").text("resourceId")
            said.append(entity.text("azureID", "resourceId", "azureResourceId") or machine)
    found: dict[str, None] = {}
    for text in said:
        one = text.lower().rstrip("/")
        if not one:
            continue
        if not _RESOURCE_ID.fullmatch(one) or ".." in one or "//" in one:
            warnings.append(f"resource id: {one[:80]!r} is not one of Azure's")
            continue
        found[one] = None
    if len(found) > MOST_RESOURCES:
        warnings.append(f"resource ids: {len(found)}, of which {MOST_RESOURCES} are looked at")
    return tuple(found)[:MOST_RESOURCES]


def alert_ref(fields: Fields, alert_id: str, resources: tuple[str, ...]) -> AlertRef | None:
    """Where to ask Defender for the alert: from its own id, its link, else its resources."""
    for text in (fields.text("id"), fields.text("resourceId"), fields.text("alertUri"),
                 fields.text("alertLink"), fields.text("alertWebUrl")):
        hit = _ARM_ALERT.search(text) or _PORTAL_LINK.search(text)
        if hit:
            return AlertRef(hit["sub"].lower(), hit["location"].lower(), hit["name"],
                            hit["group"] or "")
    # A Log Analytics row's own id may be the last part only of the name that ARM knows.
    names = [n for n in (fields.text("vendorOriginalId"), fields.text("systemAlertId"))
             if _ARM_NAME.fullmatch(n)]
    for resource in resources:
        subscription = _SUBSCRIPTION.match(resource)
        if subscription:
            return AlertRef(subscription[1].lower(), "", (names or [alert_id])[0])
    return None


def _json_kind(value: Any) -> str:
    return {type(None): "null", bool: "a truth value", int: "a number", float: "a number",
            str: "a string", list: "a list"}.get(type(value), "something else")
