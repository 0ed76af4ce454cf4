"""The sentences of the message to the security team: what happened, what was done, what is proven, what is
open, what to do next, and why people are told at all. Pure.

They read what the dossier shows (`remediation.dossier`): blocks as the ledger gives them, tasks of the
investigation. Everything that an attacker can have written has been made harmless (`redact.shown`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remediation.investigation.redact import shown
from remediation.investigation.task import Weight
from remediation.topology import name_of

MOST_NEXT = 6
WEIGHTS = (Weight.CONFIRMED.value, Weight.LIKELY.value, "possible", "unlikely", "")
WATCH = "watch"
"""The step that goes on for as long as a block lives: it keeps nothing open."""
LOGS, NOT_DONE = "log_traces", "not done"
"""The step that knows who acted in Azure; and how the reason of a change begins that was not made."""
ANSWER = "answer: "


@dataclass(frozen=True, slots=True)
class MachineNote:
    """One machine in the message. `standing`: confirmed, likely, possible, unlikely or ''."""

    id: str
    way: str
    standing: str
    signs: tuple[str, ...]
    steps: tuple[str, ...]


def what_happened(alert: Mapping[str, Any], machines: Sequence[Mapping[str, Any]]) -> str:
    """Which alert, on what, with whom, since when."""
    attackers = [shown(str(a["address"]), 60) for a in alert.get("attackers") or ()]
    names = [last_part(str(m["id"])) for m in machines]
    what = shown(str(alert.get("display_name") or alert.get("alert_type") or ""), 120)
    where = (
        some_of(names)
        if names
        else shown(str(alert.get("compromised_entity") or "no machine that is known"), 80)
    )
    when = str(alert.get("start") or alert.get("generated") or "?")[:16].replace("T", " ")
    with_whom = f", with {some_of(attackers)}" if attackers else ""
    return f"{what}: {where}{with_whom}, since {when} UTC"


def what_was_done(
    plan: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]], inquiry: Mapping[str, Any],
    counts: Mapping[str, int],
) -> str:
    """What stands, comes, is lifted or was never written; and how many steps came to what."""
    said = []
    standing = [b for b in blocks if b["state"] == "active"]
    if standing:
        addresses = sorted({str(b["address"]) for b in standing})
        until = min((str(b["times"]["expires"]) for b in standing if b["times"].get("expires")), default="")
        said.append(f"{some_of(addresses)} denied by {many(len({b['nsg'] for b in standing}), 'guard')}"
                    + (f", until {until[:16].replace('T', ' ')} UTC" if until else ""))
    coming = sum(b["state"] == "pending" for b in blocks)
    if coming:
        said.append(f"{many(coming, 'block')} being written")
    without = sum(b["state"] == "shadowed" for b in blocks)
    if without:
        said.append(f"{many(without, 'block')} written without effect")
    over = [b for b in blocks if b["state"] in ("lifted", "revoked")]
    lifted = sum("written" in b["times"] for b in over)
    if lifted:
        said.append(f"{many(lifted, 'block')} lifted again")
    if len(over) > lifted:
        said.append(f"{many(len(over) - lifted, 'block')} never written: there was no yes")
    if not said:
        said.append(
            f"nothing was blocked ({plan.get('mode') or 'no plan'}"
            + (f": {shown('; '.join(plan.get('reasons') or ()), 120)}" if plan.get("reasons") else "")
            + ")"
        )
    if counts:
        total = sum(counts.values())
        said.append(
            f"{many(total, 'step')} on {many(len(inquiry.get('machines') or ()), 'machine')}: "
            + ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        )
    return "; ".join(said)


def what_is_proven(blocks: Sequence[Mapping[str, Any]]) -> str:
    """What was read back and evaluated, and what of it has no effect."""
    active = [b for b in blocks if b["state"] == "active"]
    shadowed = [b for b in blocks if b["state"] == "shadowed"]
    said = []
    if active:
        said.append(f"{len(active)} of {many(len(blocks), 'block')} in effect, read back and evaluated")
    for b in shadowed[:3]:
        why = b.get("shadowedBy") or b.get("detail") or "what is not known"
        said.append(f"{b['direction']} on {last_part(str(b['nsg']))} has NO effect: {shown(str(why), 100)}")
    return "; ".join(said) or "nothing"


@dataclass(frozen=True, slots=True)
class Question:
    """What waits for a yes or a no: the id to answer by, and its words."""

    id: str
    text: str


def questions_of(blocks: Sequence[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]]) -> list[Question]:
    """Of blocks and of steps, each once."""
    found: dict[str, str] = {}
    for b in blocks:
        if b["state"] == "waiting" and b.get("question"):
            found.setdefault(str(b["question"]), f"may {b['address']} be blocked? "
                             + shown("; ".join(b.get("asks") or ()), 140))
    for t in tasks:
        if t["state"] == "waiting":
            found[str(t["approval"])] = f"{last_part(str(t['machine']))}: {shown(str(t['reason']), 140)}"
    return [Question(i, text) for i, text in found.items() if i]


def still_open(
    blocks: Sequence[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]], plan: Mapping[str, Any],
    questions: Sequence[Question],
) -> str:
    """Questions, what failed, what was left alone, what is under way, sessions that may live on."""
    said = []
    if questions:
        said.append(f"{many(len(questions), 'question')} for a person")
    failed = [b for b in blocks if b["state"] in ("failed", "overridden")]
    said += [f"the block on {last_part(str(b['nsg']))} {b['state']}: {shown(str(b.get('detail') or ''), 120)}"
             for b in failed[:3]]
    broken: dict[tuple[str, str], list[str]] = {}
    for t in tasks:
        if t["state"] == "failed":
            where = last_part(str(t["machine"])) or "the alert"
            broken.setdefault((where, str(t["reason"])), []).append(str(t["step"]))
    said += [
        f"{names[0] if len(names) == 1 else many(len(names), 'step')} on {where} failed: {shown(reason)}"
        for (where, reason), names in list(broken.items())[:4]
    ]
    skipped = [s for s in plan.get("skipped") or () if s.get("reason")]
    said += [f"{shown(str(s.get('address') or last_part(str(s.get('resource')))), 60)} left alone: "
             f"{shown(str(s['reason']), 100)}" for s in skipped[:3]]
    running = sum(t["state"] in ("queued", "running") for t in tasks if t["step"] != WATCH)
    if running:
        said.append(f"{many(running, 'step')} under way")
    if any(b.get("sessions") == "may remain" for b in blocks) and not _sessions_seen_to(blocks, tasks):
        said.append("connections that existed before the block may live on")
    return "; ".join(said) or "nothing"


def _sessions_seen_to(blocks: Sequence[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]]) -> bool:
    """Of every machine whose sessions may remain, and since the block was claimed: were there none, or were
    they cut? What was looked for before knows nothing of an attacker that came later."""
    looked = {str(t["machine"]): str(t.get("begun") or "") for t in tasks if t["step"] == "cut_flows"
              and t["state"] == "done" and not str(t["reason"]).startswith(NOT_DONE)}
    wanted = [(str(m), str(b["times"].get("firstClaimed") or "")) for b in blocks
              if b.get("sessions") == "may remain" for m in b.get("machines") or ()]
    return bool(wanted) and all(m in looked and looked[m] >= claimed for m, claimed in wanted)


def what_next(
    machines: Sequence[MachineNote], blocks: Sequence[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]],
    questions: Sequence[Question],
) -> tuple[str, ...]:
    """What a person should do, the gravest first, each with the command where there is one."""
    said = [f"isolate {last_part(m.id)} and save its disks: {m.signs[0] if m.signs else m.standing}"
            for m in machines if m.standing == Weight.CONFIRMED.value][:2]
    said += [f"{ANSWER}{q.text} – python -m remediation approve {q.id} approve --reason …"
             for q in questions[:3]]
    for b in blocks:
        if b["state"] == "shadowed" and b.get("shadowedBy"):
            said.append(
                f"change or remove the rule {shown(str(b['shadowedBy']), 80)} of {last_part(str(b['nsg']))}: "
                "it lets the attacker past the block"
            )
            break
    if any(t["step"] == LOGS and s["weight"] == Weight.LIKELY.value and not s.get("machine")
           for t in tasks for s in t["signs"]):
        said.append("revoke the sessions of who acted in Azure or Entra ID from the attacker's address")
    likely = [last_part(m.id) for m in machines if m.standing == Weight.LIKELY.value]
    if likely:
        said.append(f"look at {some_of(likely)} first")
    if any(b["state"] in ("failed", "overridden") for b in blocks):
        said.append("mend what keeps the block from being written, then replay the alert")
    if any(t["state"] == "failed" and "AuthorizationFailed" in str(t["reason"]) for t in tasks):
        said.append("give the service the permission that is missing (infra/), then: python -m remediation "
                    "investigate")
    if not said and blocks:
        said.append("close the alert in Defender when you agree; the block ends by itself")
    return tuple(said[:MOST_NEXT])


def occasions(
    machines: Sequence[MachineNote], blocks: Sequence[Mapping[str, Any]], questions: Sequence[Question],
    plan: Mapping[str, Any], inquiry: Mapping[str, Any],
) -> tuple[str, ...]:
    """The occasions on which people are told."""
    standings = {m.standing for m in machines if m.signs}
    said = [f"a machine is {w}" for w in WEIGHTS[:2] if w in standings]
    states = {b["state"] for b in blocks}
    said += [f"a block is {s}" for s in ("shadowed", "failed", "overridden") if s in states]
    if questions:
        said.append("a question waits")
    if plan.get("skipped"):
        said.append("a guardrail stopped something")
    if plan.get("notices"):
        said.append("the plan has a notice")
    if inquiry.get("ended"):
        said.append("the investigation has ended")
    return tuple(said)


def many(n: int, what: str) -> str:
    """`1 block`, `2 blocks`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def some_of(names: Sequence[str]) -> str:
    """Three of them, and how many more."""
    shown_names = [shown(n, 60) for n in names[:3]]
    return ", ".join(shown_names) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def last_part(resource_id: str) -> str:
    """A resource's name, harmless."""
    return shown(name_of(resource_id), 80)
