"""A block is called effective only if every packet between attacker and machine meets a Deny first:
the proof agrees with a brute-force walk over packets."""

from __future__ import annotations

import ipaddress
import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remediation.model import BlockKey, Direction, Target
from remediation.nsg import ANY_PORT, Nsg, Rule
from remediation.owned import Ownership, Wanted
from remediation.prefixes import network
from remediation.proof import Outcome, first_leak, prove, weak_ones

OURS = Ownership("prod")
ID = "/subscriptions/s/resourcegroups/g/providers/microsoft.network/networksecuritygroups/n"
SUBNET = "/vnet/subnets/app"
ATTACKER = "198.51.100.7"
IN, OUT = Direction.INBOUND, Direction.OUTBOUND
TARGET = Target("/vm", "/nic", SUBNET, ("10.0.0.4",))
PORTS = (0, 22, 80, 443, 65535)
PROTOCOLS = ("tcp", "udp", "icmp", "esp", "ah")
LOCALS = ("10.0.0.4", "10.0.0.5")


def mine(direction: Direction = IN, priority: int = 150, **changes: Any) -> Rule:
    found = Wanted(OURS.name(direction, 4), direction, 4, (ATTACKER,), priority).as_rule(
        OURS.description("ab"))
    return replace(found, **changes)


def allow(priority: int, direction: Direction = IN, **fields: Any) -> Rule:
    return Rule(name=f"allow-{priority}", priority=priority, direction=direction, allow=True, **fields)


def guard(*rules: Rule) -> Nsg:
    return Nsg(ID, rules, frozenset({SUBNET}))


def proof(*rules: Rule, direction: Direction = IN, target: Target = TARGET) -> Any:
    return prove(guard(*rules), BlockKey(ID, direction, ATTACKER), [target], OURS)


# --- brute force ----------------------------------------------------------------------------------------


def walk(rules: list[Rule], local: str, protocol: str, source: int, destination: int) -> bool:
    """Is this packet let through before anything of priority 65000? Rule by rule, as Azure does."""
    for r in sorted(rules, key=lambda r: r.priority):
        if r.protocol not in ("*", protocol):
            continue
        if not _side(r.remote, ATTACKER, internet=True, unknown=r.allow):
            continue
        if not _side(r.local, local, internet=False, unknown=r.allow):
            continue
        if protocol in ("tcp", "udp"):
            inside = any(a <= source <= b for a, b in r.source_ports) and any(
                a <= destination <= b for a, b in r.destination_ports)
        else:
            inside = r.allow or r.source_ports == r.destination_ports == ANY_PORT
        if inside:
            return r.allow
    return False


def _side(prefixes: tuple[str, ...], address: str, *, internet: bool, unknown: bool) -> bool:
    for text in prefixes:
        if text == "*" or (internet and text == "internet"):
            return True
        net = network(text)
        if net is None:
            if unknown and text != "azureloadbalancer":
                return True
        elif ipaddress.ip_address(address) in net:
            return True
    return False


SIDES = st.sampled_from([("*",), ("internet",), (ATTACKER,), ("198.51.100.0/24",), ("10.0.0.4",),
                         ("10.0.0.0/24",), ("virtualnetwork",), ("azureloadbalancer",),
                         ("10.0.0.5", "10.0.0.4")])
RANGES = st.sampled_from([ANY_PORT, ((0, 443),), ((22, 22),), ((80, 80), (443, 443)), ((444, 65535),),
                          ((0, 79),), ((81, 442),), ((0, 21), (23, 65535))])
RULE = st.builds(
    lambda n, d, a, p, s, t, sp, dp: Rule(
        name=f"u{n}", priority=0, direction=d, allow=a, protocol=p, sources=s, destinations=t,
        source_ports=sp, destination_ports=dp),
    st.integers(0, 10_000), st.sampled_from(Direction), st.booleans(),
    st.sampled_from(["*", "tcp", "udp", "icmp"]), SIDES, SIDES, RANGES, RANGES,
)


