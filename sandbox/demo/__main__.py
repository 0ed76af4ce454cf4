"""`python -m sandbox.demo`: play the story, write `build/demo.json`, end with 0 only if all held."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from sandbox.demo.story import Story, write_result
from sandbox.world import ROOT, World


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "demo.json")
    parser.add_argument("--keep", type=Path, help="keep logs and state in this folder")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(highlight=False)
    try:
        with World(args.keep) as world:
            result = Story(console, world).play()
    except KeyboardInterrupt:
        console.print("[yellow]interrupted; everything that was started is stopped[/]")
        return 130
    write_result(result, args.out)
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
