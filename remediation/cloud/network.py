"""NSGs, their rules, NICs and subnets, through azure-mgmt-network.

One call is one request; `retrying` alone tries again. Waiting for an operation is bounded by the
caller's deadline: what is not done by then raises `Unfinished` with the operation's URL.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from remediation.clock import Deadline
from remediation.cloud.clients import Clients, timeouts
from remediation.cloud.failures import of_operation, translated
from remediation.cloud.retry import retrying
from remediation.effective import groups_from_arm
from remediation.errors import NotFound, RemediationError, Unavailable, Unfinished
from remediation.log import say
from remediation.model import ResourceId
from remediation.nsg import Nsg, Rule, nsg_from_arm, rule_to_arm

if TYPE_CHECKING:
    from azure.mgmt.network import NetworkManagementClient

_log = logging.getLogger(__name__)

LONGEST_FIRST_SECONDS = 10.0
FEW_READS = 150
"""Of the 250 that ARM allows at once."""
EARLIER = 0.93
"""When the first answer was "over", it may have been so for a while: the next is asked earlier."""
LATER, KNOWN_SECONDS, LONGEST_FLOOR_SECONDS = 1.05, 60.0, 6.0
"""Not as early as one was seen still running lately: who asks too early has to wait for Retry-After. One that
took long is no lesson for all."""
DONE = ("Succeeded", "Failed", "Canceled")


class StillRunning(Unfinished):
    """Our operation was accepted and goes on; `operation` is its URL, '' if Azure gave none, and `pause` for
    how many seconds Azure wants not to be asked again."""

    def __init__(self, message: str, operation: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.operation = operation
        self.pause = pause


class _Typical:
    """How long our writes take lately. A write is first asked after when it is likely to be over:
    most cost one read, and are known to be done almost as soon as they are. Several threads may
    learn at once; any of their lessons will do."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seconds = 0.0
        self._too_early, self._known_until = 0.0, 0.0

    def first(self, least: float, deadline: Deadline) -> float:
        """How long to wait before the first question; Azure's Retry-After is the least."""
        return max(least, min(self._seconds, LONGEST_FIRST_SECONDS, deadline.left() / 2))

    def learn(self, running: float, over: float) -> None:
        """One was still running after so many seconds (0: never seen so), and over after so many."""
        if running:
            self._too_early, self._known_until = running, self._now() + KNOWN_SECONDS
            self._seconds = (running + over) / 2
        else:
            known = self._too_early * LATER
            floor = known if self._now() < self._known_until and known <= LONGEST_FLOOR_SECONDS else 0.0
            self._seconds = max(over * EARLIER, floor)


