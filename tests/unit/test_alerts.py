"""Every shape of alert comes to the same normal form, with every trap on the way."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.alerts import MOST_RESOURCES, normalise, read, unwrap
from remediation.alerts.fields import Fields, address, addresses, moment, port
from remediation.errors import MalformedAlert
from remediation.model import Alert, AlertDirection
from tests.unit.raw import ATTACKER, C2, NAME, SUB, VM, event, flat, log_row, rest

SHAPES = {"rest": rest(), "flat": flat(), "log row": log_row()}


def accused(alert: Alert) -> list[tuple[str, int | None]]:
    return [(a.address, a.port) for a in alert.attackers]


@pytest.mark.parametrize("raw", SHAPES.values(), ids=SHAPES)
def test_all_shapes_of_one_alert_have_one_normal_form(raw: dict[str, Any]):
    alert = normalise(raw)
    assert alert.alert_id == NAME
    assert alert.alert_type == "Network_CommunicationWithC2"
    assert alert.display_name == C2
    assert alert.severity == "Medium"
    assert alert.direction is AlertDirection.OUTBOUND_C2
    assert alert.resource_ids == (VM.lower(),)
    assert accused(alert) == [(ATTACKER, 443)]
    assert alert.start == datetime(2026, 1, 1, tzinfo=UTC).replace(
        microsecond=123456 if raw is SHAPES["rest"] else 0)
    assert alert.generated == datetime(2026, 1, 1, 2, tzinfo=UTC)
    assert not alert.is_sample
    assert not alert.closed


def test_all_shapes_of_one_alert_accuse_the_same():
    assert len({normalise(raw).accusation() for raw in SHAPES.values()}) == 1


@pytest.mark.parametrize(("raw", "location"), [
    (rest(), "centralus"), (flat(), "centralus"), (log_row(), ""),
    (flat(AlertUri="https://example.com"), ""),
])
def test_where_defender_keeps_the_alert_is_found(raw: dict[str, Any], location: str):
    ref = normalise(raw).ref
    assert ref is not None
    assert (ref.subscription_id, ref.location, ref.name) == (SUB, location, NAME)


def test_an_old_row_is_asked_for_by_the_name_that_arm_knows():
    alert = normalise(log_row(VendorOriginalId=None, ProviderAlertId=NAME.partition("_")[2],
                              SystemAlertId=NAME))
    assert alert.alert_id == NAME.partition("_")[2]
    assert alert.ref is not None
    assert alert.ref.name == NAME


def test_a_resource_outside_any_subscription_tells_no_place():
    raw = flat(AlertUri=None, ResourceIdentifiers=None, AzureResourceId="/subscriptions/short/x")
    assert normalise(raw).ref is None


def test_text_that_only_looks_like_json_is_text():
    alert = normalise(rest(entities="[broken", intent='["a", 3]', extendedProperties="{broken"))
    assert alert.attackers == ()
    assert alert.intents == ("a",)


def test_our_own_end_of_a_connection_may_be_unreadable():
    entities = [{"type": "network-connection", "sourceAddress": {"address": "00.00.00.00"},
                 "destinationAddress": {"address": ATTACKER}}]
    alert = normalise(rest(entities=entities, extendedProperties={}))
    assert alert.own_addresses == ()
    assert accused(alert) == [(ATTACKER, None)]


def test_an_alert_about_no_resource_cannot_be_asked_for():
    alert = normalise(flat(AzureResourceId=None, ResourceIdentifiers=None, AlertUri=None))
    assert alert.ref is None
    assert alert.resource_ids == ()


def test_a_resource_id_that_is_none_is_left_out_with_a_warning():
    alert = normalise(flat(ResourceIdentifiers=None, AzureResourceId="/subscriptions/../x"))
    assert alert.resource_ids == ()
    assert "resource id" in alert.warnings[0]


def test_a_flood_of_resources_is_cut_with_a_warning():
    many = [{"azureResourceId": f"{VM}{n}"} for n in range(MOST_RESOURCES + 5)]
    alert = normalise(flat(ResourceIdentifiers=many, AzureResourceId=None))
    assert len(alert.resource_ids) == MOST_RESOURCES
    assert "55, of which 50" in alert.warnings[0]


def test_the_hosts_of_entities_are_resources_only_if_nothing_else_names_one():
    entities = [{"$id": "1", "Type": "host", "AzureID": VM}]
    assert normalise(flat(AzureResourceId=None, ResourceIdentifiers=None,
                          Entities=entities)).resource_ids == (VM.lower(),)
    other = VM.replace("Vm-1", "Vm-2")
    entities = [{"$id": "1", "Type": "host", "AzureID": other}]
    assert normalise(flat(Entities=entities)).resource_ids == (VM.lower(),)


def test_the_activity_log_names_the_alert_not_the_asset():
    alert = normalise({
        "eventDataId": NAME, "correlationId": "c", "operationName": {"value": "x", "localizedValue": ""},
        "eventName": {"value": "Role binding", "localizedValue": "Role binding"},
        "resourceId": f"/subscriptions/{SUB}/providers/Microsoft.Security/locations/centralus/alerts/{NAME}",
        "status": {"value": "Active", "localizedValue": "Active"},
        "eventTimestamp": "2026-01-01T00:00:00Z",
        "properties": {"severity": "Low", "intent": '["Persistence"]', "resourceType": "Kubernetes"},
    })
    assert alert.alert_id == NAME
    assert alert.display_name == "Role binding"
    assert alert.severity == "Low"
    assert alert.status == "Active"
    assert alert.intents == ("Persistence",)
    assert alert.resource_ids == ()
    assert alert.ext == {"resourcetype": "Kubernetes"}
    assert alert.direction is AlertDirection.UNKNOWN


def test_graph_v1_connections_name_both_ends():
    alert = normalise({
        "id": NAME, "category": "AdaptiveNetworkHardeningInbound", "title": "Traffic",
        "vendorInformation_provider": "ASC", "severity": "low",
        "networkConnections": [{"sourceAddress": ATTACKER, "destinationAddress": "203.0.113.9",
                                "destinationPort": "22", "protocol": "TCP"}],
    })
    assert accused(alert) == [(ATTACKER, 22)]
    assert alert.attackers[0].protocol == "tcp"
    assert alert.own_addresses == ("203.0.113.9",)
    assert alert.severity == "Low"
    assert alert.direction is AlertDirection.INBOUND


def test_graph_v2_evidence_is_read():
    alert = normalise({
        "@odata.type": "#microsoft.graph.security.alert", "providerAlertId": NAME, "id": "da1",
        "title": "Suspicious", "category": "DefenseEvasion",
        "evidence": [
            {"@odata.type": "#microsoft.graph.security.deviceEvidence", "vmMetadata": {"resourceId": VM}},
            {"@odata.type": "#microsoft.graph.security.ipEvidence", "ipAddress": ATTACKER},
        ],
    })
    assert alert.alert_id == NAME
    assert alert.alert_type == "Suspicious"
    assert alert.resource_ids == (VM.lower(),)
    assert accused(alert) == [(ATTACKER, None)]


def test_a_sentinel_incident_is_read():
    alert = normalise({"object": {
        "id": "/subscriptions/x/incidents/1", "name": "incident-1",
        "properties": {
            "title": C2, "severity": "High", "status": "Closed",
            "relatedEntities": [
                {"kind": "Ip", "properties": {"address": ATTACKER}},
                {"kind": "AzureResource", "properties": {"resourceId": VM}},
            ],
        },
    }})
    assert alert.alert_id == "incident-1"
    assert alert.direction is AlertDirection.OUTBOUND_C2
    assert accused(alert) == [(ATTACKER, None)]
    assert alert.resource_ids == (VM.lower(),)
    assert alert.closed


def test_an_id_at_the_end_of_a_path_serves_where_there_is_no_other():
    raw = rest(systemAlertId=None)
    del raw["name"]
    assert normalise(raw).alert_id == NAME


# --- direction ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name", "direction"), [
    ("Network_CommunicationWithC2", "", "outbound_c2"),
    (C2, C2, "outbound_c2"),
    ("SIMULATED_Network_CommunicationWithC2", "", "outbound_c2"),
    ("x", f"[SAMPLE ALERT] {C2}", "outbound_c2"),
    ("SSH_Incoming_BF_OneToOne", "", "inbound"),
    ("x", "Possible incoming SMTP brute force attempts detected", "inbound"),
    ("x", "Suspicious incoming RDP network activity from multiple sources", "inbound"),
    ("PortScanning", "", "outbound_attack"),
    ("x", "Suspicious outgoing SSH network activity to multiple destinations", "outbound_attack"),
    ("Network_ResourceIpIndicatedAsMalicious", "", "none"),
    ("VM_SuspiciousScreenSaver", "Suspicious Screensaver process executed", "unknown"),
])
def test_direction_comes_from_the_type_then_from_the_name(kind: str, name: str, direction: str):
    assert normalise(rest(kind, alertDisplayName=name or None)).direction == direction


def test_in_an_attack_by_our_machine_the_attacker_is_ours():
    alert = normalise(rest("SSH_Outgoing_BF_OneToOne", extendedProperties={
        "Attacker IP": "203.0.113.10", "Victim IP": ATTACKER}))
    assert alert.attackers == ()
    assert alert.own_addresses == ("203.0.113.10",)


def test_of_a_flagged_resource_every_address_is_ours():
    alert = normalise(rest("Network_ResourceIpIndicatedAsMalicious", extendedProperties={
        "Machine IP": "203.0.113.10"}))
    assert alert.attackers == ()
    assert set(alert.own_addresses) == {"203.0.113.10", ATTACKER}


def test_a_flagged_resources_bad_entity_is_passed_over():
    alert = normalise(rest("Network_ResourceIpIndicatedAsMalicious", extendedProperties={},
                           entities=[{"type": "ip", "address": "00.00.00.00"}]))
    assert alert.own_addresses == ()


# --- who is accused -------------------------------------------------------------------------------


def test_the_address_alone_in_a_sentence_is_found():
    alert = normalise(rest("VM_LoginBruteForceValidUserFailed", entities=[], extendedProperties={
        "attacker source IP": f"IP Address: {ATTACKER}"}))
    assert accused(alert) == [(ATTACKER, None)]


def test_fifty_addresses_as_text_and_as_entities_are_each_named_once():
    text = "\r\n".join(f"IP: 198.51.100.{n} [{n}]" for n in range(1, 51))
    entities: list[Any] = []
    for n in range(1, 51):
        entities.append({"$id": str(n), "type": "ip", "address": f"198.51.100.{n}"})
        entities.append({"$id": str(n + 100), "type": "network-connection", "protocol": "TCP",
                         "destinationPort": 3389, "sourceAddress": {"$ref": str(n)}})
    alert = normalise(rest("Network_TrafficFromUnrecommendedIP", entities=entities,
                           extendedProperties={"source IP(s) [Number of attempts]": text + "\r\n3 more"}))
    assert len(alert.attackers) == 50
    assert {a.port for a in alert.attackers} == {3389}


def test_one_address_on_two_ports_is_two_entries():
    entities = [
        {"$id": "1", "type": "ip", "address": ATTACKER},
        *({"type": "network-connection", "destinationPort": p, "sourceAddress": {"$ref": "1"}}
          for p in (22, 3389)),
    ]
    alert = normalise(rest("SSH_Incoming_BF_OneToOne", entities=entities, extendedProperties={}))
    assert accused(alert) == [(ATTACKER, 22), (ATTACKER, 3389)]


def test_a_connection_to_c2_is_opened_by_us():
    entities = [{"type": "network-connection", "sourceAddress": {"address": "203.0.113.10"},
                 "destinationAddress": {"address": ATTACKER}, "destinationPort": "443"}]
    alert = normalise(rest(entities=entities, extendedProperties=None))
    assert accused(alert) == [(ATTACKER, 443)]
    assert alert.own_addresses == ("203.0.113.10",)


def test_an_address_named_on_both_sides_is_ours():
    alert = normalise(rest(extendedProperties={"attacker IP": ATTACKER, "victim IP": ATTACKER}))
    assert alert.attackers == ()
    assert any("taken as our own" in w for w in alert.warnings)


def test_references_are_resolved_as_far_as_they_can_be():
    entities = [
        {"$ref": "6"},
        {"$id": "1", "Type": "ip", "Address": "198.51.100.1"},
        {"$id": "1", "Type": "ip", "Address": "198.51.100.2"},
        {"$id": "2", "Type": "network-connection", "SourceAddress": {"$ref": "99"}},
        {"$id": "3", "Type": "network-connection", "SourceAddress": {"$ref": "1"}},
        {"$id": "4", "Type": "network-connection", "SourceAddress": None},
        "not an entity",
    ]
    alert = normalise(rest("SSH_Incoming_BF_OneToOne", entities=entities, extendedProperties={}))
    assert {a for a, _ in accused(alert)} == {"198.51.100.1", "198.51.100.2"}
    assert any("not there" in w for w in alert.warnings)


def test_an_entity_may_be_defined_inside_another():
    entities = [{"$id": "3", "Type": "network-connection", "SourceAddress": {
        "$id": "4", "Type": "ip", "Address": ATTACKER}}, {"$ref": "4"}]
    alert = normalise(rest("SSH_Incoming_BF_OneToOne", entities=entities, extendedProperties={}))
    assert accused(alert) == [(ATTACKER, None)]


def test_entities_may_come_grouped_by_kind():
    alert = normalise(log_row(Entities={"ip": {"Address": ATTACKER}, "host": [{"HostName": "x"}, 3]},
                              ExtendedProperties=None))
    assert accused(alert) == [(ATTACKER, None)]


def test_entities_nested_without_end_do_not_hang():
    deep: dict[str, Any] = {"Type": "ip", "$id": "0", "Address": ATTACKER}
    for n in range(1, 60):
        deep = {"$id": str(n), "Type": "x", "inner": deep}
    assert normalise(rest(entities=[deep], extendedProperties={})).attackers == ()


@pytest.mark.parametrize(("value", "found"), [
    ("00.00.00.00", False), ("", True), (None, True),
])
def test_an_ip_entity_without_an_address_is_a_warning(value: Any, found: bool):
    alert = normalise(rest(entities=[{"type": "ip", "address": value}], extendedProperties={}))
    assert alert.attackers == ()
    assert len(alert.warnings) == 1
    assert ("without an address" in alert.warnings[0]) is found


def test_version_strings_are_not_addresses():
    alert = normalise(rest("KV_X", entities=[], extendedProperties={
        "client Information": "Client/3.0.0.1", "attacker IP Address": "00.00.00.00"}))
    assert alert.attackers == ()
    assert any("holds no address" in w for w in alert.warnings)


def test_a_source_that_holds_no_address_is_no_warning():
    alert = normalise(rest("x", entities=[], extendedProperties={"source": "FreeRDP"}))
    assert alert.warnings == ()


def test_a_port_beside_the_address_is_kept():
    alert = normalise(rest("SSH_Incoming_BF_OneToOne", entities=[], extendedProperties={
        "Source IP": f"{ATTACKER}:8443"}))
    assert accused(alert) == [(ATTACKER, 8443)]


@pytest.mark.parametrize(("token", "canonical"), [
    ("198.51.100.7", "198.51.100.7"),
    (" 198.51.100.7 ", "198.51.100.7"),
    ("::ffff:198.51.100.7", "198.51.100.7"),
    ("2001:DB8:0::1", "2001:db8::1"),
    ("[2001:db8::1]", "2001:db8::1"),
    ("198.51.100.7/32", "198.51.100.7"),
    ("198.51.100.7/24", "198.51.100.0/24"),
    ("fe80::1%eth0", None),
    ("01.02.03.04", None),
    ("abc", None),
])
def test_addresses_are_canonical(token: str, canonical: str | None):
    assert address(token) == canonical


@pytest.mark.parametrize(("value", "found"), [
    ('["198.51.100.7", "2001:db8::5"]', ["198.51.100.7", "2001:db8::5"]),
    ("FreeRDP (198.51.100.7)", ["198.51.100.7"]),
    ("v1.2.3.4", []), ("1.2.3.4.5", []), ("a-1.2.3.4", []), (7, []), (["", 3], []),
    ("IP 2001:db8::5, and 198.51.100.7.", ["2001:db8::5", "198.51.100.7"]),
    ("198.51.100.7:99999", ["198.51.100.7"]),
])
def test_addresses_are_found_in_the_values_of_known_properties(value: Any, found: list[str]):
    assert [a for a, _ in addresses(value)[0]] == found


@pytest.mark.parametrize(("value", "number"), [
    ("443", 443), (443, 443), (0, None), ("70000", None), (True, None), ("x", None), (None, None),
    ("٤٤٣", None),
])
def test_ports_are_numbers_in_range(value: Any, number: int | None):
    assert port(value) == number


@pytest.mark.parametrize(("value", "text"), [
    ("2026-01-01T00:00:00.1234567Z", "2026-01-01T00:00:00.123456+00:00"),
    ("2026-01-01 00:00:00", "2026-01-01T00:00:00+00:00"),
    ("2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00+00:00"),
    ("0001-01-01T00:00:00", None), ("yesterday", None), ("", None), (5, None),
    ("9999-12-31T23:59:59-14:00", None),
])
def test_times_are_utc_with_zone(value: Any, text: str | None):
    found = moment(value)
    assert (found.isoformat() if found else None) == text


def test_names_are_matched_without_regard_to_case_and_the_first_wins():
    fields = Fields({"A": 1}, '{"a": 2, "b": true}', "no json", ["x"])
    assert fields.get("a") == 1
    assert fields.text("B") == "True"
    assert fields.get("c") is None
    assert not Fields("[1]")


# --- samples, states, severities ------------------------------------------------------------------


@pytest.mark.parametrize("changes", [
    {"alertType": "SIMULATED_VM_X"}, {"alertDisplayName": "[SAMPLE ALERT] x"},
    {"resourceIdentifiers": [{"azureResourceId": f"/SUBSCRIPTIONS/{SUB}/RESOURCEGROUPS/Sample-RG/x/y"}]},
])
def test_any_mark_of_a_sample_makes_a_sample(changes: dict[str, Any]):
    assert normalise(rest(**{"alertType": "VM_X", **changes})).is_sample


@pytest.mark.parametrize(("status", "closed"), [
    ("Active", False), ("InProgress", False), ("Dismissed", True), ("resolved", True), (None, False),
])
def test_closed_alerts_are_known(status: str | None, closed: bool):
    assert normalise(rest(status=status)).closed is closed


@pytest.mark.parametrize(("said", "severity"), [
    ("high", "High"), ("Informational", "Informational"), ("100", None), (None, None),
])
def test_severity_is_one_of_four_or_none(said: str | None, severity: str | None):
    alert = normalise(rest(severity=said))
    assert alert.severity == severity
    assert bool(alert.warnings) == (said == "100")


def test_other_content_is_another_accusation():
    base = normalise(rest())
    assert normalise(rest(status="Resolved", severity="High")).accusation() == base.accusation()
    other = rest(entities=[], extendedProperties={"attacker IP": "198.51.100.8"})
    assert normalise(other).accusation() != base.accusation()


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize(("raw", "field"), [
    (None, "alert"), (3, "alert"), (True, "alert"), ("text", "alert"), ([1], "alert"), (1.5, "alert"),
    (object(), "alert"),
    ({}, "AlertType"), ({"severity": "High"}, "AlertType"),
    (flat(SystemAlertId=None, AlertUri=None), "SystemAlertId"),
    (flat(SystemAlertId="two words"), "SystemAlertId"),
    (flat(SystemAlertId="x" * 201), "SystemAlertId"),
])
def test_a_malformed_alert_names_the_field_and_the_reason(raw: Any, field: str):
    with pytest.raises(MalformedAlert) as error:
        normalise(raw)
    assert error.value.field == field
    assert error.value.reason


@pytest.mark.parametrize("text", ["", "  ", "{", "not json", "[" * 100_000, '{"a": 1}\n{broken'])
def test_text_that_is_not_json_says_so(text: str):
    with pytest.raises(MalformedAlert) as error:
        read(text)
    assert error.value.field == "body"


# --- envelopes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [
    [1, 2], {"value": [1, 2]}, {"records": [1, 2]}, event([1, 2]), [event(1), event(2)],
    {"id": "e", "eventType": "x", "data": [1, 2]},
    [{**event(1), "deadletterreason": "x"}, {"data": 2, "deadLetterReason": "y"}],
    event("[1, 2]"),
    event(None, data_base64=base64.b64encode(b"[1, 2]").decode()),
    {"tables": [{"columns": [{"name": "a"}], "rows": [[1], [2]]}]},
], ids=str)
def test_envelopes_are_opened_in_order(data: Any):
    found = unwrap(data)
    assert found in ([1, 2], [{"a": 1}, {"a": 2}])


@pytest.mark.parametrize("data", [event(None), event(None, data_base64="!"), event(None, data_base64=3)])
def test_an_event_without_a_payload_holds_nothing_readable(data: Any):
    assert unwrap(data) == [None]


def test_a_table_without_rows_comes_back_as_it_is():
    assert unwrap({"tables": [{"x": 1}, {"columns": [], "rows": ["no row"]}]}) == [{"x": 1}]


def test_an_alert_with_a_value_field_is_no_list():
    assert unwrap({"alertType": "x", "value": [1]}) == [{"alertType": "x", "value": [1]}]


def test_wrapping_without_end_stops():
    data: Any = 1
    for _ in range(20):
        data = event(data)
    assert len(unwrap(data)) == 1


def test_lines_of_json_are_read_one_by_one():
    text = "\ufeff" + "\n".join(json.dumps({"alertType": n}) for n in "ab") + "\n\n"
    assert [r["alertType"] for r in read(text)] == ["a", "b"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["$id", "$ref", "type", "Type", "address", "entities", "properties", "id",
                         "extendedProperties", "attacker IP", "Source IPs", "alertType", "data",
                         "SystemAlertId", "resourceIdentifiers", "specversion", "value", "object",
                         "sourceAddress", "evidence", "operationName", "tables", "rows", "columns",
                         "networkConnections", "status", "severity", "timeGenerated", "kind"])
        | st.text(max_size=3), inner, max_size=6),
    max_leaves=30,
)


@given(JSON)
def test_nothing_that_json_can_hold_raises_anything_but_malformed_alert(data: Any):
    for raw in unwrap(data):
        with contextlib.suppress(MalformedAlert):
            assert normalise(raw).alert_id
