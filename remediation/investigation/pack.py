"""All that is known of an alert → the message to the security team. Pure.

Five lines say what happened, what was done, what is proven, what is open and what a person should do next;
then each machine, the gravest first, with what was seen of it. Everything that an attacker can have written
has been made harmless (`redact.shown`); command lines lose their secrets.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from remediation.investigation.redact import shown
from remediation.investigation.task import Weight

MOST_MACHINES, MOST_SIGNS, MOST_NEXT = 12, 6, 6
WEIGHTS = (Weight.CONFIRMED.value, Weight.LIKELY.value, "possible", "unlikely", "")
WATCH = "watch"
"""The step that goes on for as long as a block lives: it keeps nothing open."""
LOGS, NOT_DONE = "log_traces", "not done"
"""The step that knows who acted in Azure; and how the reason of a change begins that was not made."""
ANSWER, NOTICE, MOST_NOTICES = "answer: ", "notice ", 8
EMPTY: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class MachineNote:
    """One machine in the message. `standing`: confirmed, likely, possible, unlikely or ''."""

    id: str
    way: str
    standing: str
    signs: tuple[str, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pack:
    """The message. `why`: the occasions for telling people, if there are any yet. `under_way`: steps are."""

    alert_id: str
    title: str
    severity: str
    happened: str
    done: str
    proven: str
    open: str
    next: tuple[str, ...]
    whole: tuple[str, ...]
    machines: tuple[MachineNote, ...]
    left: int
    counts: Mapping[str, int]
    why: tuple[str, ...]
    under_way: bool
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The same as long as nothing of weight has changed. While steps are under way, that is another
        occasion, another question, or a machine that is confirmed; what else they find is told when they
        have ended."""
        confirmed = [m.id for m in self.machines if m.standing == Weight.CONFIRMED.value]
        notices = [t for t in self.whole if t.startswith(NOTICE)]
        said: list[Any] = [self.title, self.proven, list(self.why), confirmed, notices]
        said += (
            [[n for n in self.next if n.startswith(ANSWER)]]
            if self.under_way
            else [
                self.done,
                self.open,
                list(self.next),
                list(self.whole),
                [(m.id, m.standing, m.signs) for m in self.machines],
            ]
        )
        return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode(errors="replace")).hexdigest()[:24]

    def to_json(self) -> dict[str, Any]:
        """For the API and for other systems."""
        return {
            "alertId": self.alert_id,
            "title": self.title,
            "severity": self.severity,
            "happened": self.happened,
            "done": self.done,
            "proven": self.proven,
            "open": self.open,
            "next": list(self.next), "whole": list(self.whole),
            "machines": [
                {
                    "id": m.id,
                    "way": m.way,
                    "standing": m.standing,
                    "signs": list(m.signs),
                    "steps": list(m.steps),
                }
                for m in self.machines
            ],
            "moreMachines": self.left,
            "counts": dict(self.counts),
            "why": list(self.why),
            "links": dict(self.links),
        }

    def text(self) -> str:
        """As people read it, in plain lines."""
        lines = [
            f"What happened: {self.happened}",
            f"What was done: {self.done}",
            f"What is proven: {self.proven}",
            f"What is open: {self.open}",
            "What to do next: " + (" ".join(f"({n}) {t}" for n, t in enumerate(self.next, 1)) or "nothing"),
        ]
        lines += ["", *(f"- {t}" for t in self.whole)] if self.whole else []
        for m in self.machines:
            lines += [
                "",
                f"{_last(m.id)}: {m.standing or 'not judged'}" + (f", by way of {m.way}" if m.way else ""),
            ]
            lines += [f"  - {s}" for s in m.signs]
            lines += [f"    {s}" for s in m.steps]
        if self.left:
            lines += ["", f"and {self.left} machines more"]
        if self.links:
            lines += ["", *(f"{name}: {url}" for name, url in self.links.items())]
        return "\n".join(lines)


