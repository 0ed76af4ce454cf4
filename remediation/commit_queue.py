"""The commit queue: one message per NSG with work left over; its trigger takes over at once."""

from __future__ import annotations

import json
import logging
import math

from remediation.cloud.clients import Clients
from remediation.cloud.failures import translated
from remediation.errors import Invalid, NotFound, RemediationError

LONGEST_WAIT_SECONDS = 3600

_log = logging.getLogger(__name__)


class CommitQueue:
    """Sends. That a message is lost does no harm: the hint in the work table remains."""

    def __init__(self, clients: Clients, name: str) -> None:
        self._clients = clients
        self._name = name

    def send(self, nsg_id: str, wait: float = 0.0) -> None:
        """Ask for a commit of this NSG, not before so many seconds have passed."""
        message = json.dumps({"nsg": nsg_id})
        try:
            try:
                self._send(message, wait)
            except NotFound:
                self._create()
                self._send(message, wait)
        except RemediationError as error:
            _log.warning("no message for %s, the sweep will see to it: %s", nsg_id, error)

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


def nsg_of(message: str) -> str:
    """The NSG a message is about. Raises Invalid."""
    try:
        nsg_id = json.loads(message)["nsg"]
    except (ValueError, KeyError, TypeError):
        raise Invalid("a message of the commit queue without an nsg") from None
    if not isinstance(nsg_id, str):
        raise Invalid("a message of the commit queue without an nsg")
    return nsg_id
