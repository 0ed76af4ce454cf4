"""`python -m chaos`: shake it; writes `build/chaos.json`, ends with 0 only if nothing was lost."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from chaos.crew import known_calls, live_all
from chaos.life import Result
from chaos.matrix import cases
from chaos.stage import SCENES
from sandbox.world import ROOT

NUMBERS = ("lost_blocks", "orphan_rules", "foreign_rules_changed", "ledger_gaps", "protected_blocked",
           "told_wrong")


def report(results: Sequence[Result], seconds: float) -> dict[str, Any]:
    """What `build/chaos.json` holds. Only faults that struck count as cases, a scene as one (`scenes` of
    them); what is damaged counts, whatever struck."""
    struck = [r for r in results if r.struck or not r.damage.survived]
    damaged = [r for r in results if not r.damage.survived]
    return {
        "cases": len(struck), "survived": len(struck) - len(damaged),
        "scenes": sum(r.name in SCENES for r in struck),
        **{n: sum(getattr(r.damage, n) for r in results) for n in NUMBERS},
        "not_struck": [r.name for r in results if not r.struck],
        "damaged": [{"case": r.name, **asdict(r.damage)} for r in damaged],
        "longest": {r.name: r.seconds for r in sorted(results, key=lambda r: -r.seconds)[:40]},
        "faults_injected": sum(r.struck for r in struck), "seconds": round(seconds, 1),
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--workers", type=int, default=(os.cpu_count() or 1) * 2,
                        help="worlds at once; twice as many as there are cores, for much of it is waiting")
    parser.add_argument("--match", default="", help="only cases whose name has this in it")
    parser.add_argument("--no-slow", action="store_true", help="without faults that take real time")
    parser.add_argument("--list", action="store_true", help="name the scenes, and end")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "chaos.json")
    args = parser.parse_args()
    console = Console(highlight=False)
    started = time.monotonic()
    wanted = args.match.lower()
    scenes = [s for s in SCENES.values() if wanted in s.name.lower()]
    if args.list:
        console.print("\n".join(s.name for s in scenes))
        return 0
    todo = [c for c in cases(known_calls(), slow=not args.no_slow) if wanted in c.name.lower()]
    console.print(f"{len(scenes)} scenes and {len(todo)} cases, {args.workers} at a time")
    results: list[Result] = []
    for n, result in enumerate(live_all(todo, scenes, args.workers), 1):
        results.append(result)
        if result.name in SCENES:
            console.print(f"  {result.name}: {result.struck} faults struck, {result.seconds:.0f} s")
        if not result.damage.survived:
            console.print(f"[red]{result.name}[/]: {'; '.join(result.damage.why)[:1000]}")
        if n % 20 == 0:
            console.print(f"  {n} of {len(todo) + len(scenes)} after {time.monotonic() - started:.0f} s")
    found = report(results, time.monotonic() - started)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    console.print({k: v for k, v in found.items() if k not in ("damaged", "not_struck", "longest")})
    return 0 if found["cases"] == found["survived"] and found["cases"] else 1


if __name__ == "__main__":
    sys.exit(main())
