"""Virtual Network Manager: an AlwaysAllow that meets the attacker's packets first makes an NSG's deny
worthless, and nothing else of it does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from remediation.managed import rules_from_arm
from remediation.model import BlockKey, Direction, Target
from remediation.nsg import Nsg
from remediation.owned import Ownership, Wanted
from remediation.proof import Outcome, prove

OURS = Ownership("prod")
ID, NET = "/nsg", "/vnet"
ATTACKER = "198.51.100.7"
OUT, IN = Direction.OUTBOUND, Direction.INBOUND
TARGET = Target("/vm", "/nic", f"{NET}/subnets/app", ("10.0.0.4",))
ANY = [{"addressPrefix": "*", "addressPrefixType": "IPPrefix"}]
EVERY = {"sourcePortRanges": ["0-65535"], "destinationPortRanges": ["0-65535"]}


def rule(access: str, priority: int = 10, direction: str = "Outbound", name: str = "r",
         **changes: Any) -> dict[str, Any]:
    return {"id": f"/managers/m/rules/{name}", "kind": "Custom", "properties": {
        "access": access, "priority": priority, "direction": direction, "protocol": "Any", "sources": [],
        "destinations": [], **EVERY, **changes}}


def side(*prefixes: str, kind: str = "IPPrefix") -> list[dict[str, str]]:
    return [{"addressPrefix": p, "addressPrefixType": kind} for p in prefixes]


def proof(
    *bodies: dict[str, Any], direction: Direction = OUT, target: Target = TARGET, net: str = NET
) -> Any:
    ours = Wanted(OURS.name(direction, 4), direction, 4, (ATTACKER,), 150).as_rule(OURS.description("ab"))
    nsg = Nsg(ID, (ours,), frozenset({target.subnet_id}))
    return prove(nsg, BlockKey(ID, direction, ATTACKER), [target], OURS, {net: rules_from_arm(bodies)})


def test_what_is_always_allowed_is_not_stopped_and_the_rule_is_named():
    found = proof(rule("AlwaysAllow", name="updates", destinations=ANY))
    assert (found.outcome, found.rule) == (Outcome.SHADOWED, "updates")
    assert "AlwaysAllow" in found.detail
    assert "Virtual Network Manager" in found.detail


HARMLESS = {
    "an Allow leaves it to the NSGs": [rule("Allow")],
    "a Deny stops it, too": [rule("Deny")],
    "a Deny before it": [rule("Deny", 5), rule("AlwaysAllow", 10)],
    "an Allow before it passes on to the NSGs": [rule("Allow", 5), rule("AlwaysAllow", 10)],
    "of the other direction": [rule("AlwaysAllow", direction="Inbound")],
    "to another address": [rule("AlwaysAllow", destinations=side("203.0.113.0/24"))],
    "to a network group: those are ours": [
        rule("AlwaysAllow", destinations=side("/group", kind="NetworkGroup"))],
    "to the balancer's probes": [
        rule("AlwaysAllow", destinations=side("AzureLoadBalancer", kind="ServiceTag"))],
    "from another machine": [rule("AlwaysAllow", sources=side("10.0.0.5"))],
    "from the other family": [rule("AlwaysAllow", sources=side("fd00::/8"))],
    "covered port by port": [
        rule("Deny", 1, protocol="Tcp", destinationPortRanges=["0-442"]),
        rule("Deny", 2, protocol="Tcp", destinationPortRanges=["443-65535"]),
        rule("AlwaysAllow", 10, protocol="Tcp")],
}
HARMFUL = {
    "of every address": [rule("AlwaysAllow")],
    "to the internet": [rule("AlwaysAllow", destinations=side("Internet", kind="ServiceTag"))],
    "to a tag that may hold it": [rule("AlwaysAllow", destinations=side("Storage", kind="ServiceTag"))],
    "to a range that holds it": [rule("AlwaysAllow", destinations=side("198.51.100.0/24"))],
    "on one port": [rule("AlwaysAllow", protocol="Tcp", destinationPortRanges=["443"])],
    "from the machine": [rule("AlwaysAllow", sources=side("10.0.0.0/24"))],
    "from a network group that may hold it": [
        rule("AlwaysAllow", sources=side("/group", kind="NetworkGroup"))],
    "after a Deny of less": [rule("Deny", 5, protocol="Tcp"), rule("AlwaysAllow", 10)],
}


@pytest.mark.parametrize("case", HARMLESS)
def test_the_deny_holds(case: str):
    assert proof(*HARMLESS[case]).effective


@pytest.mark.parametrize("case", HARMFUL)
def test_the_deny_does_not_hold(case: str):
    assert proof(*HARMFUL[case]).outcome is Outcome.SHADOWED


def test_inbound_it_is_the_source_that_counts():
    inbound = rule("AlwaysAllow", direction="Inbound", sources=side("198.51.100.7"), destinations=ANY)
    assert proof(inbound, direction=IN).outcome is Outcome.SHADOWED
    elsewhere = rule("AlwaysAllow", direction="Inbound", sources=side("203.0.113.1"), destinations=ANY)
    assert proof(elsewhere, direction=IN).effective


def test_each_network_has_rules_of_its_own():
    assert proof(rule("AlwaysAllow"), net="/other").effective
    two = [TARGET, replace(TARGET, machine_id="/vm2", nic_id="/nic2", subnet_id="/other/subnets/app")]
    ours = Wanted(OURS.name(OUT, 4), OUT, 4, (ATTACKER,), 150).as_rule(OURS.description("ab"))
    nsg = Nsg(ID, (ours,), frozenset(t.subnet_id for t in two))
    over = {"/other": rules_from_arm([rule("AlwaysAllow")])}
    assert prove(nsg, BlockKey(ID, OUT, ATTACKER), two, OURS, over).outcome is Outcome.SHADOWED


def test_a_machine_without_known_addresses_may_have_any():
    nowhere = replace(TARGET, addresses=())
    assert proof(rule("AlwaysAllow", sources=side("10.0.0.99")), target=nowhere).outcome is Outcome.SHADOWED


@pytest.mark.parametrize("without", ["direction", "access"])
def test_a_rule_that_does_not_say_what_it_does_may_let_it_pass(without: str):
    body = rule("AlwaysAllow", name="odd")
    del body["properties"][without]
    for direction in (OUT, IN) if without == "direction" else (OUT,):
        assert proof(body, direction=direction).rule == "odd"
