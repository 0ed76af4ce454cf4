"""The peers and the bare limit, each in a process of its own: `python -m bench.peers NAME`.

Told the alerts and attacks by one line of JSON, it says "ready", waits for a line, and handles them
32 at a time through azure-mgmt-network, as the peers' published flows do (docs of this folder).
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import RetryPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import ManagedIdentityCredential
from azure.mgmt.network import NetworkManagementClient
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_base

from sandbox.demo.estate import GROUP, SUBSCRIPTION

if TYPE_CHECKING:
    from azure.mgmt.network.models import NetworkSecurityGroup, SecurityRule

IN_FLIGHT = 32
POLL_SECONDS = 1
RANGES = ((5.0, 7.5), (7.5, 15.0), (15.0, 30.0), (30.0, 45.0))
"""Seconds: Logic Apps' default policy, four retries, scaled by 7.5 s, between 5 and 45 s [D]."""


class _LogicApps(wait_base):
    """A random time out of a range that doubles."""

    def __call__(self, retry_state: RetryCallState) -> float:
        import random

        return random.uniform(*RANGES[retry_state.attempt_number - 1])  # noqa: S311 - jitter


def _again(error: BaseException) -> bool:
    """Logic Apps sends again after 408, 429 and 5xx, and after nothing else."""
    status = error.status_code if isinstance(error, HttpResponseError) else None
    return status in (408, 429) or (status or 0) >= 500


def _asked[T](call: Callable[[], T]) -> T:
    return Retrying(retry=retry_if_exception(_again), wait=_LogicApps(), reraise=True,
                    stop=stop_after_attempt(1 + len(RANGES)))(call)


def _client() -> NetworkManagementClient:
    import requests
    from requests.adapters import HTTPAdapter

    arm = os.environ["AZURE_RESOURCE_MANAGER"]
    session = requests.Session()
    session.mount("https://", HTTPAdapter(pool_maxsize=IN_FLIGHT * 2))
    client = NetworkManagementClient(
        ManagedIdentityCredential(), SUBSCRIPTION, base_url=arm, credential_scopes=[f"{arm}/.default"],
        retry_policy=RetryPolicy.no_retries(), polling_interval=POLL_SECONDS,
        transport=RequestsTransport(session=session),
    )
    for warm in (client.network_security_groups, client.network_interfaces):
        list(warm.list(GROUP))
    return client


def _machine(client: NetworkManagementClient, alert: Mapping[str, Any]) -> str:
    """GET the machine → its first NIC's name."""
    from azure.core.rest import HttpRequest

    entity = alert["properties"]["resourceIdentifiers"][0]["azureResourceId"]
    url = f"{os.environ['AZURE_RESOURCE_MANAGER']}{entity}"

    def call() -> dict[str, Any]:
        answer = client.send_request(HttpRequest("GET", url, params={"api-version": "2024-07-01"}))
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    nics = _asked(call)["properties"]["networkProfile"]["networkInterfaces"]
    return str(nics[0]["id"]).rpartition("/")[2]


def playbook(client: NetworkManagementClient, alert: Mapping[str, Any]) -> None:
    """Defender's Logic App: machine, NIC and rules read, one new rule at the lowest free priority,
    named after it."""
    name = _machine(client, alert)
    nic = _asked(lambda: client.network_interfaces.get(GROUP, name))
    nsg = str(nic.network_security_group.id).rpartition("/")[2]
    rules = _asked(lambda: list(client.security_rules.list(GROUP, nsg)))
    taken = {r.priority for r in rules if str(r.direction).endswith("utbound")}
    priority = next(p for p in range(100, 4097) if p not in taken)
    rule = _deny(priority, [_attacker(alert)])
    _asked(lambda: client.security_rules.begin_create_or_update(
        GROUP, nsg, f"DefenderBlock-{priority}", rule).result())


def whole_nsg(client: NetworkManagementClient, alert: Mapping[str, Any]) -> None:
    """Sentinel's playbook: the NSG read, the address added to one rule, the whole NSG written."""
    machine = str(alert["properties"]["resourceIdentifiers"][0]["azureResourceId"])
    name = f"nsg-{machine.rpartition('/')[2].split('-')[1]}"  # its NSG is fixed in its settings
    nsg: NetworkSecurityGroup = _asked(lambda: client.network_security_groups.get(GROUP, name))
    rules = list(nsg.security_rules or ())
    rule = next((r for r in rules if r.name == "BlockedIPs"), None)
    there = list((rule and rule.destination_address_prefixes) or ())
    nsg.security_rules = [r for r in rules if r is not rule] + [
        _deny(150, [*there, _attacker(alert)], name="BlockedIPs")]
    _asked(lambda: client.network_security_groups.begin_create_or_update(GROUP, name, nsg).result())


def bare(client: NetworkManagementClient, attacks: Iterable[Mapping[str, Any]]) -> None:
    """The limit: one PUT of the decisive rule per NSG, already holding all its addresses."""
    by_nsg: dict[str, list[str]] = {}
    for attack in attacks:
        by_nsg.setdefault(str(attack["nsg"]).rpartition("/")[2], []).append(str(attack["address"]))

    def write(nsg: str) -> None:
        client.security_rules.begin_create_or_update(
            GROUP, nsg, "bare", _deny(150, by_nsg[nsg])).result()

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(write, by_nsg))


def _deny(priority: int, addresses: list[str], name: str | None = None) -> SecurityRule:
    """A rule that denies all traffic out to these addresses."""
    from azure.mgmt.network.models import SecurityRule, SecurityRulePropertiesFormat

    return SecurityRule(name=name, properties=SecurityRulePropertiesFormat(
        protocol="*", source_port_range="*", destination_port_range="*", source_address_prefix="*",
        destination_address_prefixes=addresses, access="Deny", direction="Outbound", priority=priority))


def _attacker(alert: Mapping[str, Any]) -> str:
    return str(alert["properties"]["extendedProperties"]["attacker IP"])


def main() -> int:
    """The command."""
    order = json.loads(sys.stdin.readline())
    client = _client()
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    if sys.argv[1] == "bare":
        bare(client, order["attacks"])
        return 0
    handle = {"playbook": playbook, "whole_nsg": whole_nsg}[sys.argv[1]]
    lost: dict[str, int] = {}
    lock = threading.Lock()

    def one(alert: Mapping[str, Any]) -> None:
        try:
            handle(client, alert)
        except Exception as error:  # noqa: BLE001 - a failed run is a lost attacker, and counted by its kind
            kind = getattr(getattr(error, "error", None), "code", None) or type(error).__name__
            with lock:
                lost[kind] = lost.get(kind, 0) + 1

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(one, order["alerts"]))
    print(json.dumps({"failed": lost}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
