"""`python -m tests.conformance`: the scores, and why each interaction does not match."""

from __future__ import annotations

import sys
from collections import Counter

from tests.conformance.recordings import BEFORE, FILE, SCOPE, load
from tests.conformance.replay import Verdict, replay_all


def score(verdicts: list[Verdict]) -> dict[str, float]:
    """Shares, from 0 to 1."""
    classes: dict[tuple[str, str, int, str], list[bool]] = {}
    for v in verdicts:
        classes.setdefault(v.interaction.klass, []).append(v.matches)
    n = len(verdicts)
    return {
        "interactions": sum(v.matches for v in verdicts) / n,
        "classes": sum(all(c) for c in classes.values()) / len(classes),
        "status": sum(not any(p.startswith("status") for p in v.problems) for v in verdicts) / n,
        "shape": sum(not any(p.startswith(("missing", "extra")) for p in v.problems)
                     for v in verdicts) / n,
        "echo_status": sum(v.echo_status for v in verdicts) / n,
        "echo_shape": sum(v.echo_shape for v in verdicts) / n,
        "echo_interactions": sum(v.echo for v in verdicts) / n,
    }


def main() -> int:
    """The command."""
    if not FILE.exists():
        print("the recordings are not here")
        return 2
    for scope in (SCOPE, BEFORE):
        verdicts = replay_all(load(scope))
        for v in verdicts:
            if not v.matches:
                print(v.interaction.key, v.interaction.method, v.interaction.template, v.problems)
        print(len(verdicts), {k: f"{100 * v:.1f} %" for k, v in score(verdicts).items()})
        worst = Counter(v.interaction.template for v in verdicts if not v.matches)
        for template, n in worst.most_common(12):
            print(f"{n:4} {template}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
