"""Sessions that exist when the block comes: said to remain, or cut where the policy wants it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remediation.policy import DEFAULT_POLICY
from tests.azure import Azure
from tests.estate import ATTACKER, estate, nsg_path
from tests.role import IDENTITY, role_actions

WRITE = "Microsoft.Network/networkSecurityGroups/write"


@pytest.fixture
def cutting(azure: Azure, tmp_path: Path) -> Azure:
    """An app whose policy has sessions cut, with the right to do so."""
    policy = tmp_path / "policy.toml"
    policy.write_text(DEFAULT_POLICY.read_text().replace("cut_live_flows = false", "cut_live_flows = true"))
    azure.world.role(IDENTITY, [*role_actions(), WRITE])
    azure.world.seed(estate())
    azure.start(RESPONDER_POLICY=str(policy))
    return azure


def whole(azure: Azure) -> dict[str, Any]:
    """The NSG as ARM shows it, without what changes with every write."""
    found: dict[str, Any] = azure.world.arm("GET", nsg_path()).json()
    changing = ("provisioningState", "defaultSecurityRules")
    properties = {k: v for k, v in found["properties"].items() if k not in changing}
    properties["securityRules"] = {
        r["name"]: {k: v for k, v in r["properties"].items() if k not in ("provisioningState", "description")}
        for r in properties["securityRules"]}
    return {**found, "etag": "", "properties": properties}


def flushes(azure: Azure) -> int:
    """Writes of the whole NSG."""
    return azure.writes().count("PUT nsg")


def sessions(azure: Azure) -> set[str]:
    return {b.sessions.value for b in azure.blocks().values()}


def test_without_the_policys_word_sessions_are_said_to_remain(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    assert azure.states() == {"active"}
    assert sessions(azure) == {"may remain"}
    assert flushes(azure) == 0


def test_they_are_cut_once_the_block_is_proven_and_the_nsg_is_as_it_was(cutting: Azure):
    before = whole(cutting)
    cutting.attack()
    assert sessions(cutting) == {"cut"}
    assert [w for w in cutting.writes() if w == "PUT nsg"] == ["PUT nsg", "PUT nsg"]
    assert cutting.writes()[-2:] == ["PUT nsg", "PUT nsg"], "after both rules"
    after = whole(cutting)
    assert after["properties"].pop("flushConnection") is False
    ours = {n for n in after["properties"]["securityRules"] if n.startswith("defender-block-")}
    for name in ours:
        del after["properties"]["securityRules"][name]
    assert len(ours) == 2
    assert after == before


def test_it_is_done_once_for_a_block(cutting: Azure):
    cutting.attack()
    cutting.clock.forward(hours=2)
    cutting.start()
    cutting.sweep()
    assert flushes(cutting) == 2


def test_an_nsg_whose_owner_has_it_on_already_is_left_alone(cutting: Azure):
    body = cutting.world.arm("GET", nsg_path()).json()
    body["properties"]["flushConnection"] = True
    cutting.world.arm("PUT", nsg_path(), body)
    cutting.attack()
    assert sessions(cutting) == {"cut"}
    assert flushes(cutting) == 0
    assert whole(cutting)["properties"]["flushConnection"] is True


def test_what_a_dead_holder_left_switched_on_the_next_one_switches_off(cutting: Azure):
    cutting.faults({"service": "arm", "method": "PUT", "path": "networkSecurityGroups/nsg$", "skip": 1,
                    "status": 503, "times": 40})
    cutting.attack()
    assert whole(cutting)["properties"]["flushConnection"] is True
    assert sessions(cutting) == {"may remain"}
    cutting.faults()
    cutting.clock.forward(minutes=10)
    cutting.start()
    cutting.sweep()
    assert whole(cutting)["properties"]["flushConnection"] is False
    assert sessions(cutting) == {"cut"}


def test_without_the_right_the_block_stands_and_a_human_is_told(cutting: Azure):
    cutting.world.role(IDENTITY, role_actions())
    cutting.attack()
    assert cutting.blocks()["outbound", ATTACKER].state.value == "active"
    assert sessions(cutting) == {"not cut"}
    assert any("live sessions may remain" in n for n in cutting.notices("flows-not-cut"))


def test_one_that_cannot_be_switched_off_is_told_and_holds_up_no_block(cutting: Azure):
    cutting.faults({"service": "arm", "method": "PUT", "path": "networkSecurityGroups/nsg$", "skip": 1,
                    "status": 403, "times": 400, "body": {"error": {
                        "code": "AuthorizationFailed", "message": "does not have authorization"}}})
    cutting.attack()
    assert sessions(cutting) == {"not cut"}
    cutting.attack("vm", "198.51.100.9")
    assert cutting.blocks()["outbound", "198.51.100.9"].state.value == "active"
    assert any("cannot be switched off" in n for n in cutting.notices("flush-left-on"))
    cutting.faults()
    cutting.clock.forward(hours=2)
    cutting.start()
    cutting.sweep()
    assert whole(cutting)["properties"]["flushConnection"] is False
