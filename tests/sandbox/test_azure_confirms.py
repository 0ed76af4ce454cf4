"""Where the policy asks for it, a proof is held against Azure's own effective rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remediation.policy import DEFAULT_POLICY
from tests.azure import Azure
from tests.estate import ATTACKER, estate


@pytest.fixture
def confirmed(azure: Azure, tmp_path: Path) -> Azure:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        DEFAULT_POLICY.read_text().replace("azure_confirms = false", "azure_confirms = true"))
    azure.start(RESPONDER_POLICY=str(policy))
    return azure


def details(azure: Azure) -> set[str]:
    return {b.detail for b in azure.blocks().values()}


def asked(azure: Azure) -> int:
    return sum("effectiveNetworkSecurityGroups" in r["path"] for r in azure.world.log())


def test_a_block_is_confirmed_once_by_azures_own_view(confirmed: Azure):
    confirmed.world.seed(estate())
    confirmed.attack()
    assert confirmed.states() == {"active"}
    assert details(confirmed) == {"confirmed by Azure's effective rules"}
    assert asked(confirmed) == 1, "one look at the NIC serves both directions"
    confirmed.clock.forward(hours=1.1)
    confirmed.sweep()
    assert asked(confirmed) == 1, "what is confirmed is not asked again"


def test_a_stopped_machine_leaves_the_proof_standing_and_says_so(confirmed: Azure):
    data = estate()
    data["groups"][0]["vms"][0]["power"] = "deallocated"
    confirmed.world.seed(data)
    confirmed.attack()
    assert confirmed.states() == {"active"}
    assert all(d.startswith("not confirmed by Azure") for d in details(confirmed))


@pytest.mark.parametrize(("fault", "word"), [
    ({"status": 500, "times": 99, "path": "effectiveNetworkSecurityGroups"}, "not confirmed by Azure"),
    ({"status": 200, "times": 99, "path": "effectiveNetworkSecurityGroups", "body": {"value": []}},
     "does not count the NSG"),
])
def test_what_azure_cannot_or_will_not_confirm_is_told(confirmed: Azure, fault: dict[str, Any], word: str):
    confirmed.world.seed(estate())
    confirmed.faults({"service": "arm", **fault})
    confirmed.attack()
    assert all(word in d for d in details(confirmed))
    disagreed = "does not count" in word
    assert confirmed.states() == {"shadowed" if disagreed else "active"}
    assert bool(confirmed.notices("shadowed")) == disagreed
    confirmed.faults()
    confirmed.clock.forward(hours=1.1)
    confirmed.sweep()
    assert confirmed.states() == {"active"}, "asked again at the next check"
    assert details(confirmed) == {"confirmed by Azure's effective rules"}
    assert confirmed.owned() == {"outbound": [ATTACKER], "inbound": [ATTACKER]}
