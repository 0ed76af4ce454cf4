"""The inside of machines: Run Commands that really run, updates, extensions.

A seeded machine with a `guest` runs the scripts it is given, here, in a throw-away directory, as an
unprivileged user where that can be: named parameters are environment variables, unnamed ones arguments, as
Azure's agent has it on Linux. A machine without one runs nothing, and says that the script went well, as
recorded.

    "guest": {"agent": false}        its agent does not answer
    "guest": {"does": "fail"}        works (default) · fail · hang · garbage · huge · silent · refuse
    "guest": {"os": "Windows"}       what runs there cannot run here: the command fails
    "guest": {"path": "/…"}          looked at for programs first
    "guest": {"patches": {"Security": 2}, "reboot": true}    what an assessment finds
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import signal
import subprocess
import tempfile
import threading
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox.arm.call import Answer, Call
from sandbox.arm.compute import quota
from sandbox.arm.errors import not_found
from sandbox.arm.state import Resource

INLINE_BYTES = 4096
"""The instance view holds the end of an output."""
BLOCK_BYTES = 3 * 1024 * 1024
HUGE_LINES = 60_000
NOBODY = "nobody"
_running: set[int] = set()
"""The scripts that run now: they end with the sandbox."""
MISBEHAVIOUR = {
    "fail": "echo 'cannot open /proc: Permission denied' >&2; exit 3",
    "hang": "sleep 3600",
    "garbage": "head -c 4000 /dev/urandom; echo; echo '{\"kind\":'; echo '[1,2]'; echo '{\"kind\":\"end\"}'",
    "huge": f'i=0; while [ $i -lt {HUGE_LINES} ]; do echo \'{{"kind":"process","pid":1,"name":"padding-'
    "padding-padding-padding-padding-padding-padding\"}'; i=$((i+1)); done",
    "silent": "exit 0",
}


def run(child: Resource, machine: Resource) -> None:
    """Start the command's script on a thread of its own; its instance view changes as it goes on."""
    guest = machine.facts.get("guest") or {}
    begun = _now()
    child.facts["view"] = _view("Running", None, begun, "")
    thread = threading.Thread(target=_run, args=(child, guest, begun), daemon=True)
    thread.start()


def _run(child: Resource, guest: dict[str, Any], begun: str) -> None:
    properties = child.body["properties"]
    script = str((properties.get("source") or {}).get("script") or "")
    does = str(guest.get("does") or "works")
    if does == "refuse":
        child.facts["view"] = _view("Failed", None, begun, "", message="The command was not allowed to run.")
        return
    if str(guest.get("os") or "linux").lower() != "linux":
        child.facts["view"] = _view("Failed", 1, begun, "", error="this script cannot run here")
        return
    limit = float(properties.get("timeoutInSeconds") or 5400)
    named = {str(p["name"]): str(p["value"]) for p in properties.get("parameters") or () if p.get("name")}
    plain = [str(p["value"]) for p in properties.get("parameters") or () if not p.get("name")]
    code, out, err = _execute(
        MISBEHAVIOUR.get(does, script), named, plain, str(guest.get("path") or ""), limit, child
    )
    _upload(str(properties.get("outputBlobUri") or ""), out)
    if child.facts.get("deleted"):
        return
    state = "TimedOut" if code is None else "Succeeded" if code == 0 else "Failed"
    child.facts["view"] = _view(state, code, begun, out[-INLINE_BYTES:].decode(errors="replace"),
                                error=err[-INLINE_BYTES:].decode(errors="replace"))


def _execute(
    script: str, named: dict[str, str], plain: list[str], path: str, limit: float, child: Resource
) -> tuple[int | None, bytes, bytes]:
    """Exit code (None: its time was over), output, errors."""
    with tempfile.TemporaryDirectory(prefix="guest-") as folder:
        Path(folder).chmod(0o755)
        file = Path(folder) / "script.sh"
        file.write_text(script)
        file.chmod(0o755)
        environment = {"PATH": f"{path}:{os.defpath}:/usr/sbin:/sbin".lstrip(":"), "HOME": folder, **named}
        process = subprocess.Popen(
            ["/bin/sh", str(file), *plain], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **_unprivileged())
        child.facts["pid"] = process.pid
        _running.add(process.pid)
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            stop(child)
            out, err = process.communicate()
            return None, out, err
        finally:
            _running.discard(process.pid)
        return process.returncode, out, err


