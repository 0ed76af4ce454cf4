"""A block's life on an Azure of its own, and what must be true of it afterwards."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from remediation.app import App, build
from remediation.errors import TemporaryError
from remediation.model import BlockState, utc
from sandbox.world import World
from tests.azure import OPERATOR, Azure, ShiftClock
from tests.estate import ATTACKER, alert, estate

SETTINGS = {"RESPONDER_LEASE_SECONDS": "2", "RESPONDER_DRIFT_SECONDS": "86400",
            "RESPONDER_BUDGET_SECONDS": "6", "RESPONDER_POLL_SECONDS": "0.05",
            "RESPONDER_SWEEP_SECONDS": "10"}
LIFE_HOURS = 24.2
LEASE_OVER = 3.1
"""Seconds: the lease, and the grain of the table service's clock."""
PARKED = ("192.0.2.1", "2001:db8::1")
PLATFORM = "168.63.129.16"
BOTH = {"outbound": [ATTACKER], "inbound": [ATTACKER]}
_numbers = itertools.count(70_000)
"""Apart from those of tests that share the process, and with it the storage."""
WAITS = (0.0, 0.0, LEASE_OVER, 0.0, 0.5, 1.0)


@dataclass
class Damage:
    """What must all be 0."""

    lost_blocks: int = 0
    orphan_rules: int = 0
    foreign_rules_changed: int = 0
    ledger_gaps: int = 0
    protected_blocked: int = 0
    told_wrong: int = 0
    """Permanent failures that nobody was told of, or more than once."""
    why: list[str] = field(default_factory=list)

    @property
    def survived(self) -> bool:
        """Nothing is damaged."""
        return not any(v for k, v in asdict(self).items() if k != "why")

    def note(self, what: str, count: int, why: str) -> None:
        """Add some."""
        if count:
            setattr(self, what, getattr(self, what) + count)
            self.why.append(f"{what} {count}: {why}")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a case; `struck`: how often the fault did."""

    name: str
    struck: int
    damage: Damage
    seconds: float = 0.0


def hosts(prefixes: Iterable[str]) -> set[str]:
    """The addresses of a rule's prefixes."""
    return {str(host) for prefix in prefixes for host in ipaddress.ip_network(prefix)}


