"""Every machine behind what an alert names, with the way that led there; and the reason where none is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from remediation.cloud.cache import Kept
from remediation.cloud.members import Behind
from tests.azure import OPERATOR, Azure
from tests.estate import ATTACKER, COMPUTE, NETWORK, SUB, alert, estate, name_of, nsg_id
from tests.role import IDENTITY, role_actions


def site() -> dict[str, Any]:
    """Two subnets with a guard each; machines, scale sets, and everything that may stand before them."""
    return {"subscription": SUB, "groups": [{
        "name": "rg",
        "nsgs": [{"name": "nsg"}, {"name": "nsg2"}, {"name": "nsg-nic"}],
        "publicIps": [{"name": f"pip-{n}", "address": f"203.0.113.{20 + i}"}
                      for i, n in enumerate(["lb", "agw", "nat", "vm", "free"])],
        "vnets": [
            {"name": "vnet", "prefix": "10.0.0.0/16", "subnets": [
                {"name": "app", "prefix": "10.0.0.0/24", "nsg": "nsg"},
                {"name": "data", "prefix": "10.0.1.0/24", "nsg": "nsg2", "natGateway": "nat"},
                {"name": "agw", "prefix": "10.0.2.0/24"},
                {"name": "AzureFirewallSubnet", "prefix": "10.0.3.0/24"}]},
            {"name": "twin", "prefix": "10.0.0.0/16", "subnets": [{"name": "app", "prefix": "10.0.0.0/24"}]}],
        "vms": [
            {"name": "vm", "nics": [{"name": "nic", "subnet": "vnet/app", "pools": ["lb/web"],
                                     "publicIp": "pip-vm"},
                                    {"name": "nic-b", "subnet": "vnet/data"}]},
            {"name": "vm2", "nics": [{"name": "nic2", "subnet": "vnet/app", "pools": ["lb/web"],
                                      "gatewayPools": ["agw/app"]}]},
            {"name": "vm3", "power": "deallocated", "nics": [
                {"name": "nic3", "subnet": "vnet/data", "address": "10.0.1.40", "nsg": "nsg-nic"}]},
            {"name": "stranger", "nics": [{"name": "nic4", "subnet": "twin/app", "address": "10.0.1.40"}]}],
        "scaleSets": [
            {"name": "uni", "instances": 2, "subnet": "vnet/data", "pools": ["lb/set"]},
            {"name": "flex", "mode": "Flexible", "instances": 2, "subnet": "vnet/app"}],
        "loadBalancers": [
            {"name": "lb", "publicIp": "pip-lb", "pools": [
                {"name": "web"}, {"name": "set"},
                {"name": "ip", "addresses": [{"address": "10.0.1.40", "vnet": "vnet"},
                                             {"address": "10.0.1.99", "vnet": "vnet"}]}],
             "rules": [{"frontendPort": 443, "backendPort": 8443, "pool": "web"}],
             "natRules": [{"name": "ssh", "frontendPort": 50001, "backendPort": 22, "nic": "nic"}],
             "outbound": ["web"]},
            {"name": "global", "tier": "Global", "pools": [{"name": "regions", "of": ["lb"]}]}],
        "gateways": [{"name": "agw", "subnet": "vnet/agw", "publicIp": "pip-agw", "pools": [
            {"name": "app", "addresses": ["10.0.1.40"], "fqdns": ["app.contoso.example"]}]}],
        "natGateways": [{"name": "nat", "publicIp": "pip-nat"}],
    }], "resources": [
        {"id": f"{NETWORK}/{kind}/{name}", "name": name, "location": "westeurope", "properties": {
            "ipConfigurations": [{"name": "c", "properties": {"subnet": {
                "id": f"{NETWORK}/virtualNetworks/vnet/subnets/AzureFirewallSubnet"}}}]}}
        for kind, name in (("azureFirewalls", "fw"), ("bastionHosts", "bastion"),
                           ("virtualNetworkGateways", "vpn"))]}


LB = f"{NETWORK}/loadBalancers/lb"
SET = f"{COMPUTE}/virtualMachineScaleSets"
WEB, DATA, UNI = {"vm", "vm2"}, {"vm", "vm3", "uni/0", "uni/1"}, {"uni/0", "uni/1"}
FLEX = {"flex_0", "flex_1"}


def trace(azure: Azure, resource: str) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Machine → path; and the reasons why others are not traced."""
    found = azure.app.responder._survey._tracer.trace([resource], azure.app.budget())
    return {m.path[-1]: m.path for m in found.machines}, [why for _, why in found.untraced]


@pytest.mark.parametrize(("resource", "machines"), [
    (f"{COMPUTE}/virtualMachines/vm", {"vm"}),
    (f"{NETWORK}/networkInterfaces/nic-b", {"vm"}),
    (LB, WEB | UNI | {"vm3"}),
    (f"{NETWORK}/loadBalancers/global", WEB | UNI | {"vm3"}),
    (f"{NETWORK}/publicIPAddresses/pip-lb", WEB | UNI | {"vm3"}),
    (f"{NETWORK}/publicIPAddresses/pip-vm", {"vm"}),
    (f"{NETWORK}/publicIPAddresses/pip-nat", DATA),
    (f"{NETWORK}/applicationGateways/agw", {"vm2", "vm3"}),
    (f"{NETWORK}/publicIPAddresses/pip-agw", {"vm2", "vm3"}),
    (f"{SET}/uni", UNI), (f"{SET}/uni/virtualMachines/1", {"uni/1"}), (f"{SET}/flex", FLEX),
    (f"{NETWORK}/natGateways/nat", DATA),
    (f"{NETWORK}/virtualNetworks/vnet/subnets/app", WEB | FLEX),
    (f"{NETWORK}/virtualNetworks/vnet", WEB | FLEX | DATA),
    (f"{NETWORK}/azureFirewalls/fw", WEB | FLEX | DATA),
])
def test_the_machines_behind_it_are_found(azure: Azure, resource: str, machines: set[str]):
    azure.world.seed(site())
    for spelled in (resource, resource.upper().replace("/SUBSCRIPTIONS/", "/subscriptions/")):
        assert set(trace(azure, spelled)[0]) == machines
        azure.start()


