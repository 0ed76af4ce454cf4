"""Loopback ports."""

from __future__ import annotations

import socket


def bound(port: int = 0) -> socket.socket:
    """A socket on a loopback port of its own, so that nobody else gets it before the server listens."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", port))
    return held


def port_of(held: socket.socket) -> int:
    """The port of a bound socket."""
    return int(held.getsockname()[1])


def free_port() -> int:
    """A loopback port nobody listens on now; for those who can only be told a number."""
    with bound() as held:
        return port_of(held)