def make(dossier: Mapping[str, Any], links: Mapping[str, str]) -> Pack:
    """The pack of an alert's dossier (`remediation.dossier`)."""
    alert, plan = dossier["alert"], dossier.get("plan") or EMPTY
    blocks = dossier.get("blocks") or ()
    inquiry = dossier.get("investigation") or EMPTY
    tasks = inquiry.get("tasks") or ()
    machines = [_machine(m, tasks, inquiry) for m in dossier.get("machines") or ()]
    machines.sort(key=lambda m: WEIGHTS.index(m.standing))
    notices = _notices(dossier.get("actions") or ())
    whole = (*notices, *_whole(tasks, {m.id for m in machines}))
    interesting = [m for m in machines if m.signs or m.steps or m.standing in WEIGHTS[:2]] or machines
    counts = Counter(str(t["state"]) for t in tasks if t["step"] != WATCH)
    questions = _questions(blocks, tasks)
    return Pack(
        alert_id=str(dossier["alertId"]),
        title=shown(str(alert.get("display_name") or alert.get("alert_type") or "an alert"), 120),
        severity=str(alert.get("severity") or "?"),
        happened=_happened(alert, dossier.get("machines") or ()),
        done=_done(plan, blocks, inquiry, counts),
        proven=_proven(blocks),
        open=_open(blocks, tasks, plan, questions),
        next=_next(machines, blocks, tasks, questions),
        whole=whole,
        machines=tuple(interesting[:MOST_MACHINES]),
        left=max(0, len(interesting) - MOST_MACHINES),
        counts=dict(counts),
        why=(
            *_why(machines, blocks, questions, plan, inquiry),
            *(("something was said of it",) if notices else ()),
        ),
        under_way=any(t["state"] in ("queued", "running") for t in tasks if t["step"] != WATCH),
        links=links,
    )


def _machine(
    machine: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], inquiry: Mapping[str, Any]
) -> MachineNote:
    mine = [t for t in tasks if t["machine"] == machine["id"]]
    signs = [s for t in tasks for s in t["signs"] if (s.get("machine") or t["machine"]) == machine["id"]]
    signs.sort(key=lambda s: Weight(s["weight"]).rank)
    texts = [shown(str(s["text"]), 260) for s in signs]
    alone = (inquiry.get("peculiar") or {}).get(machine["id"]) or ()
    texts += [f"it alone of its pool runs {shown(str(a), 120)}" for a in alone[:3]]
    gravest = str(signs[0]["weight"]) if signs else Weight.NOTE.value
    standing = gravest if gravest in WEIGHTS[:2] else str(machine.get("likelihood") or "")
    left = (inquiry.get("leftOut") or {}).get(machine["id"])
    steps = _steps(mine) + ([f"not looked into: {shown(str(left))}"] if left else [])
    return MachineNote(
        str(machine["id"]),
        shown(" → ".join(map(str, _way(machine))), 200),
        standing if standing in WEIGHTS else "",
        tuple(dict.fromkeys(texts))[:MOST_SIGNS],
        tuple(steps),
    )


