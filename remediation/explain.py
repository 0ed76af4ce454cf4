"""Offline: what an alert says, and what the policy would do about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from remediation.alerts import normalise, read
from remediation.errors import MalformedAlert
from remediation.guardrails import Surroundings
from remediation.model import Alert, Mode, Skipped, Verdict
from remediation.plan import effective_mode, screen
from remediation.policy import Policy

_EMPTY: dict[str, Any] = {
    "alert_id": None, "alert_type": None, "display_name": None, "severity": None,
    "direction": None, "is_sample": False, "resource_ids": [], "attackers": [],
    "own_addresses": [], "would_block": [], "skipped": [], "warnings": [], "error": None,
}


def explain(text: str, policy: Policy) -> list[dict[str, Any]]:
    """One entry per alert in the text, in order; every key is always there. Never raises."""
    try:
        raws = read(text)
    except MalformedAlert as error:
        return [{**_EMPTY, "error": str(error)}]
    return [_one(raw, policy) for raw in raws]


def _one(raw: Any, policy: Policy) -> dict[str, Any]:
    try:
        alert = normalise(raw)
    except MalformedAlert as error:
        return {**_EMPTY, "error": str(error)}
    wanted, skipped = would_block(alert, policy)
    return {
        **_EMPTY,
        "alert_id": alert.alert_id,
        "alert_type": alert.alert_type,
        "display_name": alert.display_name,
        "severity": alert.severity,
        "direction": alert.direction.value,
        "is_sample": alert.is_sample,
        "resource_ids": list(alert.resource_ids),
        "attackers": [
            {"address": a.address, "port": a.port, "source": a.source} for a in alert.attackers
        ],
        "own_addresses": list(alert.own_addresses),
        "would_block": list(wanted),
        "skipped": [{"address": s.address, "reason": s.reason} for s in skipped],
        "warnings": list(alert.warnings),
    }


def would_block(alert: Alert, policy: Policy) -> tuple[tuple[str, ...], tuple[Skipped, ...]]:
    """Addresses blocked (at once or after approval) if Defender confirms and a guard is found; and
    all others of the alert's attackers, with the reason."""
    mode, _ = effective_mode(alert, policy.row_for(alert), Mode.ENFORCE, Verdict.CONFIRMED)
    wanted, skipped = screen(alert, policy, mode, Surroundings())
    if mode.reach >= Mode.APPROVE.reach:
        return wanted, skipped
    why = "a sample alert is never acted upon" if alert.is_sample else "the policy only simulates"
    return (), (*skipped, *(Skipped(address, why) for address in wanted))


def as_text(entries: list[dict[str, Any]]) -> str:
    """For people."""
    return "\n\n".join(_shown(n, e) for n, e in enumerate(entries, 1)) or "no alert in the file"


def _shown(n: int, entry: dict[str, Any]) -> str:
    if entry["error"]:
        return f"[{n}] cannot be read: {entry['error']}"
    lines = [
        f"[{n}] {entry['display_name'] or entry['alert_type']}"
        + ("  (sample)" if entry["is_sample"] else ""),
        f"    type       {entry['alert_type']}",
        f"    id         {entry['alert_id']}",
        f"    severity   {entry['severity'] or '-'}    direction  {entry['direction']}",
        *(f"    resource   {r}" for r in entry["resource_ids"]),
        *(f"    attacker   {a['address']}" + (f" port {a['port']}" if a["port"] else "")
          + f"   from {a['source']}" for a in entry["attackers"]),
        *(f"    ours       {a}" for a in entry["own_addresses"]),
        *(f"    block      {a}" for a in entry["would_block"]),
        *(f"    skip       {s['address']}: {s['reason']}" for s in entry["skipped"]),
        *(f"    warning    {w}" for w in entry["warnings"]),
    ]
    lines += [line for m in entry.get("machines") or () for line in _machine(m)]
    lines += [f"    notice     {n}" for n in entry.get("notices") or ()]
    if not entry["would_block"]:
        lines.append("    nothing would be blocked")
    return "\n".join(lines)


def _machine(machine: Mapping[str, Any]) -> Iterator[str]:
    """The way to it, and what the proof of each block would find."""
    power = str(machine.get("power") or "").removeprefix("PowerState/")
    way = " → ".join(machine.get("path") or ()) or str(machine.get("id"))
    yield f"    machine    {way}" + (f"   ({power})" if power else "")
    for proof in machine.get("proof") or ():
        guard = str(proof.get("guard")).rpartition("/")[2]
        yield (f"      {proof.get('direction'):<9}{proof.get('address')}   {proof.get('outcome')} on {guard}"
               + (f": {proof.get('detail')}" if proof.get("detail") else ""))


def as_json(entries: list[dict[str, Any]]) -> str:
    """For programs."""
    return json.dumps(entries, indent=2)
