"""Chapter 10: what is found out about the machines behind the load balancer, and the pack that people get.

One machine runs a program from where anyone may write (it really runs, on this very machine, for as long as
the chapter lasts), one is stopped, one refuses its commands. The guest app is a host of its own, under its
own identity. Messages go to a webhook on loopback.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.demo import count
from sandbox.demo.estate import GROUP, SUBSCRIPTION, name_of, vm_id
from sandbox.world import ROOT

if TYPE_CHECKING:
    from sandbox.demo.story import Story

WORKSPACE = "00000000-0000-0000-0000-00000000aaaa"
GUEST_QUEUE = "guest-investigations"
WORKERS = (f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Compute/"
           "virtualMachineScaleSets/workers/virtualMachines")
SETTINGS = {"RESPONDER_INVESTIGATE": "on", "GUEST_QUEUE": GUEST_QUEUE, "RESPONDER_WORKSPACES": WORKSPACE,
            "RESPONDER_POLL_SECONDS": "0.3"}
SECONDS = 120
PROGRAM = "kworkerd"
IN_GUEST = ("processes", "autoruns", "antimalware", "cut_flows")


def guests(story: Story) -> None:
    """Give the machines of the balancer an inside: one well, one stopped, one that refuses."""
    story.world.seed({"facts": {
        vm_id("web-1"): {"guest": {"patches": {"Security": 2, "Other": 5}}},
        vm_id("web-2"): {"guest": {}, "power": "deallocated"},
        f"{WORKERS}/0": {"guest": {}}, f"{WORKERS}/1": {"guest": {"does": "refuse"}},
    }, "logs": {WORKSPACE: {"AzureActivity": [], "NTANetAnalytics": []}}})


@contextlib.contextmanager
def unfamiliar() -> Iterator[None]:
    """A program that runs from where none should."""
    folder = Path(tempfile.mkdtemp(prefix=".x-", dir="/tmp" if Path("/tmp").is_dir() else None))  # noqa: S108 - meant
    program = folder / PROGRAM
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    folder.chmod(0o755)
    program.chmod(0o755)
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    process = subprocess.Popen([program, "600"], cwd="/", **who)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def play(story: Story, alert: dict[str, Any]) -> dict[str, int]:
    """The chapter → `investigation` of `build/demo.json`."""
    story.chapter("10  What is found out about the machines behind the load balancer")
    ended = story.wait(lambda: bool((_inquiry(story, alert)).get("ended")), SECONDS)
    story.expect("every step has come to an answer", ended)
    tasks = _inquiry(story, alert).get("tasks", [])
    on = {name: {t["step"]: t for t in tasks if t["machine"].endswith(name)}
          for name in ("/web-1", "/web-2", "workers/virtualmachines/0", "workers/virtualmachines/1")}
    seen = [s["text"] for s in on["/web-1"].get("processes", {}).get("signs", ())]
    story.expect("the program that should not run is seen", any(PROGRAM in t for t in seen))
    story.expect(
        "the stopped machine is skipped, with the reason",
        all(
            on["/web-2"][s]["state"] == "skipped" and "deallocated" in on["/web-2"][s]["reason"]
            for s in IN_GUEST
        ),
    )
    story.expect("the one that refuses has failed steps, and the others went on", all(
        on["workers/virtualmachines/1"][s]["state"] == "failed" for s in IN_GUEST) and all(
        on["workers/virtualmachines/0"][s]["state"] == "done" for s in IN_GUEST))
    story.expect("a change waits for a person", on["/web-1"]["updates"]["state"] == "waiting",
                 on["/web-1"]["updates"]["reason"])
    story.expect("nothing is left behind in the machines",
                 not story.world.resources("microsoft.compute/virtualmachines/runcommands"))
    title = "Network communication"
    told = story.wait(lambda: any(name_of(alert) in m["message"] and "under way" not in m["message"]
                                  for m in story.inbox.messages), 40)
    story.expect("the security team has heard", told)
    mine = [m for m in story.inbox.messages if name_of(alert) in m["message"] and title in m["title"]]
    if mine:
        story.say(f"[bold]{mine[-1]['title']}[/]")
        for line in mine[-1]["message"].splitlines():
            story.console.print(f"  │ {line}", markup=False)
    _verified(story, alert)
    states = Counter(t["state"] for t in tasks)
    machines = {t["machine"] for t in tasks if t["machine"]}
    story.summary.append(("the machines behind the balancer", "looked into, evidence sealed, one pack sent"))
    return {"machines": len(machines), **{s: states[s] for s in ("done", "skipped", "failed", "waiting")},
            "notifications": len(mine)}


def _inquiry(story: Story, alert: dict[str, Any]) -> dict[str, Any]:
    return story.timeline(alert).get("investigation") or {}


def _verified(story: Story, alert: dict[str, Any]) -> None:
    """The evidence, downloaded and checked by the product's own command; then with one byte changed."""
    seal = str(_inquiry(story, alert).get("seal"))
    folder = story.world.folder / "evidence"
    files = count.blobs(story.world, "evidence", name_of(alert))
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)

    def verify() -> int:
        return subprocess.run(  # noqa: PLW1510 - its code is the answer
            [sys.executable, "-m", "remediation", "evidence", "verify", str(folder), "--seal", seal],
            cwd=ROOT,
            capture_output=True,
        ).returncode

    story.expect("its evidence verifies", bool(files) and verify() == 0, f"{len(files)} files")
    one = next((folder / n for n in sorted(files) if not n.startswith("manifest")), None)
    if one is not None:
        one.write_bytes(one.read_bytes() + b" ")
        story.expect("one byte more in one of them shows", verify() == 1, one.name)
