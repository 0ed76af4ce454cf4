"""The API is as `docs/openapi.json` says: the real answers of the host, to generated requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sandbox.world import ROOT, FunctionsHost, World
from tests.estate import alert, estate
from tests.host.conftest import Site

DOCUMENT: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text())
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)


@pytest.fixture(scope="module")
def host(world: World) -> Iterator[FunctionsHost]:
    """A host that has blocks, questions and alerts to tell of."""
    world.control("POST", "reset")
    site = Site(world)
    world.seed(estate())
    made = site.start()
    world.publish(site.know(alert()))
    world.publish(alert(attacker="198.51.100.99"))
    assert world.settled(30)
    yield made
    world.stop_host(made)


@SCHEMA.parametrize()
@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case: Any, host: FunctionsHost):
    answer = case.call_and_validate(  # raises where an answer is not as the document says
        base_url=f"{host.url}/api", headers={"x-functions-key": host.function_key}, timeout=60,
        checks=[not_a_server_error, status_code_conformance, content_type_conformance,
                response_schema_conformance],
    )
    assert answer.status_code < 500


def test_every_route_of_the_app_is_described(host: FunctionsHost):
    import function_app

    routes = set()
    for function in function_app.app.get_functions():
        found = function.get_trigger()
        assert found is not None
        trigger = found.get_dict_repr()
        if trigger["type"] == "httpTrigger":
            routes |= {(f"/{trigger['route']}", str(m.value).lower()) for m in trigger["methods"]}
    described = {(path, method) for path, item in DOCUMENT["paths"].items() for method in item}
    assert routes == described
