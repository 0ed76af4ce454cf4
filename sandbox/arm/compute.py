"""Virtual machines and their children, as far as the network side of the product meets them."""

from __future__ import annotations

import copy
import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

from sandbox.arm.call import Answer, Call, ref
from sandbox.arm.errors import ArmError, not_found
from sandbox.arm.state import Resource, State

KIND = "microsoft.compute/virtualmachines"
TYPE = "Microsoft.Compute/virtualMachines"


def quota(policy: str) -> dict[str, str]:
    """Compute's own rate-limit header."""
    numbers = {
        "LowCostGet": (3997, 31997),
        "HighCostGet": (497, 2997),
        "PutVM": (239, 1199),
        "DeleteVM": (239, 1199),
        "UpdateVM": (239, 1199),
        "GetOperation": (11970, 23808),
        "GetVMScaleSet": (397, 2597),
        "CreateVMScaleSet": (59, 299),
        "DeleteVMScaleSet": (79, 399),
        "HighCostGetVMScaleSet": (178, 898),
        "GetVMScaleSetVM": (999, 4999),
        "DeleteVMScaleSetVM": (239, 1199),
    }
    short, long = numbers[policy]
    return {"x-ms-ratelimit-remaining-resource":
            f"Microsoft.Compute/{policy}3Min;{short},Microsoft.Compute/{policy}30Min;{long}"}


def render(state: State, vm: Resource, api: str = "", *, view: bool = False) -> dict[str, Any]:
    """The VM as ARM shows it; the instance view only when asked for."""
    p = copy.deepcopy(vm.body["properties"])
    p["provisioningState"] = vm.state
    disk = p.get("storageProfile", {}).get("osDisk", {})
    linux = p.get("osProfile", {}).get("linuxConfiguration", {})
    if api and api < "2022-01-01":
        disk.pop("deleteOption", None)
        linux.pop("enableVMAgentPlatformUpdates", None)
        p.pop("timeCreated", None)
    elif vm.facts.get("created") and "timeCreated" not in p:
        p["timeCreated"] = vm.facts["created"]
    if view:
        p["instanceView"] = view_of(vm)
    head = {"name": vm.name, "id": vm.id, "type": TYPE, "location": vm.body.get("location", "")}
    head.update({k: vm.body[k] for k in ("tags", "zones", "identity", "plan") if k in vm.body})
    if vm.facts.get("resources"):
        head["resources"] = vm.facts["resources"]
    return {**head, "properties": p}


def view_of(vm: Resource) -> dict[str, Any]:
    """The instance view of a machine, or of an instance of a scale set."""
    return vm.facts.get("view") or _view(vm)


def _view(vm: Resource) -> dict[str, Any]:
    power = vm.facts.get("power", "running")
    at = vm.facts.get("created") or _stamp()
    return {
        "computerName": vm.name, "osName": "ubuntu", "osVersion": "22.04",
        "vmAgent": {
            "vmAgentVersion": "2.9.1.1",
            "statuses": [_agent(vm, at)],
            "extensionHandlers": [],
        },
        "disks": [], "hyperVGeneration": "V1",
        "statuses": [
            {"code": "ProvisioningState/succeeded", "level": "Info",
             "displayStatus": "Provisioning succeeded", "time": at},
            {"code": f"PowerState/{power}", "level": "Info", "displayStatus": f"VM {power}"},
        ],
    }


def _agent(vm: Resource, at: str) -> dict[str, Any]:
    if (vm.facts.get("guest") or {}).get("agent", True):
        return {"code": "ProvisioningState/succeeded", "level": "Info", "displayStatus": "Ready",
                "message": "Guest Agent is running", "time": at}
    return {"code": "ProvisioningState/Unavailable", "level": "Warning", "displayStatus": "Not Ready",
            "message": "VM status blob is found but not yet populated.", "time": at}


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0+00:00")


