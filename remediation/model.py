"""The nouns of the flow, as frozen data. Nothing here does any I/O.

Times are aware `datetime`s in UTC. Addresses are canonical text (`ipaddress`), Azure resource
ids are lower-cased. `Direction` is the direction of traffic seen from the machine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum


def utc(moment: datetime) -> str:
    """One text form for every time we store or print: 2026-01-31T04:05:06.789Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def from_utc(text: str) -> datetime:
    """The inverse of `utc`."""
    return datetime.fromisoformat(text)


class Direction(StrEnum):
    """Which way traffic flows, seen from the machine: an NSG rule's direction."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class AlertDirection(StrEnum):
    """What an alert says about traffic (facts: the alert type, else the display name)."""

    OUTBOUND_C2 = "outbound_c2"
    INBOUND = "inbound"
    OUTBOUND_ATTACK = "outbound_attack"
    NONE = "none"
    UNKNOWN = "unknown"


class Mode(StrEnum):
    """How far an action may go, most cautious first."""

    NOTIFY = "notify"
    SIMULATE = "simulate"
    APPROVE = "approve"
    ENFORCE = "enforce"

    @property
    def reach(self) -> int:
        """A larger number may do more; `RESPONDER_MODE` caps by it."""
        return list(Mode).index(self)


class BlockState(StrEnum):
    """The life of a block (docs/blocks.md has the picture)."""

    WAITING = "waiting"
    PENDING = "pending"
    ACTIVE = "active"
    SHADOWED = "shadowed"
    LIFTING = "lifting"
    LIFTED = "lifted"
    REVOKED = "revoked"
    FAILED = "failed"
    OVERRIDDEN = "overridden"


WANTED_STATES = frozenset({BlockState.PENDING, BlockState.ACTIVE, BlockState.SHADOWED})
"""States in which the block's address belongs in the owned rule."""

ENDED_STATES = frozenset({BlockState.LIFTED, BlockState.REVOKED})
"""States of blocks that have left the live partition."""


class Verdict(StrEnum):
    """Whether Defender, asked by us, holds the alert as it was delivered."""

    CONFIRMED = "confirmed"
    UNKNOWN = "unknown"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Attacker:
    """A remote address that the alert accuses, and where in the alert it was found."""

    address: str
    port: int | None
    source: str
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class AlertRef:
    """Where Defender keeps the alert. `location` is unknown for some shapes."""

    subscription_id: str
    location: str
    name: str
    resource_group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A Defender for Cloud alert in normal form; `remediation.alerts` makes it from any shape."""

    alert_id: str
    alert_type: str
    display_name: str
    severity: str | None
    status: str
    direction: AlertDirection
    is_sample: bool = False
    intents: tuple[str, ...] = ()
    start: datetime | None = None
    end: datetime | None = None
    generated: datetime | None = None
    resource_ids: tuple[str, ...] = ()
    attackers: tuple[Attacker, ...] = ()
    own_addresses: tuple[str, ...] = ()
    compromised_entity: str = ""
    ext: Mapping[str, str] = field(default_factory=dict)
    ref: AlertRef | None = None
    warnings: tuple[str, ...] = ()

    @property
    def closed(self) -> bool:
        """Dismissed or resolved in Defender: nothing is to be done."""
        return self.status.casefold() in {"dismissed", "resolved", "closed"}

    def accusation(self) -> str:
        """A hash over what a block depends on: two deliveries that agree in it accuse the same."""
        said = (
            self.alert_type.casefold(),
            self.direction.value,
            self.is_sample,
            sorted(self.resource_ids),
            sorted({a.address for a in self.attackers}),
        )
        return hashlib.sha256(repr(said).encode()).hexdigest()[:32]


def joined(bodies: Sequence[Alert]) -> Alert:
    """Several bodies of one alert as one: the last one's word, with the attackers that any of them names."""
    attackers = {(a.address, a.port): a for body in bodies for a in body.attackers}
    return replace(bodies[-1], attackers=tuple(attackers.values()))


@dataclass(frozen=True, slots=True)
class Nic:
    """A network interface: its addresses, and the guards (NSGs) its traffic passes. `hidden`: what stands
    before it and hides clients' addresses from them (application gateways, firewalls), by id. `direct`:
    clients may come past those, too, by a public address or a load balancer."""

    id: str
    subnet_id: str
    private_addresses: tuple[str, ...] = ()
    public_addresses: tuple[str, ...] = ()
    nic_nsg: str = ""
    subnet_nsg: str = ""
    hidden: tuple[str, ...] = ()
    direct: bool = False

    @property
    def guards(self) -> tuple[str, ...]:
        """The NSGs on the path, the subnet's first: it protects the neighbours too."""
        return tuple(g for g in (self.subnet_nsg, self.nic_nsg) if g)


