"""An alert looked at: what Defender says of it, which machines and guards are behind it, what the
plan is. Changes nothing, but for the hour's allowance when asked to reserve from it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from remediation.clock import Clock, Deadline
from remediation.cloud.cache import Kept
from remediation.cloud.defender import Defender, Held
from remediation.cloud.guards import Guards
from remediation.cloud.trace import Traced, Tracer
from remediation.errors import NotFound, PermanentError
from remediation.gather import GatherBy
from remediation.ledger import Ledger, Pause
from remediation.log import say
from remediation.model import Alert, AlertDirection, Mode, Nic, Plan, Verdict
from remediation.nsg import Nsg
from remediation.owned import Ownership
from remediation.plan import Scene, decide, guards
from remediation.policy import Policy
from remediation.settings import Settings
from remediation.surroundings import SurroundingsReader

_log = logging.getLogger(__name__)

LOOKS_AHEAD = 32
GUARDS_AT_ONCE = 8
SPARE_PARTS = 100
"""Of the hour's allowance a process may hold one part of so many for alerts to come."""
GUARD_SECONDS = 5.0
"""In a storm many alerts plan on one guard: one read serves all within so long. The commit reads
it again under the lease before it writes."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What Defender says, what would be done, and on which guards as they were read."""

    alert: Alert
    held: Held
    plan: Plan
    nsgs: Mapping[str, Nsg]
    verified: datetime


@dataclass(frozen=True, slots=True)
class _Guard:
    """An NSG as read for a plan, and the addresses blocked on it then."""

    nsg: Nsg
    blocked: frozenset[str]


type _Sight = tuple[Traced, Mapping[str, _Guard]]


