"""decide: from an alert and what is known around it to a Plan. Pure; the responder carries it out.

The order of the questions: is there anything to do (open alert, mode)? which addresses may be
blocked (guardrails)? on which guards, for which machines (placement)? and which of those blocks
need a person first (questions, caps, an unconfirmed alert)?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from remediation.guardrails import Surroundings, questions, refusal
from remediation.model import (
    Alert,
    BlockKey,
    Direction,
    Front,
    Machine,
    Mode,
    Nic,
    Plan,
    PlannedBlock,
    Skipped,
    Target,
    Verdict,
    utc,
)
from remediation.nsg import Nsg
from remediation.owned import Ownership, Wanted, wanted_rules
from remediation.policy import Caps, Policy, Row
from remediation.proof import prove
from remediation.topology import hider, name_of

MOST_ADDRESSES = 50
"""Real alerts name up to so many. Beyond it nothing is even asked: an alert's text is not trusted,
and every block costs table calls and room in an NSG."""


PROXY = "a proxy before it (policy, proxies)"


@dataclass(frozen=True, slots=True)
class Scene:
    """What decide looks at besides the alert: machines found, NSGs read, limits, the clock.

    `nsgs` holds the guards that could be read; `untraced` pairs a resource id with why its machines
    are not known. `live` counts the addresses now blocked per NSG; `hour_room` is how many more
    new blocks this hour may see for this alert type. `override` names a person who takes the
    questions upon themselves (a replay), or is empty.
    """

    now: datetime
    machines: tuple[Machine, ...] = ()
    fronts: tuple[Front, ...] = ()
    untraced: tuple[tuple[str, str], ...] = ()
    nsgs: Mapping[str, Nsg] = field(default_factory=dict)
    live: Mapping[str, frozenset[str]] = field(default_factory=dict)
    around: Surroundings = field(default_factory=Surroundings)
    hour_room: int = 1_000_000
    override: str = ""


def effective_mode(alert: Alert, row: Row, cap: Mode, verdict: Verdict) -> tuple[Mode, list[str]]:
    """The policy's mode, lowered by what is known of the alert; with the reasons for lowering."""
    mode, reasons = row.mode, []

    def lower(to: Mode, why: str) -> None:
        nonlocal mode
        if mode.reach > to.reach:
            mode = to
            reasons.append(why)

    lower(cap, f"RESPONDER_MODE caps at {cap}")
    if alert.is_sample:
        lower(Mode.SIMULATE, "a sample alert is never acted upon")
    elif verdict is Verdict.UNKNOWN:
        lower(Mode.APPROVE, "Defender does not confirm this alert")
    elif verdict is Verdict.DIFFERENT:
        lower(Mode.APPROVE, "Defender holds this alert with other content")
    return mode, reasons


def screen(
    alert: Alert, policy: Policy, mode: Mode, around: Surroundings
) -> tuple[tuple[str, ...], tuple[Skipped, ...]]:
    """The attackers' addresses that may be blocked, and the others with the reason each.

    Needs no machines, so it also serves the offline `explain`.
    """
    wanted: list[str] = []
    skipped: list[Skipped] = []
    why = ""
    if alert.closed:
        why = f"the alert is {alert.status}"
    elif mode is Mode.NOTIFY:
        why = "the policy only notifies for this alert"
    for address in dict.fromkeys(a.address for a in alert.attackers):
        reason = refusal(address, policy.guardrails, around) or why
        if reason:
            skipped.append(Skipped(address, reason))
        else:
            wanted.append(address)
    return tuple(wanted), tuple(skipped)


def decide(
    alert: Alert, verdict: Verdict, scene: Scene, policy: Policy, cap: Mode, ownership: Ownership
) -> Plan:
    """What to block where (at once or after approval), what is skipped and why, whom to tell."""
    row = policy.row_for(alert)
    mode, reasons = effective_mode(alert, row, cap, verdict)
    addresses, skipped = screen(alert, policy, mode, scene.around)
    gaps = [Skipped(a, f"beyond the {MOST_ADDRESSES} addresses one alert may name")
            for a in addresses[MOST_ADDRESSES:]]
    addresses = addresses[:MOST_ADDRESSES]
    blocks: list[PlannedBlock] = []
    if addresses:
        for resource, why in scene.untraced:
            gaps.append(Skipped("", why, resource))
        if not scene.machines and not scene.untraced:
            gaps.append(Skipped("", "the alert names no machine"))
        blocks = _place(addresses, row, scene, policy, ownership, gaps)
        blocks = [_with_questions(b, alert, row, reasons, mode, scene, policy) for b in blocks]
        blocks = _over_caps(blocks, addresses, scene, row.caps)
    notices = _notices(alert, mode, gaps, blocks, verdict)
    return Plan(
        alert_id=alert.alert_id,
        mode=mode,
        verdict=verdict,
        machines=scene.machines,
        blocks=tuple(blocks),
        skipped=(*skipped, *gaps),
        notices=tuple(notices),
        reasons=tuple(reasons),
    )