class Network:
    """What we ask of Microsoft.Network."""

    def __init__(self, clients: Clients, arm_endpoint: str, poll_seconds: float) -> None:
        self._clients = clients
        self._arm = arm_endpoint
        self.poll_seconds = poll_seconds
        self._typical = _Typical()

    def _client(self, resource_id: str) -> tuple[NetworkManagementClient, ResourceId]:
        parts = ResourceId.parse(resource_id)
        if parts is None:
            raise NotFound(f"{resource_id} is no resource id")
        return self._clients.network(parts.subscription), parts

    def read_nsg(self, nsg_id: str, deadline: Deadline) -> Nsg:
        """GET the NSG with its rules and what it is attached to."""
        client, nsg = self._client(nsg_id)

        def call() -> Nsg:
            with translated(f"read NSG {nsg.name}"):
                body = client.network_security_groups.get(
                    nsg.group, nsg.name, **timeouts(deadline)).as_dict()
            return nsg_from_arm(body)

        return retrying(call, deadline, what=f"read NSG {nsg.name}")

    def put_rule(
        self, nsg_id: str, rule: Rule, deadline: Deadline, unheard: Callable[[], None]
    ) -> None:
        """PUT one rule of ours and wait until it is settled, or raise StillRunning. `unheard` is
        called for each request of which nobody knows what became (no answer, or a 5xx): it may still
        be carried out, much later."""
        client, nsg = self._client(nsg_id)
        body: Any = rule_to_arm(rule)

        def begin() -> Mapping[str, str]:
            return _begun(client.security_rules.begin_create_or_update, nsg.group, nsg.name, rule.name, body,
                          **timeouts(deadline))

        self.carry_out(f"PUT rule {nsg.name}/{rule.name}", nsg.subscription, begin, deadline, unheard)

    def delete_rule(
        self, nsg_id: str, name: str, deadline: Deadline, unheard: Callable[[], None]
    ) -> None:
        """DELETE one rule of ours and wait until it is gone, or raise StillRunning; `unheard` as
        with `put_rule`."""
        client, nsg = self._client(nsg_id)

        def begin() -> Mapping[str, str]:
            return _begun(client.security_rules.begin_delete, nsg.group, nsg.name, name, **timeouts(deadline))

        self.carry_out(f"DELETE rule {nsg.name}/{name}", nsg.subscription, begin, deadline, unheard)

    def carry_out(
        self, what: str, subscription: str, begin: Callable[[], Mapping[str, str]], deadline: Deadline,
        unheard: Callable[[], None],
    ) -> None:
        """One request (`begin` → the answer's headers), then its operation to the end. The SDK's own poller
        would add a GET of the rule to every write, though the NSG is read back whole."""

        def call() -> None:
            started = time.perf_counter()
            try:
                with translated(what):
                    headers = begin()
            except Unavailable:
                unheard()
                raise
            operation = _header(headers, "Azure-AsyncOperation")
            if operation:
                self._settle(subscription, operation, deadline,
                             self._typical.first(self._pause(headers), deadline), learn=True)
            say(_log, "arm-settled", what=what, seconds=round(time.perf_counter() - started, 2))

        retrying(call, deadline, what=what)

    def wait_for(self, subscription: str, operation: str, deadline: Deadline) -> None:
        """Wait for an operation that an earlier holder left running.

        Raises StillRunning at the deadline. However it failed, the rules, read next, are written
        again, and that write's answer is the verdict on each rule.
        """
        try:
            self._settle(subscription, operation, deadline, 0)
        except StillRunning:
            raise
        except RemediationError as error:
            say(_log, "operation-failed", operation=operation, error=str(error))

    def _settle(
        self, subscription: str, operation: str, deadline: Deadline, pause: float, *,
        learn: bool = False,
    ) -> None:
        """Ask for the operation's status, first after `pause` seconds, until it is over. One that
        Azure no longer knows is over. Raises what it failed with; StillRunning at the deadline."""
        parts = urlsplit(operation)
        if f"{parts.scheme}://{parts.netloc}" != self._arm:
            return  # not an address we would ever send a token to
        query = dict(parse_qsl(parts.query))
        version = query.pop("api-version", "2024-05-01")
        status = "running"
        started, seen_running = time.perf_counter(), 0.0
        while True:
            if deadline.left() <= pause:
                raise StillRunning(f"operation {parts.path}: still {status}", operation, pause)
            deadline.clock.sleep(pause)
            try:
                body, headers = self._clients.arm_answer(
                    subscription, parts.path, version, deadline, **query
                )
            except NotFound:
                return
            status = str(body.get("status", ""))
            if status in DONE:
                break
            seen_running = time.perf_counter() - started
            pause = self._pause(headers)
        if learn:
            self._typical.learn(seen_running, time.perf_counter() - started)
        if status != "Succeeded":
            raise of_operation(f"operation {parts.path}", body)

    def _pause(self, headers: Mapping[str, str]) -> float:
        """How long to wait before asking again: Retry-After where Azure says so."""
        try:
            return float(_header(headers, "Retry-After"))
        except ValueError:
            return self.poll_seconds

    def read_nic(self, nic_id: str, deadline: Deadline) -> dict[str, Any]:
        """GET a network interface, ARM's JSON."""
        client, nic = self._client(nic_id)

        def call() -> dict[str, Any]:
            with translated(f"read NIC {nic.name}"):
                return dict(client.network_interfaces.get(
                    nic.group, nic.name, **timeouts(deadline)).as_dict())

        return retrying(call, deadline, what=f"read NIC {nic.name}")

    def effective_groups(self, nic_id: str, deadline: Deadline) -> tuple[Nsg, ...]:
        """POST for the rules in effect on a NIC of a running machine; some seconds. Raises
        StillRunning at the deadline."""
        client, nic = self._client(nic_id)
        what = f"effective rules of {nic.name}"

        def call() -> tuple[Nsg, ...]:
            with translated(what):
                poller = client.network_interfaces.begin_list_effective_network_security_groups(
                    nic.group, nic.name, polling_interval=self.poll_seconds
                )
                poller.wait(timeout=max(0.05, deadline.left()))
                if not poller.done():
                    raise StillRunning(f"{what}: not there in time", "")
                return groups_from_arm(poller.result().as_dict())

        return retrying(call, deadline, what=what)

    def read_subnet(self, subnet_id: str, deadline: Deadline) -> dict[str, Any]:
        """GET a subnet, ARM's JSON."""
        vnet_id, _, name = subnet_id.partition("/subnets/")
        client, vnet = self._client(vnet_id)

        def call() -> dict[str, Any]:
            with translated(f"read subnet {vnet.name}/{name}"):
                return dict(client.subnets.get(
                    vnet.group, vnet.name, name, **timeouts(deadline)).as_dict())

        return retrying(call, deadline, what=f"read subnet {vnet.name}/{name}")

    @property
    def reads_are_few(self) -> bool:
        """By ARM's last word: what is not read now is left to others."""
        return self._clients.reads_left < FEW_READS

    def read_public_address(self, address_id: str, deadline: Deadline) -> str:
        """GET a public IP resource → its address, '' if none is allocated."""
        client, pip = self._client(address_id)

        def call() -> str:
            with translated(f"read public IP {pip.name}"):
                body = client.public_ip_addresses.get(
                    pip.group, pip.name, **timeouts(deadline)).as_dict()
            return str((body.get("properties") or {}).get("ipAddress") or "")

        return retrying(call, deadline, what=f"read public IP {pip.name}")

    def admin_rules(self, network_id: str, deadline: Deadline) -> list[dict[str, Any]]:
        """POST for the security admin rules in effect on a virtual network, ARM's JSON, page by page."""
        client, net = self._client(network_id)
        what = f"read security admin rules of {net.name}"
        found: list[dict[str, Any]] = []
        query: Any = {}
        while True:

            def call(query: Any = query) -> dict[str, Any]:
                with translated(what):
                    return dict(client.list_network_manager_effective_security_admin_rules(
                        net.group, net.name, query, **timeouts(deadline)).as_dict())

            page = retrying(call, deadline, what=what)
            found += page.get("value") or ()
            if not page.get("skipToken"):
                return found
            query = {"skipToken": page["skipToken"]}

    def subscriptions(self, deadline: Deadline) -> list[str]:
        """The subscriptions that the identity can see; also the cheapest proof that ARM answers."""
        body = self._clients.arm_get("", "/subscriptions", "2022-12-01", deadline)
        return [str(s.get("subscriptionId", "")).lower() for s in body.get("value") or ()]

    def service_tags(self, subscription: str, location: str, deadline: Deadline) -> dict[str, list[str]]:
        """Microsoft's service tags and their prefixes, as published to this subscription."""

        def call() -> dict[str, list[str]]:
            with translated("list service tags"):
                body = self._clients.network(subscription).service_tags.list(
                    location, **timeouts(deadline)).as_dict()
            return {
                str(v.get("name")): list((v.get("properties") or {}).get("addressPrefixes") or ())
                for v in body.get("values") or ()
            }

        return retrying(call, deadline, what="list service tags")


def _begun(operation: Callable[..., Any], *args: Any, **options: Any) -> Mapping[str, str]:
    """Begin one of the SDK's long-running operations, without its poller → the answer's headers."""
    answered: dict[str, str] = {}
    operation(*args, polling=False, **options,
              raw_response_hook=lambda r: answered.update(r.http_response.headers))
    return answered


def _header(headers: Mapping[str, str], name: str) -> str:
    """Whatever case Azure, or a dict made of its answer, spells it in."""
    return next((value for key, value in headers.items() if key.lower() == name.lower()), "")