def _unprivileged() -> dict[str, Any]:
    """As nobody, where we may say so."""
    if os.geteuid() != 0:
        return {}
    who = pwd.getpwnam(NOBODY)
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


def stop(child: Resource) -> None:
    """The command is taken away, or its time is over: whatever it started ends."""
    child.facts["deleted"] = True
    pid = child.facts.get("pid")
    if pid:
        _kill(pid)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


@atexit.register
def _end_all() -> None:
    for pid in tuple(_running):
        _kill(pid)


def _upload(uri: str, data: bytes) -> None:
    """To the append blob that the command names, as the agent does; nothing, where it cannot be reached."""
    if not uri.startswith("http"):
        return
    with contextlib.suppress(OSError):
        _put(uri, b"", {"x-ms-blob-type": "AppendBlob"})
        for at in range(0, len(data), BLOCK_BYTES):
            _put(f"{uri}&comp=appendblock", data[at:at + BLOCK_BYTES], {})


def _put(uri: str, data: bytes, headers: dict[str, str]) -> None:
    request = urllib.request.Request(  # noqa: S310 - http and https alone, checked above
        uri, data=data, method="PUT", headers={"x-ms-version": "2021-12-02", **headers})
    urllib.request.urlopen(request, timeout=30).close()  # noqa: S310 - as above


def _view(
    state: str, code: int | None, begun: str, output: str, *, error: str = "", message: str = ""
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "executionState": state,
        "executionMessage": message,
        "output": output,
        "error": error,
        "startTime": begun,
    }
    if code is not None:
        found["exitCode"] = code
    if state != "Running":
        found["endTime"] = _now()
    return found


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")


# --- updates ---


def assess(call: Call) -> Answer:
    """POST …/assessPatches: the graph has the result when it is done."""
    vm, guest = _machine(call)

    def finish() -> None:
        row_id = f"{vm.id}/patchAssessmentResults/latest"
        call.state.graph_rows[row_id.lower()] = {
            "table": "patchassessmentresources", "id": row_id, "name": "latest",
            "type": "microsoft.compute/virtualmachines/patchassessmentresults", "properties": {
                "status": "Succeeded", "rebootPending": bool(guest.get("reboot", False)),
                "availablePatchCountByClassification": dict(guest.get("patches") or {}),
                "lastModifiedDateTime": _now(), "osType": str(guest.get("os") or "Linux")}}
        call.state.version += 1

    return _begun(call, vm, "VirtualMachines.AssessPatches", finish, {"status": "Succeeded"})


def install(call: Call) -> Answer:
    """POST …/installPatches: what was missing is there."""
    vm, guest = _machine(call)
    wanted = ("critical", "security")
    patches = dict(guest.get("patches") or {})
    count = sum(n for k, n in patches.items() if k.lower() in wanted)

    def finish() -> None:
        guest["patches"] = {k: n for k, n in patches.items() if k.lower() not in wanted}

    return _begun(call, vm, "VirtualMachines.InstallPatches", finish, {
        "status": "Succeeded", "installedPatchCount": count, "failedPatchCount": 0,
        "rebootStatus": "Required" if count else "NotNeeded"})


def _machine(call: Call) -> tuple[Resource, dict[str, Any]]:
    vm = call.state.get(call.id_of(1))
    if vm is None:
        raise not_found("Microsoft.Compute/virtualMachines", call.names[0], call.group)
    return vm, vm.facts.setdefault("guest", {})


def _begun(call: Call, vm: Resource, name: str, finish: Any, result: dict[str, Any]) -> Answer:
    op = call.state.begin(vm.id, name, "Microsoft.Compute", vm.location, call.api, finish, retry_after=0)
    op.result = result
    return Answer(202, None, {**call.operation_headers(op, location=True), **quota("UpdateVM")})