def put(call: Call) -> Answer:
    """PUT the VM."""
    body = call.json()
    old = call.state.get(call.id)
    p = copy.deepcopy(body.get("properties") or {})
    for nic in (p.get("networkProfile") or {}).get("networkInterfaces") or []:
        if call.state.get(str(nic.get("id", ""))) is None:
            raise not_found("Microsoft.Network/networkInterfaces",
                            str(nic.get("id", "")).rpartition("/")[2], call.group)
    before = old.body.get("properties") if old else None
    vm = old or Resource(call.id, KIND, {}, facts={"created": _stamp()})
    vm.body = {k: body[k] for k in ("location", "tags", "zones", "identity", "plan") if k in body}
    vm.body["properties"] = _filled(vm, p, before)
    vm.state = "Creating" if old is None else "Updating"
    answer = render(call.state, vm, call.api)
    call.state.put(vm)

    def finish() -> None:
        vm.state = "Succeeded"
        disk = vm.body["properties"].setdefault("storageProfile", {}).setdefault("osDisk", {})
        name = disk.setdefault("name", f"{vm.name}_OsDisk_1_{secrets.token_hex(16)}")
        disk.setdefault("managedDisk", {}).setdefault(
            "id", f"{call.scope}/providers/Microsoft.Compute/disks/{name}")

    op = call.state.begin(vm.id, "VirtualMachines.CreateOrUpdate", "Microsoft.Compute", vm.location,
                          call.api, finish, retry_after=10 if old is None else 0)
    return Answer(201 if old is None else 200, answer,
                  {**call.operation_headers(op), **quota("PutVM")})