@settings(max_examples=300)
@given(st.lists(RULE, max_size=7), st.integers(0, 7), st.sampled_from(Direction))
def test_the_proof_agrees_with_a_walk_over_packets(users: list[Rule], place: int, direction: Direction):
    rules = [replace(r, name=f"u{n}", priority=100 + 2 * n) for n, r in enumerate(users)]
    ours = mine(direction, 99 + 2 * place)
    everything = [*rules, ours]
    seen = [r for r in everything if r.direction is direction]
    let_through = any(
        walk(seen, local, protocol, s, d)
        for local in LOCALS for protocol in PROTOCOLS
        for s, d in itertools.product((*PORTS, 21, 23, 79, 81, 442, 444), repeat=2)
    )
    target = replace(TARGET, addresses=LOCALS)
    found = proof(*everything, direction=direction, target=target)
    assert (found.outcome is Outcome.SHADOWED) == let_through
    assert found.effective == (not let_through)


# --- by hand ------------------------------------------------------------------------------------------------


def test_an_allow_before_our_deny_is_named():
    found = proof(allow(100), mine())
    assert found.outcome is Outcome.SHADOWED
    assert found.rule == "allow-100"
    assert "priority 100, Allow" in found.detail


def test_an_allow_after_our_deny_does_no_harm():
    assert proof(mine(), allow(200)).effective


def test_an_allow_that_earlier_denies_cover_together_does_no_harm():
    users = [
        Rule(name="d1", priority=100, direction=IN, allow=False, protocol="tcp",
             destination_ports=((0, 79),)),
        Rule(name="d2", priority=101, direction=IN, allow=False, protocol="tcp",
             destination_ports=((80, 65535),)),
    ]
    assert proof(*users, allow(110, protocol="tcp"), mine()).effective
    assert not proof(users[0], allow(110, protocol="tcp"), mine()).effective


def test_a_foreign_deny_of_everything_ends_the_search():
    wall = Rule(name="wall", priority=100, direction=IN, allow=False)
    assert first_leak(guard(wall, allow(110), mine()).rules, BlockKey(ID, IN, ATTACKER), ["10.0.0.4"]) is None


def test_a_search_that_meets_no_wall_finds_no_leak():
    narrow = Rule(name="d", priority=100, direction=IN, allow=False, protocol="tcp")
    assert first_leak(guard(narrow).rules, BlockKey(ID, IN, ATTACKER), ["10.0.0.4"]) is None


def test_a_missing_rule_is_not_a_block():
    assert proof(allow(200)).outcome is Outcome.MISSING
    assert proof(mine(sources=("198.51.100.8",))).outcome is Outcome.MISSING
    assert proof(mine(description="")).outcome is Outcome.MISSING


def test_a_rule_that_failed_is_not_a_block():
    found = proof(mine(state="Failed"))
    assert found.outcome is Outcome.MISSING
    assert "Failed" in found.detail


def test_a_guard_that_guards_the_machine_no_more_is_told():
    found = proof(mine(), target=replace(TARGET, subnet_id="/other"))
    assert found.outcome is Outcome.DETACHED
    nic = Nsg(ID, (mine(),), nics=frozenset({"/nic"}))
    assert prove(nic, BlockKey(ID, IN, ATTACKER), [TARGET], OURS).effective


def test_without_a_local_address_of_the_family_any_may_be_meant():
    bare = replace(TARGET, addresses=())
    narrow = allow(100, destinations=("10.9.9.9",))
    assert proof(narrow, mine(), target=bare).outcome is Outcome.SHADOWED
    assert proof(narrow, mine()).effective
    deny = Rule(name="d", priority=99, direction=IN, allow=False, destinations=("10.0.0.0/8",))
    assert proof(deny, narrow, mine(), target=bare).outcome is Outcome.SHADOWED


