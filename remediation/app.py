"""The composition root: settings → everything, wired once.

`build` costs little: the SDKs behind `Clients` are imported when first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from remediation.api import Api
from remediation.approvals import Approvals
from remediation.assess import Assessor
from remediation.clock import Clock, Deadline
from remediation.cloud.activity import ActivityLog
from remediation.cloud.channels import Channels
from remediation.cloud.clients import Clients
from remediation.cloud.crowd import Crowd
from remediation.cloud.defender import Defender
from remediation.cloud.elements import Elements
from remediation.cloud.estate import EstateReader
from remediation.cloud.evidence import EvidenceStore
from remediation.cloud.firewalls import Firewalls
from remediation.cloud.fronts import Fronts
from remediation.cloud.graph import Graph
from remediation.cloud.guards import Guards
from remediation.cloud.guest import GuestCommands
from remediation.cloud.intake import Intake
from remediation.cloud.logs import Logs
from remediation.cloud.machines import Machines
from remediation.cloud.managed import ManagedRules
from remediation.cloud.members import Members
from remediation.cloud.network import Network
from remediation.cloud.queue import Queue
from remediation.cloud.trace import KEEP_SECONDS, Tracer
from remediation.cloud.upkeep import Upkeep
from remediation.cloud.walk import Walk
from remediation.commit import Commit, Parts
from remediation.commit_queue import CommitQueue, nsg_of
from remediation.dossier import Dossier
from remediation.escalation import Escalation
from remediation.firewall_api import FirewallApi
from remediation.inputs import Reply, Request
from remediation.inquiry.parts import Inquiries
from remediation.investigator import Investigator
from remediation.ledger import Ledger, Tables
from remediation.notify import Notifier
from remediation.operators import Operator
from remediation.owned import Ownership
from remediation.policy import load_policy
from remediation.rehearsal.hops import TICK
from remediation.responder import Responder, Seen
from remediation.rogues import Desk, Removal, Watch
from remediation.second_look import SecondLook
from remediation.selftest import TIMER, SelfTest
from remediation.settings import Settings, load_settings
from remediation.steps import check_names
from remediation.steps.step import Tools
from remediation.surroundings import SurroundingsReader
from remediation.survey import Survey
from remediation.sweep import Sweep, Swept

TICK_SECONDS = 25.0


@dataclass(frozen=True, slots=True)
class App:
    """What the triggers and the command line use. Any trigger that finds the sweep overdue runs a
    short one within its own budget, so that nothing hangs on the timer alone."""

    settings: Settings
    clock: Clock
    ledger: Ledger
    responder: Responder
    investigator: Investigator
    escalation: Escalation
    store: EvidenceStore
    sweep: Sweep
    selftest: SelfTest
    operator: Operator
    watch: Watch
    removal: Removal
    desk: Desk
    api: Api

    def budget(self) -> Deadline:
        """The time one trigger may take."""
        return Deadline.after(self.clock, self.settings.budget_seconds)

    def on_alert(self, data: Any, *, event_id: str, event_time: datetime | None) -> list[Seen]:
        """An event with one alert or more."""
        deadline = self.budget()
        if self.selftest.arrived(data, event_id, deadline):
            return []
        seen = self.responder.on_event(data, deadline, event_id=event_id, event_time=event_time)
        self.sweep.if_overdue(deadline)
        return seen

    def on_firewall_change(self, event: Mapping[str, Any]) -> list[str]:
        """An event of the subscription → the firewalls looked at."""
        deadline = self.budget()
        looked = self.watch.changed(event, deadline)
        self.sweep.if_overdue(deadline)
        return looked

    def on_timer(self) -> Swept:
        """The sweep's own driver."""
        swept = self.sweep.run(self.sweep.budget())
        self.ledger.control.begin_job(TIMER, self.clock.now(), timedelta(0))  # it came to its end
        return swept

    def on_tick(self) -> bool:
        """The sweep's second driver → did it have to sweep? Event Grid waits for half a minute."""
        self.ledger.control.begin_job(TICK, self.clock.now(), timedelta(0))
        return self.sweep.if_overdue(Deadline.after(self.clock, TICK_SECONDS))

    def on_commit(self, message: str) -> None:
        """A message of the commit queue."""
        deadline = self.budget()
        self.responder.commit_nsg(nsg_of(message), deadline)
        self.sweep.if_overdue(deadline)

    def on_investigate(self, message: str) -> None:
        """A message of the investigation queue, or of the guest app's."""
        deadline = self.budget()
        self.investigator.take(message, deadline)
        if not self.settings.guest:
            self.sweep.if_overdue(deadline)

    def on_poison(self, message: str) -> None:
        """A message that failed again and again."""
        self.investigator.poisoned(message)

    def serve(self, route: str, request: Request) -> Reply:
        """An operator's request."""
        deadline = self.budget()
        reply = self.api.serve(route, request)
        self.sweep.if_overdue(deadline)
        return reply


