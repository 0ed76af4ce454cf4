"""A change of a group or a firewall touches one rule, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from remediation.errors import Invalid, NoCapacity
from remediation.firewall.edit import same, to_write, with_deny, with_restored, without, without_collections
from remediation.firewall.hosts import Hosts
from remediation.firewall.rogue import Class, find
from remediation.firewall.rules import Kind, Where, rules_of_classic, rules_of_policies
from remediation.spans import point
from tests.unit.firewalls import FIREWALL, classic, collection, group, nat, network

OWNER = group()["id"].lower()
HOSTS = Hosts([(point("10.0.0.4"), "/vm-1")])
FINE = network("fine", ports=["443"])


def where(rule: str, name: str = "rules") -> Where:
    return Where(OWNER, Kind.NETWORK, name, rule)


def two() -> dict[str, Any]:
    body = group(collection(FINE, network(), network("last", ports=["53"])),
                 collection(network("alone"), name="lonely", priority=250),
                 collection(nat(), name="nat", priority=100, action="Dnat"))
    body["properties"]["ruleCollections"][0]["newField"] = {"kept": [1]}
    return copy.deepcopy(body)


def names(body: dict[str, Any]) -> dict[str, list[str]]:
    return {c["name"]: [r["name"] for r in c["rules"]] for c in body["properties"]["ruleCollections"]}


def test_a_rule_is_taken_out_and_nothing_else_changes():
    before = two()
    after = without(before, [where("any")])
    assert before == two(), "the body given is left alone"
    expected = two()
    del expected["properties"]["ruleCollections"][0]["rules"][1]
    assert after == expected


def test_a_collection_that_is_left_empty_goes_too():
    assert names(without(two(), [where("alone", "lonely")])) == {
        "rules": ["fine", "any", "last"], "nat": ["in"]}
    already = group(collection(name="empty"))
    assert without(already, [where("any", "empty")]) == already, "one that was empty before stays"
    assert without(two(), [where("nowhere")]) == two()


def test_what_is_azures_to_say_is_not_sent_and_does_not_count():
    sent = to_write(two())
    assert "etag" not in sent
    assert "type" not in sent
    assert sent["properties"].keys() == {"priority", "ruleCollections"}
    assert sent["properties"]["ruleCollections"][0]["action"] == {"type": "Allow"}
    other = two()
    other["etag"], other["properties"]["provisioningState"] = "e2", "Updating"
    other["id"] = other["id"].upper()
    assert same(two(), other)
    other["properties"]["ruleCollections"][0]["rules"][0]["destinationPorts"] = ["444"]
    assert not same(two(), other)


@pytest.mark.parametrize("gone", [["any"], ["fine", "any", "last"], ["last"], ["fine"]])
def test_what_was_taken_out_is_put_back_where_it_stood(gone: list[str]):
    places = [where(one) for one in gone]
    back = with_restored(without(two(), places), two(), places)
    assert sorted(back["properties"]["ruleCollections"], key=lambda c: c["name"]) == sorted(
        two()["properties"]["ruleCollections"], key=lambda c: c["name"])
    assert with_restored(back, two(), places) == back, "once is enough"


def test_putting_back_keeps_what_others_changed_since():
    places = [where("any")]
    changed = without(two(), places)
    changed["properties"]["ruleCollections"][0]["rules"].append(network("new", ports=["22"]))
    changed["properties"]["ruleCollections"].append(collection(network("more", ports=["1"]), name="more",
                                                               priority=900))
    back = with_restored(changed, two(), places)
    assert names(back) == {"rules": ["fine", "any", "last", "new"], "lonely": ["alone"], "nat": ["in"],
                           "more": ["more"]}


def test_putting_back_into_an_emptied_group_makes_the_collection_again():
    body = group(collection(network()))
    gone = without(body, [where("any")])
    assert names(gone) == {}
    assert names(with_restored(gone, body, [where("any")])) == {"rules": ["any"]}
    del gone["properties"]["ruleCollections"]
    assert names(with_restored(gone, body, [where("any")])) == {"rules": ["any"]}


def test_nothing_is_put_back_where_something_else_stands():
    body, place = group(collection(FINE, network())), [where("any")]
    taken = without(body, place)
    taken["properties"]["ruleCollections"][0]["rules"].append(network(ports=["1"]))
    with pytest.raises(Invalid, match="another rule any"):
        with_restored(taken, body, place)
    turned = without(body, place)
    turned["properties"]["ruleCollections"][0]["action"] = {"type": "Deny"}
    with pytest.raises(Invalid, match="now one of Deny"):
        with_restored(turned, body, place)
    lone = group(collection(network()))
    full = group(collection(FINE, name="other"))
    with pytest.raises(Invalid, match="priority 200 is taken"):
        with_restored(full, lone, place)


def test_a_deny_goes_just_before_the_rule_and_stops_it():
    body = group(collection(FINE, name="first", priority=199), collection(network()))
    rules = rules_of_policies(FIREWALL, [[body]], {})
    (one,) = find(rules, HOSTS)
    after = with_deny(body, one.rules[0], "defender-deny-x")
    ours = after["properties"]["ruleCollections"][-1]
    assert (ours["name"], ours["priority"], ours["action"]) == ("defender-deny-x", 198, {"type": "Deny"})
    assert [f.kind for f in find(rules_of_policies(FIREWALL, [[after]], {}), HOSTS)] == [Class.SHADOWED]
    assert with_deny(after, one.rules[0], "defender-deny-x") == after, "once is enough"
    assert without_collections(after, "defender-deny-x") == body
    body["properties"]["ruleCollections"][0]["priority"] = 100
    body["properties"]["ruleCollections"][1]["priority"] = 101
    with pytest.raises(NoCapacity):
        with_deny(body, one.rules[0], "defender-deny-x")


def test_classic_rules_are_changed_in_their_own_shape():
    body = classic(networkRuleCollections=[collection(FINE, network())], natRuleCollections=[
        collection(nat(), action="Dnat")])
    (one,) = [f for f in find(rules_of_classic(body, {}), HOSTS) if f.kind is Class.ROGUE]
    places = [r.where for r in one.rules]
    assert places[0].owner == FIREWALL.lower()
    after = without(body, places)
    expected = copy.deepcopy(body)
    del expected["properties"]["networkRuleCollections"][0]["properties"]["rules"][1]
    assert after == expected
    assert with_restored(after, body, places) == body
    denied = with_deny(body, one.rules[0], "defender-deny-x")
    ours = denied["properties"]["networkRuleCollections"][-1]
    assert ours["properties"]["priority"] == 199
    assert Class.ROGUE not in [f.kind for f in find(rules_of_classic(denied, {}), HOSTS)]
    alone = classic(networkRuleCollections=[collection(network())])
    assert without(alone, places)["properties"]["networkRuleCollections"] == []
    assert with_restored(without(alone, places), alone, places)["properties"]["networkRuleCollections"] == (
        alone["properties"]["networkRuleCollections"])


def test_what_people_name_like_azures_own_words_is_theirs():
    body = {**classic(), "tags": {"size": "large", "etag": "x"}}
    assert to_write(body)["tags"] == {"size": "large", "etag": "x"}
    assert not same(body, {**body, "tags": {"size": "small", "etag": "x"}})


@pytest.mark.parametrize("name", ["x", None])
def test_a_name_that_stands_for_several_rules_is_not_guessed_at(name: str | None):
    rule = {**network("x"), "name": name}
    body = group(collection(rule, {**rule, "sourceAddresses": ["10.9.9.9"]}))
    where = Where(body["id"].lower(), Kind.NETWORK, "rules", name or "")
    with pytest.raises(Invalid, match="several rules named"):
        without(body, [where])
    doubled = rules_of_policies(FIREWALL, [[body]], {}).rules[0]
    with pytest.raises(Invalid, match="several rules named"):
        with_deny(body, doubled, "defender-deny-x")
    alone = group(collection(rule))
    assert without(alone, [where])["properties"]["ruleCollections"] == []
