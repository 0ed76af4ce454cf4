"""From a short description of an estate to ARM resources: for seeding the sandbox in one call.

    {"subscription": "…", "location": "westeurope",
     "groups": [{"name": "rg-app",
        "nsgs":  [{"name": "nsg-app", "rules": [{"name": "…", "priority": 300, …}]}],
        "vnets": [{"name": "vnet", "prefix": "10.1.0.0/16",
                   "adminRules": [{"name": "…", "priority": 10, "direction": "Outbound",
                                   "access": "AlwaysAllow", "destinations": [{"addressPrefix": "*"}]}],
                   "subnets": [{"name": "app", "prefix": "10.1.0.0/24", "nsg": "nsg-app"}]}],
        "publicIps": [{"name": "pip-1", "address": "203.0.113.10"}],
        "loadBalancers": [{"name": "lb", "publicIp": "pip-1", "pools": [
             {"name": "web", "addresses": [{"address": "10.1.0.9", "vnet": "vnet"}], "of": ["lb-inner"]}],
             "rules": [{"frontendPort": 443, "backendPort": 8443, "pool": "web"}],
             "natRules": [{"name": "ssh", "frontendPort": 50001, "backendPort": 22, "nic": "vm-1-nic"}],
             "outbound": ["web"]}],
        "gateways": [{"name": "agw", "subnet": "vnet/agw", "publicIp": "pip-1", "waf": "waf",
                      "listeners": [{"name": "http", "waf": "waf"}], "pools": [
             {"name": "app", "addresses": ["10.1.0.7"], "fqdns": ["app.contoso.example"]}]}],
        "wafPolicies": [{"name": "waf", "state": "Enabled", "mode": "Prevention", "rules": [{…}]}],
        "natGateways": [{"name": "nat", "publicIp": "pip-1"}],
        "ipGroups": [{"name": "servers", "addresses": ["10.1.0.4"]}],
        "firewallPolicies": [{"name": "policy", "base": "base", "groups": [
             {"name": "egress", "priority": 200, "ruleCollections": [{…as ARM shows them…}]}]}],
        "firewalls": [{"name": "fw", "subnet": "vnet/AzureFirewallSubnet", "address": "10.1.9.4",
                       "policy": "policy", "networkRuleCollections": [{…classic rules…}]}],
        "scaleSets": [{"name": "ss", "mode": "Uniform", "instances": 3, "subnet": "vnet/app",
                       "nsg": "nsg-app", "pools": ["lb/web"]}],
        "vms":   [{"name": "vm-1", "power": "running", "guest": {…as `sandbox.arm.guest` has it…},
                   "nics": [{"name": "vm-1-nic", "subnet": "vnet/app", "address": "10.1.0.4",
                             "nsg": "nsg-nic", "publicIp": "pip-1", "pools": ["lb/web"],
                             "gatewayPools": ["agw/app"]}]}]}],
     "resources": [{…as ARM shows them…}],
     "odd": 0.3,                        a part of the references is in another casing
     "graph": {"unseen": ["/subscriptions/…"], "ghosts": [{…a row of what is gone…}]},
     "managementGroups": {"platform": ["00000000-…"]},   with the subscriptions in each
     "alerts": [{…properties of a Defender alert…}],
     "locks":  [{"scope": "/subscriptions/…", "level": "CanNotDelete", "name": "keep"}],
     "activity": [{"resource": "/subscriptions/…", "at": "2026-01-01T03:00:00Z",
                   "operation": "Microsoft.Compute/virtualMachines/deallocate/action"}],
     "onboarding": "…base64…",          Defender for Endpoint's, for Linux; without it the integration is off
     "facts": {"/subscriptions/…": {"faulted": true}},   of a firewall: it takes no update over any more
     "graphRows": [{"table": "recoveryservicesresources", "id": "…", "type": "…", "properties": {…}}],
     "logs": {"<workspace>": {"NTANetAnalytics": [{…a row, with TimeGenerated…}]}},   the tables it collects
     "denied": [{"action": "securityrules/write", "scope": "/subscriptions/…"}]}
"""

from __future__ import annotations

import zlib
from typing import Any

