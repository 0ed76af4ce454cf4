"""What stands before machines, read from ARM one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remediation.clock import Deadline
from remediation.cloud.clients import Clients
from remediation.errors import NotFound, PermanentError
from remediation.topology import name_of, peers

API = "2024-05-01"


class Elements:
    """Reads elements by id. One instance serves all threads."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def read(self, element: str, deadline: Deadline, *, must: bool = False) -> dict[str, Any] | str:
        """The element as ARM has it, or why it cannot be read; `must`: then that is raised."""
        try:
            return self._clients.arm_get(element.split("/")[2], element, API, deadline)
        except NotFound:
            if must:
                raise
            return f"{name_of(element)} is not there (any more)"
        except PermanentError as error:
            if must:
                raise
            return f"{name_of(element)}: {error}"

    def peers(self, network: str, deadline: Deadline, *, through_gateway: bool = False) -> Sequence[str]:
        """The networks peered with this one (that use its network gateway); none where it cannot be read."""
        body = self.read(network, deadline) if network else ""
        return () if isinstance(body, str) else peers(body, through_gateway=through_gateway)