@pytest.mark.parametrize(("resource", "machine", "path"), [
    (LB, "vm", "lb → pool web → nic → vm"),
    (LB, "vm3", "lb → pool ip → nic3 → vm3"),
    (LB, "uni/0", "lb → pool set → uni/0"),
    (f"{NETWORK}/loadBalancers/global", "vm2", "global → pool regions → lb → pool web → nic2 → vm2"),
    (f"{NETWORK}/publicIPAddresses/pip-nat", "vm3",
     "pip-nat → nat → outbound → data → nic3 → vm3"),
    (f"{NETWORK}/applicationGateways/agw", "vm2", "agw → pool app → nic2 → vm2"),
    (f"{NETWORK}/azureFirewalls/fw", "vm2", "fw → its network → vnet → subnet app → nic2 → vm2"),
    (f"{SET}/flex", "flex_0", "flex → flex_0"),
    (f"{NETWORK}/networkInterfaces/nic2", "vm2", "nic2 → vm2"),
])
def test_each_machine_says_how_it_was_found(azure: Azure, resource: str, machine: str, path: str):
    azure.world.seed(site())
    assert " → ".join(trace(azure, resource)[0][machine]) == path


VNET = f"{NETWORK}/virtualNetworks/vnet"


@pytest.mark.parametrize(("resource", "address", "machines"), [
    (VNET, "10.0.1.40", {"vm3"}),  # and not the stranger that has it in another network
    (f"{NETWORK}/virtualNetworks/twin", "10.0.1.40", {"stranger"}),
    (f"{VNET}/subnets/data", "10.0.1.40", {"vm3"}),
    (VNET, "10.0.1.7", {"uni/1"}),  # an instance of a uniform scale set
    (f"{VNET}/subnets/app", "10.0.1.40", WEB | FLEX),  # nobody has it there: all are looked at
    (VNET, "198.51.100.200", WEB | FLEX | DATA),
    (LB, "10.0.1.40", WEB | UNI | {"vm3"}),  # behind other things an address narrows nothing
])
def test_an_address_of_ours_says_which_machine_of_a_network_is_meant(
    azure: Azure, resource: str, address: str, machines: set[str]
):
    data = site()
    data["groups"][0]["scaleSets"][0]["addresses"] = ["10.0.1.6", "10.0.1.7"]
    azure.world.seed(data)
    tracer = azure.app.responder._survey._tracer
    found = tracer.trace([resource], azure.app.budget(), (address,)).machines
    assert {m.path[-1] for m in found} == machines
    if len(found) == 1 and found[0].path[-1] == "vm3":
        assert found[0].path == (resource.rpartition("/")[2], "at 10.0.1.40", "nic3", "vm3")


def test_an_alert_on_a_network_with_an_address_of_ours_blocks_for_that_machine_alone(azure: Azure):
    azure.world.seed(site())
    one = azure.attack(
        resourceIdentifiers=[{"type": "AzureResource", "azureResourceId": VNET}],
        entities=[{"$id": "1", "type": "ip", "address": ATTACKER}],
        extendedProperties={"attacker IP": ATTACKER, "Victim IP": "10.0.1.40"})
    shown = azure.timeline(one)
    assert [m["path"][-1] for m in shown["machines"]] == ["vm3"], shown["machines"]
    assert azure.blocks("nsg2")["outbound", ATTACKER].state == "active"
    assert "agw hides the client" in azure.blocks("nsg2")["inbound", ATTACKER].detail, "it is behind that"
    assert azure.states("nsg") == set()


def test_backends_are_found_by_address_in_a_peered_network_and_in_scale_sets(azure: Azure):
    data = site()
    group = data["groups"][0]
    group["vnets"].append({"name": "spoke", "prefix": "10.9.0.0/16", "subnets": [
        {"name": "s", "prefix": "10.9.0.0/24"}]})
    group["vms"].append({"name": "far", "nics": [{"name": "nic-far", "subnet": "spoke/s",
                                                  "address": "10.9.0.4"}]})
    group["scaleSets"][0]["addresses"] = ["10.0.1.6", "10.0.1.7"]
    group["gateways"][0]["pools"][0]["addresses"] += ["10.9.0.4", "10.0.1.6", "10.9.0.5"]
    azure.world.seed(data)
    agw = f"{NETWORK}/applicationGateways/agw"
    assert set(trace(azure, agw)[0]) == {"vm2", "vm3", "uni/0"}, "not peered yet"
    assert azure.world.arm("PUT", f"{VNET}/virtualNetworkPeerings/to-spoke", {"properties": {
        "remoteVirtualNetwork": {"id": f"{NETWORK}/virtualNetworks/spoke"}}}).status_code == 201
    azure.start()
    found, dead = trace(azure, agw)
    assert set(found) == {"vm2", "vm3", "uni/0", "far"}
    assert any("10.9.0.5 in vnet is the address of no machine" in why for why in dead)


OTHER = "00000000-0000-0000-0000-000000000002"