def test_groups_on_the_machines_side_may_match_for_an_allow_only():
    grouped = allow(100, destinations=(), destination_groups=("/asg",))
    assert proof(grouped, mine()).outcome is Outcome.SHADOWED
    deny = Rule(name="d", priority=99, direction=IN, allow=False, destinations=(),
                destination_groups=("/asg",))
    assert proof(deny, grouped, mine()).outcome is Outcome.SHADOWED
    remote = allow(100, sources=(), source_groups=("/asg",))
    assert proof(remote, mine()).effective


def test_an_allow_for_a_portless_protocol_matches_whatever_ports_it_names():
    icmp = allow(100, protocol="icmp", destination_ports=((443, 443),))
    assert proof(icmp, mine()).outcome is Outcome.SHADOWED
    cover = Rule(name="d", priority=99, direction=IN, allow=False, protocol="icmp")
    assert proof(cover, icmp, mine()).effective


def test_what_stands_before_the_machine_and_hides_clients_leaves_inbound_unproven():
    behind = replace(TARGET, hidden="application gateway ag")
    found = proof(mine(), target=behind)
    assert found.outcome is Outcome.UNPROVEN
    assert "application gateway ag hides" in found.detail
    assert proof(mine(OUT), direction=OUT, target=behind).effective, "outbound it hides nothing"


def test_thousands_of_addresses_are_each_looked_for_not_each_compared(monkeypatch: pytest.MonkeyPatch):
    """Counted, not timed: proving n addresses of one rule reads its n prefixes once."""
    read: list[str] = []

    def counted(text: str) -> object:
        read.append(text)
        return network(text)

    monkeypatch.setattr("remediation.prefixes.network", counted)
    addresses = [f"198.{n // 250}.100.{n % 250}" for n in range(2000)]
    rule = Wanted("defender-block-prod-outbound", Direction.OUTBOUND, 4, tuple(addresses), 150).as_rule(
        OURS.description(""))
    nsg = Nsg(ID, (rule,), frozenset({SUBNET}))
    target = Target("/m", "/n", SUBNET, ("10.0.0.4",))
    assert all(prove(nsg, BlockKey(ID, Direction.OUTBOUND, a), [target], OURS).effective for a in addresses)
    assert len(read) < 3 * len(addresses)


def test_a_target_that_may_have_any_address_is_not_proven_by_its_neighbours():
    allow = Rule(name="web", priority=100, direction=Direction.INBOUND, allow=True,
                 destinations=("10.0.2.0/24",))
    ours = Wanted("defender-block-prod-inbound", Direction.INBOUND, 4, (ATTACKER,), 150).as_rule(
        OURS.description(""))
    nsg = Nsg(ID, (allow, ours), frozenset({SUBNET}))
    machine, gateway = Target("/m", "/n", SUBNET, ("10.0.1.4",)), Target("/agw", "/agw", SUBNET, ())
    key = BlockKey(ID, Direction.INBOUND, ATTACKER)
    assert prove(nsg, key, [machine], OURS).effective
    assert prove(nsg, key, [machine, gateway], OURS).outcome is Outcome.SHADOWED


# --- application security groups, both families -------------------------------------------------------------


V6 = "2001:db8::66"
GROUP = ("/groups/web",)
DUAL = replace(TARGET, addresses=("10.0.0.4", "fd00::4"))


def six(direction: Direction = IN, priority: int = 150) -> Rule:
    return Wanted(OURS.name(direction, 6), direction, 6, (V6,), priority).as_rule(OURS.description("ab"))


@pytest.mark.parametrize(("said", "rules", "effective"), [
    ("an allow to a group may be to this machine",
     [allow(110, destinations=(), destination_groups=GROUP), mine()], False),
    ("a deny to a group need not be to this machine",
     [replace(allow(105, destinations=(), destination_groups=GROUP), allow=False),
      allow(110), mine()], False),
    ("an allow from a group is from machines of ours",
     [allow(110, sources=(), source_groups=GROUP), mine()], True),
    ("an allow to a group behind the deny", [mine(), allow(160, destinations=(), destination_groups=GROUP)],
     True),
    ("an allow from a group, and to one", [
        allow(110, sources=(), source_groups=GROUP, destinations=(), destination_groups=GROUP),
        mine()], True),
])
def test_application_security_groups(said: str, rules: list[Rule], effective: bool):
    assert proof(*rules).effective is effective, said


