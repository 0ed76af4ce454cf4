"""What comes next about a rogue rule: told, asked, taken out or left to people, by what is known of it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remediation.firewall.hosts import Hosts
from remediation.firewall.incident import (
    Around,
    Author,
    Do,
    Incident,
    Next,
    State,
    consider,
    in_hand,
    in_words,
    together,
)
from remediation.firewall.rogue import Class, Finding, find
from remediation.firewall.rules import rules_of_policies
from remediation.model import Mode
from remediation.owned import Ownership
from remediation.policy import Egress, FirewallAction, load_policy
from tests.unit.firewalls import FIREWALL, application, collection, group, nat, network

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = NOW - timedelta(days=1000)
HOSTS = Hosts(Hosts.owned([
    {"address": "10.0.0.4", "machine": "/VM-1"}, {"address": "10.0.1.4", "machine": "/vm-2"},
    {"address": "", "machine": "/vm-3"}]))
ASK = load_policy().firewall
REMOVE, DENY, NOTIFY = (replace(ASK, action=a) for a in (
    FirewallAction.REMOVE, FirewallAction.DENY, FirewallAction.NOTIFY))
CALM = Around(NOW, Mode.ENFORCE, active=True, created=OLD)


def findings(*rules: dict[str, Any]) -> list[Finding]:
    return together(find(rules_of_policies(FIREWALL, [[group(collection(*rules))]], {}), HOSTS))


def finding(name: str = "any", **changes: Any) -> Finding:
    return findings(network(name, **changes))[0]


def said(before: Incident | None = None, policy: Egress = ASK, one: Finding | None = None,
         author: Author | None = None, **around: Any) -> Next:
    return consider(one or finding(), before, author, replace(CALM, **around), policy)


def known(state: State, **changes: Any) -> Incident:
    return replace(said().incident, state=state, etag="e", **changes)


def test_unasked_only_where_all_is_sure():
    found = said(policy=REMOVE)
    assert (found.do, found.incident.state, found.incident.round, found.incident.decided_by) == (
        Do.ACT, State.REMOVING, 1, "policy")
    assert said(policy=DENY).incident.action is FirewallAction.DENY
    assert said(policy=REMOVE, author=Author("ann", NOW - timedelta(days=1))).do is Do.ACT
    young = NOW - timedelta(days=1)
    assert said(policy=REMOVE, created=young, absent=young).do is Do.ACT, "it was not there then"


@pytest.mark.parametrize(("doubt", "around", "one", "author"), [
    ("no active incident", {"active": False}, None, None),
    ("when the machine was made", {"created": None}, None, None),
    ("younger than the rule", {"created": NOW}, None, Author("ann", OLD)),
    ("younger than the rule", {"created": NOW - timedelta(days=3)}, None, None),
    ("younger than the rule", {"created": NOW, "absent": NOW - timedelta(hours=1)}, None, None),
    ("activity log cannot be read", {"logged": False}, None, None),
    ("not match in every point", {}, finding(sources=["10.0.0.0/28"]), None),
])
def test_each_doubt_asks_and_is_named(doubt: str, around: dict[str, Any], one: Finding | None,
                                      author: Author | None):
    found = said(policy=REMOVE, one=one, author=author, **around)
    assert (found.do, found.incident.state) == (Do.ASK, State.ASKING)
    assert doubt in found.incident.detail
    assert found.incident.until == NOW + ASK.question


def test_pause_and_cap_keep_from_acting():
    assert said(policy=REMOVE, paused=True).do is Do.ASK
    assert said(policy=REMOVE, capped=Mode.APPROVE).do is Do.ASK
    assert said(policy=REMOVE, capped=Mode.SIMULATE).do is Do.TELL
    assert said(policy=NOTIFY).do is Do.TELL
    assert said(policy=DENY, active=False).incident.action is FirewallAction.DENY, "what a yes has done"


@pytest.mark.parametrize(("state", "do"), [
    (State.TOLD, Do.NOTHING), (State.ASKING, Do.NOTHING), (State.REMOVING, Do.NOTHING),
    (State.RESTORING, Do.NOTHING), (State.RESTORED, Do.NOTHING), (State.STOPPED, Do.NOTHING),
    (State.FAILED, Do.NOTHING), (State.KEPT, Do.NOTHING), (State.GONE, Do.ASK), (State.REMOVED, Do.ASK),
    (State.OPEN, Do.ASK),
])
def test_what_is_known_already(state: State, do: Do):
    found = said(known(state), alerts=["a"])
    assert found.do is do
    assert found.incident.alerts == ("a",)
    assert found.returned is (state in (State.REMOVED, State.OPEN))


def test_a_question_that_is_open_is_acted_upon_once_nothing_is_in_doubt():
    assert said(known(State.ASKING), policy=REMOVE).do is Do.ACT
    assert said(known(State.TOLD), policy=NOTIFY).do is Do.NOTHING
    assert said(known(State.REMOVED), policy=NOTIFY).do is Do.TELL, "it has come back"


def test_what_is_written_anew_is_asked_anew_and_keeps_its_history():
    author = Author("ann", OLD)
    before = known(State.TOLD, author=author, found=OLD, round=1)
    found = said(before, one=finding("renamed"))
    assert (found.do, found.incident.author, found.incident.found, found.incident.round) == (
        Do.ASK, None, OLD, 1)
    assert said(before).incident.author == author


def test_after_some_rounds_people_must_act():
    for state in (State.REMOVED, State.GONE, State.STOPPED):
        before = known(state, round=ASK.rounds, returns=ASK.rounds - 1, action=FirewallAction.DENY)
        found = said(before, one=finding("again"), policy=REMOVE)
        assert (found.do, found.incident.state, found.returned) == (Do.STOP, State.STOPPED, True)
        assert found.incident.action is FirewallAction.DENY, "what there is to put back"
    first = said(known(State.REMOVED, round=1), policy=REMOVE)
    assert (first.do, first.incident.round, first.incident.returns) == (Do.ACT, 2, 1)


def test_what_was_there_all_along_has_not_come_back():
    other = finding("other", destinations=["0.0.0.0/0"])
    found = said(known(State.OPEN, round=1), one=other, policy=REMOVE)
    assert (found.do, found.returned, found.incident.returns) == (Do.ACT, False, 0)
    again = said(known(State.OPEN, round=1), one=finding("again"), policy=REMOVE)
    assert (again.returned, again.incident.returns) == (True, 1), "the very rule that was taken out"
    assert said(known(State.GONE), policy=REMOVE).returned is False, "nobody had taken it out"


def test_what_comes_back_after_a_failure_or_a_stop_is_told_again():
    for state in (State.FAILED, State.STOPPED):
        before = known(state, round=1)
        assert said(before).do is Do.NOTHING
        found = said(before, absent=NOW - timedelta(hours=1))
        assert (found.do, found.returned) == (Do.ASK, True), "a look had not seen it since"


def test_what_a_person_keeps_stays_until_it_changes():
    kept = known(State.KEPT, decided_by="ann")
    assert said(kept, policy=REMOVE).do is Do.NOTHING, "whatever the policy says"
    assert said(kept, policy=REMOVE, one=finding("other")).do is Do.ACT


def test_what_is_not_rogue_is_told_once():
    wide = finding(sources=["*"])
    first = said(policy=REMOVE, one=wide)
    assert (first.do, first.incident.state) == (Do.TELL, State.TOLD)
    assert said(first.incident, policy=REMOVE, one=wide).do is Do.NOTHING
    changed = finding("other", sources=["*"])
    assert said(first.incident, policy=REMOVE, one=changed).do is Do.TELL


def test_an_incident_is_the_same_after_the_ledger():
    for author, until in itertools.product((None, Author("ann"), Author("ann", OLD, "1.2.3.4", "op", "c")),
                                           (None, NOW)):
        one = known(State.ASKING, author=author, until=until, absent=until, returns=1)
        assert Incident.from_json(one.to_json(), "e") == one
    assert str(Author("ann", NOW, "1.2.3.4")) == "ann at 2026-01-01T00:00:00.000Z from 1.2.3.4"
    assert str(Author("ann")) == "ann"
    assert len(known(State.TOLD).owners) == 1


def test_findings_about_one_machine_are_one():
    (one,) = findings(network("a"), network("b"))
    assert [r.where.rule for r in one.rules] == ["a", "b"]
    two = findings(network("a"), network("b", sources=["10.0.1.4"]))
    assert len(two) == 2
    less = replace(one, holds="SD")
    assert together([less, one])[0].holds == one.holds


def test_half_of_what_is_taken_out_is_no_news():
    pieces = [network("tcp", protocols=["TCP"]), network("udp", protocols=["UDP"])]
    (whole,) = findings(*pieces)
    (half,) = findings(pieces[0])
    assert half.kind is Class.PARTIAL
    removing = replace(said(one=whole).incident, state=State.REMOVING)
    assert in_hand(half, [removing])
    assert not in_hand(whole, [removing]), "it is the incident itself"
    assert not in_hand(half, [replace(removing, state=State.REMOVED)])
    assert in_hand(half, [replace(removing, state=State.REMOVED, action=FirewallAction.DENY)])


def test_rules_are_put_in_words():
    level = [group(collection(network(ports=["22", "80-90"]), application()), collection(
        nat(), name="nat", action="Dnat"))]
    words = [in_words(r) for r in rules_of_policies(FIREWALL, [level], {}).rules]
    assert words == ["Allow tcp from * to 203.0.113.1, ports 0-65535",
                     "Allow tcp/udp from 10.0.0.4 to *, ports 22, 80-90",
                     "Allow tcp from 10.0.0.4 to *, ports 80, 443"]
    wall = group(collection(network(protocols=["ICMP"]), action="Deny"))
    denied = rules_of_policies(FIREWALL, [[wall]], {})
    assert in_words(denied.rules[0]) == "Deny - from 10.0.0.4 to *, ports 0-65535"


def test_our_collections_bear_the_deployments_name():
    assert Ownership("prod").deny_prefix == "defender-deny-prod"