def two_subscriptions() -> dict[str, Any]:
    """A pool whose second machine, with its network, is in another subscription."""
    data = site()
    there = f"/subscriptions/{OTHER}/resourceGroups/rg/providers"
    net, nic = f"{there}/Microsoft.Network", f"{there}/Microsoft.Network/networkInterfaces/nic-there"
    data["resources"] += [
        {"id": f"{net}/networkSecurityGroups/nsg-there", "name": "nsg-there", "location": "westeurope",
         "properties": {"securityRules": []}},
        {"id": f"{net}/virtualNetworks/vnet-there", "name": "vnet-there", "location": "westeurope",
         "properties": {"addressSpace": {"addressPrefixes": ["10.8.0.0/16"]}, "subnets": [
             {"name": "s", "properties": {"addressPrefix": "10.8.0.0/24", "networkSecurityGroup": {
                 "id": f"{net}/networkSecurityGroups/nsg-there"}}}]}},
        {"id": nic, "name": "nic-there", "location": "westeurope", "properties": {
            "virtualMachine": {"id": f"{there}/Microsoft.Compute/virtualMachines/vm-there"},
            "ipConfigurations": [{"name": "c", "properties": {
                "privateIPAddress": "10.8.0.4", "loadBalancerBackendAddressPools": [
                    {"id": f"{LB}/backendAddressPools/web"}],
                "subnet": {"id": f"{net}/virtualNetworks/vnet-there/subnets/s"}}}]}},
        {"id": f"{there}/Microsoft.Compute/virtualMachines/vm-there", "name": "vm-there",
         "location": "westeurope", "properties": {"networkProfile": {"networkInterfaces": [{"id": nic}]}}},
    ]
    return data


def test_management_groups_are_a_scope_as_well(azure: Azure):
    azure.world.seed({**two_subscriptions(), "managementGroups": {"all": [SUB, OTHER], "one": [SUB]}})
    azure.start(RESPONDER_MANAGEMENT_GROUPS="all")
    assert "vm-there" in trace(azure, LB)[0]
    azure.start(RESPONDER_MANAGEMENT_GROUPS="one")
    machine = f"/subscriptions/{OTHER}/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm-there"
    graph = azure.app.sweep._graph
    rows = graph.rows("machines", azure.app.budget(), ids=[machine.lower()])
    assert rows == [], "the graph is asked about the group alone"
    assert "vm-there" in trace(azure, LB)[0], "and what it does not show is read by GET"


def attack_on(azure: Azure, resource: str) -> dict[str, Any]:
    return azure.timeline(azure.attack(
        resourceIdentifiers=[{"type": "AzureResource", "azureResourceId": resource}]))


def test_machines_of_another_subscription_are_guarded_as_well(azure: Azure):
    azure.world.seed(two_subscriptions())
    shown = attack_on(azure, LB)
    assert "vm-there" in {m["path"][-1] for m in shown["machines"]}
    there = nsg_id("nsg-there").replace(SUB, OTHER)
    assert {b.state for b in azure.ledger.blocks.live(there)} == {"active"}


@pytest.mark.parametrize("scope", [
    f"/subscriptions/{OTHER}",
    f"/subscriptions/{OTHER}/resourceGroups/rg/providers/Microsoft.Network/networkInterfaces",
    f"/subscriptions/{OTHER}/resourceGroups/rg/providers/Microsoft.Compute",
])
def test_without_rights_on_one_subscription_the_others_go_on_and_it_is_said(azure: Azure, scope: str):
    azure.world.seed({**two_subscriptions(), "denied": [{"action": "read$", "scope": scope}]})
    shown = attack_on(azure, LB)
    assert {m["path"][-1] for m in shown["machines"]} == WEB | UNI | {"vm3"}
    assert {b.state for (d, _), b in azure.blocks().items() if d == "outbound"} == {"active"}
    assert any("there" in n and "AuthorizationFailed" in n for n in shown["plan"]["notices"]), (
        shown["plan"]["notices"])


def test_without_rights_on_the_guards_of_one_subscription_the_others_stand_and_it_is_said(azure: Azure):
    scope = f"/subscriptions/{OTHER}/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups"
    azure.world.seed({**two_subscriptions(), "denied": [{"action": "read$", "scope": scope}]})
    shown = attack_on(azure, LB)
    assert "vm-there" in {m["path"][-1] for m in shown["machines"]}
    assert {b.state for (d, _), b in azure.blocks().items() if d == "outbound"} == {"active"}
    assert any("nic-there" in n and "cannot be read" in n for n in shown["plan"]["notices"])


@pytest.mark.parametrize(("resource", "reason"), [
    (LB, "pool ip: 10.0.1.99 in vnet is the address of no machine"),
    (f"{NETWORK}/applicationGateways/agw", "the name app.contoso.example is not resolved"),
    (f"{NETWORK}/loadBalancers/gone", "it is not there (any more)"),
    (f"{NETWORK}/publicIPAddresses/pip-free", "the public address belongs to nothing"),
    (f"{SET}/gone", "the scale set has no instance that is known"),
    (f"{SET}/uni/virtualMachines/9", "the machine is not there"),
    (f"/subscriptions/{SUB}", "a whole subscription is no place to look"),
    ("/subscriptions/" + SUB + "/resourceGroups/rg/providers/Microsoft.HybridCompute/machines/m",
     "an Arc machine"),
    (f"{LB}/../../virtualMachines/vm", "this is no resource of Azure's"),
    ("", "this is no resource of Azure's"),
])
def test_what_cannot_be_traced_has_its_reason(azure: Azure, resource: str, reason: str):
    azure.world.seed(site())
    assert any(reason in why for why in trace(azure, resource)[1]), trace(azure, resource)


