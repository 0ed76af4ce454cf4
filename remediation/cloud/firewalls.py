"""Azure Firewalls: what one enforces, whose addresses are behind it, and changes of a group or a firewall.

Bodies are read and written as raw JSON in the newest api-version: what an older one does not show, a PUT of
the whole would take away.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from remediation.clock import Clock, Deadline
from remediation.cloud.cache import Kept
from remediation.cloud.clients import Clients
from remediation.cloud.failures import translated
from remediation.cloud.graph import Graph, askable
from remediation.cloud.guards import WHOLE_API
from remediation.errors import NotFound, PermanentError, Unfinished
from remediation.firewall.edit import to_write
from remediation.firewall.hosts import Hosts
from remediation.firewall.rules import RuleSet, ip_groups_in, rules_of_classic, rules_of_policies
from remediation.log import say
from remediation.topology import FIREWALL, appliance, kind_of, name_of, peers

_log = logging.getLogger(__name__)

type Body = dict[str, Any]

POLICY, IP_GROUP = "microsoft.network/firewallpolicies", "microsoft.network/ipgroups"
GROUP = f"{POLICY}/rulecollectiongroups"
COMPUTE_API = "2024-07-01"
READS_AT_ONCE = 8
NETWORKS_TOGETHER = 50
DEEPEST = 4
"""A base policy may have a base itself; so far it is followed."""
KEEP_HOSTS_SECONDS = 120.0
SETTLED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Enforced:
    """One firewall as it was read: its rules in order, the bodies they are written in by id, the networks it
    serves, and the machines there. `body`: the firewall's own. `trouble`: what could not be read."""

    firewall: str
    rules: RuleSet
    bodies: Mapping[str, Body]
    networks: tuple[str, ...]
    hosts: Hosts
    body: Body
    trouble: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reading:
    """Policies and groups of one look: each is read once."""

    deadline: Deadline
    bodies: dict[str, Body] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)


