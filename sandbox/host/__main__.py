"""`python -m sandbox.host APP`: serve a Functions app on loopback. Prints one line of JSON when
ready: its address and the keys' file."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from pathlib import Path

import uvicorn
import uvloop

from sandbox.host.web import Host
from sandbox.ports import bound, port_of


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.host", description=__doc__)
    parser.add_argument("app", type=Path, help="the folder with host.json and function_app.py")
    parser.add_argument("--port", type=int, default=0, help="any free one, if it is not given")
    parser.add_argument("--state", type=Path, required=True, help="where keys and timers are kept")
    parser.add_argument("--no-keys", action="store_true", help="as `func start` without --enableAuth")
    args = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    for noisy in ("azure", "httpx", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    uvloop.run(_serve(args))
    return 0


async def _serve(args: argparse.Namespace) -> None:
    host = Host(args.app.resolve(), args.state.resolve(), keys=not args.no_keys)
    server = uvicorn.Server(uvicorn.Config(
        host.app(), log_config=None, timeout_graceful_shutdown=10))
    held = bound(args.port)
    task = asyncio.create_task(server.serve(sockets=[held]))
    while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    if server.started:
        print(json.dumps({"url": f"http://127.0.0.1:{port_of(held)}", "pid": os.getpid(),
                          "keys": str(args.state.resolve() / "keys.json")}), flush=True)
    await task


if __name__ == "__main__":
    sys.exit(main())