def test_machines_that_the_graph_does_not_know_yet_are_read_one_by_one(azure: Azure):
    azure.world.seed(site())
    trace(azure, LB)
    azure.world.tune(graph_lag=600)
    azure.world.seed({"subscription": SUB, "groups": [{"name": "rg", "vms": [
        {"name": "new", "nics": [{"name": "nic-new", "subnet": "vnet/app", "pools": ["lb/web"]}]}]}]})
    azure.start()
    assert set(trace(azure, LB)[0]) == WEB | UNI | {"vm3", "new"}
    azure.world.tune(graph_lag=0)


# --- what the graph, or the alert's own words, do not show ---


def test_a_guard_that_was_changed_a_moment_ago_is_blocked_on_and_the_old_one_left_alone(azure: Azure):
    azure.world.seed(site())
    trace(azure, LB)
    azure.world.tune(graph_lag=600)
    subnet = f"{VNET}/subnets/app"
    body = azure.world.arm("GET", subnet).json()
    body["properties"]["networkSecurityGroup"] = {"id": nsg_id("nsg-nic")}
    assert azure.world.arm("PUT", subnet, body).status_code < 300
    azure.start()
    shown = attack_on(azure, LB)
    by_machine = {m["path"][-1]: {p["guard"].rpartition("/")[2]: p["outcome"] for p in m["proof"]
                                  if p["direction"] == "outbound"} for m in shown["machines"]}
    assert by_machine["vm2"] == {"nsg-nic": "active"}, "what guards it, not what the graph still says"
    assert by_machine["vm"] == {"nsg-nic": "active", "nsg2": "active"}
    assert azure.blocks("nsg") == {}
    azure.world.tune(graph_lag=0)


def test_a_machine_that_leaves_its_guard_leaves_the_block_and_people_are_told_once(azure: Azure):
    data = site()
    data["groups"][0]["vms"] += [{"name": name, "nics": [
        {"name": f"nic-{name}", "subnet": "twin/app", "nsg": "nsg-nic", "pools": ["lb/own"]}]}
        for name in ("stays", "leaves")]
    data["groups"][0]["loadBalancers"][0]["pools"].append({"name": "own"})
    azure.world.seed(data)
    one = azure.attack(resourceIdentifiers=[{"type": "AzureResource", "azureResourceId": LB}])
    nic = f"{NETWORK}/networkInterfaces/nic-leaves"
    body = azure.world.arm("GET", nic).json()
    del body["properties"]["networkSecurityGroup"]
    assert azure.world.arm("PUT", nic, body).status_code < 300
    for _ in range(2):
        azure.app.responder.commit_nsg(nsg_id("nsg-nic"), azure.app.budget(), forced=True)
    told = azure.notices("detached")
    assert len(told) == 2, "once for each direction"
    assert all("nic-leaves" in n and "nic-stays" not in n for n in told)
    outcomes = {m["path"][-1]: {p["outcome"] for p in m["proof"]} for m in azure.timeline(one)["machines"]
                if m["path"][-1] in ("stays", "leaves")}
    assert outcomes == {"stays": {"active"}, "leaves": {"detached"}}
    assert azure.blocks("nsg-nic")["outbound", ATTACKER].state == "active"


def test_an_alert_on_a_machine_stops_the_attacker_before_its_gateway(azure: Azure):
    data = site()
    data["groups"][0]["nsgs"].append({"name": "nsg-agw"})
    data["groups"][0]["vnets"][0]["subnets"][2]["nsg"] = "nsg-agw"
    azure.world.seed(data)
    attack_on(azure, f"{COMPUTE}/virtualMachines/vm3")  # a backend by its address alone
    assert azure.owned("nsg-agw") == {"inbound": [ATTACKER]}
    behind = azure.owned("nsg2") | azure.owned("nsg-nic")
    both = {"outbound": [ATTACKER], "inbound": [ATTACKER]}
    assert behind == both, "it is named itself: there may be other ways to it"


@pytest.mark.parametrize("order", [1, -1])
def test_a_machine_named_beside_its_gateway_is_known_to_be_behind_it(azure: Azure, order: int):
    azure.world.seed(site())
    named = [f"{COMPUTE}/virtualMachines/vm3", f"{NETWORK}/applicationGateways/agw"][::order]
    tracer = azure.app.responder._survey._tracer
    (vm3,) = [m for m in tracer.trace(named, azure.app.budget()).machines if m.id.endswith("/vm3")]
    assert {h.rpartition("/")[2] for n in vm3.nics for h in n.hidden} == {"agw"}


def test_what_comes_in_through_a_firewall_is_not_called_stopped_behind_it(azure: Azure):
    azure.world.seed(site())
    shown = attack_on(azure, f"{NETWORK}/azureFirewalls/fw")
    (vm,) = [m for m in shown["machines"] if m["path"][-1] == "vm3"]
    outcomes = {p["direction"]: p["outcome"] for p in vm["proof"]}
    assert outcomes == {"outbound": "active", "inbound": "unproven"}
    assert all("firewall fw" in p["detail"] for p in vm["proof"] if p["direction"] == "inbound")


def test_instances_that_the_graph_does_not_know_yet_are_read_from_their_scale_set(azure: Azure):
    azure.world.seed(site())
    trace(azure, LB)
    azure.world.tune(graph_lag=600)
    azure.world.seed({"subscription": SUB, "groups": [{"name": "rg", "scaleSets": [
        {"name": "late", "instances": 2, "subnet": "vnet/data"}]}]})
    azure.start()
    found = azure.app.responder._survey._tracer.trace([f"{SET}/late"], azure.app.budget()).machines
    assert {m.path[-1] for m in found} == {"late/0", "late/1"}
    assert all(n.subnet_nsg.endswith("/nsg2") for m in found for n in m.nics)
    azure.world.tune(graph_lag=0)