@pytest.mark.parametrize(("said", "rules", "effective"), [
    ("an allow of the other family's addresses",
     [allow(110, sources=("203.0.113.0/24", "0.0.0.0/0")), six()], True),
    ("an allow to the machine's other address", [allow(110, destinations=("10.0.0.4",)), six()], True),
    ("an allow to its address of this family", [allow(110, destinations=("fd00::4",)), six()], False),
    ("an allow of all of this family", [allow(110, sources=("::/0",)), six()], False),
    ("any is of both families", [allow(110), six()], False),
    ("internet is of both families", [allow(110, sources=("internet",)), six()], False),
    ("our rule of the other family names nobody here", [mine()], None),
])
def test_both_families(said: str, rules: list[Rule], effective: bool | None):
    found = prove(guard(*rules), BlockKey(ID, IN, V6), [DUAL], OURS)
    if effective is None:
        assert found.outcome is Outcome.MISSING, said
    else:
        assert found.effective is effective, said


def test_with_a_route_of_everything_to_an_appliance_the_tag_virtual_network_may_be_everything():
    """Azure then counts 0.0.0.0/0 among VirtualNetwork. Whether there is such a route is not asked: an Allow
    on the tag before our deny is never trusted, and a Deny on it never relied upon."""
    assert not proof(allow(110, OUT, destinations=("virtualnetwork",)), mine(OUT), direction=OUT).effective
    wall = replace(allow(105, OUT, destinations=("virtualnetwork",)), allow=False)
    assert not proof(wall, allow(110, OUT), mine(OUT), direction=OUT).effective


def test_where_front_door_is_let_in_clients_are_hidden_and_the_block_is_unproven():
    door = allow(300, sources=("azurefrontdoor.backend",))
    found = proof(mine(), door)
    assert found.outcome is Outcome.UNPROVEN
    assert "Azure Front Door" in found.detail
    assert proof(mine(OUT), door, direction=OUT).effective, "it lets in, and carries nothing out"
    assert proof(mine(), replace(door, allow=False)).effective


def test_an_explicit_proxy_leaves_outbound_unproven():
    proxied = replace(TARGET, proxied=True)
    assert proof(mine(OUT), direction=OUT, target=proxied).outcome is Outcome.UNPROVEN
    assert proof(mine(), target=proxied).effective


def test_a_gateway_that_its_policies_see_in_part_is_unproven():
    nsg = replace(guard(mine()), partly={"/agw": "no WAF policy sees listener b of agw"})
    key, front = BlockKey(ID, IN, ATTACKER), Target("/agw", "/agw", SUBNET, ())
    found = prove(nsg, key, [front], OURS)
    assert (found.outcome, found.detail) == (
        Outcome.UNPROVEN, "unproven: no WAF policy sees listener b of agw")
    assert prove(nsg, key, [replace(front, nic_id="/other")], OURS).effective


def test_of_several_machines_those_are_named_for_whom_the_block_does_not_hold():
    to_one = allow(100, destinations=("10.0.0.5",))
    hidden = replace(TARGET, nic_id="/nic3", addresses=("10.0.0.6",), hidden="application gateway ag")
    targets = [TARGET, replace(TARGET, nic_id="/nic2", addresses=("10.0.0.5",)), hidden]
    found = weak_ones(guard(to_one, mine()), BlockKey(ID, IN, ATTACKER), targets, OURS)
    assert [(w.nic_id, w.outcome, w.rule) for w in found] == [
        ("/nic2", "shadowed", "allow-100"), ("/nic3", "unproven", OURS.name(IN, 4))]