def _filled(vm: Resource, p: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    """What the compute provider adds to a request."""
    storage = p.get("storageProfile") or {}
    image = dict(storage.get("imageReference") or {})
    if image and "exactVersion" not in image:
        image["exactVersion"] = "18.04.202401161"
    size = str((p.get("hardwareProfile") or {}).get("vmSize", ""))
    disk = dict(storage.get("osDisk") or {})
    disk.setdefault("osType", "Linux")
    disk.setdefault("createOption", "FromImage")
    disk.setdefault("caching", "ReadWrite")
    premium = "_DS" in size or "s_v" in size
    disk.setdefault("managedDisk", {}).setdefault(
        "storageAccountType", "Premium_LRS" if premium else "Standard_LRS")
    disk.setdefault("deleteOption", "Detach")
    disk.setdefault("diskSizeGB", 30)
    old_disk = ((before or {}).get("storageProfile") or {}).get("osDisk") or {}
    if old_disk.get("name"):
        disk.setdefault("name", old_disk["name"])
        disk["managedDisk"].setdefault("id", old_disk.get("managedDisk", {}).get("id"))
    out: dict[str, Any] = {
        "hardwareProfile": p.get("hardwareProfile") or {}, "provisioningState": "",
        "vmId": (before or {}).get("vmId") or str(uuid.uuid4()),
        "storageProfile": {"imageReference": image, "osDisk": disk,
                           "dataDisks": storage.get("dataDisks") or []},
    }
    profile = dict(p.get("osProfile") or {})
    profile.pop("adminPassword", None)
    if profile:
        linux = dict(profile.get("linuxConfiguration") or {})
        linux.setdefault("disablePasswordAuthentication", False)
        linux.setdefault("provisionVMAgent", True)
        linux.setdefault("patchSettings", {"patchMode": "ImageDefault",
                                           "assessmentMode": "ImageDefault"})
        linux.setdefault("enableVMAgentPlatformUpdates", False)
        profile["linuxConfiguration"] = linux
        profile.setdefault("secrets", [])
        profile.setdefault("allowExtensionOperations", True)
        profile.setdefault("requireGuestProvisionSignal", True)
        out["osProfile"] = profile
    out["networkProfile"] = {"networkInterfaces": [
        {**n, **ref(n["id"])} for n in (p.get("networkProfile") or {}).get("networkInterfaces") or []
    ]}
    out.update({k: v for k, v in p.items() if k not in out and k != "osProfile"})
    return out


def get(call: Call) -> Answer:
    """GET the VM."""
    vm = call.state.get(call.id)
    if vm is None:
        if call.id.lower() in call.state.gone_machines:
            call.state.gone_machines.discard(call.id.lower())
            raise ArmError(404, "NotFound", "The entity was not found in this Azure location.",
                           gateway=True, headers=quota("LowCostGet"))
        raise not_found(TYPE, call.names[0], call.group)
    view = "instanceview" in call.query.get("$expand", "").lower()
    return Answer(200, render(call.state, vm, call.api, view=view), quota("LowCostGet"))


def instance_view(call: Call) -> Answer:
    """GET …/instanceView"""
    vm = call.state.get(call.id_of(1))
    if vm is None:
        raise not_found(TYPE, call.names[0], call.group)
    return Answer(200, view_of(vm), quota("LowCostGet"))


def delete(call: Call) -> Answer:
    """DELETE the VM; its NICs are free when it is done."""
    vm = call.state.get(call.id)
    if vm is None:
        return Answer(204, None, quota("DeleteVM"))
    vm.state = "Deleting"

    def finish() -> None:
        for config in (vm.body["properties"].get("networkProfile") or {}).get(
                "networkInterfaces") or []:
            nic = call.state.get(str(config.get("id", "")))
            if nic is not None:
                nic.facts.setdefault("mac", "00-0D-3A-00-00-00")
                nic.facts.pop("vm", None)
        call.state.drop(vm.id)
        # For a moment the provider knows already and the gateway does not (recorded).
        call.state.gone_machines.add(vm.id.lower())

    op = call.state.begin(vm.id, "VirtualMachines.Delete", "Microsoft.Compute", vm.location,
                          call.api, finish, deletes=True, retry_after=10)
    return Answer(202, None, {**call.operation_headers(op, location=True), **quota("DeleteVM")})


# --- extensions and run commands: stored, shaped; scripts run where the machine has a guest (`guest`) ---


def _parent(call: Call) -> str:
    """The machine, or the instance of a scale set, that a child is below."""
    return call.id_of(len(call.types) - 1)


def _child_quota(call: Call) -> dict[str, str]:
    """A machine's own numbers; below a scale set, those of the set as well (recorded)."""
    reads = call.method == "GET"
    if "/virtualmachinescalesets/" not in call.kind:
        return quota("LowCostGet" if reads else "UpdateVM")
    if reads:
        return quota("GetVMScaleSetVM")
    found = quota("DeleteVMScaleSetVM" if call.method == "DELETE" else "UpdateVM")
    more = ["VMScaleSetBatchedVMRequests5Min;1195", "VmssQueuedVMOperations;0"]
    if call.method != "DELETE":
        more = ["VMScaleSetActions3Min;239", "VMScaleSetActions30Min;1196", "VMScaleSetVMActions3Min;199",
                "VMScaleSetVMActions30Min;999", *more]
    return {name: ",".join([value, *(f"Microsoft.Compute/{one}" for one in more)])
            for name, value in found.items()}


def put_child(call: Call) -> Answer:
    """PUT an extension or a run command."""
    vm = call.state.get(_parent(call))
    if vm is None:
        raise not_found(TYPE, call.names[0], call.group)
    body = call.json()
    old = call.state.get(call.id)
    child = old or Resource(call.id, call.kind, {})
    given = dict(body.get("properties") or {})
    if call.kind.endswith("/extensions"):
        p = {"autoUpgradeMinorVersion": False, "publisher": "", "type": "",
             "typeHandlerVersion": "", **given}
        p.setdefault("settings", {})
        secret = p.pop("protectedSettings", None) or {}
        child.facts["onboards"] = secret.get("defenderForEndpointOnboardingScript") == call.state.onboarding
    else:
        p = {"source": {}, "timeoutInSeconds": 0, "asyncExecution": False, **given}
    child.body = {k: body[k] for k in ("location", "tags") if k in body}
    child.body["properties"] = p
    child.state = "Creating" if old is None else "Updating"
    call.state.put(child)
    op = _child_operation(call, child, vm)
    return Answer(201 if old is None else 200, render_child(child),
                  {**call.operation_headers(op), **_child_quota(call)})


def patch_child(call: Call) -> Answer:
    """PATCH a run command or extension."""
    child = _child(call)
    body = call.json()
    child.body["properties"].update(body.get("properties") or {})
    child.state = "Updating"
    op = _child_operation(call, child, None)
    return Answer(200, render_child(child), {**call.operation_headers(op), **_child_quota(call)})


def _child_operation(call: Call, child: Resource, vm: Resource | None) -> Any:
    from sandbox.arm import guest

    script = (child.body["properties"].get("source") or {}).get("script")
    if vm is not None and "guest" in vm.facts and script and call.kind.endswith("/runcommands"):
        guest.run(child, vm)

    error = None
    if str(child.body["properties"].get("type")).startswith("MDE.") and not child.facts["onboards"]:
        error = {"code": "VMExtensionProvisioningError",
                 "message": "The onboarding script is missing or is not this subscription's."}

    def finish() -> None:
        child.state = "Succeeded"
        if call.kind.endswith("/runcommands") and "pid" not in child.facts and "view" not in child.facts:
            script = (child.body["properties"].get("source") or {}).get("script")
            child.facts["view"] = _execution(bool(script))

    op = call.state.begin(child.id, "VirtualMachineChild.Put", "Microsoft.Compute",
                          child.location, call.api, finish, retry_after=0)
    op.error = error
    return op


def _execution(ran: bool) -> dict[str, Any]:
    """A run command's instance view. Nothing runs here; without a script it fails as recorded."""
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
    message = "" if ran else (
        "Execution failed: failed to get configuration: invalid configuration: Either "
        "'source.script' or 'source.scriptUri' has to be specified"
    )
    return {"exitCode": 0 if ran else 3, "executionState": "Succeeded" if ran else "Failed",
            "executionMessage": message, "output": "", "error": "", "startTime": at, "endTime": at}


def render_child(child: Resource, *, view: bool = False) -> dict[str, Any]:
    """An extension or run command as ARM shows it."""
    kind = "extensions" if child.kind.endswith("/extensions") else "runCommands"
    p = {**child.body["properties"], "provisioningState": child.state}
    if view and child.facts.get("view"):
        p["instanceView"] = child.facts["view"]
    owner = f"{TYPE.replace('/virtualMachines', '/virtualMachineScaleSets/virtualMachines')}" if (
        "/virtualmachinescalesets/" in child.kind) else TYPE
    out = {"name": child.name, "id": child.id, "type": f"{owner}/{kind}",
           "location": child.body.get("location", "")}
    if "tags" in child.body:
        out["tags"] = child.body["tags"]
    return {**out, "properties": p}


def get_child(call: Call) -> Answer:
    """GET an extension or run command."""
    view = "instanceview" in call.query.get("$expand", "").lower()
    return Answer(200, render_child(_child(call), view=view), _child_quota(call))


def delete_child(call: Call) -> Answer:
    """DELETE an extension or run command."""
    child = call.state.get(call.id)
    if child is None:
        return Answer(204, None, _child_quota(call))
    from sandbox.arm import guest

    guest.stop(child)
    op = call.state.begin(child.id, "VirtualMachineChild.Delete", "Microsoft.Compute",
                          child.location, call.api, lambda: call.state.drop(child.id),
                          deletes=True, retry_after=0)
    return Answer(202, None, {**call.operation_headers(op, location=True), **_child_quota(call)})


def list_children(call: Call) -> Answer:
    """GET all extensions or run commands of a VM."""
    found = [render_child(c) for c in call.state.of_kind(call.kind, _parent(call))]
    return Answer(200, {"value": found}, _child_quota(call))


def sizes(call: Call) -> Answer:
    """GET …/vmSizes"""
    if call.state.get(call.id_of(1)) is None:
        raise not_found(TYPE, call.names[0], call.group)
    found = [
        {"name": name, "numberOfCores": cores, "osDiskSizeInMB": 1047552,
         "resourceDiskSizeInMB": cores * 8192, "memoryInMB": cores * 4096,
         "maxDataDiskCount": cores * 2}
        for name, cores in (("Standard_D2s_v3", 2), ("Standard_D4s_v3", 4))
    ]
    return Answer(200, {"value": found}, quota("LowCostGet"))


def _child(call: Call) -> Resource:
    child = call.state.get(call.id)
    if child is None:
        kind = "extensions" if call.kind.endswith("/extensions") else "runCommands"
        raise not_found(f"{TYPE}/{call.names[0]}/{kind}", call.names[1], call.group)
    return child