@pytest.mark.parametrize(("resource", "machines"), [
    (f"{SET}/flex/virtualMachines/flex_1", {"flex_1"}),
    (f"{SET}/uni/virtualMachines/vm", set()),  # a machine of that name is none of the scale set's
    (f"{SET}/uni/virtualMachines/1/networkInterfaces/nic/ipConfigurations/c/publicIPAddresses/p", {"uni/1"}),
])
def test_instances_are_found_however_they_are_named(azure: Azure, resource: str, machines: set[str]):
    azure.world.seed({**site(), "resources": [*site()["resources"], {
        "id": f"{SET}/uni/virtualMachines/1/networkInterfaces/nic/ipConfigurations/c/publicIPAddresses/p",
        "name": "p", "properties": {"ipAddress": "203.0.113.77"}}]})
    assert set(trace(azure, resource)[0]) == machines


def test_the_machines_of_a_cluster_are_those_of_its_node_pools(azure: Azure):
    cluster = f"/subscriptions/{SUB}/resourceGroups/apps/providers/Microsoft.ContainerService/managedClusters"
    azure.world.seed({**site(), "resources": [*site()["resources"], {
        "id": f"{cluster}/aks", "name": "aks", "location": "westeurope",
        "properties": {"nodeResourceGroup": "RG"}}]})
    found, _ = trace(azure, f"{cluster}/aks")
    assert set(found) == UNI | FLEX
    assert " → ".join(found["uni/0"]) == "aks → uni → uni/0"
    assert trace(azure, f"{cluster}/none")[1] == ["not traced: no node pool of the cluster is known"]


@pytest.mark.parametrize(("kind", "transit", "spoke"), [
    ("bastionHosts/bastion", False, True), ("virtualNetworkGateways/vpn", True, True),
    ("virtualNetworkGateways/vpn", False, False),
])
def test_networks_that_are_peered_use_a_bastion_and_where_it_is_allowed_a_network_gateway(
    azure: Azure, kind: str, transit: bool, spoke: bool
):
    azure.world.seed(site())
    assert azure.world.arm("PUT", f"{VNET}/virtualNetworkPeerings/to-twin", {"properties": {
        "remoteVirtualNetwork": {"id": f"{NETWORK}/virtualNetworks/twin"},
        "allowGatewayTransit": transit}}).status_code == 201
    found = trace(azure, f"{NETWORK}/{kind}")[0]
    assert set(found) == WEB | FLEX | DATA | ({"stranger"} if spoke else set())


def test_an_address_of_ours_that_nobody_has_is_said(azure: Azure):
    azure.world.seed(site())
    found = azure.app.responder._survey._tracer.trace([VNET], azure.app.budget(), ("10.0.1.40", "10.0.1.99"))
    assert [m.path[-1] for m in found.machines] == ["vm3"]
    ((_, why),) = found.untraced
    assert why == "not traced: 10.0.1.99 in vnet is the address of no machine"


def test_an_element_that_may_not_be_read_does_not_hold_up_the_others(azure: Azure):
    azure.world.seed(site())
    azure.world.role(IDENTITY, [a for a in role_actions() if "virtualNetworks/subnets" not in a])
    machines, untraced = trace(azure, f"{NETWORK}/natGateways/nat")
    assert machines == {}
    assert "AuthorizationFailed" in untraced[0]
    azure.start()
    assert set(trace(azure, f"{NETWORK}/networkInterfaces/nic3")[0]) == {"vm3"}, "its own guard is known"


def test_a_c2_alert_on_a_load_balancer_is_blocked_before_all_of_its_machines(azure: Azure):
    azure.world.seed(site())
    one = azure.attack(resourceIdentifiers=[{"type": "AzureResource", "azureResourceId": LB}])
    for nsg in ("nsg", "nsg2"):
        assert azure.owned(nsg) == {"outbound": [ATTACKER], "inbound": [ATTACKER]}
        assert azure.blocks(nsg)["outbound", ATTACKER].state.value == "active"
    hidden = azure.blocks()["inbound", ATTACKER]
    assert "application gateway agw hides the client's address" in hidden.detail, "vm2 is behind one as well"
    plan = azure.timeline(one)["plan"]
    assert {m["path"][-1] for m in plan["machines"]} == WEB | UNI | {"vm3"}
    assert {b["nsg"] for b in plan["blocks"]} == {nsg_id("nsg"), nsg_id("nsg2")}
    ports = {m["path"][-1]: (m["ports"], m["speaksOut"]) for m in plan["machines"]}
    assert ports["vm"] == (["443 → 8443", "50001 → 22, to it alone"], True)
    assert ports["uni/0"] == ([], False)
    assert any("10.0.1.99" in s["reason"] for s in plan["skipped"])


def test_an_attack_through_an_application_gateway_is_stopped_in_its_own_subnet(azure: Azure):
    estate = site()
    estate["groups"][0]["nsgs"].append({"name": "nsg-agw"})
    estate["groups"][0]["vnets"][0]["subnets"][2]["nsg"] = "nsg-agw"
    azure.world.seed(estate)
    azure.attack(resourceIdentifiers=[
        {"type": "AzureResource", "azureResourceId": f"{NETWORK}/applicationGateways/agw"}])
    assert azure.owned("nsg-agw") == {"inbound": [ATTACKER]}
    assert azure.states("nsg-agw") == {"active"}
    assert azure.owned("nsg2") == {"outbound": [ATTACKER]}, "vm3 is reached through the gateway only"
    assert azure.owned("nsg") == {"outbound": [ATTACKER], "inbound": [ATTACKER]}, "vm2 also by a balancer"
    assert azure.states("nsg") == {"active"}, "what comes through the gateway is stopped before it"


