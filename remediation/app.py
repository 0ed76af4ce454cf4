"""The composition root: settings → everything, wired once.

`build` costs little: the SDKs behind `Clients` are imported when first used.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from remediation.api import Api
from remediation.approvals import Approvals
from remediation.clock import Clock
from remediation.cloud.activity import ActivityLog
from remediation.cloud.clients import Clients
from remediation.cloud.defender import Defender
from remediation.cloud.estate import EstateReader
from remediation.cloud.graph import Graph
from remediation.cloud.machines import Machines
from remediation.cloud.network import Network
from remediation.commit import Commit
from remediation.commit_queue import CommitQueue
from remediation.ledger import Ledger, Tables
from remediation.notify import Notifier
from remediation.nsg import Ownership
from remediation.operators import Operator
from remediation.policy import load_policy
from remediation.responder import Responder
from remediation.settings import Settings, load_settings
from remediation.surroundings import SurroundingsReader


@dataclass(frozen=True, slots=True)
class App:
    """What the triggers and the command line use."""

    settings: Settings
    responder: Responder
    operator: Operator
    api: Api


def build(env: Mapping[str, str], clock: Clock | None = None) -> App:
    """Wire everything. Raises BadSettings or BadPolicy with every mistake in them."""
    settings = load_settings(env)
    policy = load_policy(settings.policy_file)
    clock = clock or Clock()
    clients = Clients(settings)
    graph = Graph(clients, settings.subscriptions)
    network = Network(clients, settings.arm_endpoint, settings.poll_seconds)
    ledger = Ledger(Tables(clients, settings.table_prefix), settings.lease_seconds)
    ownership = Ownership(settings.deployment)
    notifier = Notifier(ledger.control, clock)
    approvals = Approvals(ledger, policy, notifier, clock)
    estate = EstateReader(graph, network, policy.guardrails.ask_first_service_tags)
    surroundings = SurroundingsReader(ledger, estate, policy, clock, settings.home_subscription)
    commit = Commit(
        ledger, network, surroundings, ActivityLog(clients), approvals, notifier, policy,
        ownership, settings, clock,
    )
    responder = Responder(
        ledger=ledger, defender=Defender(clients, graph),
        machines=Machines(clients, graph, network, clock, settings.machine_cache_seconds),
        network=network, graph=graph, surroundings=surroundings, commit=commit,
        queue=CommitQueue(clients, settings.commit_queue), approvals=approvals,
        notifier=notifier, policy=policy, ownership=ownership, settings=settings, clock=clock,
    )
    operator = Operator(responder, network)
    return App(settings, responder, operator, Api(responder, operator, settings))


@cache
def app() -> App:
    """The app of this process, made at the first call."""
    logging.getLogger("azure").setLevel(logging.WARNING)  # or it logs every request with its URL
    return build(os.environ)
