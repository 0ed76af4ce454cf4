"""All servers of the sandbox in one process and on one event loop, each on its own loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trustme
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from sandbox.arm.gateway import Arm
from sandbox.arm.state import State, Tuning
from sandbox.control import Control
from sandbox.deadletters import DeadLetters
from sandbox.eventgrid import EventGrid
from sandbox.faults import Faults
from sandbox.identity import Identity, Tokens
from sandbox.log import Log
from sandbox.logs import Logs
from sandbox.ports import bound, port_of
from sandbox.proxy import Door
from sandbox.workflow import Workflows

TICK_SECONDS = 0.2


class Server(uvicorn.Server):
    """uvicorn without signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave signals alone."""
        yield


class Sandbox:
    """Ports, state and servers. `doors` maps a service (table, queue, blob) to Azurite's port;
    `storage` is the connection string of the account that keeps dead letters."""

    def __init__(
        self, folder: Path | None = None, doors: dict[str, int] | None = None,
        tuning: Tuning | None = None, storage: str = "",
    ) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="sandbox-"))
        self.state = State(tuning)
        self.faults = Faults()
        self.tokens = Tokens()
        self.log = Log()
        self.grid = EventGrid(self.log, DeadLetters(storage) if storage else None)
        self.state.on_event = self.grid.happened
        self.secret = secrets.token_urlsafe(16)
        self.arm = Arm(self.state, self.faults, self.tokens, self.log)
        self.logs = Logs(self.state, self.tokens, self.log)
        self._doors = doors or {}
        names = ("arm", "logs", "identity", "control", *(f"door_{s}" for s in self._doors))
        self._sockets = {name: bound() for name in names}
        self.ports = {name: port_of(held) for name, held in self._sockets.items()}
        self.state.logic_base = f"http://127.0.0.1:{self.ports['control']}"
        self._servers: list[Server] = []

    @property
    def addresses(self) -> dict[str, str]:
        """What a client needs, as `python -m sandbox` prints it."""
        p = self.ports
        found = {
            "arm": f"https://127.0.0.1:{p['arm']}",
            "caFile": str(self.folder / "ca.pem"),
            "identityEndpoint": f"http://127.0.0.1:{p['identity']}/msi/token",
            "identityHeader": self.secret,
            "login": f"https://127.0.0.1:{p['arm']}",
            "logs": f"https://127.0.0.1:{p['logs']}",
            "control": f"http://127.0.0.1:{p['control']}/_sandbox",
            "eventGrid": f"http://127.0.0.1:{p['control']}/topics/alerts",
        }
        found.update({f"{s}Door": f"http://127.0.0.1:{p[f'door_{s}']}" for s in self._doors})
        return found

    def _certificate(self) -> tuple[Path, Path]:
        """A throw-away CA, and a server certificate from it. trustme's files are PEM."""
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        leaf = ca.issue_cert("127.0.0.1", "localhost")
        key, chain = self.folder / "key.pem", self.folder / "cert.pem"
        leaf.private_key_pem.write_to_path(str(key))
        chain.write_bytes(b"".join(p.bytes() for p in leaf.cert_chain_pems))
        return key, chain

    def _apps(self) -> dict[str, Any]:
        identity = Identity(self.tokens, self.secret)
        control = Control(self.state, self.faults, self.tokens, self.log, self.grid)
        arm_url, login = self.addresses["arm"], self.addresses["login"]
        signing = Starlette(routes=[
            Route("/metadata/endpoints", identity.metadata(arm_url, login)),
            Route("/{tenant}/oauth2/token", identity.oauth, methods=["POST"]),
            Route("/{tenant}/oauth2/v2.0/token", identity.oauth, methods=["POST"]),
            Route("/{tenant}/v2.0/.well-known/openid-configuration", identity.openid(login)),
            Route("/{tenant}/.well-known/openid-configuration", identity.openid(login)),
        ])
        grid, workflows = self.grid, Workflows(self.state)
        return {
            "arm": _Front(self.arm, signing),
            "logs": Starlette(routes=[
                Route("/v1/workspaces/{id}/query", self.logs.query, methods=["POST"])]),
            "identity": Starlette(routes=[Route("/msi/token", identity.token)]),
            "control": Starlette(routes=[
                *control.routes(),
                Route("/topics/{name}/api/events", grid.publish, methods=["POST"]),
                Route("/topics/{name}/subscription", grid.subscribe, methods=["PUT"]),
                Route("/topics/{name}/events", grid.events),
                Route("/topics/{name}/deadletters", grid.dead_letters),
                Route("/topics/{name}", grid.status),
                Route("/workflows/{name}/triggers/{trigger}/paths/invoke", workflows.invoke,
                      methods=["POST"]),
            ]),
            **{f"door_{s}": Door(s, f"http://127.0.0.1:{port}", self.faults, self.log)
               for s, port in self._doors.items()},
        }

    async def _tick(self) -> None:
        """Operations end by themselves: who is to hear of it must not wait for somebody's next request."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self.state.running:
                self.state.settle()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve until the block ends."""
        key, chain = self._certificate()
        await asyncio.to_thread(self.arm.graph.warm)
        tasks = []
        for name, app in self._apps().items():
            tls: dict[str, Any] = (
                {"ssl_keyfile": str(key), "ssl_certfile": str(chain)} if name in ("arm", "logs") else {})
            config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=1,
                                    date_header=not name.startswith("door_"), **tls)
            server = Server(config)
            self._servers.append(server)
            tasks.append(asyncio.create_task(server.serve(sockets=[self._sockets[name]])))
        while not all(s.started for s in self._servers):
            await asyncio.sleep(0.01)
            for task in tasks:
                if task.done():
                    task.result()
        ticking = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            ticking.cancel()
            for server in self._servers:
                server.should_exit = True
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.grid.close()


class _Front:
    """ARM's host also answers the metadata and sign-in paths of `az`."""

    def __init__(self, arm: Any, signing: Any) -> None:
        self._arm = arm
        self._signing = signing

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        path = str(scope.get("path", ""))
        known = path.startswith("/metadata/") or "/oauth2/" in path or "/.well-known/" in path
        await (self._signing if known else self._arm)(scope, receive, send)
