"""An investigation in the sandbox: real scripts, real queries, real blobs; the guest app beside the app."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import os
import pwd
import shutil
import subprocess
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from remediation.cloud.logs import SOURCES
from remediation.errors import Forbidden
from remediation.inputs import Request
from remediation.investigation.seals import verify
from remediation.investigation.task import TaskState
from remediation.model import Caller, utc
from remediation.steps import STEPS
from remediation.steps.log_traces import PEOPLE
from tests.azure import OPERATOR, Azure
from tests.estate import ATTACKER, COMPUTE, SECOND, SUB, alert, estate, name_of, nsg_path
from tests.inquiry import GUEST_IDENTITY, WORKSPACE, Inquiry, machine, site
from tests.role import IDENTITY, guest_actions, inquiry_actions, resolving_actions, role_actions

DONE, SKIPPED, FAILED, WAITING = TaskState.DONE, TaskState.SKIPPED, TaskState.FAILED, TaskState.WAITING
GUEST_LOOKS = ("processes", "autoruns", "antimalware", "cut_flows")
SCRIPTED = (*GUEST_LOOKS, "av_scan")
OTHER = Caller("bob", frozenset({"Read", "Operate", "Approve"}), identified=True)


@pytest.fixture(autouse=True)
def roles(azure: Azure) -> None:
    azure.world.role(GUEST_IDENTITY, guest_actions())
    azure.world.role(IDENTITY, [*role_actions(), *inquiry_actions()])


def flow(action: str = "Allowed", **changes: Any) -> dict[str, Any]:
    """A row of traffic analytics, with the addresses of the estate's first machine."""
    now = datetime.now(UTC).replace(tzinfo=None).isoformat()
    return {"TimeGenerated": now, "SubType": "FlowLog", "SrcIp": "10.0.0.4", "DestIp": "",
            "DestPublicIps": f"{ATTACKER}|1|2|3", "DestPort": 443, "L4Protocol": "T", "FlowStatus": action,
            "FlowStartTime": now, "FlowEndTime": now, **changes}


def logs(azure: Azure, *rows: dict[str, Any], **tables: list[dict[str, Any]]) -> None:
    azure.world.seed({"logs": {WORKSPACE: {"NTANetAnalytics": list(rows), **tables}}})


def fake(folder: Path, **tools: str) -> str:
    """A folder with programs of these names, to be found before the machine's own."""
    folder.chmod(0o755)
    for parent in folder.parents:
        if parent.stat().st_mode & 0o005 != 0o005 and parent.owner() == folder.owner():
            parent.chmod(parent.stat().st_mode | 0o005)
    for name, text in tools.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return str(folder)


MDATP = """
case "$1 $2" in
  "health --field") case $3 in real_time_protection_enabled) echo true;; app_version) echo 101.1;;
    definitions_updated) echo "2026-01-01 00:00:00";; healthy) echo true;; esac;;
  "scan full") touch "$STATE/scanned";;
  "threat list") [ -f "$STATE/scanned" ] && printf 'Name: "EICAR"\\nStatus: quarantined\\nPath: /srv/x\\n';;
esac"""


# --- the whole ---


def test_every_step_comes_to_an_answer_and_the_evidence_is_sealed(azure: Azure):
    azure.world.seed(site({"patches": {"Security": 2}}))
    logs(azure, flow())
    inquiry = Inquiry(azure)
    inquiry.begin()
    assert azure.states() == {"active"}
    inquiry.pump()
    states = inquiry.states()
    assert set(states) == {n for n, s in STEPS.items() if not s.of_alert}
    assert states["updates"] is WAITING
    assert (states["av_scan"], states["msrt"]) == (SKIPPED, SKIPPED)
    others = {s for n, s in states.items() if n not in ("updates", "av_scan", "msrt")}
    assert others == {DONE}
    assert inquiry.of("log_traces").state is DONE
    head = inquiry.head
    assert head.ended is not None
    store = azure.app.store
    wrong, count = verify(lambda name: store.read(inquiry.id, name), head.seal)
    assert (wrong, count) == ([], sum(len(t.evidence) for t in inquiry.tasks().values()))
    ((name, _),) = inquiry.of("processes").evidence
    held = json.loads(store.read(inquiry.id, name) or b"")
    assert any(r["kind"] == "process" and r["pid"] == 1 for r in held["facts"]["rows"])
    assert not azure.world.resources("microsoft.compute/virtualmachines/runcommands")


def test_the_dossier_shows_the_tasks_and_what_the_logs_say_of_the_machine(azure: Azure):
    azure.world.seed(site({}))
    logs(azure, flow())
    inquiry = Inquiry(azure, GUEST_QUEUE="")
    inquiry.begin()
    inquiry.pump()
    shown = azure.timeline(inquiry.alert)
    (vm,) = shown["machines"]
    assert vm["likelihood"] == "likely"
    assert vm["reasons"][0].startswith("the logs show it: flow_logs")
    assert not any("were not looked at" in r for r in vm["reasons"])
    assert {t["step"] for t in shown["investigation"]["tasks"]} == set(STEPS)
    assert any(a["action"] == "step" for a in shown["actions"])
    assert any(a["action"] == "investigated" for a in shown["actions"])
    assert azure.app.operator.pack(inquiry.id).links == {}
    elsewhere = azure.start(EVIDENCE__blobServiceUri="https://evidence.blob.core.windows.net/")
    assert elsewhere.operator.pack(inquiry.id).links == {
        "Evidence": "https://evidence.blob.core.windows.net/"
        f"{azure.settings['EVIDENCE_CONTAINER']}/{inquiry.id}/"}


