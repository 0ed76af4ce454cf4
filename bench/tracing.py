"""A pool behind a load balancer against one machine; and how long a look at a large estate takes."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from bench.contest import AZURE, policy_file
from bench.loads import Attack, Load, attackers, estate
from sandbox.demo.count import APP
from sandbox.demo.estate import GROUP, SUBSCRIPTION, c2_alert, nsg_id
from sandbox.estates import generate
from sandbox.world import FunctionsHost, World

NETWORK = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Network"
NSGS, EACH = 20, 5
WARM_UPS = 10
ELEMENTS = ("Compute/virtualMachines/vm-1", "Network/loadBalancers/lb-0",
            "Network/applicationGateways/agw", "Network/natGateways/nat")


def pool_loads(nsgs: int = NSGS, each: int = EACH) -> tuple[Load, Load]:
    """In the same estate: one alert on one machine; one on a load balancer before all of them."""
    site = estate(nsgs + 1, each)
    group = site["groups"][0]
    for vm in group["vms"]:
        nic = vm["nics"][0]
        if not nic["subnet"].endswith(f"sub-{nsgs + 1}"):  # those that warm the host up stay out of it
            nic["pools"] = ["lb/web"]
    group["loadBalancers"] = [{"name": "lb", "pools": [{"name": "web"}], "outbound": ["web"]}]
    first, second = attackers(2)
    places = [nsg_id(f"nsg-{n}").lower() for n in range(1, nsgs + 1)]
    one = Load("pool_one", "one alert on one machine", nsgs, (c2_alert("vm-1-1", [first]),),
               (Attack(places[0], first),), site)
    alert = on_element(f"{NETWORK}/loadBalancers/lb", second)
    return one, replace(one, name="pool", title=f"one alert on a pool of {nsgs * each} over {nsgs} NSGs",
                        alerts=(alert,), attacks=tuple(Attack(p, second) for p in places))


def on_element(resource: str, attacker: str) -> dict[str, Any]:
    """A C2 alert that names a load balancer, or whatever else."""
    alert = c2_alert("vm-1-1", [attacker])
    alert["properties"]["resourceIdentifiers"] = [{"type": "AzureResource", "azureResourceId": resource}]
    return alert


def look(world: World, machines: int, rounds: int) -> dict[str, Any]:
    """Dry runs in an estate of so many machines: seconds and calls, for each kind of element."""
    world.control("POST", "reset")
    world.tune(settle=3, **AZURE)
    started = time.monotonic()
    world.seed(generate(machines))
    addresses = iter(attackers(5000))
    alerts = {e: [_alert(e, n, next(addresses)) for n in range(rounds + 1)] for e in ELEMENTS}
    world.seed({"subscription": SUBSCRIPTION,
                "alerts": [a["properties"] for some in alerts.values() for a in some]})
    host = world.start_host(
        "look", RESPONDER_MODE="simulate", RESPONDER_POLICY=str(policy_file(world.folder)),
        RESPONDER_BUDGET_SECONDS="20", SWEEP_SCHEDULE="0 0 0 1 1 *")
    try:
        found: dict[str, Any] = {"machines": machines}
        for element, (first, *others) in alerts.items():
            _warm_up(world, host, first)
            runs = [_look(world, host, alert) for alert in others]
            found[element.rpartition("/")[0]] = {
                "seconds": round(statistics.median(r["seconds"] for r in runs), 2),
                "machines": max(r["machines"] for r in runs),
                "queries": max(r["queries"] for r in runs), "reads": max(r["reads"] for r in runs)}
        found["seconds"] = round(time.monotonic() - started, 1)
    finally:
        world.stop_host(host)
    return found


def _warm_up(world: World, host: FunctionsHost, alert: dict[str, Any]) -> None:
    """The simulated graph takes its time to load so many rows: that is no time of ours."""
    for _ in range(WARM_UPS):
        if world.api(host, "POST", "replay", alert, dryRun="true").status_code == HTTPStatus.OK:
            return
    raise RuntimeError("the simulated graph did not get warm")


def _alert(element: str, group: int, attacker: str) -> dict[str, Any]:
    """On an element that no other alert asks about."""
    providers = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-{group}/providers"
    return on_element(f"{providers}/Microsoft.{element}", attacker)


def _look(world: World, host: FunctionsHost, alert: dict[str, Any]) -> dict[str, Any]:
    """One dry run."""
    before = max((r["n"] for r in world.log()), default=0)
    started = time.monotonic()
    answer = world.api(host, "POST", "replay", alert, dryRun="true")
    seconds = time.monotonic() - started
    answer.raise_for_status()
    (result,) = answer.json()["results"]
    rows = [r for r in world.log(before) if r["service"] == "arm" and r["by"] == APP]
    return {"seconds": seconds, "machines": result["plan"]["machineCount"],
            "queries": sum(r["path"].lower().endswith("resourcegraph/resources") for r in rows),
            "reads": sum(r["method"] == "GET" for r in rows)}
