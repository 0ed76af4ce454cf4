"""What stands before machines, read from ARM's JSON: pools, rules, names, and what leads nowhere."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.model import Mapped
from remediation.topology import (
    GATEWAY,
    INSTANCE_NIC,
    INSTANCE_PUBLIC_IP,
    LOAD_BALANCER,
    NIC,
    SUBNET,
    UNLISTED,
    Kind,
    Lead,
    appliance,
    canonical,
    gateway_subnet,
    hider,
    kind_of,
    leads,
    name_of,
    owner_of,
    peers,
    pool_addresses,
    waf_policies,
)

SUB = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers"
NET = f"{SUB}/Microsoft.Network"
LB, AGW = f"{NET}/loadBalancers/lb", f"{NET}/applicationGateways/agw"
VNET = f"{NET}/virtualNetworks/vnet"
INSTANCE = f"{SUB}/Microsoft.Compute/virtualMachineScaleSets/ss/virtualMachines/0"


def ref(resource_id: str) -> dict[str, str]:
    return {"id": resource_id}


def nic(name: str) -> str:
    return f"{NET}/networkInterfaces/{name}"


def config(name: str) -> dict[str, str]:
    return ref(f"{nic(name)}/ipConfigurations/ipconfig1")


def balancer(**properties: Any) -> dict[str, Any]:
    return {"id": LB, "name": "lb", "properties": properties}


def pool(name: str = "web", **properties: Any) -> dict[str, Any]:
    return {"name": name, "id": f"{LB}/backendAddressPools/{name}", "properties": properties}


def by_target(body: dict[str, Any]) -> dict[str, Lead]:
    return {lead.target: lead for lead in leads(body)}


@pytest.mark.parametrize(("resource", "kind"), [
    (nic("n"), NIC), (f"{VNET}/subnets/s", SUBNET), (LB + "/", LOAD_BALANCER),
    (INSTANCE + "/networkInterfaces/n", INSTANCE_NIC),
    ("/subscriptions/00000000-0000-0000-0000-000000000001", ""), ("", ""), (f"{NET}/loadBalancers", ""),
    (f"{NET}/loadBalancers/..", ""), (f"{NET}/loadBalancers/lb?x=1", ""), (f"{NET}/loadBalancers/l%2fb", ""),
    (f"{NET}/loadBalancers/lb/backendAddressPools", ""), ("https://x.test" + LB, ""), (LB + "' or 1", ""),
])
def test_only_the_id_of_a_resource_has_a_kind(resource: str, kind: str):
    assert kind_of(resource) == kind


@given(st.text())
def test_no_text_breaks_the_reading_of_an_id(text: str):
    assert isinstance(kind_of(LB + text) + name_of(text) + owner_of(text), str)


def test_members_listed_twice_are_one_lead_with_all_their_ports():
    body = balancer(
        backendAddressPools=[
            pool(backendIPConfigurations=[config("a"), config("b"), config("A")],
                 loadBalancerBackendAddresses=[
                     {"properties": {"networkInterfaceIPConfiguration": config("b")}}]),
            pool("other", backendIPConfigurations=[config("a")])],
        loadBalancingRules=[{"properties": {"frontendPort": 443, "backendPort": 8443,
                                            "backendAddressPool": ref(f"{LB}/backendAddressPools/web")}}],
        inboundNatRules=[{"name": "ssh", "properties": {
            "frontendPort": 50001, "backendPort": 22, "backendIPConfiguration": config("a")}}])
    found = by_target(body)
    assert set(found) == {nic("a").lower(), nic("b").lower()}
    assert found[nic("a").lower()].ports == (Mapped((443, 443), 8443), Mapped((50001, 50001), 22, True))
    assert [str(p) for p in found[nic("a").lower()].ports] == ["443 → 8443", "50001 → 22, to it alone"]


def test_a_member_by_address_is_in_its_own_network_or_the_pools():
    own, pools = f"{NET}/virtualNetworks/own", f"{NET}/virtualNetworks/pools"
    body = balancer(backendAddressPools=[
        pool(virtualNetwork=ref(pools), loadBalancerBackendAddresses=[
            {"properties": {"ipAddress": "10.0.0.9", "virtualNetwork": ref(own)}},
            {"properties": {"ipAddress": "10.0.0.9", "subnet": ref(f"{VNET}/subnets/s")}},
            {"properties": {"ipAddress": "10.0.0.9"}}, {"properties": {}}]),
        pool("bare", loadBalancerBackendAddresses=[{"properties": {"ipAddress": "10.0.0.8"}}])])
    found = leads(body)
    assert [lead.network for lead in found if lead.kind is Kind.ADDRESS] == [
        own.lower(), VNET.lower(), pools.lower()]
    assert [lead.target for lead in found if lead.kind is Kind.NOWHERE] == [
        "pool bare: 10.0.0.8 is in no network that is named"]


def test_a_cross_region_balancer_leads_to_the_regional_ones():
    inner = f"{NET}/loadBalancers/inner"
    body = balancer(backendAddressPools=[pool(loadBalancerBackendAddresses=[{"properties": {
        "loadBalancerFrontendIPConfiguration": ref(f"{inner}/frontendIPConfigurations/f")}}])])
    assert list(by_target(body)) == [inner.lower()]


@pytest.mark.parametrize(("rule", "outbound", "public", "speaks"), [
    ({}, False, True, True), ({"disableOutboundSnat": True}, False, True, False), ({}, False, False, None),
    ({"disableOutboundSnat": True}, True, True, True), (None, False, True, False), (None, True, True, True),
])
def test_outbound_rules_say_which_pool_speaks_out(
    rule: dict[str, Any] | None, outbound: bool, public: bool, speaks: bool | None
):
    web = ref(f"{LB}/backendAddressPools/web")
    front = {"id": f"{LB}/frontendIPConfigurations/f",
             "properties": {"publicIPAddress": ref(f"{NET}/publicIPAddresses/p")} if public else {}}
    rules = [] if rule is None else [{"properties": {
        **rule, "frontendIPConfiguration": front, "backendAddressPools": [web], "frontendPort": 1}}]
    body = balancer(
        backendAddressPools=[pool(backendIPConfigurations=[config("a")])], frontendIPConfigurations=[front],
        loadBalancingRules=rules,
        outboundRules=[{"properties": {"backendAddressPool": web}}] if outbound else [])
    assert leads(body)[0].speaks_out is speaks


def test_a_nat_rule_for_a_pool_maps_a_range_of_ports():
    body = balancer(
        backendAddressPools=[pool(backendIPConfigurations=[config("a")])],
        inboundNatRules=[{"name": "many", "properties": {
            "frontendPortRangeStart": 50000, "frontendPortRangeEnd": "50099", "backendPort": 3389,
            "backendAddressPool": ref(f"{LB}/backendAddressPools/web")}}])
    (lead,) = leads(body)
    assert lead.ports == (Mapped((50000, 50099), 3389),)
    assert str(lead.ports[0]) == "50000-50099 → 3389"


def test_a_gateway_hides_clients_and_a_name_is_not_guessed():
    body = {"id": AGW, "name": "agw", "properties": {
        "gatewayIPConfigurations": [{"properties": {"subnet": ref(f"{VNET}/subnets/agw")}}],
        "backendAddressPools": [{"name": "app", "properties": {
            "backendIPConfigurations": [config("a")],
            "backendAddresses": [{"ipAddress": "10.0.0.7"}, {"fqdn": "app.contoso.example"}, {}]}}]}}
    nic_lead, address, nowhere = leads(body)
    assert nic_lead.hidden == address.hidden == AGW.lower()
    assert hider(nic_lead.hidden) == "application gateway agw"
    assert (address.kind, address.network) == (Kind.ADDRESS, VNET.lower())
    assert nowhere.target == "pool app: the name app.contoso.example is not resolved"
    assert gateway_subnet(body) == f"{VNET}/subnets/agw".lower()
    assert gateway_subnet({"id": AGW}) == ""
    lost = {**body, "properties": {**body["properties"], "gatewayIPConfigurations": []}}  # type: ignore[dict-item]  # a body of Any
    assert leads(lost)[1].network == ""


def test_the_nearest_waf_policy_counts_and_what_none_sees_is_named():
    def listener(name: str, waf: str = "") -> dict[str, Any]:
        return {"name": name, "properties": {"firewallPolicy": ref(waf)} if waf else {}}

    own = {"id": AGW, "properties": {
        "firewallPolicy": ref("/Own"), "httpListeners": [listener("a"), listener("b", "/B")],
        "urlPathMaps": [{"properties": {"pathRules": [listener("p", "/P"), listener("q")]}}]}}
    assert waf_policies(own) == (("/own", "/b", "/p"), ())
    none = {"id": AGW, "properties": {"httpListeners": [listener("a"), listener("b", "/B")],
                                      "listeners": [{"name": "tcp"}]}}
    assert waf_policies(none) == (("/b",), ("listener a", "listener tcp (no HTTP)"))
    assert waf_policies({"id": AGW}) == ((), ())


def test_a_firewall_says_what_routes_may_name_and_a_network_its_peers():
    body = {"id": f"{NET}/azureFirewalls/fw", "properties": {"ipConfigurations": [
        {"properties": {"privateIPAddress": "10.0.3.4",
                        "subnet": ref(f"{VNET}/subnets/AzureFirewallSubnet")}},
        {"properties": {"publicIPAddress": ref("/pip")}}]}}
    assert appliance(body) == (("10.0.3.4",), (VNET.lower(),))
    assert appliance({}) == ((), ())
    network = {"properties": {"virtualNetworkPeerings": [
        {"properties": {"remoteVirtualNetwork": ref(VNET)}}, {"properties": {}}]}}
    assert peers(network) == (VNET.lower(),)


@pytest.mark.parametrize(("properties", "target"), [
    ({"ipConfiguration": config("a")}, nic("a")),
    ({"ipConfiguration": ref(f"{LB}/frontendIPConfigurations/f")}, LB),
    ({"ipConfiguration": ref(f"{AGW}/frontendIPConfigurations/f")}, AGW),
    ({"ipConfiguration": ref(f"{NET}/azureFirewalls/fw/azureFirewallIpConfigurations/c")},
     f"{NET}/azureFirewalls/fw"),
    ({"natGateway": ref(f"{NET}/natGateways/n")}, f"{NET}/natGateways/n"),
])
def test_a_public_address_leads_to_its_owner(properties: dict[str, Any], target: str):
    assert list(by_target({"id": f"{NET}/publicIPAddresses/p", "properties": properties})) == [target.lower()]


def test_an_address_of_nobody_leads_nowhere():
    (lead,) = leads({"id": f"{NET}/publicIPAddresses/p", "properties": {}})
    assert (lead.kind, lead.target) == (Kind.NOWHERE, "the public address belongs to nothing")


def test_a_network_leads_to_the_nics_in_its_subnets_and_to_nothing_else():
    instance = f"{INSTANCE}/networkInterfaces/n"
    subnet = {"name": "app", "id": f"{VNET}/subnets/app", "properties": {"ipConfigurations": [
        config("a"), ref(f"{instance}/ipConfigurations/x"), ref(f"{LB}/frontendIPConfigurations/f")]}}
    found = by_target({"id": VNET, "properties": {"subnets": [subnet, {"name": "bare"}]}})
    assert set(found) == {nic("a").lower(), instance.lower()}
    assert {lead.via for lead in found.values()} == {"subnet app"}
    assert set(by_target(subnet)) == set(found)


def test_a_nat_gateway_leads_to_its_subnets():
    (lead,) = leads({"id": f"{NET}/natGateways/n", "properties": {"subnets": [ref(f"{VNET}/subnets/app")]}})
    assert (lead.target, lead.speaks_out) == (f"{VNET}/subnets/app".lower(), True)


@pytest.mark.parametrize("kind", ["azureFirewalls", "bastionHosts", "virtualNetworkGateways"])
def test_what_carries_a_networks_traffic_leads_to_that_network(kind: str):
    where = [{"properties": {"subnet": ref(f"{VNET}/subnets/Own")}}] * 2
    (lead,) = leads({"id": f"{NET}/{kind}/x", "properties": {"ipConfigurations": where}})
    assert lead.target == VNET.lower()
    (nowhere,) = leads({"id": f"{NET}/{kind}/x", "properties": {}})
    assert nowhere.kind is Kind.NOWHERE


@pytest.mark.parametrize("body", [
    {}, {"id": 7}, {"id": f"{SUB}/Microsoft.Storage/storageAccounts/s"}])
def test_the_unknown_leads_nowhere_with_the_reason(body: dict[str, Any]):
    (lead,) = leads(body)
    assert lead.kind is Kind.NOWHERE
    assert "cannot be found" in lead.target


@pytest.mark.parametrize("odd", [None, 7, "x", [], {}, [None], [7], {"id": 7}])
@pytest.mark.parametrize("name", ["backendAddressPools", "loadBalancingRules", "inboundNatRules",
                                  "outboundRules", "frontendIPConfigurations"])
def test_odd_parts_of_a_body_are_passed_over(name: str, odd: Any):
    assert leads(balancer(**{name: odd})) == ()
    assert leads({"id": LB, "properties": odd}) == ()


def test_names_for_people():
    assert name_of(f"{SUB}/x/virtualMachineScaleSets/ss/virtualMachines/3") == "ss/3"
    assert name_of("lone") == "lone"
    assert owner_of(nic("n")) == nic("n").lower()


def test_a_lead_that_says_more_of_speaking_out_is_believed():
    body = balancer(
        backendAddressPools=[pool(backendIPConfigurations=[config("a")]),
                             pool("out", backendIPConfigurations=[config("a")])],
        outboundRules=[{"properties": {"backendAddressPool": ref(f"{LB}/backendAddressPools/out")}}],
        inboundNatRules=[{"name": "n", "properties": {
            "backendIPConfiguration": config("a"), "frontendPort": "x"}}])
    (lead,) = leads(body)
    assert lead.speaks_out is True
    assert lead.ports[-1] == Mapped((0, 0), 0, True)


def test_every_member_of_every_recorded_load_balancer_is_found(recorded_alerts: Path):
    recorded = recorded_alerts.parent / "arm" / "golden_interactions.jsonl.gz"
    if not recorded.exists():
        pytest.skip("recorded traffic is not beside the checkout")
    seen = 0
    with gzip.open(recorded, "rt") as lines:
        for line in lines:
            answer = json.loads(line).get("resp") or ""
            if "backendIPConfigurations" not in answer:
                continue
            whole = json.loads(answer)
            for body in whole.get("value") or [whole]:
                if kind_of(str(body.get("id", ""))) not in (LOAD_BALANCER, GATEWAY):
                    continue
                members = {owner_of(c["id"]) for p in body["properties"].get("backendAddressPools") or []
                           for c in (p.get("properties") or {}).get("backendIPConfigurations") or []}
                assert members <= {lead.target for lead in leads(body)}
                seen += len(members)
    assert seen > 10


def test_a_public_address_of_an_instance_is_known_by_its_id():
    address = f"{INSTANCE}/networkInterfaces/n/ipConfigurations/c/publicIPAddresses/p"
    assert kind_of(address) == INSTANCE_PUBLIC_IP


def test_a_rule_for_all_ports_leads_every_port_on():
    body = balancer(backendAddressPools=[pool(backendIPConfigurations=[config("a")])], loadBalancingRules=[
        {"properties": {"protocol": "All", "frontendPort": 0, "backendPort": 0,
                        "backendAddressPool": ref(f"{LB}/backendAddressPools/web")}}])
    assert leads(body)[0].ports == (Mapped((0, 65535), 0),)


@pytest.mark.parametrize(("kind", "hides"), [("azureFirewalls", True), ("bastionHosts", False)])
def test_what_comes_in_through_a_firewall_bears_its_address(kind: str, hides: bool):
    element = f"{NET}/{kind}/x"
    (lead,) = leads({"id": element, "properties": {
        "ipConfigurations": [{"properties": {"subnet": ref(f"{VNET}/subnets/f")}}]}})
    assert (lead.hidden, hider(lead.hidden)) == ((element.lower(), "firewall x") if hides else ("", ""))


@pytest.mark.parametrize(("text", "found"), [
    ("2001:DB8:0::0001", "2001:db8::1"), (" 10.0.0.4 ", "10.0.0.4"), ("app.example", "app.example"),
])
def test_an_address_is_compared_as_azure_writes_it(text: str, found: str):
    assert canonical(text) == found


def test_networks_that_use_a_gateway_of_this_one_are_told_apart():
    other = f"{NET}/virtualNetworks/spoke"
    body = {"properties": {"virtualNetworkPeerings": [
        {"properties": {"remoteVirtualNetwork": ref(other), "allowGatewayTransit": True}},
        {"properties": {"remoteVirtualNetwork": ref(VNET)}}]}}
    assert peers(body) == (other.lower(), VNET.lower())
    assert peers(body, through_gateway=True) == (other.lower(),)


def test_the_addresses_behind_a_gateway_are_read_from_a_row_of_the_graph():
    row = {"configurations": [{"properties": {"subnet": ref(f"{VNET}/subnets/agw")}}],
           "pools": [{"properties": {"backendAddresses": [{"ipAddress": "10.0.0.7"}, {"fqdn": "x"}]}}, {}]}
    assert pool_addresses(row) == (f"{VNET}/subnets/agw".lower(), {"10.0.0.7"})
    assert pool_addresses({}) == ("", set())


def test_a_gateway_that_could_not_be_listed_is_said_to_hide_clients_and_what_to_do():
    assert hider(UNLISTED) == (
        "an application gateway that was not to be listed yet, if there is one,")