def test_the_app_that_faces_the_internet_never_looks_inside_machines(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    task = inquiry.of("processes")
    inquiry.app.on_investigate(task.message)
    assert inquiry.of("processes").state is SKIPPED
    assert "guest app" in inquiry.of("processes").reason
    assert not any("runCommands" in r["path"] for r in azure.world.log())


def test_without_the_guest_app_its_steps_are_skipped_and_the_others_done(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure, GUEST_QUEUE="")
    inquiry.begin()
    inquiry.pump()
    states = inquiry.states()
    assert all(states[s] is SKIPPED for s in (*SCRIPTED, "msrt", "updates"))
    assert states["power_state"] is states["posture"] is states["related_alerts"] is DONE


# --- every step against what goes wrong ---


@pytest.mark.parametrize(("guest", "why"), [
    ({"power": "deallocated"}, "the machine is deallocated"),
    ({"agent": False}, "the machine's agent does not answer"),
])
def test_a_machine_that_is_stopped_or_without_agent_is_skipped_and_the_others_go_on(
        azure: Azure, guest: dict[str, Any], why: str):
    azure.world.seed(site(guest, {}))
    inquiry = Inquiry(azure)
    inquiry.begin(resourceIdentifiers=[
        {"type": "AzureResource", "azureResourceId": machine("vm")},
        {"type": "AzureResource", "azureResourceId": machine("vm2")}])
    inquiry.pump()
    for step in SCRIPTED:
        assert (inquiry.of(step).state, inquiry.of(step).reason) == (SKIPPED, why)
    assert all(inquiry.of(s, "vm2").state is DONE for s in GUEST_LOOKS)
    assert inquiry.of("power_state").state is DONE


def test_a_machine_that_is_gone_is_skipped(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    gone = f"{COMPUTE}/virtualMachines/vm"
    assert azure.world.arm("DELETE", gone).status_code == 202
    azure.world.arm("GET", gone)  # for a moment the provider knows already and the gateway does not
    inquiry.pump()
    assert all((inquiry.of(s).state, inquiry.of(s).reason) == (SKIPPED, "the machine is gone")
               for s in (*SCRIPTED, "power_state"))


@pytest.mark.parametrize(("does", "said"), [
    ("fail", "exit code 3: cannot open /proc: Permission denied"),
    ("refuse", "was not allowed to run"),
])
def test_a_script_that_fails_is_a_failed_step_though_azure_calls_the_command_succeeded(
        azure: Azure, does: str, said: str):
    azure.world.seed(site({"does": does}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    inquiry.pump()
    for step in SCRIPTED:
        assert inquiry.of(step).state is FAILED
        assert said in inquiry.of(step).reason
    assert inquiry.of("power_state").state is DONE
    assert not azure.world.resources("microsoft.compute/virtualmachines/runcommands")


def test_a_script_that_does_not_end_is_a_failed_step_and_the_next_has_the_machine(azure: Azure):
    azure.world.seed(site({"does": "hang"}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    inquiry.pump(*SCRIPTED)
    assert all(inquiry.of(s).state is FAILED for s in SCRIPTED)
    assert all("did not end within" in inquiry.of(s).reason for s in SCRIPTED)


@pytest.mark.parametrize(
    ("does", "doubt"), [("garbage", "could not be read"), ("huge", "longer than is kept")]
)
def test_output_that_is_garbage_or_huge_is_read_as_far_as_it_goes_and_said(
    azure: Azure, does: str, doubt: str
):
    azure.world.seed(site({"does": does}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    inquiry.pump(*SCRIPTED)
    assert inquiry.of("processes").state is DONE
    assert doubt in inquiry.of("processes").says
    for step in SCRIPTED:
        task = inquiry.of(step)
        assert task.state in (DONE, FAILED)
        assert doubt in " ".join((task.says, task.reason, *(s.text for s in task.signs))), step
    for name, _ in inquiry.of("processes").evidence:
        assert 0 < len(azure.app.store.read(inquiry.id, name) or b"") < 4 * 1024 * 1024


def test_a_permission_that_is_missing_fails_the_steps_that_need_it_and_is_told(azure: Azure):
    azure.world.seed(site({"patches": {}}))
    azure.world.role(
        GUEST_IDENTITY, [a for a in guest_actions() if "runCommands" not in a and "assess" not in a]
    )
    azure.world.role(IDENTITY, [a for a in (*role_actions(), *inquiry_actions())
                                if "eventtypes" not in a])
    inquiry = Inquiry(azure)
    inquiry.begin()
    inquiry.pump()
    for step in (*SCRIPTED, "updates"):
        assert inquiry.of(step).state is FAILED
        assert "AuthorizationFailed" in inquiry.of(step).reason
    assert inquiry.of("power_state").state is DONE
    assert "activity log could not be read" in inquiry.of("power_state").says
    assert any("permission" in n for n in azure.app.operator.pack(inquiry.id).next)


def test_what_azure_cannot_answer_now_is_asked_again_later(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    azure.faults({"service": "arm", "method": "PUT", "path": "runCommands", "status": 503, "times": 40})
    task = inquiry.of("processes")
    inquiry.deliver(task)
    after = inquiry.of("processes")
    assert after.state is TaskState.RUNNING
    assert "503" in after.reason
    azure.faults()
    inquiry.pump("processes")
    assert inquiry.of("processes").state is DONE


def test_one_command_at_a_time_runs_in_a_machine(azure: Azure):
    azure.world.seed(site({"does": "hang"}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    for step in ("processes", "autoruns"):
        inquiry.deliver(inquiry.of(step))
    assert len(azure.world.resources("microsoft.compute/virtualmachines/runcommands")) == 1
    assert "another command" in inquiry.of("autoruns").reason


def test_a_scale_sets_instance_is_looked_into_like_any_machine(azure: Azure):
    made = estate(machines=0)
    made["groups"][0]["scaleSets"] = [{"name": "ss", "instances": 1, "subnet": "vnet/sub", "guest": {}}]
    azure.world.seed(made)
    inquiry = Inquiry(azure)
    whole = machine("x").replace("/virtualmachines/x", "/virtualmachinescalesets/ss")
    inquiry.begin(resourceIdentifiers=[{"type": "AzureResource", "azureResourceId": whole}])
    inquiry.pump()
    task = next(t for t in inquiry.tasks().values() if t.step == "processes")
    assert task.machine.endswith("/virtualmachinescalesets/ss/virtualmachines/0")
    assert task.state is DONE, task.reason
    updates = next(t for t in inquiry.tasks().values() if t.step == "updates")
    assert (updates.state, "scale set" in updates.reason) == (SKIPPED, True)


# --- what is seen ---


def test_an_unfamiliar_process_that_really_runs_makes_its_machine_a_likely_one(azure: Azure, tmp_path: Path):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    program = Path("/dev/shm") / f"kworkerd-{tmp_path.name}"  # noqa: S108 - where such things live
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    program.chmod(0o755)
    nobody = pwd.getpwnam("nobody")
    who: dict[str, Any] = {"user": nobody.pw_uid, "group": nobody.pw_gid} if os.geteuid() == 0 else {}
    process = subprocess.Popen([str(program), "300"], **who)
    try:
        inquiry.pump("processes")
    finally:
        process.kill()
        process.wait()
        program.unlink()
    signs = [s for s in inquiry.of("processes").signs if program.name in s.text]
    assert [s.weight.value for s in signs] == ["likely"], inquiry.of("processes").signs
    assert "anyone may write" in signs[0].text
    pack = azure.app.operator.pack(inquiry.id)
    assert pack.machines[0].standing == "likely"
    assert program.name in pack.text()


def test_what_one_machine_of_a_pool_alone_runs_is_said(azure: Azure):
    azure.world.seed(site({}, {}, {}))
    inquiry = Inquiry(azure, GUEST_QUEUE="")
    inquiry.begin()
    for n, name in enumerate(("vm", "vm2", "vm3")):
        task = replace(inquiry.of("power_state", "vm"), step="processes", machine=machine(name), state=DONE,
                       marks=("/usr/sbin/sshd 1", *(("/opt/odd 9",) if n == 2 else ())), evidence=())
        old = azure.ledger.investigations.task(inquiry.id, machine(name), "processes")
        azure.ledger.investigations.save(replace(task, etag=old.etag)) if old else (
            azure.ledger.investigations.add(task))
    shown = azure.timeline(inquiry.alert)["investigation"]["peculiar"]
    assert {k.rpartition("/")[2]: v for k, v in shown.items() if v} == {"vm3": ["/opt/odd 9"]}


def test_other_alerts_and_the_same_attacker_elsewhere_are_found(azure: Azure):
    azure.world.seed(site({}, {}))
    azure.know(alert("vm", SECOND, alertDisplayName="Suspicious process executed"))
    azure.know(alert("vm2"))
    inquiry = Inquiry(azure, GUEST_QUEUE="")
    inquiry.begin()
    inquiry.pump()
    task = inquiry.of("related_alerts")
    assert "1 other alert on it, 1 on others by the same attacker" in task.says
    assert any("Suspicious process executed" in s.text for s in task.signs)


def test_posture_names_open_ports_backup_and_a_powerful_identity(azure: Azure):
    owner = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
    made = site({}, )
    made["groups"][0]["vms"][0]["principal"] = "11111111-1111-1111-1111-111111111111"
    made["groups"][0]["nsgs"][0]["rules"].append(
        {"name": "rdp", "priority": 310, "protocol": "Tcp", "destinationPortRange": "3000-4000",
         "sourceAddressPrefix": "*"})
    vault = f"/subscriptions/{SUB}/resourceGroups/rg/providers/Microsoft.RecoveryServices/vaults/v"
    azure.world.seed(made)
    azure.world.seed(
        {
            "graphRows": [
                {
                    "table": "recoveryservicesresources",
                    "id": f"{vault}/backupFabrics/a/protectionContainers/b/protectedItems/c",
                    "type": "microsoft.recoveryservices/vaults/backupfabrics/protectioncontainers/"
                    "protecteditems",
                    "properties": {
                        "sourceResourceId": machine(),
                        "protectionState": "Protected",
                        "lastRecoveryPoint": "2026-01-02T03:04:05Z",
                    },
                },
                {
                    "table": "authorizationresources",
                    "id": f"/subscriptions/{SUB}/providers/Microsoft.Authorization/ra/1",
                    "type": "microsoft.authorization/roleassignments",
                    "properties": {
                        "principalId": "11111111-1111-1111-1111-111111111111",
                        "scope": f"/subscriptions/{SUB}",
                        "roleDefinitionId": f"/providers/Microsoft.Authorization/roleDefinitions/{owner}",
                    },
                },
                {
                    "table": "securityresources",
                    "id": f"{machine()}/providers/Microsoft.Security/assessments/1",
                    "type": "microsoft.security/assessments",
                    "properties": {
                        "displayName": "Disks should be encrypted",
                        "status": {"code": "Unhealthy"},
                        "metadata": {"severity": "High"},
                    },
                },
            ]
        }
    )
    inquiry = Inquiry(azure, GUEST_QUEUE="")
    inquiry.begin()
    inquiry.pump()
    said = [s.text for s in inquiry.of("posture").signs]
    assert any("RDP (3389)" in t for t in said)
    assert any("last backup is of 2026-01-02" in t for t in said)
    assert any("its identity is Owner" in t for t in said)
    assert any("Disks should be encrypted" in t for t in said)


def test_sources_that_are_not_collected_and_a_workspace_that_refuses_are_no_errors(azure: Azure):
    azure.world.seed(site({}))
    other = WORKSPACE.replace("aaaa", "bbbb")
    now = datetime.now(UTC).replace(tzinfo=None).isoformat()
    logs(
        azure,
        AzureActivity=[
            {
                "TimeGenerated": now,
                "Caller": "eve@contoso.example",
                "CallerIpAddress": ATTACKER,
                "OperationNameValue": "Microsoft.Compute/…/write",
                "ActivityStatusValue": "Success",
            }
        ],
    )
    azure.world.seed({"logs": {other: {}}, "logsDenied": [other]})
    inquiry = Inquiry(azure, GUEST_QUEUE="", RESPONDER_WORKSPACES=f"{WORKSPACE},{other}")
    inquiry.begin()
    inquiry.pump()
    task = inquiry.of("log_traces")
    assert task.state is DONE
    assert ("not collected: azure_firewall, nsg_flow_logs, signins, signins_programs, signins_silent, waf"
            in task.says)
    assert "could not be asked" in task.says
    assert any(s.weight.value == "likely" and "acts in Azure" in s.text for s in task.signs)


# --- changes ---


def test_a_change_waits_for_somebody_else_than_who_asked_and_is_done_after_a_yes(azure: Azure):
    azure.world.seed(site({"patches": {"Critical": 1, "Security": 2}}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    inquiry.pump()
    queued = azure.app.operator.investigate(
        inquiry.id,
        OPERATOR,
        azure.app.budget(),
        machine=machine(),
        steps=["updates"],
        reason="are they still missing?",
    )
    assert queued["queued"] == [f"{machine()}|updates"]
    inquiry.pump()
    task = inquiry.of("updates")
    assert (task.state, task.by) == (WAITING, "ann")

    def answer(caller: Caller, decision: str) -> Any:
        return azure.app.operator.decide(task.approval, caller, azure.app.budget(),
                                         approve=decision == "approve", reason="tested on a twin")

    with pytest.raises(Exception, match="somebody else has to look at it"):
        answer(OPERATOR, "approve")
    assert answer(OTHER, "approve")["steps"] == [{"machine": machine(), "step": "updates"}]
    inquiry.pump()
    task = inquiry.of("updates")
    assert (task.state, task.approved_by) == (DONE, "bob")
    assert "3 updates installed, 0 failed, reboot: Required" in task.says
    head = inquiry.head
    assert head.manifests == 2 or head.manifests == 3
    wrong, _ = verify(lambda name: azure.app.store.read(inquiry.id, name), head.seal)
    assert wrong == []


@pytest.mark.parametrize("answer", ["reject", "nothing"])
def test_a_no_or_no_answer_leaves_the_machine_as_it_is(azure: Azure, answer: str):
    azure.world.seed(site({"patches": {"Security": 2}}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    inquiry.pump()
    task = inquiry.of("updates")
    if answer == "reject":
        azure.app.operator.decide(
            task.approval, OTHER, azure.app.budget(), approve=False, reason="in a freeze"
        )
    else:
        azure.clock.forward(hours=25)
        azure.sweep()
    after = inquiry.of("updates")
    assert after.state is DONE
    assert after.reason.startswith("not done (install 2 critical and security updates")
    assert not any(r["path"].endswith("/installPatches") for r in azure.world.log())


def test_a_policy_may_have_a_change_made_unasked_and_a_capped_mode_none(azure: Azure, tmp_path: Path):
    azure.world.seed(site({"patches": {"Security": 2}}))
    path = Inquiry.policy(None, tmp_path, ("unasked = []", 'unasked = ["updates"]'))  # type: ignore[arg-type]  # it needs no self
    inquiry = Inquiry(azure, RESPONDER_POLICY=path)
    inquiry.begin()
    inquiry.pump()
    task = inquiry.of("updates")
    assert (task.state, task.approved_by) == (DONE, "the policy")
    assert "2 updates installed" in task.says


def test_in_simulation_machines_are_looked_into_and_nothing_is_changed(azure: Azure):
    azure.world.seed(site({"patches": {"Security": 2}}))
    inquiry = Inquiry(azure, RESPONDER_MODE="simulate")
    inquiry.begin()
    inquiry.pump()
    task = inquiry.of("updates")
    assert task.state is DONE
    assert task.reason.startswith("not done (")
    assert "the mode is simulate" in task.reason
    assert azure.owned() == {}


def test_a_scan_is_made_after_a_yes_and_proves_that_the_threat_is_gone(azure: Azure, tmp_path: Path):
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    tools = tmp_path / "bin"
    tools.mkdir()
    azure.world.seed(site({"path": fake(tools, mdatp=MDATP.replace("$STATE", str(state)))}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    inquiry.pump("av_scan", "antimalware")
    assert inquiry.of("antimalware").state is DONE
    assert "Microsoft Defender for Endpoint" in inquiry.of("antimalware").says
    task = inquiry.of("av_scan")
    assert (task.state, task.reason) == (WAITING, "a full scan by Microsoft Defender for Endpoint")
    azure.app.operator.decide(task.approval, OTHER, azure.app.budget(), approve=True, reason="yes")
    inquiry.pump("av_scan")
    task = inquiry.of("av_scan")
    assert task.state is DONE, task.reason
    assert "the scan found 1 threats, none is left" in task.says
    assert len(task.evidence) == 2


PACKAGE = "b25ib2FyZGluZw=="


def test_antimalware_is_installed_on_a_yes_where_the_machine_has_none(azure: Azure, capfd: Any):
    azure.world.seed(site({}) | {"onboarding": PACKAGE})
    inquiry = Inquiry(azure)
    inquiry.begin()
    inquiry.pump("antimalware")
    task = inquiry.of("antimalware")
    assert (task.state, task.reason) == (WAITING, "install Defender for Endpoint (extension MDE.Linux)")
    azure.app.operator.decide(task.approval, OTHER, azure.app.budget(), approve=True, reason="yes")
    inquiry.pump("antimalware")
    task = inquiry.of("antimalware")
    assert (task.state, task.says) == (
        DONE, "none is installed; Microsoft's antimalware is installed, as an extension")
    extension = azure.world.arm("GET", f"{machine()}/extensions/MDE.Linux?api-version=2024-07-01").json()
    assert extension["properties"]["settings"]["azureResourceId"] == machine()
    inquiry.pump()
    kept = [azure.app.store.read(inquiry.id, name) for name, _ in task.evidence]
    assert kept
    assert all(PACKAGE.encode() not in (held or b"") for held in kept), "it is handed on and kept nowhere"
    assert PACKAGE not in str(inquiry.tasks())
    assert PACKAGE not in "".join(capfd.readouterr())


def test_an_installation_that_azure_ends_as_failed_is_a_failed_step(azure: Azure):
    azure.world.seed(site({}) | {"onboarding": PACKAGE})
    inquiry = Inquiry(azure)
    inquiry.begin()
    inquiry.pump("antimalware")
    azure.faults({"path": "/mdeOnboardings", "status": 200, "times": 9, "body": {"value": [
        {"properties": {"onboardingPackageLinux": "somebody else's"}}]}})
    azure.app.operator.decide(
        inquiry.of("antimalware").approval, OTHER, azure.app.budget(), approve=True, reason="yes")
    inquiry.pump("antimalware")
    task = inquiry.of("antimalware")
    assert (task.state, task.reason) == (FAILED, "the installation ended failed")


@pytest.mark.parametrize("missing", ["integration", "right"])
def test_nobody_is_asked_for_an_installation_that_cannot_be_made(azure: Azure, missing: str):
    azure.world.seed(site({}) | ({"onboarding": PACKAGE} if missing == "right" else {}))
    azure.world.role(
        GUEST_IDENTITY, [a for a in guest_actions() if missing != "right" or "mdeOnboardings" not in a])
    inquiry = Inquiry(azure)
    inquiry.begin()
    inquiry.pump("antimalware")
    task = inquiry.of("antimalware")
    assert (task.state, task.says) == (DONE, "none is installed"), task.reason
    assert "in Defender for Cloud" in task.signs[0].text


def test_live_connections_are_shown_cut_after_a_yes_and_looked_for_again(azure: Azure, tmp_path: Path):
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    tools = tmp_path / "bin"
    tools.mkdir()
    ss = f"""
    if [ "$1" = -K ]; then touch "{state}/cut"; exit 0; fi
    if [ -f "{state}/cut" ]; then exit 0; fi
    case $1 in -Htun) echo "tcp ESTAB 0 0 10.0.0.4:50000 {ATTACKER}:443" ;; esac """
    azure.world.seed(site({"path": fake(tools, ss=ss)}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    inquiry.pump("cut_flows")
    task = inquiry.of("cut_flows")
    assert (task.state, task.reason) == (WAITING, f"cut 1 live connections with {ATTACKER}")
    assert task.signs[0].weight.value == "confirmed"
    assert "isolate vm" in azure.app.operator.pack(inquiry.id).next[0]
    azure.app.operator.decide(task.approval, OTHER, azure.app.budget(), approve=True, reason="yes")
    inquiry.pump("cut_flows")
    assert "1 live connections with the attacker were cut" in inquiry.of("cut_flows").says


# --- what may come between ---


def test_the_same_alert_twice_is_one_investigation_and_another_alert_leaves_the_machine_alone(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure, GUEST_QUEUE="")
    first = inquiry.begin()
    azure.deliver(first)
    assert len([t for t in inquiry.tasks().values() if t.step == "posture"]) == 1
    inquiry.begin(alertDisplayName="The same attacker once more")
    head = inquiry.head
    assert head.machines == ()
    assert name_of(first) in head.left_out[machine()]
    assert "log_traces" in inquiry.tasks()


def test_a_new_attacker_has_the_machine_looked_into_anew_but_not_without_end(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure, GUEST_QUEUE="")
    counts = []
    for attacker in (ATTACKER, SECOND, *(f"198.51.100.{n}" for n in range(20, 24))):
        inquiry.begin(attacker=attacker)
        counts.append(len(inquiry.head.machines))
    assert counts == [1, 1, 1, 1, 0, 0]
    assert "looked into 4 times since" in inquiry.head.left_out[machine()]


def test_what_defender_adds_to_an_alert_is_looked_into_and_told_as_well(azure: Azure):
    azure.world.seed(site({}, {}))
    inquiry = Inquiry(azure, GUEST_QUEUE="")
    one = inquiry.begin()
    inquiry.pump()
    assert [m["id"] for m in inquiry.head.machines] == [machine()]
    more = copy.deepcopy(one)
    more["properties"]["resourceIdentifiers"].append(
        {"type": "AzureResource", "azureResourceId": f"{COMPUTE}/virtualMachines/vm2"})
    more["properties"]["entities"].append({"$id": "e_9", "type": "ip", "address": SECOND})
    azure.deliver(azure.know(more))
    inquiry.pump()
    assert {m["id"] for m in inquiry.head.machines} == {machine(), machine("vm2")}
    assert inquiry.head.ended is not None
    assert inquiry.of("posture", "vm2").state is DONE
    shown = azure.timeline(one)
    assert {a["address"] for a in shown["alert"]["attackers"]} == {ATTACKER, SECOND}
    assert {b["address"] for b in shown["blocks"]} == {ATTACKER, SECOND}
    assert {m["id"] for m in shown["machines"]} == {machine(), machine("vm2")}


def test_one_machine_asked_for_first_keeps_no_other_from_being_looked_into(azure: Azure):
    azure.world.seed(site({}, {}))
    inquiry = Inquiry(azure, GUEST_QUEUE="", RESPONDER_INVESTIGATE="off")
    inquiry.begin(resourceIdentifiers=[
        {"type": "AzureResource", "azureResourceId": f"{COMPUTE}/virtualMachines/{vm}"}
        for vm in ("vm", "vm2")])
    for name in ("vm2", "vm"):
        queued = azure.app.operator.investigate(
            inquiry.id, OPERATOR, azure.app.budget(), machine=machine(name), steps=["posture"], reason="look")
        assert queued["queued"] == [f"{machine(name)}|posture"]
    assert len(inquiry.head.machines) == 2


def test_an_attacker_that_comes_later_is_looked_for_on_the_machines_that_are_known(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure)
    one = inquiry.begin()
    inquiry.pump()
    first = inquiry.of("cut_flows")
    assert first.state is DONE
    untouched = inquiry.of("autoruns")
    more = copy.deepcopy(one)
    more["properties"]["entities"].append({"$id": "e_9", "type": "ip", "address": SECOND})
    azure.deliver(azure.know(more))
    assert inquiry.of("cut_flows").state is not DONE, "what is known says nothing of the new attacker"
    assert inquiry.of("autoruns").ended == untouched.ended
    inquiry.pump()
    assert inquiry.of("cut_flows").state is DONE
    assert inquiry.of("cut_flows").ended != first.ended


def test_a_look_that_is_under_way_when_an_attacker_comes_is_done_again(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure)
    one = inquiry.begin()
    task = inquiry.of("cut_flows")
    inquiry.deliver(task)  # its script runs, with the first attacker
    begun = inquiry.of("cut_flows").begun
    assert inquiry.of("cut_flows").state is TaskState.RUNNING
    more = copy.deepcopy(one)
    more["properties"]["entities"].append({"$id": "e_9", "type": "ip", "address": SECOND})
    azure.deliver(azure.know(more))
    assert "cut_flows" in inquiry.head.redo
    inquiry.pump()
    assert (inquiry.of("cut_flows").begun, inquiry.head.ended) == (begun, None), "it is not over yet"
    azure.app.investigator.follow(inquiry.id, azure.app.budget())
    inquiry.pump()
    azure.app.investigator.follow(inquiry.id, azure.app.budget())
    assert inquiry.of("cut_flows").begun != begun
    assert inquiry.of("cut_flows").state is DONE
    assert inquiry.head.redo == {}
    assert inquiry.head.ended is not None


def test_an_alert_that_is_active_again_may_have_its_machines_changed_again(azure: Azure):
    azure.world.seed(site({"patches": {"Critical": 1}}))
    inquiry = Inquiry(azure)
    one = inquiry.begin()
    inquiry.pump()
    for status in ("Dismissed", "Active"):
        one["properties"]["status"] = status
        azure.know(one)
        inquiry.due(inquiry.of("watch"))
        inquiry.deliver(inquiry.of("watch"))
        assert inquiry.head.dismissed == (status == "Dismissed")
    task = inquiry.of("updates")
    azure.app.operator.decide(task.approval, OTHER, azure.app.budget(), approve=True, reason="yes")
    inquiry.pump("updates")
    assert "1 updates installed" in inquiry.of("updates").says


def test_a_change_that_waits_is_not_made_once_the_alert_was_dismissed(azure: Azure):
    azure.world.seed(site({"patches": {"Critical": 1}}))
    inquiry = Inquiry(azure)
    one = inquiry.begin()
    inquiry.pump()
    task = inquiry.of("updates")
    assert task.state is WAITING
    one["properties"]["status"] = "Dismissed"
    azure.know(one)
    azure.app.operator.revoke(OPERATOR, azure.app.budget(), address=ATTACKER, block_id="", reason="dismissed",
                              hold=timedelta(0))
    inquiry.due(inquiry.of("watch"))
    inquiry.deliver(inquiry.of("watch"))
    assert inquiry.of("watch").state in (DONE, SKIPPED), "nothing is in force any more"
    azure.app.operator.decide(task.approval, OTHER, azure.app.budget(), approve=True, reason="yes")
    inquiry.pump("updates")
    task = inquiry.of("updates")
    assert (task.state, "dismissed in Defender" in task.reason) == (DONE, True)
    assert not any(r["path"].endswith("/installPatches") for r in azure.world.log())


def test_nobody_is_asked_for_updates_that_the_guest_app_may_not_install(azure: Azure):
    azure.world.seed(site({"patches": {"Critical": 1}}))
    inquiry = Inquiry(azure, RESPONDER_MAY_INSTALL="none")
    inquiry.begin()
    inquiry.pump("updates", "antimalware")
    assert (inquiry.of("updates").state, inquiry.of("antimalware").state) == (DONE, DONE)
    assert "installUpdates" in str(inquiry.of("updates").signs)


def test_a_running_step_whose_guest_app_is_gone_ends_and_says_so(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    inquiry.deliver(inquiry.of("processes"))
    assert inquiry.of("processes").state is TaskState.RUNNING
    azure.clock.forward(hours=3)
    azure.app.investigator.follow(inquiry.id, azure.app.budget())
    task = inquiry.of("processes")
    assert (task.state, "is the guest app running" in task.reason) == (FAILED, True)


def test_the_watch_begins_anew_for_what_comes_into_force_later(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure, GUEST_QUEUE="")
    one = inquiry.begin()
    azure.app.operator.revoke(OPERATOR, azure.app.budget(), address=ATTACKER, block_id="", reason="a partner",
                              hold=timedelta(0))
    inquiry.due(inquiry.of("watch"))
    inquiry.deliver(inquiry.of("watch"))
    assert inquiry.of("watch").state in (DONE, SKIPPED)
    azure.app.operator.replay_id(name_of(one), OPERATOR, azure.app.budget(), dry_run=False, override=True)
    azure.clock.forward(minutes=2)
    azure.sweep()
    assert inquiry.of("watch").state in (TaskState.QUEUED, TaskState.RUNNING)


def test_what_a_machine_says_of_its_outputs_encoding_is_not_believed(azure: Azure):
    store = azure.start().store
    address = store.incoming("bomb.jsonl", azure.clock.now(), timedelta(hours=1))
    bomb = gzip.compress(gzip.compress(bytes(200_000_000)))
    from azure.storage.blob import BlobClient, ContentSettings

    with BlobClient.from_blob_url(address) as blob:
        blob.upload_blob(bomb, content_settings=ContentSettings(content_encoding="gzip,gzip"))
    assert store.arrived("bomb.jsonl", 2**20) == (bomb, False)


def test_evidence_that_may_only_be_added_is_kept_once_and_read_back(azure: Azure):
    store = azure.start().store
    first = store.keep("a1", "vm-x.json", b"1")
    refused = {"service": "blob", "method": "PUT", "path": "vm-x.json", "status": 403, "times": 9,
               "headers": {"x-ms-error-code": "AuthorizationPermissionMismatch"}}
    azure.faults(refused)
    assert store.keep("a1", "vm-x.json", b"1") == first, "it is there, and may not be written again"
    assert store.keep("a1", "vm-x.json", b"2")[0] == "vm-x-2.json"
    azure.faults({**refused, "path": "vm-y"})
    with pytest.raises(Forbidden):
        store.keep("a1", "vm-y.json", b"1")


def test_a_copy_of_a_message_does_nothing_twice(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    task = inquiry.of("processes")
    threads = [threading.Thread(target=inquiry.guest.on_investigate, args=(task.message,)) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    puts = [r for r in azure.world.log() if r["method"] == "PUT" and "runCommands" in r["path"]]
    assert len(puts) == 1


def test_a_lost_message_is_sent_again_by_the_sweep(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure, GUEST_QUEUE="")
    inquiry.begin()
    queue = azure.app.investigator._parts.queue
    client = queue._clients.queue(queue._name)
    client.clear_messages()
    azure.clock.forward(minutes=6)
    azure.sweep()
    found = [json.loads(base64.b64decode(m.content)) for m in client.receive_messages(max_messages=32)]
    assert {m["step"] for m in found} >= {"posture", "power_state", "log_traces"}


def test_what_a_storm_or_a_crash_left_is_begun_by_the_sweep(azure: Azure, monkeypatch: pytest.MonkeyPatch):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure, GUEST_QUEUE="")

    def dies(*_: Any) -> bool:
        raise SystemExit("killed")

    with monkeypatch.context() as patched:
        patched.setattr(type(azure.app.investigator), "start", dies)
        with pytest.raises(SystemExit):
            inquiry.begin()
    inquiry.alert = inquiry.alert or {}
    found = list(azure.ledger.alerts._table.query("RowKey ge 'alert|' and RowKey lt 'alert}'"))
    alert_id = found[0].text("alertId")
    assert azure.ledger.investigations.head(alert_id) is None
    azure.clock.forward(minutes=2)
    azure.sweep()
    assert azure.ledger.investigations.head(alert_id) is not None


def test_a_poison_message_is_a_failed_step_and_is_told(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    azure.app.on_poison(inquiry.of("posture").message)
    assert (inquiry.of("posture").state, inquiry.of("posture").reason) == (
        FAILED, "its message failed again and again")
    azure.app.on_poison("not json")
    azure.app.on_investigate('{"alert": "x"}')
    assert len(azure.notices("poison")) == 3


def test_a_pause_keeps_commands_out_of_machines(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure)
    inquiry.begin()
    azure.app.operator.pause(OPERATOR, azure.app.budget(), reason="maintenance", lift="due")
    inquiry.deliver(inquiry.of("processes"))
    assert inquiry.of("processes").reason == "acting is paused"
    assert not any("runCommands" in r["path"] for r in azure.world.log())
    azure.app.operator.resume(OPERATOR, reason="done")
    inquiry.pump("processes")
    assert inquiry.of("processes").state is DONE


@pytest.mark.parametrize("given", [
    lambda: alert(alertType="SIMULATED_Network_CommunicationWithC2"),
    lambda: alert(status="Dismissed"),
    lambda: alert(kind="Network_TrafficFromUnrecommendedIP"),
])
def test_samples_closed_alerts_and_kinds_the_policy_leaves_out_are_not_looked_into(azure: Azure, given: Any):
    azure.world.seed(site({}))
    Inquiry(azure)
    one = azure.know(given())
    azure.deliver(one)
    assert azure.ledger.investigations.head(name_of(one)) is None


def test_an_alert_that_defender_does_not_hold_runs_nothing_anywhere_until_a_person_asks(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure, GUEST_QUEUE="")
    forged = alert()
    azure.deliver(forged)
    azure.clock.forward(minutes=10)
    azure.sweep()
    assert azure.ledger.investigations.head(name_of(forged)) is None
    inquiry.alert = forged
    reply = azure.app.serve("investigate", Request("http://127.0.0.1/api/investigations", json.dumps({
        "alertId": name_of(forged), "steps": ["power_state"], "reason": "seen in the proxy"}).encode()))
    assert reply.status == 202, reply.text
    assert inquiry.head.by == "local operator"


def test_our_machines_attack_is_investigated_though_nothing_is_blocked(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure, GUEST_QUEUE="")
    inquiry.begin(kind="RDP_Outgoing_BF_OneToOne")
    assert azure.owned() == {}
    assert [m["id"] for m in inquiry.head.machines] == [machine()]


# --- the watch ---


def test_the_watch_proves_anew_and_tells_when_a_flow_comes_through(
        azure: Azure, monkeypatch: pytest.MonkeyPatch):
    azure.world.seed(site({}))
    logs(azure)
    inquiry = Inquiry(azure, GUEST_QUEUE="")
    asked: list[str] = []
    monkeypatch.setattr(inquiry.app.ledger.work, "recheck", lambda nsg, _: asked.append(nsg))
    inquiry.begin()
    inquiry.pump()
    inquiry.deliver(inquiry.of("watch"))
    first = inquiry.of("watch")
    assert (first.state, first.memory["looks"], first.memory["passed"]) == (TaskState.RUNNING, 1, [])
    assert first.next is not None
    late = (datetime.now(UTC) + timedelta(minutes=50)).replace(tzinfo=None).isoformat()
    logs(azure, flow(TimeGenerated=late, FlowStartTime=late, FlowEndTime=late),
         flow("Denied", TimeGenerated=late, FlowStartTime=late, FlowEndTime=late))
    inquiry.due(first)
    inquiry.deliver(first)
    after = inquiry.of("watch")
    assert len(after.memory["passed"]) == 1
    assert after.signs[0].weight.value == "likely"
    assert any("in spite of the block" in n for n in azure.notices("watch"))
    assert asked == [nsg_path("nsg").lower()], "it is proven anew"


def test_the_watch_asks_every_source_though_one_call_has_time_for_one(
        azure: Azure, monkeypatch: pytest.MonkeyPatch):
    azure.world.seed(site({}))
    logs(azure, flow())
    inquiry = Inquiry(azure, GUEST_QUEUE="")
    inquiry.begin()
    monkeypatch.setattr("remediation.cloud.logs.LEAST_SECONDS", 1e9)
    machine_sources = [s for s in SOURCES if s not in PEOPLE]
    for n, _ in enumerate(machine_sources, 1):
        assert inquiry.of("watch").memory.get("looks", 0) == 0
        inquiry.due(inquiry.of("watch"))
        inquiry.deliver(inquiry.of("watch"))
        assert inquiry.of("watch").memory["asked"] == n % len(machine_sources)
    task = inquiry.of("watch")
    assert (task.memory["looks"], "from" in task.memory) == (1, False)
    assert task.memory["until"] < utc(azure.clock.now()), "the next look begins where this one did"


def test_people_hear_two_hours_before_a_block_ends_and_of_a_dismissed_alert(azure: Azure):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure, GUEST_QUEUE="", RESPONDER_WORKSPACES="")
    one = inquiry.begin()
    inquiry.pump()
    inquiry.deliver(inquiry.of("watch"))
    expires = min(b.expires for b in azure.blocks().values() if b.expires)
    while (task := inquiry.of("watch")).next and task.next < expires - timedelta(hours=2, minutes=1):
        inquiry.due(task)
        inquiry.deliver(task)
        assert not any("blocks end at" in n for n in azure.notices("watch"))
    azure.world.arm("POST", f"{one['id']}/dismiss")
    inquiry.due(inquiry.of("watch"))
    inquiry.deliver(inquiry.of("watch"))
    told = azure.notices("watch")
    assert any(n.startswith("2 blocks end at") for n in told)
    assert any("dismissed in Defender" in n for n in told)
    azure.clock.forward(hours=3)
    azure.sweep()
    inquiry.deliver(inquiry.of("watch"))
    assert inquiry.of("watch").state is DONE
    assert "looks" in inquiry.of("watch").says
    lifted = azure.timeline(one)["blocks"]
    assert {(b["state"], b["watched"]) for b in lifted} == {("lifted", inquiry.of("watch").says)}





@pytest.mark.parametrize("compromised", [False, True])
def test_an_alert_is_resolved_in_defender_only_where_the_policy_says_so_and_nothing_is_open(
        azure: Azure, tmp_path: Path, compromised: bool):
    azure.world.seed(site({}))
    azure.world.role(IDENTITY, [*role_actions(), *inquiry_actions(), *resolving_actions()])
    logs(azure, *([flow()] if compromised else []))
    path = Inquiry.policy(None, tmp_path, ("resolve = false", "resolve = true"))  # type: ignore[arg-type]  # it needs no self
    inquiry = Inquiry(azure, GUEST_QUEUE="", RESPONDER_POLICY=path)
    one = inquiry.begin()
    inquiry.pump()
    inquiry.deliver(inquiry.of("watch"))

    def status() -> str:
        return str(azure.world.arm("GET", one["id"]).json()["properties"]["status"])

    assert status() == "Active"
    azure.clock.forward(hours=25)
    azure.sweep()
    inquiry.deliver(inquiry.of("watch"))
    assert inquiry.of("watch").state is DONE
    assert status() == ("Active" if compromised else "Resolved")
    assert (inquiry.head.closed is None) is compromised


def test_each_step_asks_azure_for_nothing_that_its_role_does_not_have(azure: Azure):
    """
    What the steps declare is what the roles in `infra/` give: nothing missing, nothing extra.
    """
    declared = {p.lower() for s in STEPS.values() for p in (*s.permissions, *s.changing)}
    app = {a.lower() for a in (*role_actions(), *inquiry_actions())}
    guest = {a.lower() for a in guest_actions()}
    for step in STEPS.values():
        wanted = {p.lower() for p in (*step.permissions, *step.changing)}
        assert wanted - (guest if step.guest else app) == set(), step.name
    assert guest - declared - {"microsoft.compute/virtualmachines/instanceview/read"} == set()
    assert {a.lower() for a in inquiry_actions()} - declared == set()
