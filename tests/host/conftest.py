"""A world with a Functions host, keys on. One per test process; an empty Azure per test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.world import FunctionsHost, World
from tests.role import IDENTITY, role_actions

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with World(doors=True) as made:
        made.tune(settle=0, retry_after=False, throttle=False)
        yield made


class Site:
    """A world, and hosts with tables of their own in it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.number = next(_numbers)
        self.settings = {
            "RESPONDER_MODE": "enforce", "RESPONDER_DEPLOYMENT": "host",
            "RESPONDER_TABLE_PREFIX": f"h{self.number}", "COMMIT_QUEUE": f"commit-h{self.number}",
            "INVESTIGATION_QUEUE": f"investigations-h{self.number}",
            "EVIDENCE_CONTAINER": f"evidence-h{self.number}",
            "SWEEP_SCHEDULE": "0 0 0 1 1 *",
        }
        self.hosts: list[FunctionsHost] = []

    def start(self, **settings: str) -> FunctionsHost:
        host = self.world.start_host(f"host-{self.number}-{len(self.hosts)}",
                                     **{**self.settings, **settings})
        self.hosts.append(host)
        self.world.subscribe(host)
        return host

    def know(self, one: dict[str, Any]) -> dict[str, Any]:
        self.world.seed({"subscription": one["id"].split("/")[2], "alerts": [one["properties"]]})
        return one

    def owned(self) -> dict[str, list[str]]:
        return {
            r["name"].removeprefix("defender-block-host-"): sorted(
                r["properties"]["sourceAddressPrefixes"] + r["properties"]["destinationAddressPrefixes"])
            for nsg in self.world.resources("microsoft.network/networksecuritygroups")
            for r in nsg["properties"]["securityRules"] if r["name"].startswith("defender-block-host-")
        }

    def blocks(self, host: FunctionsHost, **query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.world.api(host, "GET", "blocks", **query).json()["blocks"]
        return found


@pytest.fixture
def site(world: World) -> Iterator[Site]:
    world.control("POST", "reset")
    world.role(IDENTITY, role_actions())
    made = Site(world)
    yield made
    world.control("POST", "faults", [])
    for host in made.hosts:
        if host in world.hosts:
            world.stop_host(host)
