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
from remediation.investigation.sentences import (
    ANSWER,
    WATCH,
    WEIGHTS,
    MachineNote,
    last_part,
    many,
    occasions,
    questions_of,
    still_open,
    what_happened,
    what_is_proven,
    what_next,
    what_was_done,
)
from remediation.investigation.task import Weight

MOST_MACHINES, MOST_SIGNS = 12, 6
NOTICE, MOST_NOTICES = "notice ", 8
EMPTY: Mapping[str, Any] = {}


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
                f"{last_part(m.id)}: {m.standing or 'not judged'}"
                + (f", by way of {m.way}" if m.way else ""),
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
    questions = questions_of(blocks, tasks)
    return Pack(
        alert_id=str(dossier["alertId"]),
        title=shown(str(alert.get("display_name") or alert.get("alert_type") or "an alert"), 120),
        severity=str(alert.get("severity") or "?"),
        happened=what_happened(alert, dossier.get("machines") or ()),
        done=what_was_done(plan, blocks, inquiry, counts),
        proven=what_is_proven(blocks),
        open=still_open(blocks, tasks, plan, questions),
        next=what_next(machines, blocks, tasks, questions),
        whole=whole,
        machines=tuple(interesting[:MOST_MACHINES]),
        left=max(0, len(interesting) - MOST_MACHINES),
        counts=dict(counts),
        why=(
            *occasions(machines, blocks, questions, plan, inquiry),
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
    return [*lines, f"{many(open_, 'step')} under way"] if open_ else lines
