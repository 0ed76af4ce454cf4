"""Starts and stops everything: Azurite, the sandbox, Functions hosts. For the demo, tests, bench.

    with World() as world:
        host = world.start_host()
        world.seed({...})
        world.publish(alert)
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from sandbox import azurite
from sandbox.deadletters import CONTAINER
from sandbox.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 60.0
STARTS = 3


class Stopped(RuntimeError):
    """A process ended before it was ready; its last words are in the message."""


@dataclass
class Process:
    """A child process with a log file."""

    name: str
    popen: subprocess.Popen[str]
    log: Path
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Still running."""
        return self.popen.poll() is None

    def stop(self, seconds: float = 10.0) -> None:
        """Ask, wait, and only then kill."""
        if self.alive:
            self.popen.terminate()
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        self._close()

    def _close(self) -> None:
        if self.popen.stdout is not None:
            self.popen.stdout.close()

    def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        self._close()

    def tail(self, lines: int = 15) -> str:
        """The last words of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@dataclass
class FunctionsHost(Process):
    """A Functions host with its keys."""

    url: str = ""
    keys: dict[str, Any] = field(default_factory=dict)

    @property
    def webhook(self) -> str:
        """The Event Grid webhook of `on_alert`."""
        return (f"{self.url}/runtime/webhooks/eventgrid?functionName=on_alert"
                f"&code={self.keys['system']['eventgrid_extension']}")

    @property
    def function_key(self) -> str:
        """A key for the HTTP API."""
        return str(self.keys["function"]["default"])


class World:
    """A local Azure with the product's host in it."""

    def __init__(
        self, folder: Path | None = None, *, doors: bool = False, memory: bool = True
    ) -> None:
        self._own = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="responder-world-"))
        self._doors = doors
        self._memory = memory
        self.processes: list[Process] = []
        self.hosts: list[FunctionsHost] = []
        self.addresses: dict[str, str] = {}
        self.connection = ""
        # A server closes what was idle for some seconds: the client does so before.
        self.http = httpx.Client(timeout=60, limits=httpx.Limits(keepalive_expiry=2))
        self._arm_client: httpx.Client | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread() and (
                signal.getsignal(signal.SIGTERM) is signal.SIG_DFL):
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the children would live on
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._start_storage()
            self._start_sandbox()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop all that was started, the last first."""
        for process in reversed(self.processes):
            process.stop()
        self.processes.clear()
        self.http.close()
        if self._arm_client is not None:
            self._arm_client.close()
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)

    # --- processes ---

    def _spawn(self, name: str, command: list[str], env: Mapping[str, str]) -> Process:
        log = self.folder / f"{name}.log"
        with log.open("w") as out:
            popen = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=out, stdin=subprocess.DEVNULL, text=True,
                env=dict(env), cwd=ROOT, start_new_session=True,
            )
        process = Process(name, popen, log)
        self.processes.append(process)
        return process

    def _first_line(self, process: Process) -> dict[str, Any]:
        """The JSON that a child prints when it is ready."""
        assert process.popen.stdout is not None  # noqa: S101 - opened with a pipe above
        line = process.popen.stdout.readline()
        if not line:
            process.popen.wait()
            raise Stopped(f"{process.name} ended before it was ready:\n{process.tail()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def stop_storage(self) -> None:
        """Table, queue and blob storage are gone; with `memory`, also what was in them."""
        process = next(p for p in self.processes if p.name == "azurite")
        process.stop()
        self.processes.remove(process)

    def start_storage(self) -> None:
        """They are there again, under the same addresses."""
        self._start_storage(self._ports)

    def _start_storage(self, ports: dict[str, int] | None = None) -> None:
        """At ports that were free when they were looked for; whoever was faster at one may have it now."""
        for attempt in range(STARTS):
            try:
                self._storage_at(ports or {s: free_port() for s in ("table", "queue", "blob")})
            except Stopped:
                if attempt == STARTS - 1:
                    raise
                self.processes.pop().stop()
                time.sleep(attempt)
            else:
                return

    def _storage_at(self, ports: dict[str, int]) -> None:
        folder = self.folder / "azurite"
        command = azurite.command(folder, ports)
        if self._memory:
            at = command.index("--location")
            command[at : at + 2] = ["--inMemoryPersistence"]
        process = self._spawn("azurite", command, azurite.environment())
        self._ports = ports
        end = time.monotonic() + READY_SECONDS
        while True:
            try:
                for port in ports.values():
                    self.http.get(f"http://127.0.0.1:{port}/", timeout=2)
                break
            except httpx.HTTPError:
                if not process.alive or time.monotonic() > end:
                    raise Stopped(f"azurite did not start:\n{process.tail()}") from None
                time.sleep(0.05)
        if not process.alive:  # it was somebody else who answered
            raise Stopped(f"azurite did not start:\n{process.tail()}")

    def _start_sandbox(self) -> None:
        plain = {s: f"http://127.0.0.1:{p}" for s, p in self._ports.items()}
        self.direct_connection = azurite.connection(plain["table"], plain["queue"], plain["blob"])
        command = [sys.executable, "-m", "sandbox", "--folder", str(self.folder / "sandbox"),
                   "--storage", self.direct_connection]
        if self._doors:
            for service in ("table", "queue", "blob"):
                command += ["--door", f"{service}={self._ports[service]}"]
        process = self._spawn("sandbox", command, os.environ)
        self.addresses = self._first_line(process)
        through = {s: self.addresses.get(f"{s}Door", plain[s]) for s in plain}
        self.connection = azurite.connection(through["table"], through["queue"], through["blob"])

    def environment(self, **settings: str) -> dict[str, str]:
        """The app's settings for this world, over a clean environment."""
        kept = {k: v for k, v in os.environ.items()
                if k in ("PATH", "HOME", "LANG", "PYTHONPATH", "COVERAGE_PROCESS_START")}
        sample = json.loads((ROOT / "local.settings.sample.json").read_text())["Values"]
        return {
            **kept, **sample,
            "AzureWebJobsStorage": self.connection,
            "AZURE_RESOURCE_MANAGER": self.addresses["arm"],
            "LOG_ANALYTICS": self.addresses["logs"],
            "REQUESTS_CA_BUNDLE": self.addresses["caFile"],
            "IDENTITY_ENDPOINT": self.addresses["identityEndpoint"],
            "IDENTITY_HEADER": self.addresses["identityHeader"],
            "PYTHONDONTWRITEBYTECODE": "1",
            **settings,
        }

    def start_host(self, name: str = "host", app: Path = ROOT, /, **settings: str) -> FunctionsHost:
        """Start a Functions host with the product in it, or another app."""
        state = self.folder / name
        process = self._spawn(
            name, [sys.executable, "-m", "sandbox.host", str(app), "--state", str(state)],
            self.environment(**settings),
        )
        info = self._first_line(process)
        host = FunctionsHost(name, process.popen, process.log, info, info["url"],
                             json.loads(Path(info["keys"]).read_text()))
        self.processes[self.processes.index(process)] = host
        self.hosts.append(host)
        return host

    def stop_host(self, host: FunctionsHost, *, kill: bool = False) -> None:
        """Stop one host."""
        host.kill() if kill else host.stop()
        self.hosts.remove(host)
        self.processes.remove(host)

    # --- the sandbox's strings ---

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the control API."""
        content = None if body is None else json.dumps(body)  # in ASCII: it may hold what UTF-8 cannot
        answer = self.http.request(method, f"{self.addresses['control']}/{path}", content=content)
        answer.raise_for_status()
        return answer.json()

    def seed(self, data: dict[str, Any]) -> None:
        """Add an estate."""
        self.control("POST", "seed", data)

    def tune(self, **settings: Any) -> None:
        """Change latency, limits, strictness."""
        self.control("POST", "latency", settings)

    def role(self, caller: str, actions: list[str]) -> None:
        """Let a caller do these and nothing else."""
        self.control("POST", "role", {"caller": caller, "actions": actions})

    def log(self, since: int = 0) -> list[dict[str, Any]]:
        """The sandbox's own record."""
        found: list[dict[str, Any]] = self.control("GET", f"log?since={since}")
        return found

    def effects(self, since: int = 0) -> list[dict[str, Any]]:
        """When which rules came into force, from the n-th on."""
        found: list[dict[str, Any]] = self.control("GET", f"effects?since={since}")
        return found

    def resources(self, kind: str = "") -> list[dict[str, Any]]:
        """The resources as they are."""
        found: list[dict[str, Any]] = self.control("GET", "resources")
        return [r for r in found if not kind or r["type"] == kind.lower()]

    def arm(self, method: str, path: str, body: Any = None, *, upn: str = "") -> httpx.Response:
        """Act on ARM as somebody else than the app."""
        if self._arm_client is None:
            context = ssl.create_default_context(cafile=self.addresses["caFile"])
            self._arm_client = httpx.Client(verify=context, timeout=60)
        name = upn or "pipeline"
        token = self.control("POST", "token", {"name": name, "upn": upn})["token"]
        separator = "&" if "?" in path else "?"
        version = "2024-07-01" if "Microsoft.Compute" in path else (
            "2022-01-01" if "Microsoft.Security" in path else "2024-05-01")
        if "Microsoft.Authorization" in path:
            version = "2020-05-01"
        asked = path if "api-version=" in path else f"{path}{separator}api-version={version}"
        return self._arm_client.request(
            method, f"{self.addresses['arm']}{asked}", json=body,
            headers={"authorization": f"Bearer {token}"},
        )

    # --- events and the API ---

    def subscribe(
        self, *hosts: FunctionsHost, scale: float = 0.02, max_attempts: int = 30, in_flight: int = 0
    ) -> None:
        """Point the topic at these hosts, with the handshake."""
        answer = self.http.put(
            f"{self.addresses['eventGrid']}/subscription",
            json={"webhooks": [h.webhook for h in hosts], "scale": scale,
                  "maxAttempts": max_attempts, "inFlight": in_flight},
        )
        answer.raise_for_status()

    def listen(self, *hosts: FunctionsHost, function: str = "on_firewall_change") -> None:
        """Point the subscription's own events (resources written and deleted) at these hosts."""
        url = self.addresses["eventGrid"].replace("/topics/alerts", "/topics/system")
        self.http.put(f"{url}/subscription", json={
            "webhooks": [h.webhook.replace("on_alert", function) for h in hosts], "scale": 0.02,
        }).raise_for_status()

    def publish(self, data: Any, event_id: str = "") -> str:
        """Publish an alert as a CloudEvent → the event's id."""
        return self.publish_all([data], event_id)[0]

    def publish_all(self, alerts: Iterable[Any], event_id: str = "") -> list[str]:
        """Publish alerts, a hundred at a time → the events' ids."""
        events = [_event(data, event_id) for data in alerts]
        for batch in itertools.batched(events, 100, strict=False):
            self.http.post(
                f"{self.addresses['eventGrid']}/api/events", json=list(batch)).raise_for_status()
        return [e["id"] for e in events]

    def published(self) -> list[dict[str, Any]]:
        """All events of the topic, as they were published."""
        found: list[dict[str, Any]] = self.http.get(f"{self.addresses['eventGrid']}/events").json()
        return found

    def deliveries(self) -> list[dict[str, Any]]:
        """What became of all events."""
        found: list[dict[str, Any]] = self.http.get(self.addresses["eventGrid"]).json()
        return found

    def dead_letters(self) -> list[list[dict[str, Any]]]:
        """What each dead-letter blob holds."""
        from azure.core.exceptions import ResourceNotFoundError
        from azure.storage.blob import ContainerClient

        with ContainerClient.from_connection_string(self.direct_connection, CONTAINER) as container:
            try:
                names = [b.name for b in container.list_blobs()]
            except ResourceNotFoundError:
                return []
            return [json.loads(container.download_blob(n).readall()) for n in names]

    def settled(self, seconds: float = 60.0) -> bool:
        """Wait until every event published so far has been delivered."""
        return any(all(d["last"] == "Delivered" for d in self.deliveries()) for _ in waiting(seconds))

    def api(
        self, host: FunctionsHost, method: str, path: str, body: Any = None, **query: Any
    ) -> httpx.Response:
        """Call the operators' API."""
        return self.http.request(
            method, f"{host.url}/api/{path}", json=body, params=query,
            headers={"x-functions-key": host.function_key},
        )

    def run_timer(self, host: FunctionsHost, name: str = "sweep") -> None:
        """Start a timer function now, by the admin API."""
        self.http.post(f"{host.url}/admin/functions/{name}", json={},
                       headers={"x-functions-key": host.keys["master"]}).raise_for_status()


def _event(data: Any, event_id: str) -> dict[str, Any]:
    """The CloudEvent around an alert."""
    properties = data.get("properties", {}) if isinstance(data, dict) else {}
    return {
        "specversion": "1.0", "id": event_id or str(properties.get("systemAlertId") or uuid.uuid4()),
        "type": "Defender.SecurityAlert", "source": "/defender/workflow-automation", "data": data,
    }


def waiting(seconds: float, every: float = 0.05) -> Iterator[float]:
    """Yields until the time is over: for loops that wait for something to become true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield end - time.monotonic()
        time.sleep(every)