def test_a_gateway_without_a_guard_is_told(azure: Azure):
    azure.world.seed(site())
    azure.attack(resourceIdentifiers=[
        {"type": "AzureResource", "azureResourceId": f"{NETWORK}/applicationGateways/agw"}])
    assert any("agw: its subnet has no network security group" in n for n in azure.notices("alert"))


def test_a_machine_says_whether_it_runs(azure: Azure):
    azure.world.seed(site())
    found = azure.app.responder._survey._tracer.trace([LB], azure.app.budget())
    assert {m.path[-1]: m.power for m in found.machines} == {
        "vm": "PowerState/running", "vm2": "PowerState/running", "vm3": "PowerState/deallocated",
        "uni/0": "PowerState/running", "uni/1": "PowerState/running"}


def test_a_gateway_whose_subnet_may_not_be_read_is_told_so(azure: Azure):
    azure.world.seed(site())
    azure.world.control("POST", "seed", {"denied": [
        {"action": "subnets/read", "scope": f"{NETWORK}/virtualNetworks/vnet/subnets/agw"}]})
    azure.attack(resourceIdentifiers=[
        {"type": "AzureResource", "azureResourceId": f"{NETWORK}/applicationGateways/agw"}])
    assert any("agw: its subnet cannot be read" in n for n in azure.notices("alert"))


def test_more_elements_than_are_followed_are_named_and_the_first_are_followed(azure: Azure):
    estate = site()
    group = estate["groups"][0]
    group["vnets"][0]["subnets"] += [
        {"name": f"s{n}", "prefix": f"10.0.{100 + n}.0/28", "natGateway": "nat"} for n in range(70)]
    azure.world.seed(estate)
    machines, untraced = trace(azure, f"{NETWORK}/natGateways/nat")
    assert set(machines) == DATA, "the subnet with machines is the first of them"
    assert any("elements beyond 60 were not followed" in why for why in untraced)


def test_a_pool_costs_a_handful_of_queries(azure: Azure):
    machines = [{"name": f"m{n}", "nics": [{"name": f"n{n}", "subnet": f"vnet/s{n % 20}", "pools": ["lb/web"],
                                            "address": f"10.0.{n % 20}.{n // 20 + 4}"}]} for n in range(100)]
    azure.world.seed({"subscription": SUB, "groups": [{
        "name": "rg", "nsgs": [{"name": f"g{n}"} for n in range(20)],
        "vnets": [{"name": "vnet", "prefix": "10.0.0.0/16", "subnets": [
            {"name": f"s{n}", "prefix": f"10.0.{n}.0/24", "nsg": f"g{n}"} for n in range(20)]}],
        "vms": machines, "loadBalancers": [{"name": "lb", "pools": [{"name": "web"}]}]}]})
    azure.world.control("DELETE", "log")
    found = azure.app.responder._survey._tracer.trace([LB], azure.app.budget())
    assert len(found.machines) == 100
    assert {n.subnet_nsg for m in found.machines for n in m.nics} == {nsg_id(f"g{n}") for n in range(20)}
    asked = [r["path"].lower() for r in azure.world.log() if r["service"] == "arm"]
    assert len([p for p in asked if "resourcegraph" in p]) <= 5
    assert len(asked) <= 7


def test_alerts_on_the_same_element_share_what_was_found(azure: Azure):
    azure.world.seed(site())
    where = [{"type": "AzureResource", "azureResourceId": LB}]
    azure.attack(resourceIdentifiers=where)
    azure.world.control("DELETE", "log")
    azure.deliver(azure.know(alert(attacker="198.51.100.9", resourceIdentifiers=where)))
    assert not [r for r in azure.world.log() if "loadbalancers" in r["path"].lower()]


def hub() -> dict[str, Any]:
    """A firewall in a hub; routes to its address in two spokes."""
    spokes = [{"name": n, "prefix": f"10.{i}.0.0/16", "subnets": [
        {"name": "app", "prefix": f"10.{i}.0.0/24", "nsg": "nsg"}]} for i, n in enumerate(("a", "b"), 1)]
    groups = [{"name": "rg", "nsgs": [{"name": "nsg"}], "vnets": [
        {"name": "hub", "prefix": "10.0.0.0/16", "subnets": [
            {"name": "AzureFirewallSubnet", "prefix": "10.0.3.0/24"},
            {"name": "jump", "prefix": "10.0.4.0/24"}]}, *spokes],
        "vms": [{"name": f"vm-{n}", "nics": [{"name": f"nic-{n}", "subnet": f"{n}/app"}]} for n in ("a", "b")]
        + [{"name": "jump", "nics": [{"name": "nic-jump", "subnet": "hub/jump"}]}]}]
    networks = f"{NETWORK}/virtualNetworks"
    return {"subscription": SUB, "groups": groups, "resources": [
        {"id": f"{NETWORK}/azureFirewalls/fw", "name": "fw", "location": "westeurope", "properties": {
            "ipConfigurations": [{"name": "c", "properties": {
                "privateIPAddress": "10.0.3.4",
                "subnet": {"id": f"{networks}/hub/subnets/AzureFirewallSubnet"}}}]}},
        {"id": f"{NETWORK}/routeTables/rt", "name": "rt", "location": "westeurope", "properties": {
            "routes": [{"name": "out", "properties": {"addressPrefix": "0.0.0.0/0", "nextHopType":
                                                      "VirtualAppliance", "nextHopIpAddress": "10.0.3.4"}}],
            "subnets": [{"id": f"{networks}/{n}/subnets/app"} for n in ("a", "b")]}}]}


