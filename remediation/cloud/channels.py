"""Where people hear of an alert: channels by address (Apprise: Teams, Slack, e-mail, PagerDuty, Opsgenie,
webhooks and a hundred more), and a topic of Event Grid for other systems.

The addresses hold secrets: they are never logged, and a channel is known by a hash of its address.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from remediation.clock import Deadline
from remediation.cloud.clients import Clients
from remediation.errors import RemediationError, Unavailable
from remediation.settings import Settings

_log = logging.getLogger(__name__)

TOPIC = "topic"
SEVERITIES = {"high": "failure", "medium": "warning", "low": "info"}


MOST_TEXT = 20_000
"""Characters, where a service takes more: nobody reads on."""
CUT = "\n… the rest is in the timeline"


def shortened(text: str, most: int) -> str:
    """The beginning, which says what matters, with a word that there is more."""
    return text if len(text) <= most else text[: max(0, most - len(CUT))] + CUT[:most]


class Channels:
    """Sends. Each channel by itself: one that is down does not keep the others from hearing."""

    def __init__(self, clients: Clients, settings: Settings) -> None:
        self._clients = clients
        self._topic = settings.topic
        self._addresses = {hashlib.sha256(url.encode()).hexdigest()[:12]: url for url in settings.channels}

    @property
    def names(self) -> tuple[str, ...]:
        """All channels, by name."""
        return (*self._addresses, *((TOPIC,) if self._topic else ()))

    def send(self, name: str, title: str, text: str, severity: str, event: Mapping[str, Any]) -> None:
        """Tell one channel. Raises Unavailable if it does not take it."""
        if name == TOPIC:
            self._clients.events(self._topic, [dict(event)])
            return
        from apprise import Apprise, NotifyFormat, NotifyType

        url = self._addresses[name]
        one = Apprise()
        if not one.add(url):
            raise Unavailable(
                f"channel {name} ({url.partition('://')[0]}): its address is none that is known"
            )
        most = min(int(getattr(one[0], "body_maxlen", 0) or MOST_TEXT), MOST_TEXT)
        took = one.notify(shortened(text, most), title=title, body_format=NotifyFormat.TEXT,
                          notify_type=NotifyType(SEVERITIES.get(severity.lower(), "info")))
        if not took:
            raise Unavailable(f"channel {name} ({url.partition('://')[0]}) did not take the message")

    def try_all(self, names: tuple[str, ...], title: str, text: str, severity: str,
                event: Mapping[str, Any], deadline: Deadline) -> tuple[str, ...]:
        """Tell these, all at once → those that have taken it in time; the others are to be tried again. One
        that hangs is left behind: it holds up nobody, and what it takes after all it has had twice."""
        if deadline.over:
            return ()
        import apprise  # noqa: F401 - once, here, and not by every thread

        def tell(name: str) -> bool:
            try:
                self.send(name, title, text, severity, event)
            except RemediationError as error:
                _log.warning("not told: %s", error)
                return False
            except Exception as error:  # noqa: BLE001 - one channel's fault must not be the others'; no address in the log
                _log.error("not told: channel %s has a fault: %s", name, type(error).__name__)
                return False
            return True

        pool = ThreadPoolExecutor(max(1, len(names)), "channel")
        told = {name: pool.submit(tell, name) for name in names}
        done, _ = wait(told.values(), timeout=max(0.0, deadline.left()))
        pool.shutdown(wait=False, cancel_futures=True)
        return tuple(name for name, one in told.items() if one in done and one.result())