class Life:
    """One alert, its two blocks, their lift."""

    def __init__(
        self, world: World, seed: dict[str, Any] | None = None, damage: Damage | None = None,
        **settings: str,
    ) -> None:
        world.control("POST", "reset")
        self.azure = Azure(world, next(_numbers))
        self.azure.start(**{**SETTINGS, **settings})
        world.seed(seed or estate())
        self.damage = damage or Damage()
        self.alerts: list[dict[str, Any]] = []
        self.remember()

    def remember(self) -> None:
        """The rules of others are right as they are now."""
        self._own = self._foreign()

    def _foreign(self) -> str:
        """Of every NSG there is."""
        own = {f"{nsg['name']}/{r['name']}": r["properties"]
               for nsg in self.azure.world.resources("microsoft.network/networksecuritygroups")
               for r in nsg["properties"]["securityRules"] if not r["name"].startswith("defender-block-")}
        return json.dumps(own, sort_keys=True)

    @contextlib.contextmanager
    def under(self, *faults: dict[str, Any]) -> Iterator[Callable[[], int]]:
        """Faults for so long; the function tells how often they struck."""
        self.azure.faults(*faults)
        struck: list[int] = []

        def count() -> int:
            return struck[0] if struck else 0

        try:
            yield count
        finally:
            left = self.azure.world.control("GET", "faults")["left"]
            struck.append(sum(f.get("times", 1) for f in faults) - sum(left))
            self.azure.faults()

    def twin(self, **shift: float) -> App:
        """Another process with the same tables, whose clock goes differently."""
        clock = ShiftClock()
        clock.forward(**shift)
        return build(self.azure.world.environment(**self.azure.settings), clock)

    def deliver(self, one: dict[str, Any], app: App | None = None) -> None:
        """As Event Grid would: what is not answered comes again."""
        with contextlib.suppress(TemporaryError):
            (app or self.azure.app).on_alert(one, event_id="e", event_time=None)

    def timer(self) -> None:
        """As the timer trigger would: one that fails is logged by the host, and fires again."""
        with contextlib.suppress(TemporaryError):
            self.azure.app.on_timer()

    def answer(self) -> None:
        """A guardrail that could not be read asks first: a person says yes."""
        for question in list(self.azure.app.ledger.control.approvals()):
            if question.state == "open":
                self.azure.app.operator.decide(
                    question.id, OPERATOR, self.azure.app.budget(), approve=True, reason="chaos")

    def attack(self, vm: str = "vm", attacker: str = ATTACKER) -> dict[str, Any]:
        """An alert that Defender knows; it names an address, too, that must never be blocked."""
        now = self.azure.clock.now()
        one = self.azure.know(alert(
            vm, [attacker, PLATFORM], startTimeUtc=utc(now - timedelta(hours=1)),
            timeGeneratedUtc=utc(now - timedelta(seconds=5))))
        self.alerts.append(one)
        return one

    def sweep_until(self, done: Callable[[], bool], *, hours: float = 0) -> bool:
        """Sweep as new processes would, until it is done."""
        for wait in WAITS:
            time.sleep(wait)
            self.azure.clock.forward(seconds=90, hours=hours)
            self.timer()
            self.orphans()
            if done():
                return True
        return False

    def until_in_force(self) -> None:
        """Sweep until blocked and proven. What asks a person, for a guardrail could not be read, must
        have told one, who says yes."""
        self.sweep_until(lambda: self.in_force() or self.azure.states() == {"waiting"})
        if self.azure.states() == {"waiting"}:
            self.judge_told(wanted=True)
            self.answer()
            self.sweep_until(self.in_force)

    def in_force(self) -> bool:
        """Blocked, proven, and nothing else."""
        return self.azure.states() == {"active"} and self.azure.owned() == BOTH

    def denied(self, *attackers: str, nsg: str = "nsg") -> bool:
        """Exactly these are blocked both ways, and proven."""
        owned = self.azure.owned(nsg)
        both = [hosts(owned.get(d, ())) for d in ("outbound", "inbound")]
        return both == [set(attackers)] * 2 and self.azure.states(nsg) <= {"active"}

    def gone(self) -> bool:
        """Lifted."""
        return self.azure.blocks() == {} and self.owned() == {}

    def owned(self, nsg: str = "nsg") -> dict[str, list[str]]:
        """Our rules' addresses; where a lock forbade its end, a rule stays, of an address nobody has."""
        return {name: left for name, prefixes in self.azure.owned(nsg).items()
                if (left := [p for p in prefixes if p not in PARKED])}

    def orphans(self, nsg: str = "nsg") -> None:
        """Record before acting: at no moment an address in our rules without a row."""
        standing = {(name.removesuffix("-v6"), host)
                    for name, prefixes in self.owned(nsg).items() for host in hosts(prefixes)}
        known = {(b.key.direction.value, b.key.address) for b in self.azure.blocks(nsg).values()}
        lost = standing - known
        self.damage.note("orphan_rules", len(lost), str(lost))
        named = sum(ipaddress.ip_address(PLATFORM) in ipaddress.ip_network(prefix)
                    for prefixes in self.azure.owned(nsg).values() for prefix in prefixes)
        self.damage.note("protected_blocked", named, PLATFORM)

    def orphans_in(self, nsgs: Iterable[str]) -> None:
        """The same for several."""
        for nsg in nsgs:
            self.orphans(nsg)

    def judge_block(self) -> None:
        """Both directions in force; the alert done, its timeline whole."""
        states = {k: (b.state.value, b.detail) for k, b in self.azure.blocks().items()}
        missing = [k for k in (("outbound", ATTACKER), ("inbound", ATTACKER))
                   if states.get(k, ("",))[0] != "active"]
        self.damage.note("lost_blocks", len(missing), f"{states} {self.azure.owned()}")
        found = self.azure.timeline(self.alerts[-1])
        proven = {a["direction"] for a in found["actions"] if a["action"] == "proven"}
        self.damage.note("ledger_gaps", 2 - len(proven), f"proven: {proven}")
        self.damage.note("ledger_gaps", int(found["state"] != "done"), f"the alert is {found['state']}")
        self.judge_foreign()

    def judge_lift(self) -> None:
        """No rule of ours, and both blocks recorded as lifted."""
        self.damage.note("orphan_rules", len(self.owned()), f"left: {self.owned()}")
        ended = [b for b in self.azure.ended() if b.state is BlockState.LIFTED]
        self.damage.note("ledger_gaps", 2 - len(ended), f"ended: {[b.state.value for b in ended]}")
        self.damage.note("ledger_gaps", len(self.azure.blocks()), f"live: {self.azure.states()}")
        lifted = {a["direction"] for a in self.azure.timeline(self.alerts[-1])["actions"]
                  if a["action"] == "lifted"}
        self.damage.note("ledger_gaps", 2 - len(lifted), f"lifted: {lifted}")
        self.judge_foreign()

    def judge_foreign(self) -> None:
        """The rules of others are as they were."""
        own = self._foreign()
        self.damage.note("foreign_rules_changed", int(own != self._own), own)

    def judge_told(self, *, wanted: bool) -> None:
        """A permanent failure is told, and told once."""
        told = Counter((n["kind"], n["text"], *n.get("alerts", ()))
                       for n in self.azure.app.ledger.control.notices())
        twice = [k for k, n in told.items() if n > 1]
        self.damage.note("told_wrong", len(twice), f"told more than once: {twice}")
        self.damage.note("told_wrong", int(wanted and not told), "nobody was told")
