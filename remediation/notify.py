"""Telling a human: a log line and a record in the ledger; `remediation.escalation` carries it to channels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from remediation.clock import Clock
from remediation.ledger import Control
from remediation.log import say

_log = logging.getLogger("remediation.notice")


def one_line(text: str) -> str:
    """An alert's text is not trusted: no line breaks or control signs that forge a log line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:2000]


class Notifier:
    """What needs a person's eye goes through here, once per event."""

    def __init__(self, control: Control, clock: Clock) -> None:
        self._control = control
        self._clock = clock
        self.heard: Callable[[list[str], str, str], None] = lambda *_: None
        """Who carries it further: the alerts it is about, its kind, its text."""

    def tell(self, kind: str, text: str, *, alerts: Iterable[str] = (), **facts: Any) -> None:
        """`kind` is a short word to filter by, `text` one sentence a tired person understands."""
        text, about = one_line(text), list(alerts)
        say(_log, "notice", alerts=about, level=logging.WARNING, kind=kind, text=text, **facts)
        self._control.tell(self._clock.now(), kind, text, alerts=about, **facts)
        self.heard(about, kind, text)
