"""Rules as data: collapsing never widens, the difference gives the wanted rules, others are left."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.model import Direction
from remediation.nsg import (
    HIGHEST_PRIORITY,
    Nsg,
    Rule,
    collapse,
    digest,
    family_of,
    may_match_remote,
    nsg_from_arm,
    rule_from_arm,
    rule_to_arm,
    same_effect,
    with_flush,
)
from remediation.owned import Ownership, Wanted, Window, difference, is_parked, room_for, wanted_rules
from remediation.prefixes import network, reach

ID = "/subscriptions/s/resourcegroups/g/providers/microsoft.network/networksecuritygroups/n"
OURS = Ownership("prod")
WINDOW = Window(150, 199)
IN, OUT = Direction.INBOUND, Direction.OUTBOUND


def rule(name: str = "r", priority: int = 300, direction: Direction = IN, *, allow: bool = True,
         **fields: Any) -> Rule:
    return Rule(name=name, priority=priority, direction=direction, allow=allow, **fields)


def nsg(*rules: Rule) -> Nsg:
    return Nsg(ID, rules)


def slot(found: tuple[Wanted, ...], direction: Direction, family: int = 4) -> Wanted:
    return next(w for w in found if w.direction is direction and w.family == family)


def applied(before: Nsg, wanted: tuple[Wanted, ...]) -> Nsg:
    """The NSG after the writes of the difference."""
    rules = {r.name: r for r in before.rules}
    for write in difference(before, wanted, OURS):
        if write.rule is None:
            del rules[write.name]
        else:
            rules[write.name] = replace(write.rule, description=OURS.description("ab12"))
    return nsg(*rules.values())


# --- collapsing -----------------------------------------------------------------------------------


V4 = st.integers(0, 2**32 - 1).map(lambda n: str(ipaddress.IPv4Address(n)))
NEAR = st.integers(0, 40).map(lambda n: f"198.51.100.{n}")
V6 = st.integers(0, 30).map(lambda n: str(ipaddress.IPv6Address((0x20010DB8 << 96) + n)))


@given(st.one_of(st.lists(V4), st.lists(NEAR), st.lists(V6)))
def test_collapsing_never_widens_and_never_loses(addresses: list[str]):
    found = collapse(addresses)
    hosts = {str(a) for p in found for a in ipaddress.ip_network(p)}
    assert hosts == set(addresses)
    nets = [ipaddress.ip_network(p) for p in found]
    assert not any(a.overlaps(b) for n, a in enumerate(nets) for b in nets[n + 1 :])
    assert found == collapse(reversed(addresses))


def test_a_single_address_stands_without_its_length():
    assert collapse(["198.51.100.7"]) == ("198.51.100.7",)
    assert collapse(["198.51.100.6", "198.51.100.7"]) == ("198.51.100.6/31",)


# --- wanted rules and the difference --------------------------------------------------------------


RULES = st.lists(
    st.builds(
        lambda n, p, d, a, s: rule(f"user-{n}", p, d, allow=a, sources=(s,), destinations=(s,)),
        st.integers(0, 99), st.integers(100, 260), st.sampled_from(Direction), st.booleans(),
        st.sampled_from(["*", "internet", "198.51.100.0/24", "10.0.0.0/8", "virtualnetwork",
                         "azureloadbalancer"]),
    ), max_size=25, unique_by=(lambda r: r.name, lambda r: (r.priority, r.direction)),
)
WANTED = st.dictionaries(st.sampled_from(Direction), st.lists(st.one_of(NEAR, V6), max_size=8))


@given(RULES, WANTED, WANTED)
def test_the_difference_applied_gives_the_wanted_rules(
    users: list[Rule], first: dict[Direction, list[str]], second: dict[Direction, list[str]]
):
    before = nsg(*users)
    for addresses in (first, second):
        after = before
        for _ in range(3):  # a rule that goes may leave a better number to one that stays
            after = applied(after, wanted_rules(after, addresses, OURS, WINDOW))
        assert not difference(after, wanted_rules(after, addresses, OURS, WINDOW), OURS)
        for direction in Direction:
            for family in (4, 6):
                mine = next((r for r in after.rules if r.name == OURS.name(direction, family)), None)
                given_ = {a for a in addresses.get(direction, []) if family_of(a) == family}
                assert (mine is not None) == bool(given_)
                if mine is not None:
                    assert not mine.allow
                    assert set(mine.remote) == set(collapse(given_))
        assert [r for r in after.rules if r.name.startswith("user-")] == users
        taken = [(r.priority, r.direction) for r in after.rules]
        assert len(taken) == len(set(taken))
        before = after


def test_the_lowest_free_number_of_the_window_is_taken():
    users = [rule("a", 150), rule("b", 151, allow=False), rule("c", 152, OUT)]
    users[0] = replace(users[0], sources=("10.0.0.0/8",))
    found = wanted_rules(nsg(*users), {IN: ["198.51.100.7"], OUT: ["198.51.100.7"]}, OURS, WINDOW)
    assert slot(found, IN).priority == 152
    assert slot(found, OUT).priority == 150
    assert not slot(found, IN).outside_window


def test_an_allow_that_may_match_is_beaten_outside_the_window_if_need_be():
    found = wanted_rules(nsg(rule("a", 130), rule("b", 129, allow=False)), {IN: ["198.51.100.7"]},
                         OURS, WINDOW)
    assert slot(found, IN).priority == 128
    assert slot(found, IN).outside_window


def test_where_nothing_beats_the_allow_the_rule_is_written_all_the_same():
    found = wanted_rules(nsg(rule("a", 100)), {IN: ["198.51.100.7"]}, OURS, WINDOW)
    assert slot(found, IN).priority == 150


def test_a_number_once_held_is_kept_while_it_is_good():
    mine = rule(OURS.name(IN, 4), 170, allow=False, description=OURS.description("a"))
    found = wanted_rules(nsg(mine), {IN: ["198.51.100.7"]}, OURS, WINDOW)
    assert slot(found, IN).priority == 170
    shadowed = wanted_rules(nsg(mine, rule("a", 160)), {IN: ["198.51.100.7"]}, OURS, WINDOW)
    assert slot(shadowed, IN).priority == 150
    hopeless = wanted_rules(nsg(mine, rule("a", 100)), {IN: ["198.51.100.7"]}, OURS, WINDOW)
    assert slot(hopeless, IN).priority == 170
    low = replace(mine, priority=120)
    assert slot(wanted_rules(nsg(low), {IN: ["198.51.100.7"]}, OURS, WINDOW), IN).outside_window


def test_a_full_window_leads_outside_and_a_full_nsg_to_no_number():
    full = [rule(f"u{p}", p, allow=False) for p in range(150, 200)]
    found = slot(wanted_rules(nsg(*full), {IN: ["198.51.100.7"]}, OURS, WINDOW), IN)
    assert found.priority == 149
    everything = [rule(f"u{p}", p, allow=False) for p in range(100, HIGHEST_PRIORITY + 1)]
    found = slot(wanted_rules(nsg(*everything), {IN: ["198.51.100.7"]}, OURS, WINDOW), IN)
    assert found.priority == 0
    assert difference(nsg(*everything), (found,), OURS) == ()
    below = [rule(f"u{p}", p, allow=False) for p in range(100, 200)]
    found = slot(wanted_rules(nsg(*below), {IN: ["198.51.100.7"]}, OURS, WINDOW), IN)
    assert found.priority == 200
    assert found.outside_window
    above = [rule(f"u{p}", p, allow=False) for p in range(150, HIGHEST_PRIORITY + 1)]
    above.append(rule("first", 100))
    found = slot(wanted_rules(nsg(*above), {IN: ["198.51.100.7"]}, OURS, WINDOW), IN)
    assert found.priority == 101


def test_families_have_rules_of_their_own_with_numbers_of_their_own():
    found = wanted_rules(nsg(), {IN: ["198.51.100.7", "2001:db8::7"]}, OURS, WINDOW)
    assert slot(found, IN, 4).priority == 150
    assert slot(found, IN, 6).priority == 151
    assert slot(found, IN, 6).name.endswith("-inbound-v6")


def test_a_rule_of_our_name_that_is_not_ours_is_left_alone():
    theirs = rule(OURS.name(IN, 4), 150, description="hand-made")
    wanted = wanted_rules(nsg(theirs), {}, OURS, WINDOW)
    assert difference(nsg(theirs), wanted, OURS) == ()
    assert OURS.claims_name(theirs)
    assert not OURS.owns(theirs)
    assert not OURS.claims_name(rule("x"))


def test_a_parked_rule_counts_as_absent():
    parked = rule(OURS.name(IN, 4), 150, allow=False, sources=("192.0.2.1",),
                  description=OURS.parked_description("a"))
    assert OURS.owns(parked)
    assert is_parked(parked)
    assert not is_parked(replace(parked, description=OURS.description("a"))), "a real block of it"
    assert not is_parked(replace(parked, allow=True))
    assert difference(nsg(parked), wanted_rules(nsg(parked), {}, OURS, WINDOW), OURS) == ()


def test_a_write_is_a_put_or_a_delete():
    mine = rule(OURS.name(IN, 4), 150, allow=False, sources=("198.51.100.9",),
                description=OURS.description("a"))
    put, = difference(nsg(mine), wanted_rules(nsg(mine), {IN: ["198.51.100.7"]}, OURS, WINDOW), OURS)
    delete, = difference(nsg(mine), wanted_rules(nsg(mine), {}, OURS, WINDOW), OURS)
    assert (put.kind, delete.kind) == ("put", "delete")
    assert delete.before == mine


def test_a_rule_whose_write_failed_is_written_again():
    mine = rule(OURS.name(IN, 4), 150, allow=False, sources=("198.51.100.7",), state="Failed",
                description=OURS.description("a"))
    wanted = wanted_rules(nsg(mine), {IN: ["198.51.100.7"]}, OURS, WINDOW)
    assert [w.kind for w in difference(nsg(mine), wanted, OURS)] == ["put"]


def test_the_token_tells_which_write_made_a_rule():
    assert OURS.token_of(rule(description=OURS.description("0a1b"))) == "0a1b"
    assert OURS.token_of(rule()) == ""
    assert len(Ownership("x" * 20).description("a" * 8)) <= 140
    assert len(Ownership("x" * 20).name(OUT, 6)) <= 80


# --- reading and writing ARM's JSON ---------------------------------------------------------------


def test_what_is_written_reads_back_the_same():
    for direction in Direction:
        wanted = Wanted("x", direction, 4, ("198.51.100.0/31", "203.0.113.5"), 150)
        mine = wanted.as_rule(OURS.description("ab"))
        body = {"name": "x", **rule_to_arm(mine)}
        assert rule_from_arm(body) == mine
        assert rule_to_arm(replace(mine, allow=True))["properties"]["access"] == "Allow"


def test_an_nsg_is_read_with_singular_and_plural_fields():
    found = nsg_from_arm({
        "id": ID.upper(), "location": "westeurope",
        "properties": {
            "securityRules": [{"name": "A", "properties": {
                "priority": 100, "direction": "Inbound", "access": "Allow", "protocol": "Tcp",
                "sourceAddressPrefix": "Internet", "destinationAddressPrefixes": ["10.0.0.4"],
                "sourcePortRange": "*", "destinationPortRanges": ["80", "443-445"],
                "destinationApplicationSecurityGroups": [{"id": "/ASG"}],
            }}],
            "subnets": [{"id": "/SUB"}], "networkInterfaces": [{"id": "/NIC"}],
        },
    })
    one = found.rules[0]
    assert found.id == ID
    assert found.subnets == {"/sub"}
    assert found.nics == {"/nic"}
    assert one.remote == ("internet",)
    assert one.local == ("10.0.0.4",)
    assert one.destination_ports == ((80, 80), (443, 445))
    assert one.local_groups == ("/asg",)
    assert one.remote_groups == ()
    assert replace(one, direction=OUT).local_groups == ()
    assert replace(one, direction=OUT).remote_groups == ("/asg",)
    assert nsg_from_arm({"id": ID}).rules == ()


# --- matching, effect, room -----------------------------------------------------------------------


@pytest.mark.parametrize(("sources", "may"), [
    (("*",), True), (("internet",), True), (("virtualnetwork",), True), (("storage.westeurope",), True),
    (("azureloadbalancer",), False), (("10.0.0.0/8",), False), (("198.51.100.0/24",), True),
    (("2001:db8::/32",), False),
])
def test_a_tag_that_cannot_be_resolved_may_match(sources: tuple[str, ...], may: bool):
    assert may_match_remote(rule(sources=sources), reach(["198.51.100.7"]).held) is may


def test_application_security_groups_hold_no_attacker():
    assert not may_match_remote(rule(sources=(), source_groups=("/asg",)), reach(["198.51.100.7"]).held)


def test_equal_effect_is_not_equal_spelling():
    one = rule(allow=False, sources=("198.51.100.7", "203.0.113.0/24"))
    other = replace(one, sources=("203.0.113.0/24", "198.51.100.7/32"), description="other")
    assert same_effect(one, other)
    assert digest(one) == digest(other)
    assert not same_effect(one, replace(one, priority=301))
    assert digest(one) != digest(replace(one, allow=True))


def test_room_counts_each_side_over_all_rules_but_ours():
    users = [rule("a", 200, sources=tuple(f"10.0.0.{n}" for n in range(100))), rule("b", 201, OUT)]
    mine = rule(OURS.name(IN, 4), 150, allow=False, description=OURS.description("a"),
                sources=("198.51.100.7", "198.51.100.9"))
    ours_on_this_side = 2
    assert room_for(nsg(*users, mine), OURS, IN) == 4000 - 100 - 1 - ours_on_this_side
    assert room_for(nsg(*users, mine), OURS, OUT) == 4000 - 1 - 1 - ours_on_this_side
    assert room_for(nsg(rule(sources=("10.0.0.1",) * 5000)), OURS, IN) == 0


def test_networks_and_tags_are_told_apart():
    assert network("Internet") is None
    assert str(network("10.0.0.1")) == "10.0.0.1/32"
    assert rule(sources=("internet", "198.51.100.0/24")).names("198.51.100.7")
    assert not rule(sources=("*",)).names("198.51.100.7")


def test_an_nsg_is_written_whole_with_nothing_changed_but_the_flush():
    body = {"id": "/nsg", "etag": "e", "location": "westeurope", "tags": {"a": "b"}, "properties": {
        "securityRules": [{"name": "theirs", "properties": {"priority": 100, "newField": 1}}],
        "flushConnection": False, "newSetting": 7, "provisioningState": "Succeeded",
        "subnets": [{"id": "s"}]}}
    written = with_flush(body, on=True)
    assert written == {"id": "/nsg", "location": "westeurope", "tags": {"a": "b"}, "properties": {
        "securityRules": [{"name": "theirs", "properties": {"priority": 100, "newField": 1}}],
        "flushConnection": True, "newSetting": 7}}
    assert body["properties"]["flushConnection"] is False  # type: ignore[index]  # plain data
    assert with_flush({"id": "/nsg"}, on=False)["properties"] == {"flushConnection": False}
