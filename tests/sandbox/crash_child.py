"""A process that is to die: it waits for a word on its input, then delivers an alert or sweeps."""

from __future__ import annotations

import json
import os
import sys

from remediation.app import build
from tests.sandbox.conftest import ShiftClock


def main() -> None:
    """Run."""
    order = json.loads(sys.stdin.readline())
    clock = ShiftClock()
    clock.forward(hours=order["hours"])
    app = build(os.environ, clock)
    app.ledger.control.paused()  # the SDKs are imported, the connection stands
    print("ready", flush=True)
    sys.stdin.readline()
    if order["alert"]:
        app.on_alert(order["alert"], event_id="e", event_time=None)
    else:
        app.on_timer()
    print("done", flush=True)


if __name__ == "__main__":
    main()
