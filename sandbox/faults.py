"""Faults injected from outside, at any request: delay it, answer instead, lose the answer, or kill
the client at that very moment. One list serves ARM, the graph, the identity and the storage door.

Which process a request comes from is told by the port it holds: no client says so itself.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from dataclasses import dataclass, field
from typing import Any

import psutil


@dataclass
class Fault:
    """What to do to which requests. `skip` lets so many pass first; `times` ends it; `sender` is the
    process whose requests are meant, 0 for all."""

    service: str = ""
    method: str = ""
    path: str = ""
    skip: int = 0
    times: int = 1
    delay: float = 0.0
    status: int = 0
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: str = ""
    kill: int = 0
    sender: int = 0

    def __post_init__(self) -> None:
        self._path = re.compile(self.path, re.IGNORECASE)

    def matches(self, service: str, method: str, path: str, port: int) -> bool:
        """Is it meant? `port` is the client's."""
        return (
            self.times > 0
            and (not self.service or self.service == service)
            and (not self.method or self.method == method)
            and (not self.path or self._path.search(path) is not None)
            and (not self.sender or _holds(self.sender, port))
        )


def _holds(pid: int, port: int) -> bool:
    """Has the process a connection from this port?"""
    try:
        return any(c.laddr and c.laddr.port == port for c in psutil.Process(pid).net_connections("tcp"))
    except psutil.Error:  # it is gone
        return False


class Dropped(Exception):
    """The connection is to be closed without an answer."""


class Faults:
    """The list, and the count of all requests seen."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []
        self.seen = 0
        self.trace: list[str] = []

    def set(self, rules: list[dict[str, Any]]) -> None:
        """Replace all faults; counting starts anew."""
        self.rules = [Fault(**r) for r in rules]
        self.seen = 0
        self.trace = []

    async def before(self, service: str, method: str, path: str, port: int) -> Fault | None:
        """Apply what comes before the request is served; the fault tells what comes after."""
        self.seen += 1
        self.trace.append(f"{service} {method} {path}"[:300])
        for rule in self.rules:
            if not rule.matches(service, method, path, port):
                continue
            if rule.skip > 0:
                rule.skip -= 1
                continue
            rule.times -= 1
            if rule.delay:
                await asyncio.sleep(rule.delay)
            if rule.kill and rule.drop != "after":
                os.kill(rule.kill, signal.SIGKILL)
                raise Dropped
            if rule.drop == "before":
                raise Dropped
            return rule
        return None

    def after(self, fault: Fault | None) -> None:
        """Apply what comes after the request was served and before the answer leaves."""
        if fault is None or fault.drop != "after":
            return
        if fault.kill:
            os.kill(fault.kill, signal.SIGKILL)
        raise Dropped
