"""Every call of a block's life × every fault that it can meet."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from chaos.kinds import LASTING, OUTAGES, PASSING, Kind
from chaos.life import LIFE_HOURS, Life, Result
from sandbox.world import World

_TABLES = "alerts|blocks|work|leases|control|firewall|investigations"
_TEMPLATES = (
    (r"/operations/", "/operations/"),
    (r"/securityRules/defender-block-test-(outbound|inbound)", r"securityRules/defender-block-test-{0}"),
    (r"/networkSecurityGroups/[^/?]+$", r"/networkSecurityGroups/[^/?]+$"),
    (r"/(virtualMachines|networkInterfaces|subnets|alerts)/[^/?]+$", r"/{0}/[^/?]+$"),
    (r"(ResourceGraph/resources|serviceTags)", "{0}"),
    (r"(/subscriptions)$", "{0}$"),
    (r"(listNetworkManagerEffectiveSecurityAdminRules|eventtypes/management)", "{0}"),
    (r"/devstoreaccount1/\w*?(" + _TABLES + r")\b", r"/\w*{0}\b"),
    (r"(\$batch)", r"\$batch"),
    (r"(/Tables)", "{0}"),
)


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """A class of calls: what it asks of whom. `path` is a pattern."""

    phase: str
    service: str
    method: str
    path: str

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.phase}: {self.service} {self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Case:
    """One fault at one class of calls."""

    call: Call
    kind: Kind

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.call.name} × {self.kind.name}"


def template(line: str) -> tuple[str, str, str] | None:
    """Service, method and pattern of the class of calls that a line of the trace belongs to."""
    service, method, path = line.split(" ", 2)
    for pattern, form in _TEMPLATES:
        hit = re.search(pattern, path.split("?")[0], re.IGNORECASE)
        if hit:
            return service, method, form.format(*hit.groups())
    return None


def prepare(world: World) -> None:
    """An Azure that answers at once, to the app's own role, and the environment in which its SDKs find
    it: once per process."""
    world.tune(settle=0, read=0, write=0, throttle=False, retry_after=False, graph_lag=0)
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "REQUESTS_CA_BUNDLE"):
        os.environ[name] = world.environment()[name]
    import azure.data.tables
    import azure.identity
    import azure.mgmt.network.models
    import azure.mgmt.resourcegraph  # noqa: F401 - a case's small budget is not for loading SDKs


def calls(world: World) -> list[Call]:
    """The calls of a life without faults."""
    life = Life(world)
    found: dict[Call, None] = {}
    for phase in ("block", "lift"):
        life.azure.faults()
        if phase == "block":
            life.deliver(life.attack())
        else:
            life.timer()  # what a sweep writes for the first time is no part of the lift
            life.azure.faults()
            life.azure.clock.forward(hours=LIFE_HOURS)
            life.timer()
        for line in world.control("GET", "faults")["trace"]:
            which = template(line)
            if which is None:
                raise ValueError(f"no fault would ever befall {line}: it belongs to no class of calls")
            found[Call(phase, *which)] = None
    return sorted(found)


def cases(known: Iterable[Call], *, slow: bool = True) -> Iterator[Case]:
    """Every call with every fault that it can meet."""
    kinds = [*PASSING, *OUTAGES, *LASTING]
    for call in known:
        for kind in kinds:
            plain = call.path.replace("\\", "")
            if kind.fits(call.service, call.method, plain) and (slow or not kind.slow):
                yield Case(call, kind)


def run(world: World, case: Case) -> Result:
    """Live through it."""
    life = Life(world)
    fault: dict[str, Any] = {
        "service": case.call.service, "method": case.call.method, "path": case.call.path,
        "times": case.kind.times, **case.kind.fault}
    if case.call.phase == "block":
        struck = _block_under(life, fault, case.kind)
        _lift(life)
    else:
        life.deliver(life.attack())
        life.until_in_force()
        life.judge_block()
        struck = _lift_under(life, fault, case.kind)
    return Result(case.name, struck, life.damage)


def _block_under(life: Life, fault: dict[str, Any], kind: Kind) -> int:
    one = life.attack()
    with life.under(fault) as count:
        life.deliver(one)
        if kind.permanent:
            life.azure.clock.forward(seconds=90)
            life.timer()
    life.orphans()
    if kind.permanent and not life.in_force():
        life.judge_told(wanted=True)
        one = life.attack()  # what failed for good waits for the next report, or a person
    life.deliver(one)
    life.until_in_force()
    life.judge_block()
    life.judge_told(wanted=False)
    return count()


def _lift(life: Life) -> None:
    life.azure.clock.forward(hours=LIFE_HOURS)
    life.sweep_until(life.gone)
    life.judge_lift()


def _lift_under(life: Life, fault: dict[str, Any], kind: Kind) -> int:
    life.azure.clock.forward(hours=LIFE_HOURS)
    with life.under(fault) as count:
        life.timer()
    life.orphans()
    # An NSG that is nowhere is looked for elsewhere first, for ten minutes.
    life.judge_told(wanted=kind.permanent and bool(life.owned()) and not kind.name.startswith("404"))
    life.sweep_until(life.gone, hours=1.1 if kind.permanent else 0)
    life.judge_lift()
    life.judge_told(wanted=False)
    return count()
