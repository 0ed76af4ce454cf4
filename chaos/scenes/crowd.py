"""Functions hosts over one ledger, and a life's judge that looks at what they did."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.contest import policy_file
from chaos.life import Life, hosts
from chaos.stage import Stage
from remediation.ledger.alerts import AlertState
from sandbox.world import FunctionsHost, World, waiting
from tests.estate import name_of

FAST = {"RESPONDER_LEASE_SECONDS": "5", "RESPONDER_BUDGET_SECONDS": "20", "RESPONDER_RESUME_SECONDS": "2",
        "RESPONDER_SWEEP_SECONDS": "2", "RESPONDER_DRIFT_SECONDS": "86400",
        "SWEEP_SCHEDULE": "*/2 * * * * *"}


@dataclass
class Crowd:
    """Some host processes, the alerts sent to them, and who is to be blocked where."""

    life: Life
    hosts: list[FunctionsHost] = field(default_factory=list)
    wanted: dict[str, set[str]] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    started: int = 0

    @property
    def world(self) -> World:
        """Where they are."""
        return self.life.azure.world

    def grow(self, count: int, *, in_flight: int = 32, max_attempts: int = 30) -> None:
        """Start hosts until there are so many; the topic delivers to all of them."""
        prefix, first = self.life.azure.settings["RESPONDER_TABLE_PREFIX"], self.started + 1
        self.started += count - len(self.hosts)
        names = [f"host-{prefix}-{n}" for n in range(first, self.started + 1)]
        with ThreadPoolExecutor(max(1, len(names))) as pool:
            self.hosts += pool.map(lambda n: self.world.start_host(n, **self.life.azure.settings), names)
        self.world.subscribe(*self.hosts, in_flight=in_flight, max_attempts=max_attempts)

    def bury(self) -> int:
        """Take leave of the dead → how many there were."""
        dead = [h for h in self.hosts if not h.alive]
        for host in dead:
            self.kill(host)
        return len(dead)

    def kill(self, host: FunctionsHost) -> None:
        """SIGKILL, if it is not dead already."""
        self.hosts.remove(host)
        self.world.stop_host(host, kill=True)

    def attack(self, vm: str, nsg: str, attacker: str) -> dict[str, Any]:
        """An alert that Defender knows, whose attacker is to be blocked there."""
        one = self.life.attack(vm, attacker)
        self.wanted.setdefault(nsg, set()).add(attacker)
        self.alerts.append(one)
        return one

    def all_denied(self) -> bool:
        """Everyone is, and nobody else."""
        return all(self.life.denied(*who, nsg=nsg) for nsg, who in self.wanted.items())

    def judge(self, stage: Stage, seconds: float, why: str) -> None:
        """Everyone blocked and proven once, every alert done, no address without a row."""
        any(self.world.settled(0.01) and self.all_denied() for _ in waiting(seconds, 0.5))
        ledger = self.life.azure.app.ledger
        for nsg, who in self.wanted.items():
            found = self.life.azure.blocks(nsg)
            for direction in ("outbound", "inbound"):
                denied = hosts(self.life.azure.owned(nsg).get(direction, ()))
                stage.damage.note("lost_blocks", len(who - denied), f"{why}: {nsg} {direction}")
                stage.damage.note("protected_blocked", len(denied - who), f"{why}: {denied - who}")
                rows = {a for d, a in found if d == direction}
                stage.damage.note("orphan_rules", len(denied - rows), f"{why}: {denied - rows}")
            for (direction, address), block in found.items():
                fine = block.state.value == "active" and block.reports == 1
                stage.damage.note("ledger_gaps", int(not fine),
                                  f"{why}: {direction} {address} {block.state} {block.reports} reports")
        for one in self.alerts:
            bodies = ledger.alerts.bodies(name_of(one))
            proven = {a["direction"] for a in ledger.alerts.actions(name_of(one)) if a["action"] == "proven"}
            fine = [b.state for b in bodies] == [AlertState.DONE] and len(proven) == 2
            stage.damage.note("ledger_gaps", int(not fine),
                              f"{why}: alert {name_of(one)} {[b.state for b in bodies]} {proven}")
        self.life.judge_foreign()


@contextmanager
def crowd(stage: Stage, seed: dict[str, Any], **settings: str) -> Iterator[Crowd]:
    """Hosts that are stopped in the end; the caps are out of the way."""
    life = stage.life(seed, **FAST, RESPONDER_POLICY=str(policy_file(stage.world.folder)), **settings)
    made = Crowd(life)
    try:
        yield made
    finally:
        for host in list(made.hosts):  # first: none may go on in the next scene's Azure
            made.kill(host)
        life.azure.faults()