def _place(
    addresses: tuple[str, ...], row: Row, scene: Scene, policy: Policy, ownership: Ownership,
    gaps: list[Skipped],
) -> list[PlannedBlock]:
    """One block per (guard, direction, address), for all machines behind that guard."""
    targets: dict[BlockKey, list[Target]] = {}
    imagined: dict[BlockKey, Nsg] = {}

    def imagine(nsg: Nsg, key: BlockKey) -> Nsg:
        """The NSG with the block in it: made once, however many machines are behind it."""
        if key not in imagined:
            imagined[key] = with_wanted(nsg, key, policy, ownership)
        return imagined[key]

    for machine in scene.machines:
        if not machine.nics:
            gaps.append(Skipped("", "the machine has no network interface", machine.id))
        for nic in machine.nics:
            stopped = _stopped_before(nic, scene)
            where = (nic.id, nic.subnet_id, machine.id)
            hiders = [] if stopped else [hider(one) for one in nic.hidden]
            if policy.proxies.names(policy.proxies.before, *where):
                hiders.append(PROXY)
            target = Target(machine.id, nic.id, nic.subnet_id, nic.private_addresses, ", ".join(hiders),
                            policy.proxies.names(policy.proxies.out, *where))
            readable = [scene.nsgs[g] for g in nic.guards if g in scene.nsgs and guards(scene.nsgs[g], nic)]
            if not readable:
                gaps.append(Skipped("", _no_guard(nic, scene), nic.id))
                continue
            order = readable if policy.guard == "subnet" else readable[::-1]
            for direction in row.block:
                if direction is Direction.INBOUND and stopped and not nic.direct and _led_here(nic, scene):
                    continue  # what comes in through the gateway is stopped before it, not behind it
                for address in addresses:
                    guard = choose_guard(order, direction, address, target, ownership, imagine)
                    targets.setdefault(BlockKey(guard.id, direction, address), []).append(target)
    if Direction.INBOUND in row.block:
        for front in scene.fronts:
            proxied = policy.proxies.names(policy.proxies.before, front.id, front.subnet_id)
            decides = front.named or row.block[0] is Direction.INBOUND
            _before(front, addresses, scene, targets, gaps if decides else [], PROXY if proxied else "")
    blocks = [
        PlannedBlock(key, row.lifetime, tuple(found), decisive=key.direction is row.block[0])
        for key, found in targets.items()
    ]
    return sorted(blocks, key=lambda b: (not b.decisive, b.key.nsg_id, b.key.address))


def _stopped_before(nic: Nic, scene: Scene) -> bool:
    """Is the NIC behind gateways alone before which all can be stopped?"""
    guarded = {f.id for f in scene.fronts if not _before_it(f, scene)[1]}
    return bool(nic.hidden) and guarded.issuperset(nic.hidden)


def _led_here(nic: Nic, scene: Scene) -> bool:
    """Did the alert lead through a gateway to the machine? Where it names the machine itself, other ways to
    it may not be known, and its own block stays."""
    return any(f.named and f.id in nic.hidden for f in scene.fronts)


def guards(nsg: Nsg, nic: Nic) -> bool:
    """Does the NSG itself say that it guards the interface, or its subnet? What the interface's side says may
    be out of date."""
    return nic.subnet_id in nsg.subnets or nic.id in nsg.nics


def _before_it(front: Front, scene: Scene) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The guards that stop what comes in through a gateway, and what is missing. Its subnet's guard sees
    everything; else each of its WAF policies sees its part."""
    if front.guard in scene.nsgs and front.subnet_id in scene.nsgs[front.guard].subnets:
        return (front.guard,), ()
    subnet = front.trouble or ("its network security group cannot be read, or no longer guards its subnet"
                               if front.guard else "its subnet has no network security group")
    good, missing = [], [f"{one} has no WAF policy" for one in front.unseen]
    for policy in front.wafs:
        waf, name = scene.nsgs.get(policy), name_of(policy)
        if waf is None:
            missing.append(f"WAF policy {name} cannot be read")
        elif front.id not in waf.nics:
            missing.append(f"WAF policy {name} does not name the gateway")
        elif waf.trouble:
            missing.append(waf.trouble)
        else:
            good.append(policy)
    if not front.wafs and not front.unseen:
        missing.append("it has no WAF policy")
    return tuple(good), (subnet, *missing) if missing else ()


def _before(
    front: Front, addresses: Sequence[str], scene: Scene, targets: dict[BlockKey, list[Target]],
    gaps: list[Skipped], hidden: str,
) -> None:
    """Inbound blocks on the guard of a gateway's subnet, or else in its WAF policies. Its addresses there
    are Azure's to choose: the proof takes any."""
    guards, missing = _before_it(front, scene)
    if missing:
        part = "some of what comes" if guards else "what comes"
        gaps.append(Skipped("", (f"application gateway {front.name}: {'; '.join(missing)}: {part} in through "
                                 "it cannot be stopped here"), front.id))
    for guard in guards:
        for address in addresses:
            targets.setdefault(BlockKey(guard, Direction.INBOUND, address), []).append(
                Target(front.id, front.id, front.subnet_id, (), hidden))


