"""A process that is to die: it waits for a word, then delivers an alert or a message, or sweeps.

Forked from a server that has imported the SDKs once: a hundred deaths need no hundred imports.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from remediation.app import build
from remediation.model import Caller
from tests.azure import ShiftClock

PERSON = Caller("ann@example.com", frozenset({"Approve"}), identified=True)
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload([
    __name__, "azure.mgmt.network", "azure.mgmt.network.models", "azure.mgmt.resourcegraph",
    "azure.data.tables", "azure.identity", "azure.storage.blob"])


def start(environment: Mapping[str, str], order: dict[str, Any]) -> tuple[BaseProcess, Connection]:
    """A living child, connected and ready: it goes on when it is sent anything."""
    ours, its = _SERVER.Pipe()
    child = _SERVER.Process(target=_live, args=(dict(environment), order, its))
    child.start()
    its.close()
    assert ours.recv() == "ready"
    return child, ours


def _live(environment: dict[str, str], order: dict[str, Any], pipe: Connection) -> None:
    os.environ.update(environment)
    clock = ShiftClock()
    clock.forward(hours=order["hours"])
    app = build(os.environ, clock)
    app.ledger.control.paused()  # the connection stands
    pipe.send("ready")
    pipe.recv()
    if order.get("incident"):
        if order.get("verb") == "restore":
            app.desk.restore(order["incident"], PERSON, app.budget(), "a test")
        else:
            app.desk.decide(order["incident"], PERSON, app.budget(), act=True, reason="a test")
        for _ in range(order["passes"]):  # Azure is done at once here: each pass finds the last one's work
            app.removal.go_on(order["incident"], app.budget())
    elif order.get("message"):
        app.on_investigate(order["message"])
    elif order["alert"]:
        app.on_alert(order["alert"], event_id="e", event_time=None)
    else:
        app.on_timer()
