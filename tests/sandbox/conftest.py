"""One sandbox and one Azurite per test process; an empty Azure and empty tables per test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from sandbox.world import World
from tests.azure import Azure
from tests.role import IDENTITY, role_actions

_prefixes = itertools.count(1)


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    import azure.data.tables
    import azure.identity
    import azure.mgmt.network.models
    import azure.mgmt.resourcegraph  # noqa: F401 - whichever test comes first, its budget is not for loading SDKs

    with World(doors=True) as made:
        made.tune(settle=0, retry_after=False)
        yield made


@pytest.fixture
def azure(world: World, monkeypatch: pytest.MonkeyPatch) -> Azure:
    """An empty Azure, and the environment in which azure-identity finds its endpoint."""
    world.control("POST", "reset")
    world.tune(settle=0, retry_after=False, busy="429", if_match=True, graph_lag=0, read=0, write=0,
               throttle=False, reads=[250, 25])
    world.role(IDENTITY, role_actions())
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, world.environment()[name])
    return Azure(world, next(_prefixes))
