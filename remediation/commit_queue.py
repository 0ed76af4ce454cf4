"""The commit queue: one message per NSG with work left over; its trigger takes over at once."""

from __future__ import annotations

import json

from remediation.cloud.queue import Queue
from remediation.errors import Invalid

LONGEST_WAIT_SECONDS = 3600


class CommitQueue(Queue):
    """Asks for commits."""

    def send(self, nsg_id: str, wait: float = 0.0) -> bool:
        """Ask for a commit of this NSG, not before so many seconds have passed."""
        return super().send(json.dumps({"nsg": nsg_id}), min(LONGEST_WAIT_SECONDS, wait))


def nsg_of(message: str) -> str:
    """The NSG a message is about. Raises Invalid."""
    try:
        nsg_id = json.loads(message)["nsg"]
    except (ValueError, KeyError, TypeError):
        raise Invalid("a message of the commit queue without an nsg") from None
    if not isinstance(nsg_id, str):
        raise Invalid("a message of the commit queue without an nsg")
    return nsg_id
