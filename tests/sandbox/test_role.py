"""The role in `infra/` is what the app needs: nothing missing, nothing extra.

Nothing missing: every test of this folder runs under the role. Nothing extra: one life of a block
with all its side ways uses every action.
"""

from __future__ import annotations

from pathlib import Path

from remediation.policy import DEFAULT_POLICY
from tests.azure import Azure
from tests.estate import COMPUTE, GROUP, NETWORK, SUB, estate, nsg_path
from tests.role import IDENTITY, role_actions
from tests.sandbox.test_firewall import site as walled
from tests.sandbox.test_tracing import hub, site
from tests.sandbox.test_waf import site as shielded
from tests.unit.firewalls import network


def test_a_life_with_all_its_side_ways_uses_every_action_of_the_role(azure: Azure, tmp_path: Path):
    policy = tmp_path / "policy.toml"
    policy.write_text(DEFAULT_POLICY.read_text().replace("azure_confirms = false", "azure_confirms = true"))
    azure.start(RESPONDER_POLICY=str(policy))
    azure.world.seed(estate())
    azure.world.arm("POST", "/providers/Microsoft.ResourceGraph/resources?api-version=2021-03-01",
                    {"query": "resources | take 1"})  # it knows the estate; what comes later it will not
    azure.world.tune(settle=0.3, graph_lag=60)  # operations are polled; public addresses read by GET
    nic = {"location": "westeurope", "properties": {"ipConfigurations": [{
        "name": "ipconfig1", "properties": {
            "subnet": {"id": nsg_path().replace("networkSecurityGroups/nsg",
                                                "virtualNetworks/vnet/subnets/sub")},
            "publicIPAddress": {"id": nsg_path().replace("networkSecurityGroups/nsg",
                                                         "publicIPAddresses/pip")}}}]}}
    path = nsg_path().replace("networkSecurityGroups/nsg", "networkInterfaces/nic")
    assert azure.world.arm("PUT", path, nic).status_code in (200, 201)
    azure.attack()
    azure.world.tune(settle=0)
    azure.world.arm("DELETE", f"{nsg_path()}/securityRules/defender-block-test-outbound")
    azure.world.tune(settle=0.3)
    azure.clock.forward(hours=1.1)
    azure.sweep()  # drift: the activity log; the jobs: Defender's list, the estate, orphans
    azure.clock.forward(hours=25)
    azure.sweep()
    assert azure.owned() == {}
    azure.world.seed(site())
    azure.start()  # another process, which has found no machine yet
    elements = ("loadBalancers/lb", "applicationGateways/agw", "publicIPAddresses/pip-nat",
                "azureFirewalls/fw", "bastionHosts/bastion", "virtualNetworkGateways/vpn")
    clusters = f"/subscriptions/{SUB}/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters"
    azure.world.seed({"resources": [{"id": f"{clusters}/aks", "name": "aks", "location": "westeurope",
                                     "properties": {"nodeResourceGroup": "rg"}}]})
    for element in (*(f"{NETWORK}/{e}" for e in elements), f"{COMPUTE}/virtualMachineScaleSets/uni",
                    f"{clusters}/aks"):
        azure.attack(resourceIdentifiers=[{"type": "AzureResource", "azureResourceId": element}])
    azure.world.seed(hub())
    azure.start()
    azure.attack(resourceIdentifiers=[
        {"type": "AzureResource", "azureResourceId": f"{NETWORK}/azureFirewalls/fw"}])
    azure.world.seed(shielded({"name": "waf"}, waf="waf"))
    azure.start()
    azure.attack(resourceIdentifiers=[
        {"type": "AzureResource", "azureResourceId": f"{NETWORK}/applicationGateways/agw"}])
    azure.world.tune(settle=0, graph_lag=0)
    firewalls = walled(network(sources=[], sourceIpGroups=[f"{NETWORK}/ipGroups/servers"]))
    firewalls.pop("peerings")
    azure.world.seed(firewalls)
    azure.world.seed({"resources": [{
        "id": f"{NETWORK}/azureFirewalls/hub", "name": "hub", "location": "westeurope", "properties": {
            "virtualHub": {"id": f"{NETWORK}/virtualHubs/hub"}}}, {
        "id": f"{NETWORK}/virtualHubs/hub", "name": "hub", "location": "westeurope", "properties": {}}]})
    for one in azure.app.watch._firewalls.all(azure.app.budget()):
        azure.app.watch.look(one, azure.app.budget())
    assert azure.app.operator.health(azure.app.budget())["ok"]
    used = set(azure.world.control("GET", "role")[IDENTITY])
    assert used == {a.lower() for a in role_actions()}


def test_without_the_right_to_write_rules_the_blocks_fail_and_a_human_is_told(azure: Azure):
    azure.world.seed(estate())
    azure.world.role(IDENTITY, [a for a in role_actions() if "securityRules" not in a])
    azure.attack()
    assert azure.states() == {"failed"}
    assert any("AuthorizationFailed" in n for n in azure.notices("block-failed"))


def test_the_graph_shows_only_what_may_be_read(azure: Azure):
    azure.world.seed(estate())
    azure.world.role(IDENTITY, [a for a in role_actions() if "locations/alerts" not in a])
    assert azure.app.operator._defender.since(azure.clock.now().replace(year=2020),
                                              azure.app.budget()) == []
    assert azure.app.operator._network.subscriptions(azure.app.budget()) == [SUB]
    assert GROUP in nsg_path()