from sandbox.arm import before, firewall, publicip, vnet, waf
from sandbox.arm import nic as nics
from sandbox.arm import nsg as nsgs
from sandbox.arm.adopt import adopt
from sandbox.arm.call import ref
from sandbox.arm.compute import KIND as VM
from sandbox.arm.security import alert_body, note_event, put_lock
from sandbox.arm.state import Child, Resource, State


def seed(state: State, data: dict[str, Any]) -> dict[str, int]:
    """Add what the description names → how many resources there are now."""
    subscription = str(data.get("subscription", "00000000-0000-0000-0000-000000000001"))
    location = str(data.get("location", "westeurope"))
    for body in data.get("resources") or []:
        adopt(state, body)
    for group in data.get("groups") or []:
        _Group(state, subscription, str(group["name"]), location, float(data.get("odd", 0))).add(group)
    state.management_groups.update(data.get("managementGroups") or {})
    graph = data.get("graph") or {}
    state.unseen |= {str(one).lower() for one in graph.get("unseen") or ()}
    state.ghosts += [dict(one) for one in graph.get("ghosts") or ()]
    for alert in data.get("alerts") or []:
        alert_body(state, subscription, alert)
    state.onboarding = str(data.get("onboarding") or state.onboarding)
    for lock in data.get("locks") or []:
        put_lock(state, str(lock["scope"]), str(lock.get("name", "lock")),
                 {"properties": {"level": lock["level"]}})
    for event in data.get("activity") or []:
        note_event(state, str(event["resource"]), str(event["operation"]), str(event["at"]))
    for resource_id, facts in (data.get("facts") or {}).items():
        found = state.get(resource_id)
        if found is not None:
            found.facts.update(facts)
    for row in data.get("graphRows") or ():
        state.graph_rows[str(row["id"]).lower()] = {"name": str(row["id"]).rpartition("/")[2], **row}
    for workspace, tables in (data.get("logs") or {}).items():
        held = state.logs.setdefault(str(workspace).lower(), {})
        for table, given in tables.items():
            held.setdefault(table, []).extend(given)
    state.logs_denied |= {str(w).lower() for w in data.get("logsDenied") or ()}
    if "denied" in data:
        state.access.denied = list(data["denied"])
    state.version += 1
    return {"resources": len(state.resources), "alerts": len(state.alerts)}


