"""What people say about rogue rules over HTTP, and the command line that says it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remediation.__main__ import main
from remediation.inputs import Reply, Request
from tests.azure import Azure
from tests.estate import NETWORK
from tests.role import IDENTITY, firewall_actions, role_actions
from tests.sandbox.test_firewall import FIREWALL, ROGUE, look, rules, seed, settle, site


@pytest.fixture
def found(azure: Azure) -> dict[str, Any]:
    """An incident as the API shows it."""
    azure.world.role(IDENTITY, [*role_actions(), *firewall_actions()])
    azure.world.tune(settle=0)
    seed(azure, site(ROGUE))
    look(azure)
    (one,) = ask(azure, "firewall").body["incidents"]
    return dict(one)


def ask(azure: Azure, route: str, body: Any = None, **params: str) -> Reply:
    query = {k: v for k, v in params.items() if k == "state"}
    path = {k: v for k, v in params.items() if k != "state"}
    content = b"" if body is None else json.dumps(body).encode()
    return azure.app.serve(route, Request("http://127.0.0.1/api/firewall", content, query, params=path))


def test_what_is_found_is_listed_and_filtered(azure: Azure, found: dict[str, Any]):
    assert found["machine"].endswith("/vm")
    assert found["digest"]
    assert ask(azure, "firewall", state="removed").body["incidents"] == []
    refused = ask(azure, "firewall", state="strange")
    assert (refused.status, refused.body["field"]) == (400, "state")


def test_a_yes_over_http_takes_it_out_and_a_restore_puts_it_back(azure: Azure, found: dict[str, Any]):
    said = ask(azure, "firewall_decide", {
        "decision": "remove", "reason": "not ours", "digest": found["digest"]}, id=found["id"])
    assert said.status == 200, said.body
    settle(azure)
    assert rules(azure) == ["updates"]
    back = ask(azure, "firewall_restore", {"reason": "it was"}, id=found["id"])
    assert back.status == 200
    settle(azure)
    assert rules(azure) == ["updates", "allow-all"]


@pytest.mark.parametrize(("route", "body", "field"), [
    ("firewall_decide", {"decision": "remove", "reason": "x"}, "digest"),
    ("firewall_decide", {"decision": "maybe", "reason": "x", "digest": "d"}, "decision"),
    ("firewall_decide", {"decision": "keep", "digest": "d"}, "reason"),
    ("firewall_approve", {"incident": "i", "reason": "x"}, "digest"),
    ("firewall_approve", {"incident": "i", "reason": "x", "digest": "d", "days": 9999}, "days"),
    ("firewall_approve", {"incident": 1, "reason": "x", "digest": "d"}, "incident"),
    ("firewall_scan", {"firewall": f"{NETWORK}/networkSecurityGroups/nsg"}, "firewall"),
])
def test_bad_input_names_the_field(azure: Azure, found: dict[str, Any], route: str, body: Any, field: str):
    reply = ask(azure, route, body, id=found["id"])
    assert (reply.status, reply.body["field"]) == (400, field)


def test_a_yes_to_something_else_is_refused(azure: Azure, found: dict[str, Any]):
    reply = ask(azure, "firewall_decide", {"decision": "remove", "reason": "x", "digest": "another"},
                id=found["id"])
    assert reply.status == 409
    assert "has changed since" in reply.body["error"]
    assert "allow-all" in rules(azure)


def test_an_approval_over_http_silences_it(azure: Azure, found: dict[str, Any]):
    reply = ask(azure, "firewall_approve", {"incident": found["id"], "reason": "the proxy", "days": 30,
                                            "digest": found["digest"]})
    assert reply.status == 200, reply.body
    assert look(azure) == []
    assert len(ask(azure, "firewall").body["approved"]) == 1


def test_a_scan_over_http_looks_at_one_or_has_all_looked_at(azure: Azure, found: dict[str, Any]):
    assert len(ask(azure, "firewall_scan", {"firewall": FIREWALL}).body["incidents"]) == 1
    assert ask(azure, "firewall_scan", {}).body == {"queued": True}


def test_the_command_line_asks_for_what_was_seen(capsys: pytest.CaptureFixture[str]):
    assert main(["firewall", "remove", "id", "--reason", "x", "--url", "http://127.0.0.1:9"]) != 0
    assert "--digest is missing" in capsys.readouterr().err
    assert main(["firewall", "keep", "--url", "http://127.0.0.1:9"]) != 0
    assert "an incident's id and --reason are missing" in capsys.readouterr().err
