"""The policy: which alert gets which actions, with what lifetime, caps and guardrail settings.

Pure but for reading the file. `load_policy` checks everything and reports every mistake at once
(BadPolicy), each as one sentence that names the row and the field.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from remediation.alerts.kinds import bare_type, known_type
from remediation.errors import BadPolicy
from remediation.model import Alert, AlertDirection, Direction, Mode
from remediation.nsg import HIGHEST_PRIORITY, LOWEST_PRIORITY
from remediation.owned import Window
from remediation.prefixes import Network

DEFAULT_POLICY = Path(__file__).with_name("policy.toml")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = timedelta(days=31)


type PipelineDrift = Literal["restore", "yield"]
"""What becomes of a rule of ours that a program takes away for the second time within a day."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one kind of alert gets. `block[0]` is the decisive direction. `investigate`: are its machines
    looked into?"""

    mode: Mode
    lifetime: timedelta
    block: tuple[Direction, ...]
    caps: Caps
    investigate: bool = False


@dataclass(frozen=True, slots=True)
class Caps:
    """Numbers beyond which a person is asked."""

    addresses_per_alert: int = 10
    addresses_per_nsg: int = 500
    blocks_per_hour: int = 100


class FirewallAction(StrEnum):
    """How far the service may go against a rogue firewall rule, most cautious first."""

    NOTIFY = "notify"
    ASK = "ask"
    DENY = "deny"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Guardrails:
    """The policy's part of the guardrails; `remediation.guardrails` applies them."""

    never: tuple[Network, ...]
    ask_first: tuple[Network, ...]
    ask_first_service_tags: tuple[str, ...]
    protected: tuple[Network, ...]
    partner_prefix_min: int
    alert_max_age: timedelta
    estate_max_age: timedelta
    hold: timedelta
    approval_lifetime: timedelta
    max_extension: timedelta


@dataclass(frozen=True, slots=True)
class Egress:
    """What is done about a firewall rule that opens the internet to one machine. `question`: how long a
    person has to answer; `rounds`: after so many removals that did not last, people must act; `scan`: how
    often all firewalls are looked at."""

    action: FirewallAction
    question: timedelta
    rounds: int
    scan: timedelta


@dataclass(frozen=True, slots=True)
class Inquiry:
    """How machines are looked into. `steps`: which steps, in order; `unasked`: those that may change a
    machine without a person's yes; `machines`: how many of one alert, `again`: not sooner than that after
    the last time; `question`: how long a person has to answer; `familiar`: beginnings of paths from which
    programs are expected, besides those known; `resolve`: is the alert resolved in Defender when all is
    done?"""

    steps: tuple[str, ...]
    unasked: tuple[str, ...]
    machines: int
    again: timedelta
    question: timedelta
    familiar: tuple[str, ...]
    resolve: bool


@dataclass(frozen=True, slots=True)
class Escalation:
    """How people are told. `gather`: what happens within that time is one message; `per_hour`: beyond so many
    messages the rest is told together; `before_expiry`: how long before a block's end an open incident is
    said again."""

    gather: timedelta
    per_hour: int
    before_expiry: timedelta


@dataclass(frozen=True, slots=True)
class Proxies:
    """What Azure's network does not show: ids of resources (a network stands for all in it) whose clients
    come through a proxy, such as a content delivery network; and of those whose traffic leaves by one."""

    before: tuple[str, ...] = ()
    out: tuple[str, ...] = ()

    @staticmethod
    def names(listed: Iterable[str], *ids: str) -> bool:
        """Is one of these listed, or within one that is?"""
        return any(i == one or i.startswith(f"{one}/") for one in listed for i in ids)


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole policy, checked."""

    rows: Mapping[str, Row]
    directions: Mapping[AlertDirection, Row]
    caps: Caps
    guard: Literal["subnet", "nic"]
    window: Window
    pipeline_drift: PipelineDrift
    azure_confirms: bool
    cut_live_flows: bool
    guardrails: Guardrails
    firewall: Egress
    proxies: Proxies
    inquiry: Inquiry
    escalation: Escalation

    def row_for(self, alert: Alert) -> Row:
        """The alert type's row, else that of the type its display name stands for, else that
        of its direction."""
        for name in (bare_type(alert.alert_type), known_type(alert.alert_type, alert.display_name)):
            if name in self.rows:
                return self.rows[name]
        return self.directions[alert.direction]

    def caps_for(self, alert_type: str) -> Caps:
        """The caps of an alert type that has a row, else everyone's."""
        row = self.rows.get(bare_type(alert_type))
        return row.caps if row else self.caps


