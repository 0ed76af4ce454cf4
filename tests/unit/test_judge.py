"""The benchmark's judge: who is denied, since when."""

from __future__ import annotations

from typing import Any

from bench.judge import DECISIVE, OTHER, Judge
from bench.loads import Attack, all_loads, attackers
from remediation.policy import load_policy

NSG = "/subscriptions/s/nsg"
ONE, TWO = Attack(NSG, "20.1.2.3"), Attack(NSG, "20.1.2.9")


def rule(priority: int, access: str, *addresses: str, **changes: Any) -> dict[str, Any]:
    return {"priority": priority, "access": access, "direction": "Outbound", "protocol": "*",
            "destinationPortRange": "*", "sourceAddressPrefix": "*",
            "destinationAddressPrefixes": list(addresses), **changes}


def effect(at: float, *, whole: bool = False, **rules: Any) -> dict[str, Any]:
    return {"at": at, "nsg": NSG, "whole": whole, "rules": rules}


def judge(*attacks: Attack, **rules: dict[str, Any]) -> Judge:
    return Judge([{"id": NSG, "properties": {
        "securityRules": [{"name": n, "properties": p} for n, p in rules.items()]}}], attacks)


def test_an_attacker_is_denied_from_the_moment_a_rule_holds_it():
    seen = judge(ONE, TWO)
    seen.apply(effect(1, a=rule(150, "Deny", "20.1.2.3")))
    seen.apply(effect(2, a=rule(150, "Deny", "20.1.2.3", "20.1.2.8/29")))
    assert seen.times(DECISIVE) == [1, 2]
    assert seen.times(OTHER) == []


def test_a_lost_update_starts_the_time_anew():
    seen = judge(ONE)
    seen.apply(effect(1, whole=True, a=rule(150, "Deny", "20.1.2.3")))
    seen.apply(effect(2, whole=True, a=rule(150, "Deny", "20.1.2.9")))
    assert seen.times(DECISIVE) == []
    seen.apply(effect(3, a=rule(150, "Deny", "20.1.2.3")))
    assert seen.times(DECISIVE) == [3]


def test_an_allow_before_it_and_a_deny_of_some_ports_block_nobody():
    seen = judge(ONE, allow=rule(100, "Allow", "20.0.0.0/8"))
    seen.apply(effect(1, a=rule(150, "Deny", "20.1.2.3")))
    assert seen.times(DECISIVE) == []
    seen = judge(ONE)
    seen.apply(effect(1, a=rule(150, "Deny", "20.1.2.3", destinationPortRange="443")))
    seen.apply(effect(2, b=rule(160, "Deny", "20.1.2.3", protocol="Tcp")))
    assert seen.times(DECISIVE) == []


def test_a_rule_that_goes_denies_nobody_any_more():
    seen = judge(ONE, a=rule(150, "Deny", "20.1.2.3"))
    seen.apply(effect(1))
    assert seen.times(DECISIVE) == [1]
    seen.apply(effect(2, a=None))
    assert seen.times(DECISIVE) == []


def test_attackers_are_many_public_and_always_the_same_and_no_guardrail_names_them():
    found = attackers(300)
    assert found == attackers(300)
    assert len(set(found)) == 300
    never = load_policy().guardrails.never
    import ipaddress
    assert not any(ipaddress.ip_address(a) in n for a in found for n in never)


def test_the_loads_hold_what_the_project_promises_to_measure():
    loads = {ld.name: ld for ld in all_loads()}
    assert {n: (len(ld.alerts), len(ld.attacks), len({a.nsg for a in ld.attacks}))
            for n, ld in loads.items()} == {
        "one": (1, 1, 1), "storm": (1000, 1000, 10), "copies": (1000, 1, 1),
        "one_nsg": (200, 200, 1), "many_nsgs": (200, 200, 200)}
    assert len(loads["copies"].known) == 1