@dataclass(frozen=True, slots=True)
class Mapped:
    """Ports of a load balancer, first and last, that lead to a port of a member. `alone`: to no other."""

    front: tuple[int, int]
    back: int
    alone: bool = False

    def __str__(self) -> str:
        first, last = self.front
        shown = f"{first}" if first == last else f"{first}-{last}"
        return f"{shown} → {self.back}" + (", to it alone" if self.alone else "")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine behind an alert. `power` is Azure's code, such as `PowerState/running`, or ''.
    `path` is the way from the resource that the alert names, for people; `ports` those of what stands
    before it that lead to it; `speaks_out`: does that carry its traffic out? None: it does not say.
    `created`: when, as Azure writes it, or ''."""

    id: str
    nics: tuple[Nic, ...] = ()
    power: str = ""
    location: str = ""
    path: tuple[str, ...] = ()
    ports: tuple[Mapped, ...] = ()
    speaks_out: bool | None = None
    created: str = ""

    def merged(self, other: Machine) -> Machine:
        """The machine as two ways to it show it: whatever either of them says of what stands before it."""
        theirs = {n.id: n for n in other.nics}
        nics = tuple(replace(n, hidden=tuple(dict.fromkeys((*n.hidden, *theirs[n.id].hidden))),
                             direct=n.direct or theirs[n.id].direct) if n.id in theirs else n
                     for n in self.nics)
        mine = {n.id for n in self.nics}
        said = [s for s in (self.speaks_out, other.speaks_out) if s is not None]
        return replace(
            self, nics=(*nics, *(n for n in other.nics if n.id not in mine)),
            ports=tuple(dict.fromkeys((*self.ports, *other.ports))), speaks_out=any(said) if said else None)


@dataclass(frozen=True, slots=True)
class Front:
    """An application gateway on the way to machines: what comes in through it bears its own address
    behind it, so only the guard of its subnet sees the client's, or its WAF policies do. `guard`: that
    NSG, or ''; `trouble`: why it is not known, or ''. `wafs`: the policies that together see its requests;
    `unseen`: what none of them does. `named`: the alert led to it, not one of its machines."""

    id: str
    name: str
    subnet_id: str
    guard: str = ""
    trouble: str = ""
    wafs: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    named: bool = True


@dataclass(frozen=True, slots=True)
class BlockKey:
    """What a block is: (guard, direction, address). The same key is the same block. The guard is an NSG,
    or before an application gateway a WAF policy."""

    nsg_id: str
    direction: Direction
    address: str

    @property
    def id(self) -> str:
        """A short, URL-safe name made from the key alone."""
        text = f"{self.nsg_id}|{self.direction}|{self.address}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class Target:
    """A machine's NIC that a block is proven for: its private addresses behind the guard.
    `hidden` names what stands before it and hides the client's address from the NSG, or is ''; `proxied`:
    an explicit proxy carries its traffic out, so that the NSG sees the proxy's address alone."""

    machine_id: str
    nic_id: str
    subnet_id: str
    addresses: tuple[str, ...]
    hidden: str = ""
    proxied: bool = False


@dataclass(frozen=True, slots=True)
class Weak:
    """A NIC for which a block that is written does not hold, and why: `outcome` is the proof's word."""

    nic_id: str
    outcome: str
    rule: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """An address, or a machine, left alone, and why."""

    address: str
    reason: str
    resource_id: str = ""


@dataclass(frozen=True, slots=True)
class PlannedBlock:
    """A block that the plan wants: at once, or after a person's approval for the reasons given."""

    key: BlockKey
    lifetime: timedelta
    targets: tuple[Target, ...]
    decisive: bool
    ask: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What `decide` decided. Data only: the responder carries it out."""

    alert_id: str
    mode: Mode
    verdict: Verdict
    machines: tuple[Machine, ...] = ()
    blocks: tuple[PlannedBlock, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    notices: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def acts(self) -> bool:
        """True if any block is to be claimed."""
        return bool(self.blocks) and self.mode in (Mode.ENFORCE, Mode.APPROVE)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `identified`: by App Service authentication, or a developer on loopback."""

    name: str
    roles: frozenset[str]
    identified: bool

    def may(self, role: str) -> bool:
        """Read, Operate or Approve."""
        return role in self.roles


ResourceParts = re.compile(
    r"^/subscriptions/(?P<subscription>[^/]+)/resourcegroups/(?P<group>[^/]+)"
    r"/providers/(?P<provider>[^/]+)/(?P<type>[^/]+)/(?P<name>[^/]+)$"
)


@dataclass(frozen=True, slots=True)
class ResourceId:
    """A top-level Azure resource id in its parts, all lower-cased."""

    subscription: str
    group: str
    provider: str
    type: str
    name: str

    @classmethod
    def parse(cls, text: str) -> ResourceId | None:
        """None unless `text` names a top-level resource in a resource group."""
        hit = ResourceParts.match(text.lower().rstrip("/"))
        return cls(**hit.groupdict()) if hit else None

    @property
    def kind(self) -> str:
        """Such as `microsoft.compute/virtualmachines`."""
        return f"{self.provider}/{self.type}"

    def __str__(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourcegroups/{self.group}"
            f"/providers/{self.provider}/{self.type}/{self.name}"
        )
