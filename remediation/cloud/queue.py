"""A storage queue: messages that a trigger takes up, now or after a while."""

from __future__ import annotations

import logging
import math

from remediation.cloud.clients import Clients
from remediation.cloud.failures import translated
from remediation.errors import NotFound, RemediationError

LONGEST_WAIT_SECONDS = 7 * 24 * 3600 - 60
"""A message may stay unseen for a week at most [D]."""

_log = logging.getLogger(__name__)


class Queue:
    """Sends. That a message is lost does no harm: a hint in the work table remains."""

    def __init__(self, clients: Clients, name: str) -> None:
        self._clients = clients
        self._name = name

    def send(self, message: str, wait: float = 0.0) -> bool:
        """Have it taken up, not before so many seconds have passed; False if that could not be said."""
        try:
            try:
                self._send(message, wait)
            except NotFound:
                self._create()
                self._send(message, wait)
        except RemediationError as error:
            _log.warning("no message in %s, the sweep will see to it: %s", self._name, error)
            return False
        return True

    def _create(self) -> None:
        try:
            with translated("create queue"):
                self._clients.queue(self._name).create_queue()
        except RemediationError as error:
            if error.code != "QueueAlreadyExists":  # another thread was faster: as good
                raise

    def _send(self, message: str, wait: float) -> None:
        with translated("send to queue"):
            self._clients.queue(self._name).send_message(
                message, visibility_timeout=min(LONGEST_WAIT_SECONDS, math.ceil(wait)))
