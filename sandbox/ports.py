"""Loopback ports."""

from __future__ import annotations

import socket


def bound(port: int = 0) -> socket.socket:
    """A socket that listens on a loopback port of its own: nobody else gets it before the server accepts."""
    held = socket.create_server(("127.0.0.1", port), backlog=2048)
    held.setblocking(False)
    return held


def port_of(held: socket.socket) -> int:
    """The port of a bound socket."""
    return int(held.getsockname()[1])


def free_port() -> int:
    """A loopback port nobody listens on now; for those who can only be told a number."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return port_of(held)