class Firewalls:
    """Reads firewalls and changes them. One instance serves all threads."""

    def __init__(self, clients: Clients, graph: Graph, clock: Clock) -> None:
        self._clients = clients
        self._graph = graph
        self._hosts: Kept[tuple[str, ...], Hosts] = Kept(clock, KEEP_HOSTS_SECONDS, most=100)
        self._pool = ThreadPoolExecutor(READS_AT_ONCE, "firewall")

    # --- which ---

    def all(self, deadline: Deadline) -> list[str]:
        """Every firewall that the identity can read."""
        return sorted({str(r["id"]).lower() for r in self._graph.rows("firewalls", deadline)})

    def serving(self, network: str, deadline: Deadline) -> list[str]:
        """Those in this network, or in one peered with it."""
        found = []
        for one in self.all(deadline):
            try:
                if network in self._networks(self._get(one, deadline), deadline):
                    found.append(one)
            except PermanentError as error:
                say(_log, "firewall-unreadable", level=logging.WARNING, firewall=one, error=str(error))
        return found

    def touched(self, resource: str, deadline: Deadline) -> list[str]:
        """The firewalls that a change of this resource may have changed: a firewall itself, a policy or one
        of its groups, whoever inherits from it, an IP group. Of what is gone, none are known."""
        root = resource.lower().rstrip("/").partition("/rulecollectiongroups/")[0]
        root = root.partition("/firewallpolicydrafts/")[0]
        kind = kind_of(root)
        if kind == FIREWALL:
            return [root]
        try:
            if kind == POLICY:
                return sorted(self._of_policy(root, deadline, DEEPEST))
            if kind == IP_GROUP:
                p = self._get(root, deadline).get("properties") or {}
                of_policies = (f for one in _ids(p, "firewallPolicies")
                               for f in self._of_policy(one, deadline, DEEPEST))
                return sorted({*_ids(p, "firewalls"), *of_policies})
        except NotFound:
            return []
        return []

    def _of_policy(self, policy: str, deadline: Deadline, deep: int) -> set[str]:
        p = self._get(policy, deadline).get("properties") or {}
        found = set(_ids(p, "firewalls"))
        if deep:
            for child in _ids(p, "childPolicies"):
                found |= self._of_policy(child, deadline, deep - 1)
        return found

    # --- what one enforces ---

    def read(self, firewall: str, deadline: Deadline) -> Enforced:
        """Everything that decides what goes out through this firewall, as it is written now."""
        reading = _Reading(deadline)
        body = self._get(firewall, deadline)
        own = str(((body.get("properties") or {}).get("firewallPolicy") or {}).get("id") or "").lower()
        chain = self._chain(own, reading) if own else []
        if not own:
            reading.bodies[firewall] = body
        groups = self._ip_groups(ip_groups_in([body, *(g for level in chain for g in level)]), reading)
        rules = rules_of_policies(firewall, chain, groups) if own else rules_of_classic(body, groups)
        networks = tuple(self._networks(body, deadline))
        return Enforced(firewall, rules, reading.bodies, networks, self._hosts_of(networks, deadline), body,
                        tuple(sorted(reading.trouble)))

    def _chain(self, own: str, reading: _Reading) -> list[list[Body]]:
        """The groups of the base policy first, then those of the policy that inherits from it."""
        chain: list[list[Body]] = []
        policy = own
        while policy and len(chain) <= DEEPEST:
            body = self._get(policy, reading.deadline)
            parts = policy.split("/")
            groups = self._clients.arm_pages(
                parts[2], f"{policy}/ruleCollectionGroups", WHOLE_API, {}, reading.deadline)
            reading.bodies.update({str(g["id"]).lower(): g for g in groups})
            chain.insert(0, groups)
            policy = str(((body.get("properties") or {}).get("basePolicy") or {}).get("id") or "").lower()
        return chain

    def _ip_groups(self, ids: Sequence[str], reading: _Reading) -> dict[str, Sequence[str] | None]:
        def one(group: str) -> Sequence[str] | None:
            try:
                p = self._get(group, reading.deadline).get("properties") or {}
            except PermanentError as error:
                reading.trouble.append(f"IP group {name_of(group)} cannot be read: {error}")
                return None
            return [str(a) for a in p.get("ipAddresses") or ()]

        return dict(zip(ids, self._pool.map(one, ids), strict=True))

    def _networks(self, body: Body, deadline: Deadline) -> list[str]:
        """The firewall's own network and those peered with it; of one in a virtual hub, the hub's."""
        _, own = appliance(body)
        found = dict.fromkeys(own)
        for network in own:
            try:
                found |= dict.fromkeys(peers(self._get(network, deadline)))
            except PermanentError as error:
                say(_log, "network-unreadable", level=logging.WARNING, network=network, error=str(error))
        hub = str(((body.get("properties") or {}).get("virtualHub") or {}).get("id") or "").lower()
        if hub:
            rows = self._clients.arm_pages(
                hub.split("/")[2], f"{hub}/hubVirtualNetworkConnections", WHOLE_API, {}, deadline)
            found |= dict.fromkeys(
                i for r in rows for i in _ids_of((r.get("properties") or {}).get("remoteVirtualNetwork")))
        return list(found)

    def _hosts_of(self, networks: tuple[str, ...], deadline: Deadline) -> Hosts:
        return self._hosts.get(networks, lambda: self._read_hosts(networks, deadline))

    def _read_hosts(self, networks: Sequence[str], deadline: Deadline) -> Hosts:
        owners: list[tuple[int, str]] = []
        for some in itertools.batched(filter(askable, networks), NETWORKS_TOGETHER, strict=False):
            for query in ("addresses_in", "instance_addresses_in"):
                if deadline.over:
                    raise Unfinished("the budget ended before all machines behind the firewall were read")
                owners += Hosts.owned(self._graph.rows(query, deadline, networks=some))
        return Hosts(owners)

    def machine_made(self, machine: str, deadline: Deadline) -> datetime | None:
        """When the machine was made; None where Azure does not say."""
        try:
            p = self._clients.arm_get(machine.split("/")[2], machine, COMPUTE_API, deadline).get("properties")
            return datetime.fromisoformat(str((p or {}).get("timeCreated")))
        except (PermanentError, ValueError):
            return None

    # --- changes ---

    def whole(self, owner: str, deadline: Deadline) -> tuple[Body, str]:
        """A group, or a firewall with rules of its own, as ARM has it; and its etag as If-Match wants it."""
        body, headers = self._clients.arm_answer(owner.split("/")[2], owner, WHOLE_API, deadline)
        etag = next((v for k, v in headers.items() if k.lower() == "etag"), "") or str(body.get("etag") or "")
        return body, etag

    def write(self, owner: str, body: Mapping[str, Any], etag: str, deadline: Deadline) -> None:
        """PUT it whole under its etag, once. Not waited for: a firewall takes minutes, and what became of it
        the provisioning states say. Raises Conflict if someone else wrote it meanwhile; Unavailable where
        nobody knows whether it was carried out."""
        with translated(f"PUT {owner}"):
            self._clients.arm_put(owner.split("/")[2], owner, WHOLE_API, to_write(body), etag, deadline)

    def _get(self, resource: str, deadline: Deadline) -> Body:
        return self._clients.arm_get(resource.split("/")[2], resource, WHOLE_API, deadline)


def settled(resource: str, body: Mapping[str, Any]) -> str:
    """`Succeeded` or `Failed`: has Azure taken over what is written? Raises Unfinished while it is at it."""
    state = str((body.get("properties") or {}).get("provisioningState") or "Succeeded")
    if state not in SETTLED:
        raise Unfinished(f"{name_of(resource)} is still {state}")
    return state


def _ids(properties: Mapping[str, Any], name: str) -> list[str]:
    return [i for one in properties.get(name) or () for i in _ids_of(one)]


def _ids_of(reference: Any) -> Iterable[str]:
    if isinstance(reference, Mapping) and reference.get("id"):
        yield str(reference["id"]).lower()