def _notices(actions: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The last things that were said of the alert for people to hear."""
    said = [a for a in actions if a.get("action") == "notice"]
    return tuple(f"{NOTICE}{str(a.get('at'))[:16].replace('T', ' ')} {shown(str(a.get('text')), 260)}"
                 for a in said[-MOST_NOTICES:])


def _whole(tasks: Sequence[Mapping[str, Any]], known: Collection[str]) -> tuple[str, ...]:
    """What concerns no machine that is known by itself: who acted in Azure, what the logs say in all."""
    signs = [s for t in tasks for s in t["signs"] if (s.get("machine") or t["machine"]) not in known]
    signs.sort(key=lambda s: Weight(s["weight"]).rank)
    said = [f"{s['weight']}: {shown(str(s['text']), 260)}" for s in signs[:MOST_SIGNS]]
    return (*said, *_steps([t for t in tasks if not t["machine"] and t["step"] != WATCH]))


def _way(machine: Mapping[str, Any]) -> Sequence[Any]:
    """How it was found, where it was not named itself."""
    path = machine.get("path") or ()
    return path if len(path) > 1 else ()


def _steps(tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each step came to; those that were skipped or failed for one reason together, those that are under
    way by their number."""
    lines = []
    together: dict[tuple[str, str], list[str]] = {}
    for t in tasks:
        if t["state"] in ("skipped", "failed"):
            together.setdefault((str(t["state"]), str(t["reason"])), []).append(str(t["step"]))
        elif t["state"] in ("done", "waiting"):
            said = "; ".join(x for x in (str(t["says"]), str(t["reason"])) if x)
            lines.append(f"{t['step']}: {'waits for a yes' if t['state'] == 'waiting' else 'done'}"
                         + (f" – {shown(said, 220)}" if said else ""))
    lines += [
        f"{', '.join(names)}: {state} – {shown(reason, 220)}" for (state, reason), names in together.items()
    ]
    open_ = sum(t["state"] in ("queued", "running") for t in tasks)
    return [*lines, f"{_many(open_, 'step')} under way"] if open_ else lines


def _happened(alert: Mapping[str, Any], machines: Sequence[Mapping[str, Any]]) -> str:
    attackers = [shown(str(a["address"]), 60) for a in alert.get("attackers") or ()]
    names = [_last(str(m["id"])) for m in machines]
    what = shown(str(alert.get("display_name") or alert.get("alert_type") or ""), 120)
    where = (
        _some(names)
        if names
        else shown(str(alert.get("compromised_entity") or "no machine that is known"), 80)
    )
    when = str(alert.get("start") or alert.get("generated") or "?")[:16].replace("T", " ")
    with_whom = f", with {_some(attackers)}" if attackers else ""
    return f"{what}: {where}{with_whom}, since {when} UTC"


def _done(plan: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]], inquiry: Mapping[str, Any],
          counts: Mapping[str, int]) -> str:
    said = []
    standing = [b for b in blocks if b["state"] == "active"]
    if standing:
        addresses = sorted({str(b["address"]) for b in standing})
        until = min((str(b["times"]["expires"]) for b in standing if b["times"].get("expires")), default="")
        said.append(f"{_some(addresses)} denied by {_many(len({b['nsg'] for b in standing}), 'guard')}"
                    + (f", until {until[:16].replace('T', ' ')} UTC" if until else ""))
    coming = sum(b["state"] == "pending" for b in blocks)
    if coming:
        said.append(f"{_many(coming, 'block')} being written")
    without = sum(b["state"] == "shadowed" for b in blocks)
    if without:
        said.append(f"{_many(without, 'block')} written without effect")
    over = [b for b in blocks if b["state"] in ("lifted", "revoked")]
    lifted = sum("written" in b["times"] for b in over)
    if lifted:
        said.append(f"{_many(lifted, 'block')} lifted again")
    if len(over) > lifted:
        said.append(f"{_many(len(over) - lifted, 'block')} never written: there was no yes")
    if not said:
        said.append(
            f"nothing was blocked ({plan.get('mode') or 'no plan'}"
            + (f": {shown('; '.join(plan.get('reasons') or ()), 120)}" if plan.get("reasons") else "")
            + ")"
        )
    if counts:
        total = sum(counts.values())
        said.append(
            f"{_many(total, 'step')} on {_many(len(inquiry.get('machines') or ()), 'machine')}: "
            + ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        )
    return "; ".join(said)


def _proven(blocks: Sequence[Mapping[str, Any]]) -> str:
    active = [b for b in blocks if b["state"] == "active"]
    shadowed = [b for b in blocks if b["state"] == "shadowed"]
    said = []
    if active:
        said.append(f"{len(active)} of {_many(len(blocks), 'block')} in effect, read back and evaluated")
    for b in shadowed[:3]:
        why = b.get("shadowedBy") or b.get("detail") or "what is not known"
        said.append(f"{b['direction']} on {_last(str(b['nsg']))} has NO effect: {shown(str(why), 100)}")
    return "; ".join(said) or "nothing"


@dataclass(frozen=True, slots=True)
class _Question:
    id: str
    text: str


def _questions(blocks: Sequence[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]]) -> list[_Question]:
    found: dict[str, str] = {}
    for b in blocks:
        if b["state"] == "waiting" and b.get("question"):
            found.setdefault(str(b["question"]), f"may {b['address']} be blocked? "
                             + shown("; ".join(b.get("asks") or ()), 140))
    for t in tasks:
        if t["state"] == "waiting":
            found[str(t["approval"])] = f"{_last(str(t['machine']))}: {shown(str(t['reason']), 140)}"
    return [_Question(i, text) for i, text in found.items() if i]


