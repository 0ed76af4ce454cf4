"""An investigation in the sandbox's tests: machines with guests, the guest app beside the app, and a pump
that delivers the queue's messages as they come due, by moving the clock instead of waiting."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from remediation.app import App, build
from remediation.investigation.task import SETTLED, Task, TaskState
from remediation.ledger import Head
from remediation.policy import DEFAULT_POLICY
from remediation.steps import STEPS
from tests.azure import Azure
from tests.estate import COMPUTE, estate, name_of

WORKSPACE = "00000000-0000-0000-0000-00000000aaaa"
GUEST_IDENTITY = "guest-identity"
ROUNDS = 120
SCRIPT_SECONDS = 0.15


def machine(name: str = "vm") -> str:
    """A machine's id, as the product writes it."""
    return f"{COMPUTE}/virtualMachines/{name}".lower()


def site(*guests: dict[str, Any] | None, **extra: Any) -> dict[str, Any]:
    """As many machines on one NSG as guests are given; None for one without."""
    made = estate(machines=len(guests), **extra)
    for vm, guest in zip(made["groups"][0]["vms"], guests, strict=True):
        if guest is not None:
            vm["guest"] = {k: v for k, v in guest.items() if k != "power"}
            vm["power"] = guest.get("power", "running")
    return made


class Inquiry:
    """Drives one alert's investigation."""

    def __init__(self, azure: Azure, **settings: str) -> None:
        self.azure = azure
        self.settings = {"RESPONDER_INVESTIGATE": "on", "RESPONDER_WORKSPACES": WORKSPACE,
                         "GUEST_QUEUE": azure.settings["INVESTIGATION_QUEUE"] + "-guest", **settings}
        self.app = azure.start(**self.settings)
        self.guest = self.guest_app()
        self.alert: dict[str, Any] = {}

    def guest_app(self) -> App:
        """The second deployment, under its own identity."""
        return build(self.azure.world.environment(**{
            **self.azure.settings, "RESPONDER_ROLE": "guest", "AZURE_CLIENT_ID": GUEST_IDENTITY,
            "INVESTIGATION_QUEUE": self.azure.settings["GUEST_QUEUE"] or "of-nobody", "GUEST_QUEUE": "",
        }), self.azure.clock)

    def begin(self, *args: Any, **changes: Any) -> dict[str, Any]:
        """A C2 alert, delivered."""
        self.alert = self.azure.attack(*args, **changes)
        return self.alert

    @property
    def id(self) -> str:
        return name_of(self.alert)

    @property
    def head(self) -> Head:
        found = self.azure.ledger.investigations.head(self.id)
        assert found is not None, "no investigation was begun"
        return found

    def tasks(self) -> dict[str, Task]:
        """step, or step@machine where there are several → task."""
        return {f"{t.step}@{t.machine.rpartition('/')[2]}" if t.machine else t.step: t
                for t in self.azure.ledger.investigations.tasks(self.id)}

    def of(self, step: str, name: str = "vm") -> Task:
        """One task."""
        return self.tasks()[step if STEPS[step].of_alert else f"{step}@{name}"]

    def deliver(self, task: Task) -> None:
        """The queue's message, to whose it is."""
        (self.guest if STEPS[task.step].guest else self.app).on_investigate(task.message)

    def pump(self, *steps: str, watch: bool = False) -> None:
        """Deliver what is due, and move the clock to what is due next, until nothing runs any more."""
        for _ in range(ROUNDS):
            open_ = [
                t
                for t in self.tasks().values()
                if t.state not in SETTLED and (watch or t.step != "watch") and (not steps or t.step in steps)
            ]
            if not open_:
                return
            if any(t.memory.get("command") for t in open_):
                time.sleep(SCRIPT_SECONDS)  # a script really runs
            for task in open_:
                self.due(task)
                self.deliver(task)
        raise AssertionError(f"it does not end: {[(t.key, t.state, t.reason) for t in open_]}")

    def due(self, task: Task) -> None:
        """Move the clock to when the task is to be looked at."""
        now: datetime = self.azure.clock.now()
        if task.next is not None and task.next > now:
            self.azure.clock.shift += task.next - now + timedelta(seconds=1)

    def states(self, name: str = "vm") -> dict[str, TaskState]:
        """step → state, of one machine."""
        return {t.step: t.state for t in self.tasks().values() if t.machine.endswith(f"/{name}")}

    def policy(self, tmp: Any, *changes: tuple[str, str]) -> str:
        """The path of a policy with these changes."""
        text = DEFAULT_POLICY.read_text()
        for before, after in changes:
            assert before in text, before
            text = text.replace(before, after)
        path = tmp / "policy.toml"
        path.write_text(text)
        return str(path)
