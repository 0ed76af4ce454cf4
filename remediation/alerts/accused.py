"""Which addresses an alert accuses, and which of those it names are our own.

Only an allow-list of places is read: `ip` and `network-connection` entities, and the extended
properties below. Searching every property for dotted numbers would catch version strings.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from remediation.alerts.fields import Entities, Fields, address, addresses, port
from remediation.model import AlertDirection, Attacker

REMOTE_KEYS = (
    "attacker ip",
    "attacker ip address",
    "attacker source ip",
    "source ip(s) [number of attempts]",
    "source ips",
    "source ip",
    "source ip address",
    "client ip address",
    "ip address",
    "source",
)
"""Extended properties (folded) that hold remote addresses in recorded alerts."""

OWN_KEYS = ("victim ip", "machine ip")
"""Extended properties that hold addresses of our machines."""

CONNECTION = ("network-connection", "networkconnection")


@dataclass(slots=True)
class Accused:
    """The outcome: attackers (unique by address and port), our own addresses, warnings."""

    attackers: tuple[Attacker, ...] = ()
    own: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)


class _Found:
    """Collects attackers; an entry without a port gives way to one of the same address with it."""

    def __init__(self) -> None:
        self._by_address: dict[str, dict[int | None, Attacker]] = {}

    def add(self, attacker: Attacker) -> None:
        ports = self._by_address.setdefault(attacker.address, {})
        if attacker.port is None:
            if not ports:
                ports[None] = attacker
        else:
            ports.pop(None, None)
            ports.setdefault(attacker.port, attacker)

    def all(self) -> tuple[Attacker, ...]:
        return tuple(a for ports in self._by_address.values() for a in ports.values())


def read_accused(
    direction: AlertDirection, entities: Entities, ext: Fields, *, flagged: bool
) -> Accused:
    """Attackers and own addresses of an alert.

    In an attack by our machine (`outbound_attack`), and in the alert about a flagged resource,
    every address is ours or a victim's: there is no attacker.
    """
    result = Accused()
    own = _own_addresses(ext, entities, direction, flagged=flagged)
    found = _Found()
    if direction is not AlertDirection.OUTBOUND_ATTACK and not flagged:
        _from_connections(found, entities, result.warnings, direction)
        _from_ip_entities(found, entities, result.warnings)
        _from_properties(found, ext, result.warnings)
    for ours in own:
        if any(a.address == ours for a in found.all()):
            result.warnings.append(f"{ours}: named as attacker and as our own; taken as our own")
    result.attackers = tuple(a for a in found.all() if a.address not in own)
    result.own = own
    return result


def _own_addresses(
    ext: Fields, entities: Entities, direction: AlertDirection, *, flagged: bool
) -> tuple[str, ...]:
    own: dict[str, None] = {}
    keys: tuple[str, ...] = OWN_KEYS
    if direction is AlertDirection.OUTBOUND_ATTACK:
        keys = ("attacker ip", "machine ip")
    elif flagged:
        keys = (*OWN_KEYS, "attacker ip")
    for key in keys:
        for found, _ in addresses(ext.get(key))[0]:
            own[found] = None
    _, end = _ends(direction)
    if direction in (AlertDirection.INBOUND, AlertDirection.OUTBOUND_C2):
        for _, entity in entities.of_kind(*CONNECTION):
            for ours in entities.resolve(entity.get(end)):
                one = address(ours.text("address"))
                if one is not None:
                    own[one] = None
    if flagged:
        for _, entity in entities.of_kind("ip"):
            one = address(entity.text("address"))
            if one is not None:
                own[one] = None
    return tuple(own)


def _ends(direction: AlertDirection) -> tuple[str, str]:
    """The (remote, own) ends of a network connection: who opened it to us, or whom we opened to."""
    ends = ("sourceaddress", "destinationaddress")
    return ends[::-1] if direction is AlertDirection.OUTBOUND_C2 else ends


def _from_connections(
    found: _Found, entities: Entities, warnings: list[str], direction: AlertDirection
) -> None:
    end, _ = _ends(direction)
    for where, entity in entities.of_kind(*CONNECTION):
        resolved = entities.resolve(entity.get(end))
        if entity.get(end) is not None and not resolved:
            warnings.append(f"{where}: {end} refers to an entity that is not there")
        for remote in resolved:
            text = remote.text("address")
            one = address(text)
            if one is not None:
                found.add(
                    Attacker(
                        one,
                        port(entity.get("destinationport")),
                        where,
                        entity.text("protocol").casefold(),
                    )
                )


def _from_ip_entities(found: _Found, entities: Entities, warnings: list[str]) -> None:
    for where, entity in entities.of_kind("ip", "ipevidence"):
        text = entity.text("address", "ipaddress")
        one = address(text)
        if one is not None:
            found.add(Attacker(one, None, where))
        elif text:
            warnings.append(f"{where}: {text[:64]!r} is not an address")
        else:
            warnings.append(f"{where}: an ip entity without an address")


def _from_properties(found: _Found, ext: Fields, warnings: list[str]) -> None:
    for key in REMOTE_KEYS:
        value = ext.get(key)
        if value is None:
            continue
        hits, empty = addresses(value)
        if empty and key != "source":
            warnings.append(f"extendedProperties.{key}: {str(value)[:64]!r} holds no address")
        declared = port(ext.get("attacker port")) if key == "attacker ip" else None
        for one, beside in hits:
            found.add(Attacker(one, beside or declared, f"extendedProperties.{key}"))