def _open(blocks: Sequence[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]], plan: Mapping[str, Any],
          questions: Sequence[_Question]) -> str:
    said = []
    if questions:
        said.append(f"{_many(len(questions), 'question')} for a person")
    failed = [b for b in blocks if b["state"] in ("failed", "overridden")]
    said += [f"the block on {_last(str(b['nsg']))} {b['state']}: {shown(str(b.get('detail') or ''), 120)}"
             for b in failed[:3]]
    broken: dict[tuple[str, str], list[str]] = {}
    for t in tasks:
        if t["state"] == "failed":
            where = _last(str(t["machine"])) or "the alert"
            broken.setdefault((where, str(t["reason"])), []).append(str(t["step"]))
    said += [
        f"{names[0] if len(names) == 1 else _many(len(names), 'step')} on {where} failed: {shown(reason)}"
        for (where, reason), names in list(broken.items())[:4]
    ]
    skipped = [s for s in plan.get("skipped") or () if s.get("reason")]
    said += [f"{shown(str(s.get('address') or _last(str(s.get('resource')))), 60)} left alone: "
             f"{shown(str(s['reason']), 100)}" for s in skipped[:3]]
    running = sum(t["state"] in ("queued", "running") for t in tasks if t["step"] != WATCH)
    if running:
        said.append(f"{_many(running, 'step')} under way")
    if any(b.get("sessions") == "may remain" for b in blocks) and not _sessions_seen_to(blocks, tasks):
        said.append("connections that existed before the block may live on")
    return "; ".join(said) or "nothing"


def _sessions_seen_to(blocks: Sequence[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]]) -> bool:
    """Of every machine whose sessions may remain: were there none, or were they cut?"""
    clean = {str(t["machine"]) for t in tasks if t["step"] == "cut_flows" and t["state"] == "done"
             and not str(t["reason"]).startswith(NOT_DONE)}
    wanted = {m for b in blocks if b.get("sessions") == "may remain" for m in b.get("machines") or ()}
    return bool(wanted) and wanted <= clean


def _next(
    machines: Sequence[MachineNote], blocks: Sequence[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]],
    questions: Sequence[_Question],
) -> tuple[str, ...]:
    said = [f"isolate {_last(m.id)} and save its disks: {m.signs[0] if m.signs else m.standing}"
            for m in machines if m.standing == Weight.CONFIRMED.value][:2]
    said += [f"{ANSWER}{q.text} – python -m remediation approve {q.id} approve --reason …"
             for q in questions[:3]]
    for b in blocks:
        if b["state"] == "shadowed" and b.get("shadowedBy"):
            said.append(
                f"change or remove the rule {shown(str(b['shadowedBy']), 80)} of {_last(str(b['nsg']))}: it "
                "lets the attacker past the block"
            )
            break
    if any(t["step"] == LOGS and s["weight"] == Weight.LIKELY.value and not s.get("machine")
           for t in tasks for s in t["signs"]):
        said.append("revoke the sessions of who acted in Azure or Entra ID from the attacker's address")
    likely = [_last(m.id) for m in machines if m.standing == Weight.LIKELY.value]
    if likely:
        said.append(f"look at {_some(likely)} first")
    if any(b["state"] in ("failed", "overridden") for b in blocks):
        said.append("mend what keeps the block from being written, then replay the alert")
    if any(t["state"] == "failed" and "AuthorizationFailed" in str(t["reason"]) for t in tasks):
        said.append("give the service the permission that is missing (infra/), then: python -m remediation "
                    "investigate")
    if not said and blocks:
        said.append("close the alert in Defender when you agree; the block ends by itself")
    return tuple(said[:MOST_NEXT])


def _why(machines: Sequence[MachineNote], blocks: Sequence[Mapping[str, Any]], questions: Sequence[_Question],
         plan: Mapping[str, Any], inquiry: Mapping[str, Any]) -> tuple[str, ...]:
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


def _many(n: int, what: str) -> str:
    """`1 block`, `2 blocks`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _some(names: Sequence[str]) -> str:
    shown_names = [shown(n, 60) for n in names[:3]]
    return ", ".join(shown_names) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _last(resource_id: str) -> str:
    parts = resource_id.split("/")
    if len(parts) > 10 and parts[-2] == "virtualmachines":
        return shown(f"{parts[-3]}/{parts[-1]}", 80)
    return shown(parts[-1], 80)