class Survey:
    """Looks and decides. One instance serves all threads."""

    def __init__(
        self, *, ledger: Ledger, defender: Defender, tracer: Tracer, guards: Guards,
        surroundings: SurroundingsReader, policy: Policy, ownership: Ownership,
        settings: Settings, clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._defender = defender
        self._tracer = tracer
        self._readable = guards
        self._surroundings = surroundings
        self._policy = policy
        self._ownership = ownership
        self._settings = settings
        self._clock = clock
        self._allowance: GatherBy[tuple[str, int], int, int] = GatherBy(self._reserve, 100)
        self._spare: dict[tuple[str, int], tuple[str, int]] = {}
        self._ahead = ThreadPoolExecutor(LOOKS_AHEAD, "look")
        self._reads = ThreadPoolExecutor(GUARDS_AT_ONCE, "guard")
        self._guards: Kept[str, _Guard] = Kept(clock, GUARD_SECONDS)

    def look(
        self, alert: Alert, deadline: Deadline, *, override: str, reserve: bool, storm: bool = False
    ) -> Decision:
        """Ask Defender, find machines and guards, decide. Changes nothing but the hour's counter,
        and that only with `reserve`. In a `storm` people's wishes are shared by the alerts of a moment."""
        fresh = not reserve
        ahead: Future[_Sight] | None = None
        if self._worth_a_look(alert):  # while Defender is asked: the delivered text is a hint where to look
            ahead = self._ahead.submit(self._sight, alert, deadline, fresh=fresh)
        held = self._defender.confirm(alert, deadline)
        verified = self._clock.now()
        # What is acted upon is Defender's own text, wherever it has one.
        actual = held.alert or alert
        subscription = alert.ref.subscription_id if alert.ref else ""
        around = self._surroundings.now(deadline, subscription, storm=storm)
        scene = Scene(now=verified, around=around, override=override)
        if self._worth_a_look(actual):
            if ahead is not None and _place(actual) == _place(alert):
                seen = ahead.result()
            else:
                seen = self._sight(actual, deadline, fresh=fresh)
            scene = self._survey(scene, *seen)
            if seen[0].blind and actual.direction is not AlertDirection.OUTBOUND_C2:
                scene = replace(scene, untraced=(*scene.untraced, ("", seen[0].blind)))
        plan = self._decide(actual, held.verdict, scene)
        if held.trouble:  # a missing permission must not look like a forged alert
            plan = replace(plan, notices=(held.trouble, *plan.notices))
        if reserve:
            plan = self._within_the_hour(actual, held.verdict, scene, plan)
        # A wish younger than what was read is the later word: the commit compares it with this.
        return Decision(actual, held, plan, scene.nsgs, min(verified, around.read or verified))

    def paused(self, *, storm: bool) -> Pause | None:
        """The pause in force, if any; in a storm as it was a moment ago: the commit looks again."""
        return self._surroundings.paused(storm=storm)

    def _decide(self, alert: Alert, verdict: Verdict, scene: Scene) -> Plan:
        return decide(alert, verdict, scene, self._policy, self._settings.mode, self._ownership)

    def _worth_a_look(self, alert: Alert) -> bool:
        """Would machines and guards change what is decided?"""
        row = self._policy.row_for(alert)
        blocks = row.mode is not Mode.NOTIFY and bool(alert.attackers)
        return (blocks or row.investigate) and not alert.closed

    def _sight(self, alert: Alert, deadline: Deadline, *, fresh: bool) -> _Sight:
        """Machines, their guards as they are, and what is blocked on them already."""
        resource_ids, ours = _place(alert)
        if fresh:
            self._tracer.forget(resource_ids, Traced())
        traced = self._tracer.trace(resource_ids, deadline, ours)
        found, wrong = self._guards_of(traced, deadline, fresh=fresh)
        if wrong:  # what we or the graph know of these machines is out of date: a guard moved or was replaced
            self._tracer.forget(resource_ids, traced)
            traced = self._tracer.confirmed(traced, wrong, deadline)
            found, _ = self._guards_of(traced, deadline, fresh=True)
        return traced, found

    @staticmethod
    def _survey(scene: Scene, traced: Traced, guards: Mapping[str, _Guard]) -> Scene:
        """The scene with what was seen."""
        own = frozenset(a for m in traced.machines for n in m.nics
                        for a in (*n.public_addresses, *n.private_addresses))
        estate = scene.around.estate
        around = replace(scene.around, estate=replace(estate, public=estate.public | own))
        return replace(
            scene, machines=traced.machines, fronts=traced.fronts, untraced=traced.untraced, around=around,
            nsgs={g: seen.nsg for g, seen in guards.items()},
            live={g: seen.blocked for g, seen in guards.items()},
        )

    def _guards_of(
        self, traced: Traced, deadline: Deadline, *, fresh: bool
    ) -> tuple[dict[str, _Guard], frozenset[str]]:
        """The guards that can be read; and the machines and fronts of which one is gone, or says that it
        guards another."""
        found: dict[str, _Guard] = {}
        gone: set[str] = set()
        wanted = sorted({g for m in traced.machines for n in m.nics for g in n.guards}
                        | {f.guard for f in traced.fronts if f.guard})

        def read(guard: str) -> _Guard | PermanentError:
            if fresh:
                self._guards.forget(guard)
            try:
                return self._guards.get(guard, lambda: self._read_guard(guard, deadline))
            except PermanentError as error:
                return error

        for guard, seen in zip(wanted, self._reads.map(read, wanted), strict=True):
            if isinstance(seen, PermanentError):
                gone |= {guard} if isinstance(seen, NotFound) else set()
                say(_log, "guard-unreadable", level=logging.WARNING, nsg=guard, error=str(seen))
                continue
            found[guard] = seen
        instead = sorted({w for f in traced.fronts if f.guard not in found for w in f.wafs})
        for policy, seen in zip(instead, self._reads.map(read, instead), strict=True):
            if isinstance(seen, PermanentError):
                say(_log, "guard-unreadable", level=logging.WARNING, nsg=policy, error=str(seen))
            else:
                found[policy] = seen

        def wrong(nic: Nic) -> bool:
            return any(g in gone or (g in found and not guards(found[g].nsg, nic)) for g in nic.guards)

        doubted = {m.id for m in traced.machines if any(map(wrong, m.nics))}
        doubted |= {f.id for f in traced.fronts if f.guard in gone or (
            f.guard in found and f.subnet_id not in found[f.guard].nsg.subnets)}
        return found, frozenset(doubted)

    def _read_guard(self, guard: str, deadline: Deadline) -> _Guard:
        nsg = self._readable.read(guard, deadline)
        return _Guard(nsg, self._ledger.blocks.wanted_addresses(guard))

    def _within_the_hour(
        self, alert: Alert, verdict: Verdict, scene: Scene, plan: Plan
    ) -> Plan:
        """Take the new blocks from the hour's allowance; what it does not grant asks first."""
        new = [b for b in plan.blocks if not b.ask
               and b.key.address not in scene.live.get(b.key.nsg_id, frozenset())]
        if not new or plan.mode is not Mode.ENFORCE:
            return plan
        most = self._policy.row_for(alert).caps.blocks_per_hour
        granted = self._allowance((alert.alert_type, most), len(new))
        if granted >= len(new):
            return plan
        fewer = self._decide(alert, verdict, replace(scene, hour_room=granted))
        return replace(fewer, notices=tuple(dict.fromkeys((*plan.notices, *fewer.notices))))

    def _reserve(self, kind: tuple[str, int], wants: Sequence[int]) -> list[int]:
        """One write of the hour's counter for all alerts at hand, or none: a little more is taken than
        is wanted, and given out within the hour. Who came first is served first."""
        alert_type, most = kind
        now = self._clock.now()
        hour, left = self._spare.get(kind, ("", 0))
        if hour != f"{now:%Y%m%d%H}":
            left = 0
        if left < sum(wants):
            left += self._ledger.control.reserve(
                alert_type, now, sum(wants) - left + most // SPARE_PARTS, most)
        shares = []
        for want in wants:
            shares.append(min(want, left))
            left -= shares[-1]
        self._spare[kind] = (f"{now:%Y%m%d%H}", left)
        return shares


def _place(alert: Alert) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where to look: what the alert names, and the addresses it calls ours."""
    return alert.resource_ids, alert.own_addresses
