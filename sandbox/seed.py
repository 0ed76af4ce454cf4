"""From a short description of an estate to ARM resources: for seeding the sandbox in one call.

    {"subscription": "…", "location": "westeurope",
     "groups": [{"name": "rg-app",
        "nsgs":  [{"name": "nsg-app", "rules": [{"name": "…", "priority": 300, …}]}],
        "vnets": [{"name": "vnet", "prefix": "10.1.0.0/16",
                   "subnets": [{"name": "app", "prefix": "10.1.0.0/24", "nsg": "nsg-app"}]}],
        "publicIps": [{"name": "pip-1", "address": "203.0.113.10"}],
        "vms":   [{"name": "vm-1", "power": "running",
                   "nics": [{"name": "vm-1-nic", "subnet": "vnet/app", "address": "10.1.0.4",
                             "nsg": "nsg-nic", "publicIp": "pip-1"}]}]}],
     "resources": [{…as ARM shows them…}],
     "alerts": [{…properties of a Defender alert…}],
     "locks":  [{"scope": "/subscriptions/…", "level": "CanNotDelete", "name": "keep"}],
     "denied": [{"action": "securityrules/write", "scope": "/subscriptions/…"}]}
"""

from __future__ import annotations

from typing import Any

from sandbox.arm import nic as nics
from sandbox.arm import nsg as nsgs
from sandbox.arm import publicip, vnet
from sandbox.arm.adopt import adopt
from sandbox.arm.call import ref
from sandbox.arm.compute import KIND as VM
from sandbox.arm.security import alert_body, put_lock
from sandbox.arm.state import Child, Resource, State


def seed(state: State, data: dict[str, Any]) -> dict[str, int]:
    """Add what the description names → how many resources there are now."""
    subscription = str(data.get("subscription", "00000000-0000-0000-0000-000000000001"))
    location = str(data.get("location", "westeurope"))
    for body in data.get("resources") or []:
        adopt(state, body)
    for group in data.get("groups") or []:
        _Group(state, subscription, str(group["name"]), location).add(group)
    for alert in data.get("alerts") or []:
        alert_body(state, subscription, alert)
    for lock in data.get("locks") or []:
        put_lock(state, str(lock["scope"]), str(lock.get("name", "lock")),
                 {"properties": {"level": lock["level"]}})
    if "denied" in data:
        state.access.denied = list(data["denied"])
    state.version += 1
    return {"resources": len(state.resources), "alerts": len(state.alerts)}


class _Group:
    def __init__(self, state: State, subscription: str, name: str, location: str) -> None:
        self.state = state
        self.location = location
        state.add_group(subscription, name, location)
        self.base = f"/subscriptions/{subscription}/resourceGroups/{name}/providers"

    def _id(self, kind: str, name: str) -> str:
        return name if name.startswith("/") else f"{self.base}/{kind}/{name}"

    def add(self, group: dict[str, Any]) -> None:
        for one in group.get("nsgs") or []:
            self.nsg(one)
        for one in group.get("publicIps") or []:
            self.public_ip(one)
        for one in group.get("vnets") or []:
            self.vnet(one)
        for one in group.get("vms") or []:
            self.vm(one)

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
        for subnet in one.get("subnets") or []:
            p: dict[str, Any] = {"addressPrefix": subnet["prefix"]}
            if subnet.get("nsg"):
                p["networkSecurityGroup"] = ref(
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
            "networkProfile": {"networkInterfaces": [ref(i) for i in ids]},
        })
        vm.facts["power"] = one.get("power", "running")

    def nic(self, one: dict[str, Any]) -> str:
        net, _, subnet = str(one["subnet"]).partition("/")
        subnet_id = f"{self._id('Microsoft.Network/virtualNetworks', net)}/subnets/{subnet}"
        address = one.get("address") or nics.free_address(self.state, subnet_id)
        p: dict[str, Any] = {"subnet": ref(subnet_id), "privateIPAddress": address,
                             "privateIPAllocationMethod": "Dynamic"}
        if one.get("publicIp"):
            p["publicIPAddress"] = ref(self._id("Microsoft.Network/publicIPAddresses", one["publicIp"]))
        properties: dict[str, Any] = {"ipConfigurations": [{"name": "ipconfig1", "properties": p}]}
        if one.get("nsg"):
            properties["networkSecurityGroup"] = ref(
                self._id("Microsoft.Network/networkSecurityGroups", one["nsg"]))
        nic_id = self._id("Microsoft.Network/networkInterfaces", one["name"])
        self._put(nic_id, nics.KIND, properties)
        return nic_id