def build(env: Mapping[str, str], clock: Clock | None = None) -> App:
    """Wire everything. Raises BadSettings or BadPolicy with every mistake in them."""
    settings = load_settings(env)
    policy = load_policy(settings.policy_file)
    check_names(policy)
    clock = clock or Clock()
    clients = Clients(settings)
    graph = Graph(clients, settings.subscriptions, settings.management_groups, clock)
    network = Network(clients, settings.arm_endpoint, settings.poll_seconds)
    ownership = Ownership(settings.deployment)
    guards = Guards(clients, network, ownership, clock)
    managed = ManagedRules(network, clock)
    defender = Defender(clients, graph, clock)
    machines = Machines(clients, network, clock, settings.machine_cache_seconds)
    members, elements = Members(clients, graph, network, machines, clock), Elements(clients)
    keep = min(KEEP_SECONDS, settings.machine_cache_seconds)
    fronts = Fronts(elements, machines, members, clock, keep)
    crowd = Crowd(clients, machines, members, clock)
    defender.coming = crowd.expect
    tracer = Tracer(Walk(elements, members), fronts, machines, members, crowd, clock, keep)
    tables = Tables(clients, settings.table_prefix)
    ledger = Ledger(tables, settings.lease_seconds)
    notifier = Notifier(ledger.control, clock)
    tables.tell = partial(notifier.tell, "unreadable")
    approvals = Approvals(ledger, policy, notifier, clock)
    estate = EstateReader(graph, network, policy.guardrails.ask_first_service_tags)
    surroundings = SurroundingsReader(
        ledger, estate, policy, clock, settings.home_subscription, reads_only=settings.guest)
    activity = ActivityLog(clients)
    dossier, store = Dossier(ledger), EvidenceStore(clients, settings)
    escalation = Escalation(ledger=ledger, dossier=dossier, channels=Channels(clients, settings),
                            policy=policy, settings=settings, clock=clock)
    notifier.heard = escalation.heard
    tools = Tools(ledger, GuestCommands(clients), store, Logs(clients, settings.workspaces), graph, defender,
                  activity, Upkeep(clients, graph), policy, surroundings,
                  settings.may_install, settings.poll_seconds)
    investigator = Investigator(Inquiries(
        tools=tools, queue=Queue(clients, settings.investigation_queue),
        guest_queue=Queue(clients, settings.guest_queue) if settings.guest_queue else None,
        approvals=approvals, escalation=escalation, notifier=notifier, policy=policy, settings=settings,
        clock=clock,
    ))
    assessor = Assessor(ledger, defender, activity, clock)
    commit = Commit(Parts(
        ledger=ledger, network=network, guards=guards, managed=managed, graph=graph,
        surroundings=surroundings,
        activity=activity, approvals=approvals, notifier=notifier, policy=policy,
        ownership=ownership, settings=settings, clock=clock,
    ))
    survey = Survey(
        ledger=ledger, defender=defender, tracer=tracer, guards=guards,
        surroundings=surroundings, policy=policy, ownership=ownership, settings=settings,
        clock=clock,
    )
    responder = Responder(
        ledger=ledger, survey=survey, commit=commit, queue=CommitQueue(clients, settings.commit_queue),
        approvals=approvals, assessor=assessor, investigator=investigator, notifier=notifier,
        settings=settings, clock=clock,
    )
    selftest = SelfTest(
        ledger=ledger, intake=Intake(clients, graph, settings.selftest_workflow), survey=survey,
        notifier=notifier, settings=settings, clock=clock)
    firewalls = Firewalls(clients, graph, clock)
    removal = Removal(ledger=ledger, firewalls=firewalls, notifier=notifier, ownership=ownership,
                      settings=settings, clock=clock)
    watch = Watch(ledger=ledger, firewalls=firewalls, activity=activity, machines=machines, removal=removal,
                  notifier=notifier, policy=policy, settings=settings, clock=clock)
    desk = Desk(ledger=ledger, firewalls=firewalls, watch=watch, removal=removal, notifier=notifier,
                clock=clock)
    sweep = Sweep(
        responder=responder,
        second_look=SecondLook(ledger=ledger, tracer=tracer, responder=responder, notifier=notifier,
                               settings=settings, clock=clock),
        investigator=investigator, escalation=escalation, commit=commit, watch=watch,
        removal=removal, selftest=selftest, ledger=ledger, defender=defender, graph=graph,
        surroundings=surroundings,
        assessor=assessor, notifier=notifier, policy=policy, ownership=ownership, settings=settings,
        clock=clock,
    )
    operator = Operator(
        responder=responder, investigator=investigator, escalation=escalation, dossier=dossier,
        survey=survey, commit=commit, ledger=ledger, defender=defender, network=network, managed=managed,
        graph=graph, notifier=notifier, policy=policy, ownership=ownership, settings=settings, clock=clock,
    )
    api = Api(operator, FirewallApi(desk, settings, clock), selftest, ledger, policy, settings, clock)
    return App(settings, clock, ledger, responder, investigator, escalation, store, sweep, selftest, operator,
               watch, removal, desk, api)