class _Group:
    def __init__(self, state: State, subscription: str, name: str, location: str, odd: float) -> None:
        self.state = state
        self._odd = odd
        self.location = location
        state.add_group(subscription, name, location)
        self.base = f"/subscriptions/{subscription}/resourceGroups/{name}/providers"

    def _ref(self, resource_id: str) -> dict[str, str]:
        """A reference; some of an odd estate's are in another casing, as Azure has them."""
        if zlib.crc32(resource_id.encode()) % 1000 < self._odd * 1000:
            head, found, rest = resource_id.partition("/providers/")
            resource_id = head + found + rest.upper()
        return ref(resource_id)

    def _id(self, kind: str, name: str) -> str:
        return name if name.startswith("/") else f"{self.base}/{kind}/{name}"

    def _pip(self, name: str) -> str:
        return self._id("Microsoft.Network/publicIPAddresses", name)

    def add(self, group: dict[str, Any]) -> None:
        for one in group.get("nsgs") or []:
            self.nsg(one)
        for one in group.get("publicIps") or []:
            self.public_ip(one)
        for one in group.get("vnets") or []:
            self.vnet(one)
        for one in group.get("vms") or []:
            self.vm(one)
        for one in group.get("scaleSets") or []:
            self.scale_set(one)
        for one in group.get("loadBalancers") or []:
            self.load_balancer(one)
        for one in group.get("wafPolicies") or []:
            self._put(self._waf(one["name"]), waf.KIND, {
                "policySettings": {"state": one.get("state", "Enabled"),
                                   "mode": one.get("mode", "Prevention"),
                                   "requestBodyCheck": True, "maxRequestBodySizeInKb": 128},
                "customRules": one.get("rules") or [],
                "managedRules": {"managedRuleSets": [{"ruleSetType": "OWASP", "ruleSetVersion": "3.2"}]}})
        for one in group.get("gateways") or []:
            self.gateway(one)
        for one in group.get("natGateways") or []:
            self._put(self._id("Microsoft.Network/natGateways", one["name"]), before.NAT_GATEWAY, {
                "publicIpAddresses": [self._ref(self._pip(one["publicIp"]))]})
        for one in group.get("ipGroups") or []:
            adopt(self.state, {"id": self._id("Microsoft.Network/ipGroups", one["name"]), **self._head(one),
                               "properties": {"ipAddresses": one.get("addresses") or []}})
        for one in group.get("firewallPolicies") or []:
            self.policy(one)
        for one in group.get("firewalls") or []:
            self.firewall(one)

    def _head(self, one: dict[str, Any]) -> dict[str, Any]:
        return {"name": one["name"], "location": self.location}

    def policy(self, one: dict[str, Any]) -> None:
        policy = self._id("Microsoft.Network/firewallPolicies", one["name"])
        base = str(one.get("base") or "")
        inherits = {"basePolicy": self._ref(self._id("Microsoft.Network/firewallPolicies", base))}
        adopt(self.state, {"id": policy, **self._head(one), "properties": {
            **(inherits if base else {}), "threatIntelMode": "Alert"}})
        for group in one.get("groups") or []:
            adopt(self.state, {
                "id": f"{policy}/ruleCollectionGroups/{group['name']}", "name": group["name"], "properties": {
                    "priority": group["priority"], "ruleCollections": group.get("ruleCollections") or []}})

    def firewall(self, one: dict[str, Any]) -> None:
        p: dict[str, Any] = {part: one[part] for part in firewall.PARTS if part in one}
        if one.get("policy"):
            p["firewallPolicy"] = self._ref(self._id("Microsoft.Network/firewallPolicies", one["policy"]))
        p["ipConfigurations"] = [{"name": "ipconfig", "properties": {
            "subnet": self._ref(self._subnet(one["subnet"])), "privateIPAddress": one.get("address", "")}}]
        adopt(self.state, {"id": self._id("Microsoft.Network/azureFirewalls", one["name"]), **self._head(one),
                           "properties": p})

    def _put(self, resource_id: str, kind: str, properties: dict[str, Any], **body: Any) -> Resource:
        resource = Resource(resource_id, kind,
                            {"location": self.location, "properties": properties, **body})
        self.state.put(resource)
        return resource

    def nsg(self, one: dict[str, Any]) -> None:
        nsg = self._put(self._id("Microsoft.Network/networkSecurityGroups", one["name"]),
                        nsgs.KIND, {})
        rules: dict[str, Child] = {}
        for given in one.get("rules") or []:
            p = {"protocol": "*", "access": "Allow", "direction": "Inbound",
                 "sourceAddressPrefix": "*", "destinationAddressPrefix": "*",
                 "sourcePortRange": "*", "destinationPortRange": "*",
                 **{k: v for k, v in given.items() if k != "name"}}
            for side in ("source", "destination"):
                if p.get(f"{side}AddressPrefixes"):
                    p.pop(f"{side}AddressPrefix", None)
            rules[given["name"].lower()] = Child(given["name"], p)
        nsg.children["securityrules"] = rules

    def public_ip(self, one: dict[str, Any]) -> None:
        pip = self._put(self._id("Microsoft.Network/publicIPAddresses", one["name"]), publicip.KIND,
                        {"publicIPAllocationMethod": "Static"}, sku={"name": "Standard"})
        pip.facts["address"] = one["address"]

    def vnet(self, one: dict[str, Any]) -> None:
        net = self._put(self._id("Microsoft.Network/virtualNetworks", one["name"]), vnet.KIND,
                        {"addressSpace": {"addressPrefixes": [one["prefix"]]}})
        net.facts["adminRules"] = one.get("adminRules") or []
        for subnet in one.get("subnets") or []:
            p: dict[str, Any] = {"addressPrefix": subnet["prefix"]}
            if subnet.get("natGateway"):
                p["natGateway"] = self._ref(self._id("Microsoft.Network/natGateways", subnet["natGateway"]))
            if subnet.get("nsg"):
                p["networkSecurityGroup"] = self._ref(
                    self._id("Microsoft.Network/networkSecurityGroups", subnet["nsg"]))
            net.children.setdefault("subnets", {})[subnet["name"].lower()] = Child(subnet["name"], p)

    def vm(self, one: dict[str, Any]) -> None:
        ids = []
        for given in one.get("nics") or []:
            ids.append(self.nic(given))
        vm = self._put(self._id("Microsoft.Compute/virtualMachines", one["name"]), VM, {
            "hardwareProfile": {"vmSize": "Standard_D2s_v3"},
            "storageProfile": {"osDisk": {"osType": one.get("os", "Linux")}},
            "osProfile": {"computerName": one["name"]},
            "networkProfile": {"networkInterfaces": [self._ref(i) for i in ids]},
            **({"virtualMachineScaleSet": self._ref(one["set"])} if one.get("set") else {}),
        })
        vm.facts["power"] = one.get("power", "running")
        vm.facts["created"] = one.get("created", "2024-01-01T00:00:00.0000000+00:00")
        if "guest" in one:
            vm.facts["guest"] = dict(one["guest"])
            if str(one["guest"].get("os") or "").lower() == "windows":
                vm.body["properties"]["storageProfile"]["osDisk"]["osType"] = "Windows"
        if "principal" in one:
            vm.body["identity"] = {"type": "SystemAssigned", "principalId": one["principal"]}

    def _subnet(self, text: str) -> str:
        net, _, subnet = text.partition("/")
        return f"{self._id('Microsoft.Network/virtualNetworks', net)}/subnets/{subnet}"

    def _pools(self, one: dict[str, Any]) -> dict[str, Any]:
        """What a NIC says of the pools it is in."""
        found: dict[str, Any] = {}
        for given, kind, field in (("pools", "loadBalancers", "loadBalancerBackendAddressPools"),
                                   ("gatewayPools", "applicationGateways",
                                    "applicationGatewayBackendAddressPools")):
            for text in one.get(given) or []:
                owner, _, pool = text.partition("/")
                owner_id = self._id(f"Microsoft.Network/{kind}", owner)
                found.setdefault(field, []).append(self._ref(f"{owner_id}/backendAddressPools/{pool}"))
        return found

    def _public(self, one: dict[str, Any]) -> dict[str, Any]:
        """A frontend's public address, if it has one."""
        pip = one.get("publicIp")
        return {"publicIPAddress": self._ref(self._pip(pip))} if pip else {}

    def load_balancer(self, one: dict[str, Any]) -> None:
        lb = self._id("Microsoft.Network/loadBalancers", one["name"])
        frontend = self._public(one)
        if one.get("subnet"):
            frontend["subnet"] = self._ref(self._subnet(one["subnet"]))
        front = f"{lb}/frontendIPConfigurations/front"

        def pool(name: str) -> dict[str, str]:
            return self._ref(f"{lb}/backendAddressPools/{name}")

        self._put(lb, before.LOAD_BALANCER, {
            "frontendIPConfigurations": [{"name": "front", "id": front, "properties": frontend}],
            "backendAddressPools": [self._pool(lb, p) for p in one.get("pools") or []],
            "loadBalancingRules": [
                {"name": f"rule{n}", "properties": {
                    "frontendIPConfiguration": self._ref(front), "frontendPort": r["frontendPort"],
                    "backendPort": r["backendPort"], "protocol": "Tcp", "backendAddressPool": pool(r["pool"]),
                    "disableOutboundSnat": r.get("disableOutboundSnat", False)}}
                for n, r in enumerate(one.get("rules") or [])],
            "inboundNatRules": [
                {"name": r["name"], "properties": {
                    "frontendIPConfiguration": self._ref(front), "frontendPort": r["frontendPort"],
                    "backendPort": r["backendPort"], "protocol": "Tcp",
                    "backendIPConfiguration": self._ref(self._id(
                        "Microsoft.Network/networkInterfaces", r["nic"]) + "/ipConfigurations/ipconfig1")}}
                for r in one.get("natRules") or []],
            "outboundRules": [{"name": f"out-{name}", "properties": {"backendAddressPool": pool(name)}}
                              for name in one.get("outbound") or []],
        }, sku={"name": "Standard", "tier": one.get("tier", "Regional")})

    def _pool(self, lb: str, given: dict[str, Any]) -> dict[str, Any]:
        listed = [
            {"name": f"a{n}", "properties": {
                "ipAddress": a["address"],
                "virtualNetwork": self._ref(self._id("Microsoft.Network/virtualNetworks", a["vnet"]))}}
            for n, a in enumerate(given.get("addresses") or [])]
        listed += [
            {"name": f"r{n}", "properties": {"loadBalancerFrontendIPConfiguration": self._ref(
                f"{self._id('Microsoft.Network/loadBalancers', name)}/frontendIPConfigurations/front")}}
            for n, name in enumerate(given.get("of") or [])]
        return {"name": given["name"], "id": f"{lb}/backendAddressPools/{given['name']}",
                "properties": {"loadBalancerBackendAddresses": listed} if listed else {}}

    def _waf(self, name: str) -> str:
        return self._id("Microsoft.Network/ApplicationGatewayWebApplicationFirewallPolicies", name)

    def _shielded(self, one: dict[str, Any]) -> dict[str, Any]:
        return {"firewallPolicy": self._ref(self._waf(one["waf"]))} if one.get("waf") else {}

    def gateway(self, one: dict[str, Any]) -> None:
        gateway = self._id("Microsoft.Network/applicationGateways", one["name"])
        properties: dict[str, Any] = {
            "sku": {"name": "WAF_v2", "tier": "WAF_v2"},
            "gatewayIPConfigurations": [{"name": "gw", "properties": {"subnet": self._ref(
                self._subnet(one["subnet"]))}}],
            "frontendIPConfigurations": [{"name": "front", "properties": self._public(one)}],
            **self._shielded(one),
            "httpListeners": [
                {"name": given["name"], "id": f"{gateway}/httpListeners/{given['name']}",
                 "properties": {"protocol": "Http", **self._shielded(given)}}
                for given in one.get("listeners") or [{"name": "http"}]],
            "backendAddressPools": [
                {"name": p["name"], "id": f"{gateway}/backendAddressPools/{p['name']}", "properties": {
                    "backendAddresses": [*({"ipAddress": a} for a in p.get("addresses") or []),
                                         *({"fqdn": f} for f in p.get("fqdns") or [])]}}
                for p in one.get("pools") or []],
        }
        self._put(gateway, before.GATEWAY, properties)

    def scale_set(self, one: dict[str, Any]) -> None:
        """Uniform: instances and their NICs are no resources of their own. Flexible: ordinary machines."""
        scale_set = self._id("Microsoft.Compute/virtualMachineScaleSets", one["name"])
        mode = one.get("mode", "Uniform")
        self._put(scale_set, "microsoft.compute/virtualmachinescalesets", {"orchestrationMode": mode})
        addresses = one.get("addresses") or ()
        for n in range(int(one.get("instances", 1))):
            nic: dict[str, Any] = {k: one[k] for k in ("subnet", "nsg", "pools", "gatewayPools") if k in one}
            if addresses:
                nic["address"] = addresses[n]
            if mode == "Flexible":
                self.vm({"name": f"{one['name']}_{n}", "power": one.get("power", "running"),
                         "set": scale_set, "nics": [{**nic, "name": f"{one['name']}-nic-{n}"}]})
                continue
            instance = f"{scale_set}/virtualMachines/{n}"
            made = self._put(instance, before.INSTANCE, {
                "instanceId": str(n), "storageProfile": {"osDisk": {"osType": "Linux"}}})
            if "guest" in one:
                made.facts["guest"] = dict(one["guest"])
            made.facts["power"] = one.get("power", "running")
            self.nic({**nic, "name": f"{instance}/networkInterfaces/nic"}, before.INSTANCE_NIC)

    def nic(self, one: dict[str, Any], kind: str = nics.KIND) -> str:
        subnet_id = self._subnet(str(one["subnet"]))
        address = one.get("address") or nics.free_address(self.state, subnet_id)
        p: dict[str, Any] = {"subnet": self._ref(subnet_id), "privateIPAddress": address,
                             "privateIPAllocationMethod": "Dynamic", **self._pools(one)}
        if one.get("publicIp"):
            p["publicIPAddress"] = self._ref(self._pip(one["publicIp"]))
        properties: dict[str, Any] = {"ipConfigurations": [{"name": "ipconfig1", "properties": p}]}
        if one.get("nsg"):
            properties["networkSecurityGroup"] = self._ref(
                self._id("Microsoft.Network/networkSecurityGroups", one["nsg"]))
        nic_id = self._id("Microsoft.Network/networkInterfaces", one["name"])
        self._put(nic_id, kind, properties)
        return nic_id
