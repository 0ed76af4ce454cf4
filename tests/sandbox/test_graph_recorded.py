"""Resource Graph as recorded: pages, tokens, scopes, quotas and errors. The rows themselves were another
tenant's; what is compared is the form, which is what clients rely on."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from tests.azure import Azure
from tests.conformance.recordings import FILE, Interaction, load
from tests.estate import SUB

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="recorded traffic is not beside the checkout")
PATH = "/providers/Microsoft.ResourceGraph/resources?api-version=2021-03-01"


def recorded() -> dict[str, Interaction]:
    """By recording, its first question to the graph."""
    all_ = load(re.compile(r"Microsoft\.ResourceGraph/resources$", re.IGNORECASE))
    found = {src.rsplit("/", 1)[1].removesuffix(".yaml"): next(x for x in asked if x.scored)
             for src, asked in all_.items()}
    assert len(found) == 5
    return found


def ask(
    azure: Azure, one: Interaction, query: str = ""
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """The recorded question, put to the sandbox; the other tenant's scopes are ours here."""
    body = {**one.request, **({"query": query} if query else {})}
    if body.get("subscriptions"):
        body["subscriptions"] = [SUB]
    azure.world.seed({"subscription": SUB, "groups": [{"name": "rg", "nsgs": [
        {"name": f"nsg-{n}"} for n in range(12)]}], "resources": [
        {"id": f"/subscriptions/{SUB}/resourceGroups/rg/providers/Microsoft.Management/managementGroups/g{n}",
         "name": f"g{n}"} for n in range(3)],
        "managementGroups": {g: [SUB] for g in body.get("managementGroups") or ()}})
    answer = azure.world.arm("POST", PATH, body)
    return answer.status_code, answer.json(), dict(answer.headers)


def form(data: Any) -> Any:
    """Keys and kinds, without what differs from tenant to tenant."""
    if isinstance(data, dict):
        return {k: form(v) for k, v in data.items() if k not in ("properties", "tags")}
    if isinstance(data, list):
        return [form(data[0])] if data else []
    return type(data).__name__


@pytest.mark.parametrize(
    "name", ["test_query", "test_paged_query", "test_skip_token_query", "test_query_error"])
def test_an_answer_has_the_recorded_form(azure: Azure, name: str):
    one = recorded()[name]
    status, body, headers = ask(azure, one)
    theirs = one.response
    assert status == one.status
    assert form(body) == form(theirs)
    for header in ("x-ms-user-quota-remaining", "x-ms-user-quota-resets-after",
                   "x-ms-ratelimit-remaining-tenant-resource-requests"):
        assert header in headers, header
        assert header in one.headers
    if status == 200:
        assert body["count"] == theirs["count"]
        assert body["resultTruncated"] == theirs["resultTruncated"]
    else:
        codes = [d["code"] for d in body["error"]["details"]]
        assert codes == [d["code"] for d in theirs["error"]["details"]]


def test_a_token_remembers_where_the_next_page_begins_and_how_long_it_is(azure: Azure):
    theirs = recorded()["test_paged_query"].response["$skipToken"]
    ours = ask(azure, recorded()["test_paged_query"])[1]["$skipToken"]
    for token in (theirs, ours):
        held = json.loads(base64.b64decode(token + "=" * (-len(token) % 4)))
        assert (held["MaxRows"], held["RowsToSkip"]) == (3, 5)


def test_management_groups_are_a_scope(azure: Azure):
    one = recorded()["test_management_groups_query"]
    body = one.request
    assert body["managementGroups"]
    status, found, _ = ask(azure, one, "resources | project id | limit 2")
    assert (status, found["count"], found["resultTruncated"]) == (200, 2, "false")
    azure.world.control("POST", "reset")
    unknown = azure.world.arm("POST", PATH, body)
    assert unknown.status_code == 400
