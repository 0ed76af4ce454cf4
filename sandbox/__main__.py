"""`python -m sandbox`: the local Azure alone. Prints its addresses as one line of JSON, then serves
until it is interrupted. `python -m sandbox seed --machines 2000` makes an estate for it."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

import httpx
import uvloop

from sandbox.estates import generate
from sandbox.server import Sandbox


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox", description="A local Azure on loopback: ARM over TLS, Resource "
        "Graph, Defender's alerts, a managed identity, an Event Grid topic. For development only.",
    )
    parser.add_argument("--folder", type=Path, help="where the throw-away CA is written")
    parser.add_argument("--door", action="append", default=[], metavar="SERVICE=PORT",
                        help="put a door before a local storage port, such as table=10002")
    parser.add_argument("--storage", default="", metavar="CONNECTION",
                        help="connection string of the account that keeps dead letters as blobs")
    made = parser.add_subparsers(dest="verb", metavar="COMMAND").add_parser(
        "seed", help="make an estate: print it, or put it into a running local Azure")
    made.add_argument("--machines", type=int, default=2000)
    made.add_argument("--seed", type=int, default=1, help="the same seed makes the same estate")
    made.add_argument("--control", metavar="URL", help="the control address that a running one printed")
    args = parser.parse_args()
    if args.verb == "seed":
        return _seed(args)
    if args.folder:
        args.folder.mkdir(parents=True, exist_ok=True)
    doors = {}
    for text in args.door:
        service, _, port = text.partition("=")
        if not port.isdigit():
            parser.error(f"--door {text}: expected SERVICE=PORT")
        doors[service] = int(port)
    uvloop.run(_serve(Sandbox(args.folder, doors, storage=args.storage)))
    return 0


def _seed(args: argparse.Namespace) -> int:
    estate = generate(args.machines, args.seed)
    if not args.control:
        print(json.dumps(estate))
        return 0
    answer = httpx.post(f"{args.control.rstrip('/')}/seed", json=estate, timeout=600)
    answer.raise_for_status()
    print(json.dumps(answer.json()))
    return 0


async def _serve(sandbox: Sandbox) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sign, stop.set)
    async with sandbox.running():
        print(json.dumps(sandbox.addresses), flush=True)
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
