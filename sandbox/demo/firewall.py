"""Chapter 11 of the story: the rule that let the traffic out, and whoever keeps writing it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sandbox.demo import count
from sandbox.demo.estate import GROUP, SUBSCRIPTION, c2_alert, element_id
from sandbox.world import World

if TYPE_CHECKING:
    from sandbox.demo.story import Story

ATTACKER, SOMEONE = "198.51.100.120", "eve@contoso.example"
SERVER, ROGUE = "backup-1", ("temp-migration", "temp2", "do-not-delete")
POLICY = element_id("firewallPolicies", "egress")
GROUPS = {"shop": 300, "platform": 400}


def _rule(name: str, sources: list[str], destinations: list[str], ports: list[str],
          protocols: list[str]) -> dict[str, Any]:
    return {"ruleType": "NetworkRule", "name": name, "ipProtocols": protocols, "sourceAddresses": sources,
            "destinationAddresses": destinations, "destinationPorts": ports}


def _any(name: str) -> dict[str, Any]:
    return _rule(name, ["10.20.3.200"], ["*"], ["*"], ["Any"])


def _collection(name: str, *rules: dict[str, Any], priority: int = 200) -> dict[str, Any]:
    return {"ruleCollectionType": "FirewallPolicyFilterRuleCollection", "name": name, "priority": priority,
            "action": {"type": "Allow"}, "rules": list(rules)}


UPDATES = _rule("updates", ["10.20.0.0/16"], ["20.0.0.0/8"], ["443"], ["TCP"])
NTP = _rule("ntp", ["10.20.0.0/16"], ["40.119.6.228"], ["123"], ["UDP"])
ESTATE: dict[str, Any] = {"subscription": SUBSCRIPTION, "location": "westeurope", "groups": [{
    "name": GROUP,
    "vnets": [{"name": "vnet-hub", "prefix": "10.1.0.0/16", "subnets": [
        {"name": "AzureFirewallSubnet", "prefix": "10.1.0.0/24"}]}],
    "vms": [{"name": SERVER, "nics": [
        {"name": f"{SERVER}-nic", "subnet": "vnet-shop/data", "address": "10.20.3.200"}]}],
    "firewallPolicies": [{"name": "egress", "groups": [
        {"name": "shop", "priority": GROUPS["shop"], "ruleCollections": [
            _collection("allow", UPDATES, _any(ROGUE[0]), NTP)]},
        {"name": "platform", "priority": GROUPS["platform"], "ruleCollections": [
            _collection("allow", _rule("dns", ["*"], ["168.63.129.16"], ["53"], ["UDP"]))]}]}],
    "firewalls": [{"name": "fw-hub", "subnet": "vnet-hub/AzureFirewallSubnet", "address": "10.1.0.4",
                   "policy": "egress"}],
}]}


def play(story: Story) -> dict[str, int]:
    """Found by the alert, taken out, written again by someone, and so on until people must act."""
    world = story.world
    story.chapter(f"11  {SERVER} talks to {ATTACKER}: which rule let it out?")
    world.seed(ESTATE)
    for one, other in (("vnet-hub", "vnet-shop"), ("vnet-shop", "vnet-hub")):
        world.arm("PUT", f"{element_id('virtualNetworks', one)}/virtualNetworkPeerings/to-{other}", {
            "properties": {"remoteVirtualNetwork": {"id": element_id("virtualNetworks", other)}}})
    world.listen(story.host)
    others = other_rules(world)
    story.say(f"a firewall in the hub, {len(others) + 1} rules in 2 groups; nobody has ever looked")
    story.publish(story.known(c2_alert(SERVER, [ATTACKER])))
    story.expect("the attacker is blocked", story.wait(
        lambda: set(story.live(ATTACKER).values()) == {"active"}))
    for block in story.blocks(
        address=ATTACKER
    ):  # a block of some seconds may end before the firewall is looked at
        story.world.api(story.host, "POST", "blocks/extend", {
            "blockId": block["id"], "hours": 1, "reason": "we are looking for the way out"})
    out = story.wait(lambda: incident(story).get("state") == "removed", 60)
    story.expect("the rogue rule is found, and taken out with a backup", out, incident(story).get("detail"))
    _tell(story)
    story.expect("the rest of its group is as it was", names(world) == ["updates", "ntp"], names(world))
    for n, name in enumerate(ROGUE[1:], 2):
        story.say(f"[yellow]{SOMEONE} writes it again, as {name}[/]")
        _write(world, name)
        if n == 2:
            back = story.wait(lambda: incident(story).get("round") == 2
                              and incident(story).get("state") == "removed", 60)
            story.expect("caught within one event, tied to the incident, and taken out again", back)
            story.expect("it is known who wrote it", SOMEONE in str(incident(story).get("author")))
        else:
            stopped = story.wait(lambda: incident(story).get("state") == "stopped", 60)
            story.expect("the third time the service stops, and people are called", stopped)
            story.say(f"[yellow]{incident(story).get('detail')}[/]")
    numbers = {**tally(world), "other_rules_changed": sum(
        others.get(k) != v for k, v in other_rules(world).items())}
    exact = {"found": 1, "removed": 2, "returned": 2, "other_rules_changed": 0}
    story.expect("found 1, removed 2, returned 2, no other rule changed", numbers == exact, numbers)
    story.summary.append(("a rule to everywhere in the firewall",
                          "taken out, twice; then escalated, with who does it"))
    return numbers


def _tell(story: Story) -> None:
    one = incident(story)
    for rule in one.get("rules", ()):
        story.say(f"[cyan]{rule['rule']}[/] {rule['says']}")
    for reason in one.get("reasons", ()):
        story.say(f"[yellow]{reason}[/] (holds: {one['holds']})")


def incident(story: Story) -> dict[str, Any]:
    """The incident of the story, by the API; empty until there is one."""
    found = story.world.api(story.host, "GET", "firewall").json()["incidents"]
    return next((dict(i) for i in found if i["class"] == "rogue"), {})


def _group(name: str) -> str:
    return f"{POLICY}/ruleCollectionGroups/{name}"


def _rules(world: World) -> dict[str, dict[str, Any]]:
    found = {}
    for group in GROUPS:
        body = world.arm("GET", _group(group)).json()
        for collection in body["properties"]["ruleCollections"]:
            for rule in collection["rules"]:
                found[f"{group}/{collection['name']}/{rule['name']}"] = rule
    return found


def names(world: World) -> list[str]:
    """The rules of the shop's group."""
    return [rule["name"] for key, rule in _rules(world).items() if key.startswith("shop/")]


def other_rules(world: World) -> dict[str, str]:
    """Every rule but the rogue one, as it stands."""
    return {k: json.dumps(r, sort_keys=True) for k, r in _rules(world).items() if r["name"] not in ROGUE}


def _write(world: World, name: str) -> None:
    body = {"properties": {"priority": GROUPS["shop"], "ruleCollections": [
        _collection("allow", UPDATES, NTP, _any(name))]}}
    world.arm("PUT", _group("shop"), body, upn=SOMEONE)


def tally(world: World) -> dict[str, int]:
    """Counted from the ledger: incidents, and what people were told of them."""
    told = [str(r.get("kind")) for r in count.table(world, "control") if r["PartitionKey"] == "notice"]
    rogue = [r for r in count.table(world, "firewall") if r["PartitionKey"] == "incident"]
    return {"found": len(rogue), "removed": told.count("firewall-removed"),
            "returned": told.count("firewall-returned") + told.count("firewall-loop")}
