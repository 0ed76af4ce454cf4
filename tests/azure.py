"""What the sandbox's tests and the chaos runs hold in their hands: a world, the app wired to it, and a
clock that can be moved."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

from remediation.app import App, build
from remediation.clock import Clock
from remediation.ledger import Block, Ledger
from remediation.model import Caller
from remediation.responder import Seen
from sandbox.world import World
from tests.estate import alert, name_of, nsg_path
from tests.role import IDENTITY

OPERATOR = Caller("ann", frozenset({"Read", "Operate", "Approve"}), identified=True)
WRITES = ("PUT", "PATCH", "DELETE")


class ShiftClock(Clock):
    """Real time that can be moved forward."""

    def __init__(self) -> None:
        self.shift = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.shift

    def forward(self, **by: float) -> None:
        self.shift += timedelta(**by)


class Azure:
    """What a test needs: the world, the app wired to it, and questions to both."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.clock = ShiftClock()
        self.settings = {"RESPONDER_TABLE_PREFIX": f"t{os.getpid()}n{number}",
                         "RESPONDER_MODE": "enforce", "RESPONDER_DEPLOYMENT": "test",
                         "COMMIT_QUEUE": f"commit-{os.getpid()}-{number}",
                         "RESPONDER_LEASE_SECONDS": "5", "RESPONDER_INVESTIGATE": "off",
                         "INVESTIGATION_QUEUE": f"investigations-{os.getpid()}-{number}",
                         "EVIDENCE_CONTAINER": f"evidence-{os.getpid()}-{number}"}
        self._app: App | None = None
        self._eye: App | None = None

    def start(self, **settings: str) -> App:
        """Wire the app (anew, as another process would)."""
        self.settings.update(settings)
        self._app = build(self.world.environment(**self.settings), self.clock)
        self._eye = None
        return self._app

    @property
    def app(self) -> App:
        return self._app or self.start()

    @property
    def ledger(self) -> Ledger:
        """The same tables, by a way on which no fault is injected: to look without taking part."""
        if self._eye is None:
            direct = {"AzureWebJobsStorage": self.world.direct_connection}
            self._eye = build(self.world.environment(**{**self.settings, **direct}), self.clock)
        return self._eye.ledger

    def know(self, one: dict[str, Any]) -> dict[str, Any]:
        """Make Defender hold the alert."""
        self.world.seed({"subscription": one["id"].split("/")[2], "alerts": [one["properties"]]})
        return one

    def deliver(self, one: Any) -> Seen:
        """As the Event Grid trigger would."""
        return self.app.on_alert(one, event_id="e", event_time=None)[0]

    def attack(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """A new alert, known to Defender, delivered."""
        one = self.know(alert(*args, **kwargs))
        self.deliver(one)
        return one

    def sweep(self) -> Any:
        """As the timer would."""
        return self.app.on_timer()

    def blocks(self, nsg: str = "nsg") -> dict[tuple[str, str], Block]:
        """(direction, address) → live block."""
        found = self.ledger.blocks.live(nsg_path(nsg).lower())
        return {(b.key.direction.value, b.key.address): b for b in found}

    def states(self, nsg: str = "nsg") -> set[str]:
        """The states of all live blocks."""
        return {b.state.value for b in self.blocks(nsg).values()}

    def ended(self) -> list[Block]:
        """Blocks that have ended."""
        return [b for b in self.ledger.blocks.page(size=1000)[0] if b.ended]

    def rules(self, nsg: str = "nsg") -> dict[str, dict[str, Any]]:
        """Rule name → properties, as ARM has them now."""
        for one in self.world.resources("microsoft.network/networksecuritygroups"):
            if one["name"] == nsg:
                return {r["name"]: r["properties"] for r in one["properties"]["securityRules"]}
        return {}

    def owned(self, nsg: str = "nsg") -> dict[str, list[str]]:
        """Our rules' direction → the addresses they deny."""
        return {
            n.removeprefix("defender-block-test-"): sorted(
                p["sourceAddressPrefixes"] + p["destinationAddressPrefixes"])
            for n, p in self.rules(nsg).items() if n.startswith("defender-block-test-")
        }

    def writes(self) -> list[str]:
        """The app's writes to ARM so far: method and last part of the path."""
        return [f"{r['method']} {r['path'].rpartition('/')[2]}" for r in self.world.log()
                if r["service"] == "arm" and r["method"] in WRITES and r["by"] == IDENTITY]

    def notices(self, kind: str = "") -> list[str]:
        """What humans were told."""
        return [n["text"] for n in self.ledger.control.notices()
                if not kind or n["kind"] == kind]

    def faults(self, *rules: dict[str, Any]) -> None:
        """Inject."""
        self.world.control("POST", "faults", list(rules))

    def timeline(self, one: dict[str, Any]) -> dict[str, Any]:
        """All the ledger knows of an alert."""
        return self.app.operator.timeline(name_of(one))
