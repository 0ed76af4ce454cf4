"""The firewall table: incidents of rogue rules, what a group or a firewall was before we changed it, and the
rules that people have approved.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from remediation.errors import Conflict, Invalid
from remediation.firewall.incident import Incident, Part, State
from remediation.ledger.forms import Row, encode, pack, unpack
from remediation.ledger.store import Tables
from remediation.model import from_utc, utc

INCIDENT, BACKUP, APPROVED, LOOKED = "incident", "backup", "approved", "looked"


@dataclass(frozen=True, slots=True)
class Approved:
    """A rule that a person has approved: what it means, not what it is called. Until then it is silent."""

    digest: str
    by: str
    until: datetime
    reason: str
    at: datetime
    says: str

    def to_json(self) -> dict[str, Any]:
        """For people."""
        return {"digest": self.digest, "by": self.by, "until": utc(self.until), "reason": self.reason,
                "at": utc(self.at), "says": self.says}


@dataclass(frozen=True, slots=True)
class Looked:
    """The last whole look at a firewall: when, the rules that let something through (`mark_of`), and what
    could not be read since."""

    at: datetime
    found: frozenset[str]
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Backup:
    """A group or a firewall as it was before a removal, and the rules that were taken out of it, or that a
    Deny of ours was put before."""

    owner: str
    body: Mapping[str, Any]
    parts: tuple[Part, ...]
    denied: bool = False


class Firewall:
    """The firewall table."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.table("firewall")

    # --- incidents ---

    def get(self, incident_id: str) -> Incident | None:
        """One incident."""
        return self._table.parsed(self._table.get(INCIDENT, encode(incident_id)), _incident)

    def all(self) -> Iterator[Incident]:
        """All incidents."""
        yield from self._table.all_parsed(self._table.query("PartitionKey eq @p", p=INCIDENT), _incident)

    def of_firewall(self, firewall: str) -> list[Incident]:
        """Those found on one firewall."""
        rows = self._table.query("PartitionKey eq @p and firewall eq @f", p=INCIDENT, f=firewall)
        return list(self._table.all_parsed(rows, _incident))

    def removed(self, alert_id: str) -> list[Incident]:
        """Those of an alert whose rule is out of the firewall now."""
        rows = self._table.query(
            "PartitionKey eq @p and state eq @s", p=INCIDENT, s=State.REMOVED.value)
        return [i for i in self._table.all_parsed(rows, _incident) if alert_id in i.alerts]

    def save(self, incident: Incident) -> Incident:
        """Record it, if it is still as it was read. Raises Conflict if someone else was faster."""
        key, said = encode(incident.id), incident.to_json()
        values = {"firewall": incident.firewall, "state": incident.state.value, "seen": utc(incident.seen),
                  **pack("incident", said)}
        try:
            if incident.etag:
                etag = self._table.put(INCIDENT, key, values, incident.etag)
            else:
                etag = self._table.insert(INCIDENT, key, values)
        except Conflict:  # the answer to our own write may be what was lost
            there = self._table.get(INCIDENT, key)
            if there is None or unpack(there.values, "incident") != said:
                raise
            etag = there.etag
        return replace(incident, etag=etag)

    # --- looks ---

    def looked(self, firewall: str) -> Looked | None:
        """The last look at it; None if there was none."""
        return self._table.parsed(self._table.get(LOOKED, encode(firewall)), _looked)

    def note_look(self, firewall: str, look: Looked, now: datetime) -> None:
        """This was the last look."""
        self._table.upsert(LOOKED, encode(firewall), {
            "at": utc(now), "since": utc(look.at), "trouble": look.trouble[:1000],
            **pack("found", sorted(look.found))})

    # --- backups ---

    def keep(self, incident: Incident, backup: Backup, at: datetime) -> None:
        """Keep what was there before this round's removal. What is kept already stays: it is the older.
        Raises Invalid if it does not fit, so that nothing is changed that could not be put back."""
        try:
            values = {"owner": backup.owner, "at": utc(at), "denied": backup.denied,
                      **pack("body", backup.body),
                      **pack("parts", [p.to_json() for p in backup.parts])}
        except ValueError as error:
            raise Invalid(f"{backup.owner} cannot be backed up: {error}") from error
        with contextlib.suppress(Conflict):
            self._table.insert(BACKUP, _backup_key(incident, backup.owner), values)

    def backups(self, incident: Incident) -> list[Backup]:
        """What was there before the incident's last removal that changed anything."""
        for round_ in range(incident.round, 0, -1):
            first = encode(f"{incident.id}/{round_}/")
            rows = self._table.query("PartitionKey eq @p and RowKey ge @a and RowKey lt @b", p=BACKUP,
                                     a=first, b=first + "~")
            found = list(self._table.all_parsed(rows, _backup))
            if found:
                return found
        return []

    def owners(self, incident: Incident) -> list[str]:
        """What any removal of the incident has changed."""
        first = encode(f"{incident.id}/")
        rows = self._table.query("PartitionKey eq @p and RowKey ge @a and RowKey lt @b", select=("owner",),
                                 p=BACKUP, a=first, b=first + "~")
        return list(dict.fromkeys(r.text("owner") for r in rows))

    # --- the approved baseline ---

    def approve(self, entries: Sequence[Approved]) -> None:
        """From now on these rules are silent; a later word on the same rule counts."""
        for one in entries:
            values = {k: v for k, v in one.to_json().items() if k != "digest"}
            self._table.upsert(APPROVED, one.digest, values)

    def approved(self, now: datetime) -> list[Approved]:
        """The rules that are approved now."""
        rows = self._table.query("PartitionKey eq @p and until gt @now", p=APPROVED, now=utc(now))
        return list(self._table.all_parsed(rows, _approved))

    def forget(self, before: datetime, over: Callable[[], bool]) -> int:
        """Delete old rows until it is `over` → how many. What is still found is seen daily."""
        return sum(
            self._table.clear(f"PartitionKey eq @p and {when} lt @t", over, p=partition, t=utc(before))
            for partition, when in ((INCIDENT, "seen"), (BACKUP, "at"), (APPROVED, "until"), (LOOKED, "at")))


def _backup_key(incident: Incident, owner: str) -> str:
    return encode(f"{incident.id}/{incident.round}/{owner}")


def _incident(row: Row) -> Incident:
    return Incident.from_json(unpack(row.values, "incident"), row.etag)


def _looked(row: Row) -> Looked:
    return Looked(from_utc(row.text("since")), frozenset(unpack(row.values, "found")), row.text("trouble"))


def _backup(row: Row) -> Backup:
    parts = tuple(map(Part.from_json, unpack(row.values, "parts")))
    return Backup(row.text("owner"), unpack(row.values, "body"), parts, bool(row.values.get("denied")))


def _approved(row: Row) -> Approved:
    return Approved(row.key, row.text("by"), from_utc(row.text("until")), row.text("reason"),
                    from_utc(row.text("at")), row.text("says"))
