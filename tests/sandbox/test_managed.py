"""A security admin rule of Virtual Network Manager that always allows is recognised, where it can be read."""

from __future__ import annotations

from typing import Any

from tests.azure import Azure
from tests.estate import GROUP, estate
from tests.role import IDENTITY, role_actions

ALWAYS = {"name": "updates", "priority": 60, "direction": "Outbound", "access": "AlwaysAllow",
          "protocol": "Tcp", "destinationPortRanges": ["443"],
          "destinations": [{"addressPrefix": "Internet", "addressPrefixType": "ServiceTag"}]}
OTHERS = [{"name": f"wall-{n}", "priority": n, "direction": "Inbound", "access": "Deny", "protocol": "Tcp",
           "destinationPortRanges": [str(n)]} for n in range(1, 56)]


def managed(*rules: dict[str, Any]) -> dict[str, Any]:
    data = estate()
    data["groups"][0]["vnets"][0]["adminRules"] = list(rules)
    return data


def asked(azure: Azure) -> int:
    return sum("EffectiveSecurityAdminRules" in r["path"] for r in azure.world.log())


def test_a_block_that_an_always_allow_passes_over_is_not_called_effective(azure: Azure):
    azure.world.seed(managed(*OTHERS, ALWAYS))
    alert = azure.attack()
    states = {d: b.state for (d, _), b in azure.blocks().items()}
    assert states == {"outbound": "shadowed", "inbound": "active"}
    (block,) = [b for b in azure.blocks().values() if b.state == "shadowed"]
    assert block.shadowed_by == "updates", "the rule stands on the second page of the answer"
    assert any("Virtual Network Manager" in n for n in azure.notices("shadowed"))
    shown = azure.timeline(alert)
    proofs = {p["direction"]: p for p in shown["machines"][0]["proof"]}
    assert (proofs["outbound"]["outcome"], proofs["outbound"]["shadowedBy"]) == ("shadowed", "updates")


def test_what_is_over_a_network_is_asked_once_in_a_while_and_noticed_when_it_changes(azure: Azure):
    azure.world.seed(managed())
    azure.attack()
    azure.attack(attacker="198.51.100.9")
    assert azure.states() == {"active"}
    assert asked(azure) == 1
    azure.world.seed({"subscription": "00000000-0000-0000-0000-000000000001", "groups": [
        {"name": GROUP, "vnets": managed(ALWAYS)["groups"][0]["vnets"]}]})
    azure.start()  # another process, or later: what was kept is forgotten
    azure.clock.forward(hours=1.1)
    azure.sweep()
    assert {b.state for (d, _), b in azure.blocks().items() if d == "outbound"} == {"shadowed"}


def test_a_block_stands_though_what_is_over_it_may_not_be_read(azure: Azure):
    azure.world.seed(managed(ALWAYS))
    azure.world.role(IDENTITY, [a for a in role_actions() if "AdminRules" not in a])
    azure.attack()
    assert azure.states() == {"active"}
    azure.attack(attacker="198.51.100.9")
    assert asked(azure) == 1, "the refusal is remembered"


def test_a_block_stands_though_what_is_over_it_cannot_be_read_now(azure: Azure):
    azure.world.seed(managed())
    azure.faults({"service": "arm", "path": "EffectiveSecurityAdminRules", "status": 503})
    azure.attack()
    assert azure.states() == {"active"}