def test_behind_a_firewall_are_the_machines_whose_routes_lead_to_it(azure: Azure):
    azure.world.seed(hub())
    path = f"{NETWORK}/virtualNetworks/hub/virtualNetworkPeerings/to-a"
    remote = {"properties": {"remoteVirtualNetwork": {"id": f"{NETWORK}/virtualNetworks/a"}}}
    assert azure.world.arm("PUT", path, remote).status_code in (200, 201)
    found, _ = trace(azure, f"{NETWORK}/azureFirewalls/fw")
    assert {m: " → ".join(p) for m, p in found.items()} == {
        "vm-a": "fw → routes to it → app → nic-a → vm-a"}, "b is not peered: its 10.0.3.4 is another"


def test_a_firewall_that_no_route_names_may_have_its_whole_network_behind_it(azure: Azure):
    estate = hub()
    estate["resources"] = estate["resources"][:1]
    azure.world.seed(estate)
    assert set(trace(azure, f"{NETWORK}/azureFirewalls/fw")[0]) == {"jump"}


def test_that_gateways_are_not_known_now_is_told_of_an_attack_from_outside_and_of_no_other(azure: Azure):
    azure.world.seed(estate())
    azure.app.responder._survey._tracer._fronts._silent.get("", lambda: True)  # the graph did not say
    outward = azure.attack()
    assert azure.timeline(outward)["plan"]["notices"] == []
    inward = azure.attack(attacker="198.51.100.20", kind="SSH_Incoming_BF_OneToOne",
                          alertDisplayName="Successful brute force attack")
    (notice,) = azure.timeline(inward)["plan"]["notices"]
    assert notice.startswith("machines: which application gateways have these machines behind them")
    assert azure.owned() == {"outbound": [ATTACKER], "inbound": ["198.51.100.20", ATTACKER]}
    unseen = azure.blocks()["inbound", "198.51.100.20"]
    assert unseen.state.value == "shadowed", "written at once, and not called effective"
    assert "an application gateway that was not to be listed" in unseen.detail
    azure.app.operator.replay_id(name_of(inward), OPERATOR, azure.app.budget(), dry_run=False, override=False)
    assert azure.blocks()["inbound", "198.51.100.20"].state.value == "shadowed", "not known still"
    azure.app.responder._survey._tracer._fronts._silent.forget("")
    azure.app.operator.replay_id(name_of(inward), OPERATOR, azure.app.budget(), dry_run=False, override=False)
    assert azure.blocks()["inbound", "198.51.100.20"].state.value == "active", "the list is known now"


SSH = {"kind": "SSH_Incoming_BF_OneToOne", "alertDisplayName": "Successful brute force attack"}


@pytest.fixture
def silent(azure: Azure) -> Kept[str, bool]:
    """Whether the graph does not say which gateways there are: it does not."""
    azure.world.seed(estate())
    found = azure.app.responder._survey._tracer._fronts._silent
    found._seconds = 10_000_000
    found.put("", True)
    return found


def later(azure: Azure, minutes: int = 11) -> str:
    """The inbound block's state after so long and a sweep."""
    azure.clock.forward(minutes=minutes)
    azure.sweep()
    return azure.blocks()["inbound", ATTACKER].state.value


def test_gateways_that_are_not_known_now_are_looked_for_again_until_they_are(
    azure: Azure, silent: Kept[str, bool]
):
    one = azure.attack(**SSH)
    term = azure.blocks()["inbound", ATTACKER].expires
    assert [later(azure, 2), later(azure), later(azure)] == ["shadowed"] * 3
    silent.forget("")
    assert later(azure) == "active"
    assert azure.blocks()["inbound", ATTACKER].expires == term, "its term is what it was"
    assert azure.owned() == {"inbound": [ATTACKER]}
    told = azure.notices("alert")
    assert len(told) == 1, "of what came of it nobody need be told"
    (record,) = azure.app.ledger.alerts.bodies(name_of(one))
    assert record.values["blind"] is False
    reports = azure.blocks()["inbound", ATTACKER].reports
    assert (later(azure), azure.blocks()["inbound", ATTACKER].reports) == ("active", reports)


def test_a_second_look_that_is_interrupted_before_its_proof_is_finished_by_a_later_sweep(
    azure: Azure, silent: Kept[str, bool], monkeypatch: pytest.MonkeyPatch
):
    azure.attack(**SSH)
    silent.forget("")
    responder = azure.app.responder
    with monkeypatch.context() as patched:
        patched.setattr(responder, "commit_all", lambda *_: 1 / 0)
        assert later(azure, 2) == "shadowed"
    assert later(azure, 2) == "active"


def test_a_block_that_a_person_took_back_is_not_made_again_when_gateways_become_known(
    azure: Azure, silent: Kept[str, bool]
):
    azure.attack(**SSH)
    (block,) = azure.blocks().values()
    azure.app.operator.revoke(OPERATOR, azure.app.budget(), address="", block_id=block.key.id, reason="ours",
                              hold=timedelta(0))
    silent.forget("")
    azure.clock.forward(minutes=11)
    azure.sweep()
    assert azure.blocks() == {}
    assert azure.owned() == {}


