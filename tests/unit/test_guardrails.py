"""What is never blocked, and what a person is asked about first."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.guardrails import (
    Estate,
    Hold,
    Protected,
    Surroundings,
    partner_rule,
    questions,
    refusal,
)
from remediation.model import Direction
from remediation.nsg import Nsg, Rule
from remediation.policy import load_policy
from remediation.prefixes import PrefixSet

RAILS = load_policy().guardrails
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ATTACKER = "198.51.100.7"
ESTATE = Estate(NOW, frozenset({"203.0.113.10"}), PrefixSet([ipaddress.ip_network("203.0.113.128/25")]))
AROUND = Surroundings(ESTATE, (Protected("203.0.113.64/26", "partner"),))


@pytest.mark.parametrize("address", [
    "168.63.129.16", "169.254.169.254", "10.0.0.1", "127.0.0.1", "224.0.0.1", "0.0.0.0", "255.255.255.255",  # noqa: S104 - data
    "100.64.0.1", "::1", "fe80::1", "fc00::1", "ff02::1", "64:ff9b::c633:6407", "2002:c633:6407::1",
    "203.0.113.10", "203.0.113.200", "203.0.113.65", "198.51.100.0/24", "2001:db8::/64", "nonsense",
    "::ffff:198.51.100.7", "::198.51.100.7",
])
def test_some_addresses_are_never_blocked(address: str):
    assert refusal(address, RAILS, AROUND)


@pytest.mark.parametrize("address", [ATTACKER, "192.0.2.7", "2001:db8::7", "203.0.113.20"])
def test_other_addresses_may_be_blocked(address: str):
    assert refusal(address, RAILS, AROUND) is None


def test_a_public_attacker_raises_no_question():
    assert questions(ATTACKER, RAILS, AROUND, None, NOW) == ()


@pytest.mark.parametrize(("around", "word"), [
    (Surroundings(Estate()), "not known freshly"),
    (Surroundings(Estate(NOW - timedelta(hours=25))), "not known freshly"),
    (Surroundings(Estate(NOW, services_known=False)), "cannot be read"),
    (Surroundings(Estate(NOW, services={"AzureCloud": PrefixSet([ipaddress.ip_network("198.51.100.0/24")])})),
     "AzureCloud"),
    (Surroundings(ESTATE, holds={ATTACKER: Hold(ATTACKER, NOW + timedelta(hours=1), "ann", "ours", NOW)}),
     "ann revoked"),
])
def test_doubt_asks_first(around: Surroundings, word: str):
    assert word in questions(ATTACKER, RAILS, around, None, NOW)[0]


def test_a_service_tag_elsewhere_asks_nothing():
    other = {"Storage": PrefixSet([ipaddress.ip_network("192.0.2.0/24")])}
    assert questions(ATTACKER, RAILS, Surroundings(Estate(NOW, services=other)), None, NOW) == ()


def test_a_hold_that_is_over_asks_nothing():
    around = Surroundings(ESTATE, holds={ATTACKER: Hold(ATTACKER, NOW, "ann", "ours", NOW)})
    assert questions(ATTACKER, RAILS, around, None, NOW) == ()


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "104.16.1.1", "2606:4700:4700::1111"])
def test_public_resolvers_and_content_networks_ask_first(address: str):
    assert len(questions(address, RAILS, AROUND, None, NOW)) == 1


def allow(source: str, *, permit: bool = True) -> Nsg:
    return Nsg("/n", (Rule(name="a", priority=200, direction=Direction.INBOUND, allow=permit,
                           sources=(source,)),))


@pytest.mark.parametrize(("source", "partner"), [
    (ATTACKER, True), ("198.51.100.0/24", True), ("198.51.0.0/16", True), ("198.0.0.0/8", False),
    ("*", False), ("internet", False), ("192.0.2.0/24", False),
])
def test_an_address_allowed_by_name_is_a_partner(source: str, partner: bool):
    found = questions(ATTACKER, RAILS, AROUND, allow(source), NOW)
    assert bool(found) is partner
    assert questions(ATTACKER, RAILS, AROUND, allow(source, permit=False), NOW) == ()


def test_ipv6_partners_count_from_a_longer_prefix():
    assert partner_rule(allow("2001:db8::/64"), "2001:db8::7", 16) is not None
    assert partner_rule(allow("2001:db8::/32"), "2001:db8::7", 16) is None


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(8, 32)), max_size=20),
       st.integers(0, 2**32 - 1))
def test_a_prefix_set_holds_what_its_prefixes_hold(pairs: list[tuple[int, int]], number: int):
    nets = [ipaddress.IPv4Network((n, length), strict=False) for n, length in pairs]
    held = PrefixSet(nets)
    for probe in (number, *(int(n.network_address) for n in nets), *(int(n.broadcast_address) for n in nets)):
        one = ipaddress.IPv4Address(probe)
        assert (str(one) in held) == any(one in n for n in nets)
    assert "2001:db8::1" not in held
