"""A rule that opens the internet to one machine is found, whatever it is written like; the verdict agrees
with a walk over packets."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remediation.firewall.edit import without
from remediation.firewall.hosts import Hosts
from remediation.firewall.reach import ways_out
from remediation.firewall.rogue import Class, Finding, find
from remediation.firewall.rules import RuleSet, ip_groups_in, rules_of_classic, rules_of_policies
from remediation.spans import point
from tests.unit.firewalls import (
    BASE,
    FIREWALL,
    IP_GROUP,
    POLICY,
    application,
    classic,
    collection,
    group,
    nat,
    network,
)

ONE, TWO = "/subscriptions/s/vm-1", "/subscriptions/s/vm-2"
HOSTS = Hosts([(point("10.0.0.4"), ONE), (point("10.0.0.5"), ONE), (point("10.0.1.4"), TWO),
               (point("fd00::4"), ONE), (point("10.0.2.9"), "")])


def policy(*collections: dict[str, Any], groups: Any = None, **ip_groups: Any) -> RuleSet:
    level = groups if groups is not None else [group(*collections)]
    return rules_of_policies(FIREWALL, [level], {IP_GROUP.lower(): ip_groups.get("held")})


def found(*rules: dict[str, Any], **more: Any) -> list[Finding]:
    return find(policy(collection(*rules), **more), HOSTS)


def kinds(findings: list[Finding]) -> list[Class]:
    return [f.kind for f in findings]


def test_the_rule_of_the_incident_is_found_with_its_reasons():
    (one,) = found(network("allow-all", ["10.0.0.4"]))
    assert (one.kind, one.machine, one.holds, one.severity, one.exact) == (
        Class.ROGUE, ONE, "SDPT", "High", True)
    assert str(one.rules[0].where) == "group/rules/allow-all"
    assert one.reasons == ("it opens the internet to vm-1 alone",)


ROGUE: dict[str, list[dict[str, Any]]] = {
    "every address, every port, any protocol": [network()],
    "0.0.0.0/0": [network(destinations=["0.0.0.0/0"])],
    "two halves in one rule": [network(destinations=["0.0.0.0/1", "128.0.0.0/1"])],
    "two halves in two rules": [network("a", destinations=["0.0.0.0/1"]),
                                network("b", destinations=["128.0.0.0/1"])],
    "all that is public": [network(destinations=[
        "0.0.0.0-9.255.255.255", "11.0.0.0-172.15.255.255", "172.32.0.0-223.255.255.255"])],
    "the tag Internet": [network(destinations=["Internet"])],
    "IPv6": [network(sources=["fd00::4"], destinations=["::/0"])],
    "IPv6, what is assigned of it": [network(sources=["fd00::4"], destinations=["2000::/3"])],
    "ports as a union": [network(ports=["1-1024", "1025-65535"])],
    "ports from zero": [network(ports=["0-65535"])],
    "ports over two rules": [network("a", ports=["1-443"]), network("b", ports=["444-65535"])],
    "TCP and UDP by name": [network(protocols=["TCP", "UDP"])],
    "TCP and UDP over two rules": [network("a", protocols=["TCP"]), network("b", protocols=["UDP"])],
    "cut in four": [network(f"r{n}", protocols=[p], destinations=[d]) for n, (p, d) in enumerate(
        itertools.product(["TCP", "UDP"], ["0.0.0.0/1", "128.0.0.0/1"]))],
    "several interfaces of one machine": [network(sources=["10.0.0.4", "10.0.0.5"])],
    "TCP from one interface, UDP from the other": [
        network("a", sources=["10.0.0.4"], protocols=["TCP"]),
        network("b", sources=["10.0.0.5"], protocols=["UDP"])],
}


@pytest.mark.parametrize("case", ROGUE)
def test_however_it_is_written_it_is_rogue(case: str):
    rules = [*ROGUE[case], network("fine", ports=["443"], destinations=["20.0.0.0/8"])]
    one = found(*rules)[0]
    assert one.kind is Class.ROGUE
    assert one.machine == ONE
    assert {r.where.rule for r in one.rules} == {r["name"] for r in ROGUE[case]}, "and nothing beside it"
    assert one.exact


OTHERS: dict[str, tuple[list[dict[str, Any]], list[Class]]] = {
    "any source is worse, and not one server's": ([network(sources=["*"])], [Class.WIDE]),
    "a subnet with two machines": ([network(sources=["10.0.0.0/23"])], [Class.WIDE]),
    "a network wider than a /16, whoever is in it": ([network(sources=["10.0.0.0/15"])], [Class.WIDE]),
    "two machines": ([network(sources=["10.0.0.4", "10.0.1.4"])], [Class.WIDE]),
    "TCP only": ([network(protocols=["TCP"])], [Class.PARTIAL]),
    "ICMP only": ([network(protocols=["ICMP"])], []),
    "all but one port": ([network(ports=["1-24", "26-65535"])], [Class.PARTIAL]),
    "all but one address": ([network(destinations=["0.0.0.0-8.8.8.7", "8.8.8.9-255.255.255.255"])],
                            [Class.PARTIAL]),
    "half of the addresses": ([network(destinations=["0.0.0.0/1"])], [Class.PARTIAL]),
    "one port to everywhere": ([network(ports=["443"])], []),
    "everything of one network": ([network(destinations=["20.0.0.0/8"])], []),
    "private addresses": ([network(destinations=["10.0.0.0/8", "192.168.0.0/16"])], []),
    "host names": ([network(destinations=[], destinationFqdns=["*.example"])], []),
    "a service tag": ([network(destinations=["AzureCloud"])], []),
    "an address of nobody": ([network(sources=["10.9.9.9"])], [Class.UNUSED]),
    "an address of no machine": ([network(sources=["10.0.2.9"])], [Class.UNUSED]),
    "no source at all": ([network(sources=[])], []),
    "IPv6 from an IPv4 address": ([network(destinations=["::/0"])], []),
    "every web site": ([application()], [Class.WEB]),
    "every web site by url": ([application(fqdns=[], targetUrls=["*"])], [Class.WEB]),
    "some web sites": ([application(fqdns=["*.example.com"])], []),
    "every web site for a network": ([application(sources=["10.0.0.0/8"])], []),
    "TCP of many": ([network(sources=["*"], protocols=["TCP"])], []),
    "half by half of less than all": ([network("a", destinations=["1.0.0.0-90.0.0.0"], protocols=["TCP"]),
                                       network("b", destinations=["91.0.0.0-190.0.0.0"], protocols=["TCP"])],
                                      [Class.PARTIAL]),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_less_or_something_else_is_said_so(case: str):
    rules, expected = OTHERS[case]
    assert kinds(found(*rules)) == expected


@pytest.mark.parametrize(("case", "source", "exact"), [
    ("a subnet", "10.0.0.0/28", False), ("a range", "10.0.0.1-10.0.0.9", False), ("its addresses", "", True)])
def test_sources_that_come_down_to_one_machine_are_its_own_though_not_exactly(
    case: str, source: str, exact: bool
):
    (one,) = found(network(sources=[source] if source else ["10.0.0.4", "10.0.0.5"]))
    assert (one.kind, one.machine, one.exact) == (Class.ROGUE, ONE, exact), case
    assert exact or any("more addresses" in r for r in one.reasons)


def test_an_ip_group_is_what_it_holds_and_its_edit_is_seen():
    rule = network(sources=[], sourceIpGroups=[IP_GROUP])
    body = group(collection(rule))
    assert ip_groups_in([body]) == [IP_GROUP.lower()]

    def with_group(*held: str) -> list[Class]:
        return kinds(find(policy(groups=[body], held=held), HOSTS))

    assert with_group("10.0.0.4") == [Class.ROGUE]
    assert with_group("10.0.0.4", "10.0.1.4") == [Class.WIDE]
    assert with_group("10.0.0.0/29") == [Class.ROGUE]
    twice = policy(collection(rule, {**rule, "name": "again"}), held=["10.0.0.4"])
    assert kinds(find(twice, HOSTS)) == [Class.ROGUE, Class.ROGUE]
    goal = network(destinations=[], destinationIpGroups=[IP_GROUP])
    assert kinds(find(policy(collection(goal), held=["0.0.0.0/0"]), HOSTS)) == [Class.ROGUE]


def test_an_ip_group_that_cannot_be_read_makes_nothing_certain():
    rules = policy(collection(network(sources=[], sourceIpGroups=[IP_GROUP])))
    assert rules.unread == (IP_GROUP.lower(),)
    assert kinds(find(rules, HOSTS)) == [Class.WIDE]
    mixed = policy(collection(network(sources=["10.0.0.4"], sourceIpGroups=[IP_GROUP])))
    (one,) = find(mixed, HOSTS)
    assert (one.kind, one.exact) == (Class.ROGUE, False)
    wall = collection(network(sources=["*"], destinations=[], destinationIpGroups=[IP_GROUP]), name="wall",
                      priority=100, action="Deny")
    assert kinds(find(policy(wall, collection(network())), HOSTS)) == [Class.ROGUE]


WALL = network("wall", sources=["10.0.0.0/8"])


def test_what_an_earlier_deny_stops_is_shadowed_and_the_rest_of_it_counts():
    def behind(**changes: Any) -> Finding:
        wall = collection({**WALL, **changes}, name="wall", priority=100, action="Deny")
        return find(policy(wall, collection(network())), HOSTS)[0]

    assert behind().kind is Class.SHADOWED
    assert behind(ipProtocols=["ICMP"]).kind is Class.ROGUE
    assert behind(sourceAddresses=["10.0.0.5"]).kind is Class.ROGUE
    assert behind(destinationAddresses=["20.0.0.0/8"]).kind is Class.ROGUE
    assert behind(destinationPorts=["25"]).kind is Class.ROGUE
    half = behind(ipProtocols=["TCP"])
    assert (half.kind, half.holds) == (Class.PARTIAL, "SDPT")
    assert "earlier denies leave 0% of TCP and 100% of UDP" in half.reasons
    both = collection({**WALL, "sourceAddresses": ["10.0.0.4"]}, name="wall", priority=100, action="Deny")
    two = find(policy(both, collection(network(sources=["10.0.0.4", "10.0.0.5"]))), HOSTS)
    assert kinds(two) == [Class.ROGUE], "the other interface still goes out"


def test_a_later_deny_stops_nothing_and_swapping_the_priorities_turns_it():
    def with_priorities(wall: int, rule: int) -> list[Class]:
        return kinds(find(policy(collection(WALL, name="wall", priority=wall, action="Deny"),
                                 collection(network(), priority=rule)), HOSTS))

    assert with_priorities(300, 200) == [Class.ROGUE]
    assert with_priorities(100, 200) == [Class.SHADOWED]
    first = group(collection(WALL, action="Deny"), name="a", priority=100)
    second = group(collection(network(), priority=100), name="b", priority=200)
    assert kinds(find(policy(groups=[second, first]), HOSTS)) == [Class.SHADOWED]
    first["properties"]["priority"] = 300
    assert kinds(find(policy(groups=[second, first]), HOSTS)) == [Class.ROGUE]


def test_a_wide_rule_behind_a_deny_of_all_its_sources_is_not_told():
    wide = network(sources=["*"])
    wall = collection({**WALL, "sourceAddresses": ["*"]}, name="wall", priority=100, action="Deny")
    assert find(policy(wall, collection(wide)), HOSTS) == []
    some = collection(WALL, name="wall", priority=100, action="Deny")
    assert kinds(find(policy(some, collection(wide)), HOSTS)) == [Class.WIDE]


def test_a_collection_flipped_from_deny_to_allow_is_found():
    flipped = collection(network(), action="Deny")
    assert find(policy(flipped), HOSTS) == []
    flipped["action"]["type"] = "Allow"
    assert kinds(find(policy(flipped), HOSTS)) == [Class.ROGUE]


def test_the_base_policy_comes_first_and_swapping_it_is_seen():
    own = [group(collection(network(), priority=100), priority=100)]
    wall = [group(collection(WALL, priority=500, action="Deny"), priority=60000, policy=BASE)]
    assert kinds(find(rules_of_policies(FIREWALL, [wall, own], {}), HOSTS)) == [Class.SHADOWED]
    other = [group(collection(network(ports=["443"])), policy=BASE)]
    assert kinds(find(rules_of_policies(FIREWALL, [other, own], {}), HOSTS)) == [Class.ROGUE]
    inherited = rules_of_policies(FIREWALL, [own, []], {})
    assert find(inherited, HOSTS)[0].rules[0].where.update == POLICY.lower()


def test_classic_rules_are_read_as_well():
    body = classic(networkRuleCollections=[collection(network(), collection(network())["rules"][0] | {
        "name": "fine", "destinationPorts": ["443"]})],
        natRuleCollections=[collection(nat(), action="Dnat")],
        applicationRuleCollections=[collection(application())])
    seen = find(rules_of_classic(body, {}), HOSTS)
    assert kinds(seen) == [Class.ROGUE, Class.WEB, Class.INBOUND]
    assert seen[0].rules[0].where.owner == FIREWALL.lower()
    assert seen[0].rules[0].where.update == FIREWALL.lower()


@pytest.mark.parametrize(("rule", "expected"), [
    (nat(), [Class.INBOUND]), (nat(ports=["3389"]), [Class.INBOUND]), (nat(ports=["20-25"]), [Class.INBOUND]),
    (nat(ports=["443"]), []), (nat(sources=["20.0.0.0/8"]), []),
    (nat(to="example.internal"), [Class.INBOUND]),
])
def test_dnat_from_anywhere_is_told_where_it_leads_to_management(rule: dict[str, Any], expected: list[Class]):
    seen = find(policy(collection(rule, action="Dnat")), HOSTS)
    assert kinds(seen) == expected
    if seen:
        assert seen[0].machine == (ONE if rule["translatedAddress"] == "10.0.0.4" else "")


def test_a_web_rule_behind_a_deny_is_shadowed():
    web = collection(application(), name="web", priority=300)
    names = collection(application("none"), name="wall", priority=100, action="Deny")
    assert kinds(find(policy(names, web), HOSTS)) == [Class.SHADOWED]
    ports = collection(network(sources=["*"], ports=["1-1024"]), name="wall", priority=100, action="Deny")
    assert kinds(find(policy(ports, web), HOSTS)) == [Class.SHADOWED]
    one = collection(application("none", ports=[80]), name="wall", priority=100, action="Deny")
    assert kinds(find(policy(one, web), HOSTS)) == [Class.WEB]


def test_what_is_approved_is_silent_until_it_means_something_else():
    rules = policy(collection(network()))
    digest = rules.rules[0].digest
    assert find(rules, HOSTS, {digest}) == []
    renamed = policy(collection(network("another-name"), name="other"))
    assert find(renamed, HOSTS, {digest}) == [], "its name is not its meaning"
    moved = policy(collection(network(sources=["10.0.0.5"])))
    assert kinds(find(moved, HOSTS, {digest})) == [Class.ROGUE]
    both = policy(collection(application()), collection(nat(), name="n", action="Dnat"))
    assert find(both, HOSTS, {r.digest for r in both.rules}) == []


def test_a_finding_is_the_same_however_it_is_written_and_wherever():
    one = found(network())[0]
    assert one.meaning == found(*ROGUE["cut in four"])[0].meaning
    assert one.digest != found(network("other"))[0].digest
    assert found(network(sources=["10.0.1.4"]))[0].meaning != one.meaning
    wide = found(network(sources=["*"]))[0]
    assert wide.meaning == found(network("x", sources=["*"]))[0].meaning


def test_an_address_that_another_machine_has_by_now_is_that_machines():
    later = Hosts([(point("10.0.0.4"), TWO)])
    assert find(policy(collection(network())), later)[0].machine == TWO


def test_rules_that_make_no_sense_are_passed_over():
    odd = collection({"ruleType": "Other", "name": "x"}, network(ports=["http", "9-x"]), {
        **network(), "name": "y", "ruleType": None})
    assert find(policy(odd), HOSTS) == []


# --- a walk over packets ------------------------------------------------------------------------------------

SOURCES = ["10.0.0.4", "10.0.0.5", "10.0.1.4", "10.0.0.0/24", "*", "10.0.0.4-10.0.0.5"]
PLACES = ["*", "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "8.0.0.0/8", "10.0.0.0/8"]
RANGES = ["*", "1-443", "444-65535", "443", "0-65535"]
RULE = st.builds(
    lambda s, d, p, t: network("", s, d, p, t),
    st.lists(st.sampled_from(SOURCES), min_size=1, max_size=2), st.lists(st.sampled_from(PLACES), min_size=1),
    st.lists(st.sampled_from(RANGES), min_size=1, max_size=2),
    st.lists(st.sampled_from(["TCP", "UDP", "Any", "ICMP"]), min_size=1, max_size=2))
COLLECTIONS = st.lists(st.tuples(st.lists(RULE, min_size=1, max_size=3), st.sampled_from(["Allow", "Deny"])),
                       min_size=1, max_size=4)
PACKETS = list(itertools.product(
    ["10.0.0.4", "10.0.0.5", "10.0.1.4", "10.0.3.3"], ["tcp", "udp"], [1, 25, 443, 444, 65535],
    ["1.1.1.1", "8.8.8.8", "100.0.0.1", "130.0.0.1", "223.1.1.1", "10.9.9.9"]))
MINE = ("10.0.0.4", "10.0.0.5")


def _made(given: list[tuple[list[dict[str, Any]], str]]) -> dict[str, Any]:
    numbers = itertools.count()
    return group(*(collection(*({**r, "name": f"r{next(numbers)}"} for r in rules), name=f"c{n}",
                              priority=100 + n, action=action)
                   for n, (rules, action) in enumerate(given)))


def _walk(body: dict[str, Any], packet: tuple[str, str, int, str]) -> tuple[bool, str]:
    """Rule by rule, as the firewall does: let out, and by which rule."""
    source, protocol, port, goal = packet
    for one in sorted(body["properties"]["ruleCollections"], key=lambda c: c["priority"]):
        for rule in one["rules"]:
            if (_in(source, rule["sourceAddresses"]) and _in(goal, rule["destinationAddresses"])
                    and any(_port(port, p) for p in rule["destinationPorts"])
                    and {"any", protocol} & {p.lower() for p in rule["ipProtocols"]}):
                return one["action"]["type"] == "Allow", rule["name"]
    return False, ""


def _in(address: str, texts: list[str]) -> bool:
    import ipaddress

    one = ipaddress.ip_address(address)
    for text in texts:
        if text == "*":
            return True
        if "-" in text:
            low, high = map(ipaddress.ip_address, text.split("-"))
            if int(low) <= int(one) <= int(high):
                return True
        elif one in ipaddress.ip_network(text):
            return True
    return False


def _port(port: int, text: str) -> bool:
    low, _, high = text.partition("-")
    return text == "*" or int(low) <= port <= int(high or low)


@settings(max_examples=300, deadline=None)
@given(COLLECTIONS)
def test_the_verdict_agrees_with_a_walk_over_packets(given: list[tuple[list[dict[str, Any]], str]]):
    body = _made(given)
    seen = find(policy(groups=[body]), HOSTS)
    before = {p: _walk(body, p) for p in PACKETS}
    public = [p for p in PACKETS if not p[3].startswith("10.")]
    for one in seen:
        names = {r.where.rule for r in one.rules}
        mine = [p for p in public if p[0] in MINE]
        if one.kind is Class.ROGUE and one.machine == ONE:
            assert {p[1] for p in mine if before[p][0]} == {"tcp", "udp"}
        if one.kind is Class.SHADOWED:
            assert not any(before[p][0] and before[p][1] in names for p in mine)
    for rule in (r for c in body["properties"]["ruleCollections"] if c["action"]["type"] == "Allow"
                 for r in c["rules"]):
        if not set(rule["sourceAddresses"]) <= {"10.0.0.4", "10.0.0.5", "10.0.0.4-10.0.0.5", "10.0.0.0/24"}:
            continue
        said = all(_walk(group(collection(rule)), p)[0] for p in public if _in(p[0], rule["sourceAddresses"])
                   and p[0] in MINE)
        if said and {"*", "0.0.0.0/0", "0.0.0.0/1"} & set(rule["destinationAddresses"]):
            assert any(rule["name"] in {r.where.rule for r in f.rules} for f in seen), rule


@settings(max_examples=200, deadline=None)
@given(COLLECTIONS)
def test_after_removal_nothing_goes_by_the_rogue_path_and_all_else_is_as_before(
    given: list[tuple[list[dict[str, Any]], str]]
):
    body = _made(given)
    for one in find(policy(groups=[body]), HOSTS):
        if one.kind is not Class.ROGUE:
            continue
        gone = {r.where.rule for r in one.rules}
        after = without(body, [r.where for r in one.rules])
        left = find(policy(groups=[after]), HOSTS)
        assert not any({r.where.rule for r in f.rules} & gone for f in left)
        for packet in PACKETS:
            allowed, by = _walk(after, packet)
            assert by not in gone
            if _walk(body, packet)[1] not in gone:
                assert (allowed, by) == _walk(body, packet)


@settings(max_examples=150, deadline=None)
@given(COLLECTIONS, st.permutations([0, 1, 2, 3]))
def test_over_base_policies_groups_and_ip_groups_the_verdict_is_that_of_one_list(
    given: list[tuple[list[dict[str, Any]], str]], order: list[int]
):
    """The base policy's groups come first, each level's by priority: the same rules in one group, in the
    order in which the firewall walks them, are judged alike."""
    held = {"10.0.0.4": IP_GROUP.lower()}
    collections = _made(given)["properties"]["ruleCollections"]

    def by_group(one: dict[str, Any]) -> dict[str, Any]:
        sources = one["sourceAddresses"]
        return {**one, "sourceAddresses": [s for s in sources if s not in held],
                "sourceIpGroups": [IP_GROUP for s in sources if s in held]}

    places = [(BASE, 100), (BASE, 200), (POLICY, 100), (POLICY, 200)]
    levels: dict[str, list[dict[str, Any]]] = {BASE: [], POLICY: []}
    flat = []
    for n in order:
        owner, priority = places[n]
        mine = [c for k, c in enumerate(collections) if k % 4 == n]
        levels[owner].append(group(*({**c, "rules": list(map(by_group, c["rules"]))} for c in mine),
                                   name=f"g{n}", priority=priority, policy=owner))
    for n in range(4):
        flat += [c for k, c in enumerate(collections) if k % 4 == n]
    one = rules_of_policies(FIREWALL, [levels[BASE], levels[POLICY]], {IP_GROUP.lower(): ["10.0.0.4"]})
    other = policy(groups=[group(*({**c, "priority": 100 + n} for n, c in enumerate(flat)))])
    assert verdicts(find(one, HOSTS)) == verdicts(find(other, HOSTS))


def verdicts(findings: list[Finding]) -> list[tuple[str, str, bool, list[str]]]:
    return sorted((f.kind.value, f.machine, f.exact, sorted(r.where.rule for r in f.rules)) for f in findings)


# --- edges that an attacker would look for ---


def test_tcp_by_one_shared_rule_and_udp_by_another_is_told():
    (one,) = found(network("t", ["*"], protocols=["TCP"]), network("u", ["*"], protocols=["UDP"]))
    assert (one.kind, one.machine, len(one.rules)) == (Class.WIDE, "", 2)
    both = ["10.0.0.4", "10.0.1.4"]
    (pair,) = found(network("t", both, protocols=["TCP"]), network("u", both, protocols=["UDP"]))
    assert pair.kind is Class.WIDE


def test_its_own_tcp_and_a_shared_udp_are_told_as_its():
    one, two = found(network("t", ["10.0.1.4"], protocols=["TCP"]),
                     network("u", ["10.0.0.4", "10.0.1.4"], protocols=["UDP"]))
    assert {(f.kind, f.machine) for f in (one, two)} == {(Class.PARTIAL, TWO)}
    assert sorted(len(f.rules) for f in (one, two)) == [1, 2]


def test_halves_with_nobody_in_common_or_behind_a_deny_are_nothing_together():
    halves = (network("t", ["10.0.0.0/30"], protocols=["TCP"]),
              network("u", ["10.0.9.0/30"], protocols=["UDP"]))
    assert all(len(f.rules) == 1 for f in found(*halves))
    wall = collection(network("no", ["*"]), name="deny", priority=100, action="Deny")
    assert find(policy(wall, collection(network("t", ["*"], protocols=["TCP"]),
                                        network("u", ["*"], protocols=["UDP"]))), HOSTS) == []


def test_where_a_rule_leads_to_what_cannot_be_read_it_is_told():
    (one,) = found(network("any", ["10.0.0.4"], [], destinationIpGroups=[IP_GROUP]))
    assert (one.kind, one.machine) == (Class.PARTIAL, ONE)
    assert "where it leads cannot be read" in one.reasons[0]
    assert found(network("web", ["10.0.0.4"], [], ["443"], destinationIpGroups=[IP_GROUP])) == []


def test_a_deny_of_the_tag_internet_stops_what_an_allow_of_it_lets_out():
    wall = collection(network("no", ["10.0.0.4"], ["Internet"]), name="deny", priority=100, action="Deny")
    assert kinds(find(policy(wall, collection(network())), HOSTS)) == [Class.SHADOWED]


def test_a_deny_that_cannot_be_read_in_full_leaves_it_to_people():
    wall = collection(network("no", ["10.0.0.4"], [], destinationIpGroups=[IP_GROUP]), name="deny",
                      priority=100, action="Deny")
    (one,) = find(policy(wall, collection(network())), HOSTS)
    assert (one.kind, one.exact) == (Class.ROGUE, False)
    assert "cannot be read in full" in one.reasons[-1]
    others = collection(network("no", ["10.0.1.4"], [], destinationIpGroups=[IP_GROUP]), name="deny",
                        priority=100, action="Deny")
    assert find(policy(others, collection(network())), HOSTS)[0].exact, "it is about another machine"


def test_half_denied_is_not_every_point():
    wall = collection(network("no", ["10.0.0.4"], ports=["1-32000"]), name="deny", priority=100,
                      action="Deny")
    (one,) = find(policy(wall, collection(network())), HOSTS)
    assert (one.kind, one.exact) == (Class.ROGUE, False)


def test_a_host_that_is_called_internet_is_no_tag():
    assert found(network("named", ["10.0.0.4"], [], destinationFqdns=["internet"])) == []


def test_many_small_rules_are_shown_to_a_person_and_judged_in_time():
    step = 65_535 // 300
    slices = [network(f"s{n}", ["10.0.0.4"], ports=[
        f"{1 + n * step}-{65_535 if n == 299 else (n + 1) * step}"]) for n in range(300)]
    (one,) = found(*slices)
    assert (one.kind, one.exact, len(one.rules)) == (Class.ROGUE, False, 300)


def test_the_same_machine_behind_two_firewalls_is_two_findings():
    level = [group(collection(network()))]
    one, two = (find(rules_of_policies(f"/{name}", [level], {}), HOSTS)[0] for name in ("fw-a", "fw-b"))
    assert one.meaning != two.meaning
    assert HOSTS.of(ONE) == sorted(HOSTS.of(ONE))
    assert len(HOSTS.of(ONE)) == 3


def test_ways_out_of_a_machine_are_whoevers_rules_let_it_and_no_deny_stops():
    def ways(*collections: dict[str, Any]) -> list[str]:
        return [r.where.rule for r in ways_out(policy(*collections), HOSTS.of(ONE))]

    assert ways(collection(network("wide", ["10.0.0.0/16"]))) == ["wide"]
    assert ways(collection(network("t", ["*"], protocols=["TCP"]))) == ["t"]
    assert ways(collection(network("web", ["*"], ports=["443"]))) == []
    assert ways(collection(network("others", ["10.0.1.4"]))) == []
    wall = collection(network("no", ["10.0.0.0/24", "fd00::/64"]), name="deny", priority=100, action="Deny")
    assert ways(wall, collection(network("wide", ["*"]))) == [], "ours stands before it"


def left(*rules: dict[str, Any]) -> list[str]:
    return [r.where.rule for r in ways_out(policy(collection(*rules)), HOSTS.of(ONE))]


def test_a_way_out_behind_many_narrow_ones_is_seen():
    narrow = [network(f"n{n}", ["*"], ["16.0.0.0/5"]) for n in range(60)]
    wide = network("last", ["*"])
    assert "last" in left(*narrow, wide)
    assert left(*narrow[:1]) == [], "one of them alone leads to little"


def test_many_slices_that_nobody_owns_are_a_way_out_together():
    step = 65_535 // 200
    slices = [network(f"s{n}", ["*"], ports=[f"{1 + n * step}-{65_535 if n == 199 else (n + 1) * step}"])
              for n in range(200)]
    assert len(left(*slices)) == 200, "too many to measure each: they are told"


def test_a_machine_of_many_addresses_behind_a_deny_has_no_way_out():
    many = [f"10.7.{n // 200}.{n % 200 + 1}" for n in range(120)]
    wall = collection(network("no", ["10.0.0.0/8"]), name="deny", priority=100, action="Deny")
    assert ways_out(policy(wall, collection(network("wide", ["*"]))), [point(a) for a in many]) == []
    assert ways_out(policy(collection(network("wide", ["*"]))), [point(a) for a in many])


def test_most_of_one_family_is_not_hidden_by_more_of_the_other_in_sum():
    some = network("4", ["10.0.0.4"], ports=["1-26000"])
    six = network("6", ["fd00::4"], ["2000::/3"], ["1-39400"], protocols=["TCP"])
    assert ways_out(policy(collection(some, six)), [point("10.0.0.4"), point("fd00::4")])
    assert ways_out(policy(collection(some)), [point("10.0.0.4")]) == []
