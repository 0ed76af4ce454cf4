"""Rogue rules: what judging a large firewall costs, and how many calls to ARM one removal makes."""

from __future__ import annotations

import ipaddress
import random
import time
import tracemalloc
from pathlib import Path
from typing import Any

from bench.contest import AZURE
from bench.loads import SEED
from bench.sweep import app_of
from remediation.clock import Clock
from remediation.firewall.hosts import Hosts
from remediation.firewall.rogue import find
from remediation.firewall.rules import rules_of_policies
from remediation.model import Caller
from sandbox.demo.estate import SUBSCRIPTION, element_id
from sandbox.world import World

PER_GROUP = 200
"""Rules in a group; Azure allows some thousands in a policy."""
SLICES = 300
HOSTS = 20_000


def _rule(name: str, sources: list[str], destinations: list[str], ports: list[str],
          protocols: list[str]) -> dict[str, Any]:
    return {"ruleType": "NetworkRule", "name": name, "ipProtocols": protocols, "sourceAddresses": sources,
            "destinationAddresses": destinations, "destinationPorts": ports}


def _group(number: int, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": f"{element_id('firewallPolicies', 'bench')}/ruleCollectionGroups/g{number}",
            "properties": {"priority": 100 + number, "ruleCollections": [{
                "ruleCollectionType": "FirewallPolicyFilterRuleCollection", "name": "c", "priority": 100,
                "action": {"type": "Allow" if number % 10 else "Deny"}, "rules": rules}]}}


def policy(count: int) -> list[dict[str, Any]]:
    """Groups with so many rules of one machine or of a range each, and one rogue rule in the middle."""
    chance = random.Random(SEED)  # noqa: S311 - a repeatable load
    base = int(ipaddress.ip_address("10.0.0.0"))
    groups = []
    for start in range(0, count, PER_GROUP):
        rules = []
        for n in range(start, min(start + PER_GROUP, count)):
            source = str(ipaddress.ip_address(base + chance.randrange(HOSTS)))
            goal = f"{chance.randrange(20, 100)}.{chance.randrange(256)}.0.0/{chance.choice((16, 20, 24))}"
            low = chance.randrange(1, 60_000)
            rules.append(_rule(f"r{n}", [source if n % 3 else "10.0.0.0/24"],
                               [goal], [f"{low}-{low + chance.randrange(1, 500)}", "443"],
                               [chance.choice(("TCP", "UDP"))]))
        if start <= count // 2 < start + PER_GROUP:
            rules[0] = _rule("rogue", ["10.0.7.7"], ["*"], ["*"], ["Any"])
        groups.append(_group(start // PER_GROUP + 1, rules))
    return groups


def judged(count: int) -> dict[str, float]:
    """Seconds to read and to judge a policy of so many rules with 20,000 machines behind it; what it takes
    at the most; and the worst that one machine's own rules can do: an internet cut into slices."""
    base = int(ipaddress.ip_address("10.0.0.0"))
    hosts = Hosts((base + n, f"/vm-{n}") for n in range(HOSTS))
    level = policy(count)
    started = time.perf_counter()
    rules = rules_of_policies("/fw", [level], {})
    read = time.perf_counter() - started
    started = time.perf_counter()
    found = find(rules, hosts)
    judge = time.perf_counter() - started
    if sum(f.kind == "rogue" for f in found) != 1:
        raise RuntimeError(f"the one rogue rule was not found: {[f.kind for f in found]}")
    tracemalloc.start()
    find(rules_of_policies("/fw", [level], {}), hosts)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    step = 65_535 // SLICES
    ends = [(1 + n * step, 65_535 if n == SLICES - 1 else (n + 1) * step) for n in range(SLICES)]
    slices = [_rule(f"s{a}", ["10.0.0.9"], ["*"], [f"{a}-{b}"], ["Any"]) for a, b in ends]
    started = time.perf_counter()
    find(rules_of_policies("/fw", [[_group(1, slices)]], {}), hosts)
    return {"rules": count, "read_seconds": round(read, 3), "judge_seconds": round(judge, 3),
            "peak_mib": round(peak, 1), "slices": SLICES,
            "slices_seconds": round(time.perf_counter() - started, 3)}


def removal(world: World) -> dict[str, int]:
    """Calls to ARM from a person's yes until the rule is proven gone, on a firewall that settles at once."""
    world.control("POST", "reset")
    world.tune(**{**AZURE, "settle": 0, "read": 0, "write": 0, "throttle": False})
    world.seed({"subscription": SUBSCRIPTION, "groups": [{
        "name": element_id("x", "y").split("/")[4],
        "vnets": [{"name": "hub", "prefix": "10.1.0.0/16", "subnets": [
            {"name": "AzureFirewallSubnet", "prefix": "10.1.0.0/24"},
            {"name": "app", "prefix": "10.1.1.0/24"}]}],
        "vms": [{"name": "vm", "nics": [{"name": "nic", "subnet": "hub/app", "address": "10.1.1.4"}]}],
        "firewallPolicies": [{"name": "egress", "groups": [{
            "name": "g", "priority": 100, "ruleCollections": _group(1, [
                _rule("rogue", ["10.1.1.4"], ["*"], ["*"], ["Any"]),
                _rule("fine", ["10.1.1.0/24"], ["20.0.0.0/8"], ["443"], ["TCP"]),
            ])["properties"]["ruleCollections"]}]}],
        "firewalls": [{"name": "fw", "subnet": "hub/AzureFirewallSubnet", "address": "10.1.0.4",
                       "policy": "egress"}]}]})
    app = app_of(world, Clock(), 900)
    firewall = element_id("azureFirewalls", "fw").lower()

    def calls(since: int) -> tuple[int, dict[str, int]]:
        rows = [r for r in world.log(since) if r["service"] == "arm"]
        return max((r["n"] for r in rows), default=since), {
            "reads": sum(r["method"] == "GET" for r in rows),
            "writes": sum(r["method"] == "PUT" for r in rows)}

    at = max((r["n"] for r in world.log()), default=0)
    (one,) = app.watch.look(firewall, app.budget())
    at, look = calls(at)
    person = Caller("bench", frozenset({"Approve"}), identified=True)
    app.desk.decide(one.id, person, app.budget(), act=True, reason="bench", digest=one.digest)
    done = one
    for _ in range(5):
        done = app.removal.go_on(one.id, app.budget()) or done
        if done.state == "removed":
            break
    if done.state != "removed":
        raise RuntimeError(f"not taken out: {done.state} {done.detail}")
    _, out = calls(at)
    return {"look_reads": look["reads"], "removal_reads": out["reads"], "removal_writes": out["writes"]}


def measured(folder: Path, count: int) -> dict[str, Any]:
    """Both."""
    with World(folder) as world:
        return {**judged(count), **removal(world)}