def test_a_gateway_that_is_found_later_is_told_and_the_block_behind_it_not_called_effective(
    azure: Azure, silent: Kept[str, bool], monkeypatch: pytest.MonkeyPatch
):
    azure.attack(**SSH)
    fronts = azure.app.responder._survey._tracer._fronts
    network = f"{NETWORK}/virtualNetworks/vnet".lower()
    gateway = f"{NETWORK}/applicationGateways/agw".lower()
    monkeypatch.setattr(fronts, "by_address", lambda _: [Behind(gateway, network, frozenset({"10.0.0.4"}))])
    assert later(azure) == "shadowed"
    detail = azure.blocks()["inbound", ATTACKER].detail
    assert "application gateway agw hides" in detail
    assert "not to be listed" not in detail
    (told,) = [text for text in azure.notices("alert") if "replay the alert" in text]
    assert "before its machines stands application gateway agw" in told


def test_that_gateways_are_not_known_for_hours_is_told_once_and_then_left_to_people(
    azure: Azure, silent: Kept[str, bool]
):
    azure.attack(**SSH)
    for _ in range(40):
        later(azure)
    (told,) = azure.notices("alert-failed")
    assert "which application gateways stand before its machines" in told


def test_a_backend_by_address_that_the_graph_does_not_know_yet_is_found_in_its_network(azure: Azure):
    data = estate(machines=2)
    group = data["groups"][0]
    group["vms"][1]["nics"][0]["address"] = "10.0.0.77"
    group["loadBalancers"] = [{"name": "lb", "pools": [
        {"name": "web", "addresses": [{"address": "10.0.0.77", "vnet": "vnet"},
                                      {"address": "10.0.0.99", "vnet": "vnet"}]}], "rules": []}]
    data["graph"] = {"unseen": [f"{NETWORK}/networkInterfaces/nic2", f"{COMPUTE}/virtualMachines/vm2"]}
    azure.world.seed(data)
    one = azure.attack(resourceIdentifiers=[
        {"type": "AzureResource", "azureResourceId": f"{NETWORK}/loadBalancers/lb"}])
    plan = azure.timeline(one)["plan"]
    assert [m["path"] for m in plan["machines"]] == [["lb", "pool web", "nic2", "vm2"]]
    assert [s["reason"] for s in plan["skipped"]] == [
        "not traced: pool web: 10.0.0.99 in vnet is the address of no machine"]
    assert azure.states() == {"active"}


@pytest.mark.parametrize(("address", "looked_through"), [("10.0.0.99", True), ("192.0.2.50", False)])
def test_a_network_is_looked_through_for_addresses_that_it_has_room_for(
    azure: Azure, monkeypatch: pytest.MonkeyPatch, address: str, looked_through: bool
):
    data = estate()
    data["groups"][0]["loadBalancers"] = [{"name": "lb", "pools": [
        {"name": "web", "addresses": [{"address": address, "vnet": "vnet"}]}], "rules": []}]
    azure.world.seed(data)
    members = azure.app.responder._survey._tracer._members
    looked, nic_rows = [], members._nic_rows

    def counted(nics: set[str], machines: set[str], deadline: Any) -> Any:
        looked.append(nics)
        return nic_rows(nics, machines, deadline)

    monkeypatch.setattr(members, "_nic_rows", counted)
    trace(azure, f"{NETWORK}/loadBalancers/lb")
    assert bool(looked) is looked_through


def test_a_backend_that_cannot_be_looked_for_now_keeps_no_other_from_being_found(azure: Azure):
    data = estate(machines=2)
    group = data["groups"][0]
    group["vms"][1]["nics"][0]["pools"] = ["lb/web"]
    group["loadBalancers"] = [{"name": "lb", "pools": [
        {"name": "web", "addresses": [{"address": "10.0.0.99", "vnet": "vnet"}]}], "rules": []}]
    azure.world.seed(data)
    azure.faults({"service": "arm", "path": "/virtualNetworks/vnet$", "status": 503, "times": 999})
    assert set(trace(azure, f"{NETWORK}/loadBalancers/lb")[0]) == {"vm2"}


def test_a_public_address_that_may_not_be_read_costs_no_block(azure: Azure):
    data = estate()
    data["groups"][0]["vms"][0]["nics"][0]["publicIp"] = "pip"
    azure.world.seed(data)
    azure.faults({"service": "arm", "path": "publicIPAddresses", "status": 403, "times": 1000,
                  "body": {"error": {"code": "AuthorizationFailed", "message": "no"}}})
    azure.attack()
    assert azure.world.control("GET", "faults")["left"][0] < 1000
    assert azure.states() == {"active"}


def test_a_pool_of_a_thousand_members_is_found_whole_for_a_handful_of_queries(azure: Azure):
    data = estate()
    data["groups"][0]["vms"] = [
        {"name": f"m{n}", "nics": [{"name": f"n{n}", "subnet": "vnet/sub", "pools": ["lb/web"]}]}
        for n in range(1_000)]
    data["groups"][0]["loadBalancers"] = [{"name": "lb", "pools": [{"name": "web"}], "rules": []}]
    azure.world.seed(data)
    azure.start(RESPONDER_BUDGET_SECONDS="20")
    one = azure.attack(resourceIdentifiers=[
        {"type": "AzureResource", "azureResourceId": f"{NETWORK}/loadBalancers/lb"}])
    assert len(azure.timeline(one)["machines"]) == 1_000
    assert azure.states() == {"active"}
    assert len(azure.writes()) == 2
    asked = [r["path"] for r in azure.world.log() if r["service"] == "arm" and r["by"] == IDENTITY]
    assert sum("ResourceGraph" in p for p in asked) <= 25
    assert sum("ResourceGraph" not in p for p in asked) <= 15
