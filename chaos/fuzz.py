"""`python -m chaos.fuzz`: the parser under libFuzzer, led by coverage. Options are libFuzzer's.

A hang is libFuzzer's `-timeout`; anything that escapes but `MalformedAlert` is a crash.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["remediation"]):
    from chaos.scenes.hostile import hostile_alerts, read

SEEDS = 60


def one(data: bytes) -> None:
    """An event's data: JSON of any shape, or a text."""
    try:
        text = data.decode()
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = data.decode(errors="surrogateescape")
    read(body)


def main() -> None:
    """Start from alerts that are nearly right."""
    with tempfile.TemporaryDirectory() as folder:
        for n, seed in enumerate(hostile_alerts()):
            text = json.dumps(seed)
            if n < SEEDS and len(text) < 5_000:
                (Path(folder) / f"seed-{n}").write_text(text)
        atheris.Setup([*sys.argv, folder], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