def load_policy(path: Path = DEFAULT_POLICY) -> Policy:
    """Read and check a policy file. Raises BadPolicy with every mistake in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadPolicy([f"{path.name}: cannot be read: {error}"]) from error
    return parse_policy(text, path.name)


def parse_policy(text: str, name: str = "policy.toml") -> Policy:
    """As `load_policy`, from the text."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadPolicy([f"{name}: not TOML: {error}"]) from error
    return _Reader(name, data).policy()


def duration(value: Any) -> timedelta:
    """`"24h"`, `"90m"`, `"30s"`, `"7d"` → timedelta. Raises ValueError saying what is expected."""
    hit = re.fullmatch(r"(\d{1,7})([smhd])", value) if isinstance(value, str) else None
    span = timedelta(seconds=int(hit[1]) * _UNITS[hit[2]]) if hit else timedelta()
    if not timedelta() < span <= _LONGEST:
        raise ValueError('must be a time like "90m", "24h" or "7d", up to 31 days')
    return span


def prefix(value: Any) -> Network:
    """An address or CIDR without host bits. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("must be an address or a CIDR")
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"must be an address or a CIDR without host bits ({error})") from None


def _one_of[T](kind: Callable[[str], T], values: list[str]) -> Callable[[Any], T]:
    def read(value: Any) -> T:
        if value not in values:
            raise ValueError(f"must be one of {', '.join(values)}")
        return kind(value)

    return read


def _number(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return read


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _list[T](item: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    def read(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise ValueError("must be a list")
        found = []
        for n, one in enumerate(value):
            try:
                found.append(item(one))
            except ValueError as error:
                raise ValueError(f"entry {n + 1} ({one!r}) {error}") from None
        return tuple(found)

    return read


def _word(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a name")
    return value


def _resource(value: Any) -> str:
    if not isinstance(value, str) or not value.lower().startswith("/subscriptions/"):
        raise ValueError("must be a resource id, /subscriptions/…")
    return value.lower().rstrip("/")


CAPS: dict[str, Any] = {
    "addresses_per_alert": (_number(1, 1000), Caps().addresses_per_alert),
    "addresses_per_nsg": (_number(1, 4000), Caps().addresses_per_nsg),
    "blocks_per_hour": (_number(1, 100_000), Caps().blocks_per_hour),
}

_mode = _one_of(Mode, [m.value for m in Mode])
_directions = _list(_one_of(Direction, [d.value for d in Direction]))


class _Reader:
    """Reads the file's tables, collecting mistakes instead of stopping at the first."""

    def __init__(self, name: str, data: Mapping[str, Any]) -> None:
        self.name = name
        self.data = data
        self.mistakes: list[str] = []

    def policy(self) -> Policy:
        known = {"defaults", "direction", "alert", "caps", "rules", "guardrails", "firewall", "proxies",
                 "investigation", "escalation"}
        for extra in sorted(set(self.data) - known):
            self._wrong(extra, f"is no table of the policy (there are {', '.join(sorted(known))})")
        caps = self._fields("caps", Caps, CAPS)
        base = self._row("defaults", self._table("defaults"), Row(
            Mode.NOTIFY, timedelta(hours=24), (), caps))
        rows = {
            str(kind).casefold(): self._row(f"alert type {kind}", table, base, whole=True)
            for kind, table in self._tables("alert").items()
        }
        directions = self._directions(base)
        rules = self._values("rules", {
            "guard": (_one_of(str, ["subnet", "nic"]), "subnet"),
            "priority_first": (_number(LOWEST_PRIORITY, HIGHEST_PRIORITY), 150),
            "priority_last": (_number(LOWEST_PRIORITY, HIGHEST_PRIORITY), 199),
            "pipeline_drift": (_one_of(str, ["restore", "yield"]), "restore"),
            "azure_confirms": (_flag, False),
            "cut_live_flows": (_flag, False),
        })
        if rules["priority_first"] + 3 > rules["priority_last"]:
            self._wrong("rules", "priority_last must be at least 3 above priority_first")
        guardrails = self._fields("guardrails", Guardrails, {
            "never": (_list(prefix), None),
            "ask_first": (_list(prefix), ()),
            "ask_first_service_tags": (_list(_word), ()),
            "protected": (_list(prefix), ()),
            "partner_prefix_min": (_number(0, 32), 16),
            "alert_max_age": (duration, timedelta(days=7)),
            "estate_max_age": (duration, timedelta(days=1)),
            "hold": (duration, timedelta(days=1)),
            "approval_lifetime": (duration, timedelta(days=1)),
            "max_extension": (duration, timedelta(days=7)),
        })
        egress = self._fields("firewall", Egress, {
            "action": (_one_of(FirewallAction, [a.value for a in FirewallAction]), FirewallAction.ASK),
            "question": (duration, timedelta(days=1)),
            "rounds": (_number(1, 10), 2),
            "scan": (duration, timedelta(days=1)),
        })
        proxies = self._fields("proxies", Proxies, {
            "before": (_list(_resource), ()), "out": (_list(_resource), ())})
        inquiry = self._fields("investigation", Inquiry, {
            "steps": (_list(_word), ()), "unasked": (_list(_word), ()), "machines": (_number(1, 500), 20),
            "again": (duration, timedelta(hours=6)), "question": (duration, timedelta(days=1)),
            "familiar": (_list(_word), ()), "resolve": (_flag, False),
        })
        for extra in sorted(set(inquiry.unasked) - set(inquiry.steps)):
            self._wrong("investigation", f"unasked: {extra} is not among the steps")
        escalation = self._fields("escalation", Escalation, {
            "gather": (duration, timedelta(seconds=20)), "per_hour": (_number(1, 10_000), 60),
            "before_expiry": (duration, timedelta(hours=2)),
        })
        if self.mistakes:
            raise BadPolicy(self.mistakes)
        window = Window(rules["priority_first"], rules["priority_last"])
        return Policy(rows, directions, caps, rules["guard"], window, rules["pipeline_drift"],
                      rules["azure_confirms"], rules["cut_live_flows"], guardrails, egress, proxies,
                      inquiry, escalation)

    def _directions(self, base: Row) -> dict[AlertDirection, Row]:
        given = self._tables("direction")
        for extra in sorted(set(given) - {d.value for d in AlertDirection}):
            self._wrong(f"direction {extra}", f"must be one of {', '.join(AlertDirection)}")
        rows = {}
        for direction in AlertDirection:
            where = f"direction {direction}"
            rows[direction] = self._row(where, given.get(direction, {}), base, whole=True)
            if direction in (AlertDirection.OUTBOUND_ATTACK, AlertDirection.UNKNOWN,
                             AlertDirection.NONE) and rows[direction].mode.reach > Mode.SIMULATE.reach:
                self._wrong(where, "mode must be notify or simulate: its addresses are ours, "
                                   "or what they mean is not known")
        return rows

    def _row(self, where: str, table: Any, base: Row, *, whole: bool = False) -> Row:
        if not isinstance(table, Mapping):
            self._wrong(where, "must be a table")
            return base
        values = self._read(where, table, {
            "mode": (_mode, base.mode), "lifetime": (duration, base.lifetime),
            "block": (_directions, base.block), "investigate": (_flag, base.investigate),
            **{name: (read, getattr(base.caps, name)) for name, (read, _) in CAPS.items()},
        })
        caps = Caps(**{name: values.pop(name) for name in CAPS})
        row = Row(**values, caps=caps)
        if whole and row.mode.reach >= Mode.SIMULATE.reach and not row.block:
            self._wrong(where, f"block must name a direction, since mode is {row.mode}")
        if len(set(row.block)) != len(row.block):
            self._wrong(where, "block must not name a direction twice")
        return row

    def _fields[T](self, table: str, kind: Callable[..., T], spec: dict[str, Any]) -> T:
        return kind(**self._values(table, spec))

    def _values(self, table: str, spec: dict[str, Any]) -> dict[str, Any]:
        return self._read(table, self._table(table), spec)

    def _read(self, where: str, table: Mapping[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
        for extra in sorted(set(table) - set(spec)):
            self._wrong(where, f"{extra} is no field here (there are {', '.join(spec)})")
        values = {}
        for field, (read, default) in spec.items():
            values[field] = default
            if field in table:
                try:
                    values[field] = read(table[field])
                except ValueError as error:
                    self._wrong(where, f"{field}: {error}")
            elif default is None:
                self._wrong(where, f"{field} is missing")
        return values

    def _table(self, name: str) -> Mapping[str, Any]:
        table = self.data.get(name, {})
        if isinstance(table, Mapping):
            return table
        self._wrong(name, "must be a table")
        return {}

    def _tables(self, name: str) -> Mapping[str, Any]:
        return self._table(name)

    def _wrong(self, where: str, what: str) -> None:
        self.mistakes.append(f"{self.name}: {where}: {what}")