def _no_guard(nic: Nic, scene: Scene) -> str:
    stale = [name_of(g) for g in nic.guards if g in scene.nsgs]
    if stale:
        return f"its network security group was thought to be {' and '.join(stale)}, which does not guard it"
    if nic.guards:
        return "its network security groups cannot be read"
    return "neither the network interface nor its subnet has a network security group"


def choose_guard(
    order: Sequence[Nsg], direction: Direction, address: str, target: Target, ownership: Ownership,
    imagine: Callable[[Nsg, BlockKey], Nsg],
) -> Nsg:
    """The first guard, in the policy's order, on which the block would hold. If it would hold on none,
    the first: the proof will tell."""
    for nsg in order if len(order) > 1 else ():
        key = BlockKey(nsg.id, direction, address)
        if prove(imagine(nsg, key), key, [target], ownership).effective:
            return nsg
    return order[0]


def with_wanted(nsg: Nsg, key: BlockKey, policy: Policy, ownership: Ownership) -> Nsg:
    """The NSG as it would be with this one address in our rule."""
    slots = wanted_rules(nsg, {key.direction: [key.address]}, ownership, policy.window)
    slot: Wanted = next(s for s in slots if s.prefixes)
    rest = tuple(r for r in nsg.rules if r.name != slot.name)
    return replace(nsg, rules=(*rest, slot.as_rule(ownership.description(""))))


def _with_questions(
    block: PlannedBlock, alert: Alert, row: Row, reasons: list[str], mode: Mode, scene: Scene,
    policy: Policy,
) -> PlannedBlock:
    """The reasons for which a person must approve this block first."""
    asks: list[str] = []
    if mode is Mode.APPROVE:
        asks += reasons if row.mode is not Mode.APPROVE else ["the policy asks for this alert type"]
    for nsg in _on_the_path(block, scene):
        asks += questions(
            block.key.address, policy.guardrails, scene.around, scene.nsgs.get(nsg), scene.now
        )
    age = scene.now - alert.generated if alert.generated else None
    if age is not None and age > policy.guardrails.alert_max_age:
        asks.append(f"the alert was generated on {utc(alert.generated or scene.now)}, long ago")
    if scene.override:
        asks = []
    return replace(block, ask=tuple(dict.fromkeys(asks)))


def _on_the_path(block: PlannedBlock, scene: Scene) -> list[str]:
    """The block's guard, and the others before the same NICs: a partner may be declared in any."""
    nics = {t.nic_id for t in block.targets}
    others = (g for m in scene.machines for n in m.nics if n.id in nics for g in n.guards)
    return list(dict.fromkeys((block.key.nsg_id, *others)))


def _over_caps(
    blocks: list[PlannedBlock], addresses: tuple[str, ...], scene: Scene, caps: Caps
) -> list[PlannedBlock]:
    """Blocks beyond the caps ask first; blocks that exist already do not count."""
    if scene.override:
        return blocks
    within = set(addresses[: caps.addresses_per_alert])
    counted = {nsg: set(live) for nsg, live in scene.live.items()}
    room = scene.hour_room
    result = []
    for block in blocks:
        key = block.key
        here = counted.setdefault(key.nsg_id, set())
        asks = list(block.ask)
        known = key.address in scene.live.get(key.nsg_id, frozenset())
        if key.address not in within:
            asks.append(f"more than {caps.addresses_per_alert} addresses in one alert")
        if not known and len(here | {key.address}) > caps.addresses_per_nsg:
            asks.append(f"more than {caps.addresses_per_nsg} addresses on one NSG")
        if not known and not asks:
            if room <= 0:
                asks.append(f"more than {caps.blocks_per_hour} new blocks in an hour")
            room -= 1
        if not asks:
            here.add(key.address)
        result.append(replace(block, ask=tuple(dict.fromkeys(asks))))
    return result


def _notices(
    alert: Alert, mode: Mode, gaps: list[Skipped], blocks: list[PlannedBlock], verdict: Verdict
) -> list[str]:
    """What a human should read about this alert; empty where all went by itself."""
    if alert.closed or alert.is_sample:
        return []
    notices = []
    if mode is Mode.NOTIFY:
        notices.append("the policy asks to notify for this alert")
    elif not alert.attackers:
        notices.append("the alert names no attacker's address: nothing to block")
    if verdict is not Verdict.CONFIRMED:
        notices.append(
            "Defender does not confirm this alert"
            if verdict is Verdict.UNKNOWN
            else "Defender holds this alert with other content"
        )
    notices += dict.fromkeys(
        g.reason if g.address else f"{g.resource_id or 'machines'}: {g.reason}" for g in gaps)
    waiting = sum(1 for b in blocks if b.ask)
    if waiting:
        notices.append(f"{waiting} of {len(blocks)} blocks wait for approval")
    return notices
