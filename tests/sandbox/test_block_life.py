"""The life of a block: claimed, written, proven, prolonged, lifted. Real SDKs, sandbox, Azurite."""

from __future__ import annotations

from datetime import timedelta

from remediation.model import BlockState
from tests.azure import OPERATOR, Azure
from tests.estate import ATTACKER, SECOND, alert, estate, nsg_path

BOTH = {"outbound": [ATTACKER], "inbound": [ATTACKER]}
MINUTE = timedelta(minutes=1)


def test_an_alert_becomes_a_proven_block_in_both_directions(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    assert azure.owned() == BOTH
    assert azure.states() == {"active"}
    block = azure.blocks()["outbound", ATTACKER]
    assert block.proven is not None
    assert block.expires == block.proven + timedelta(hours=24)
    assert block.rule == "defender-block-test-outbound"
    assert azure.writes() == ["PUT defender-block-test-outbound", "PUT defender-block-test-inbound"]


def test_the_users_own_rules_are_never_touched(azure: Azure):
    azure.world.seed(estate())
    before = azure.rules()["users-own"]
    azure.attack()
    azure.clock.forward(hours=25)
    azure.sweep()
    assert azure.rules() == {"users-own": before}


def test_a_redelivered_alert_writes_nothing_and_leaves_the_expiry_alone(azure: Azure):
    azure.world.seed(estate())
    one = azure.attack()
    before = azure.blocks()
    for _ in range(3):
        assert azure.deliver(one).outcome == "duplicate"
    assert len(azure.writes()) == 2
    assert azure.blocks() == before


def test_another_attacker_on_the_same_nsg_joins_the_same_rule(azure: Azure):
    azure.world.seed(estate(machines=2))
    azure.attack()
    azure.attack("vm2", SECOND)
    assert azure.owned() == {"outbound": [ATTACKER, SECOND], "inbound": [ATTACKER, SECOND]}
    assert len(azure.writes()) == 4


def test_a_second_alert_prolongs_the_block_without_a_write(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    first = azure.blocks()["outbound", ATTACKER]
    azure.clock.forward(hours=10)
    azure.attack()
    second = azure.blocks()["outbound", ATTACKER]
    assert len(azure.writes()) == 2
    assert second.state is BlockState.ACTIVE
    assert first.expires is not None
    assert second.expires is not None
    assert second.expires - first.expires >= timedelta(hours=10) - MINUTE
    azure.clock.forward(hours=15)
    azure.sweep()
    assert azure.owned() == BOTH, "the first expiry has passed, the second has not"
    azure.clock.forward(hours=10)
    azure.sweep()
    assert azure.owned() == {}


def test_an_allow_that_wins_is_reported_as_shadowed(azure: Azure):
    azure.world.seed(estate({"name": "all-in", "priority": 100},
                            {"name": "all-out", "priority": 100, "direction": "Outbound"}))
    one = azure.attack()
    assert azure.states() == {"shadowed"}
    assert azure.blocks()["outbound", ATTACKER].shadowed_by == "all-out"
    assert any("all-in" in n for n in azure.notices("shadowed"))
    assert "proven" not in {a["action"] for a in azure.timeline(one)["actions"]}


def test_a_shadowed_block_becomes_active_when_the_allow_is_gone(azure: Azure):
    azure.world.seed(estate({"name": "all-out", "priority": 100, "direction": "Outbound"}))
    azure.attack()
    assert azure.blocks()["outbound", ATTACKER].state is BlockState.SHADOWED
    azure.world.arm("DELETE", f"{nsg_path()}/securityRules/all-out", upn="admin@example.com")
    azure.clock.forward(hours=1.1)
    azure.sweep()
    assert azure.blocks()["outbound", ATTACKER].state is BlockState.ACTIVE


def test_an_ipv6_attacker_has_a_rule_of_its_own(azure: Azure):
    azure.world.seed(estate())
    azure.attack(attacker=["2001:db8::7", ATTACKER])
    assert azure.owned() == {**BOTH, "outbound-v6": ["2001:db8::7"], "inbound-v6": ["2001:db8::7"]}
    assert azure.states() == {"active"}


def test_a_block_is_lifted_when_its_time_is_up_and_its_absence_proven(azure: Azure):
    azure.world.seed(estate())
    one = azure.attack()
    azure.clock.forward(hours=23.9)
    azure.sweep()
    assert azure.owned() == BOTH
    azure.clock.forward(hours=0.2)
    azure.sweep()
    assert azure.owned() == {}
    assert azure.blocks() == {}, "ended rows leave the live partition"
    assert {b.state for b in azure.ended()} == {BlockState.LIFTED}
    actions = [a["action"] for a in azure.timeline(one)["actions"]]
    assert actions.count("lifted") == 2


def test_lifting_one_address_leaves_the_others(azure: Azure):
    azure.world.seed(estate(machines=2))
    azure.attack()
    azure.clock.forward(hours=12)
    azure.attack("vm2", SECOND)
    azure.clock.forward(hours=12.5)
    azure.sweep()
    assert azure.owned() == {"outbound": [SECOND], "inbound": [SECOND]}


def test_an_alert_that_meets_a_lifting_block_keeps_it(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    azure.clock.forward(hours=25)
    azure.faults({"service": "arm", "method": "DELETE", "status": 503, "times": 100})
    azure.sweep()
    azure.faults()
    azure.attack()
    assert azure.owned() == BOTH
    assert azure.states() == {"active"}


def test_a_rule_with_our_name_that_is_not_ours_is_left_and_told(azure: Azure):
    theirs = {"name": "defender-block-test-outbound", "priority": 1000, "direction": "Outbound",
              "description": "made by hand"}
    azure.world.seed(estate(theirs))
    before = azure.rules()["defender-block-test-outbound"]
    azure.attack()
    assert azure.rules()["defender-block-test-outbound"] == before
    assert azure.blocks()["outbound", ATTACKER].state is BlockState.FAILED
    assert azure.blocks()["inbound", ATTACKER].state is BlockState.ACTIVE
    assert any("not ours to change" in n for n in azure.notices("block-failed"))


def test_the_nic_guard_is_used_where_the_subnet_has_none(azure: Azure):
    data = estate()
    group = data["groups"][0]
    group["vnets"][0]["subnets"][0].pop("nsg")
    group["vms"][0]["nics"][0]["nsg"] = "nsg"
    azure.world.seed(data)
    azure.attack()
    assert azure.owned() == BOTH


def test_a_machine_without_any_guard_is_told_and_left(azure: Azure):
    data = estate()
    data["groups"][0]["vnets"][0]["subnets"][0].pop("nsg")
    azure.world.seed(data)
    one = azure.attack()
    assert azure.writes() == []
    assert "has a network security group" in azure.timeline(one)["plan"]["skipped"][0]["reason"]
    assert azure.notices("alert")


def test_every_nic_of_a_machine_is_guarded(azure: Azure):
    data = estate(nsgs=2)
    data["groups"][0]["vms"] = [{"name": "vm", "nics": [
        {"name": "nic", "subnet": "vnet/sub"}, {"name": "nic2", "subnet": "vnet/sub2"}]}]
    azure.world.seed(data)
    azure.attack()
    assert azure.owned("nsg") == BOTH
    assert azure.owned("nsg2") == BOTH


def test_an_nsg_without_room_refuses_and_tells(azure: Azure):
    full = {"name": "full", "priority": 200, "direction": "Outbound", "access": "Deny",
            "destinationAddressPrefixes": [f"10.{n // 250}.{n % 250}.1" for n in range(3996)]}
    azure.world.seed(estate(full))
    azure.attack(attacker=[ATTACKER, SECOND, "198.51.100.77"])
    outbound = {k[1]: b.state.value for k, b in azure.blocks().items() if k[0] == "outbound"}
    assert sorted(outbound.values()) == ["active", "failed", "failed"]
    assert azure.notices("no-capacity")


def test_resources_without_machines_are_recorded_as_not_traced(azure: Azure):
    azure.world.seed(estate())
    account = nsg_path().replace("Microsoft.Network/networkSecurityGroups/nsg",
                                 "Microsoft.Storage/storageAccounts/logs")
    one = azure.attack(resourceIdentifiers=[{"type": "AzureResource", "azureResourceId": account}])
    assert "has no machines that are known" in azure.timeline(one)["plan"]["skipped"][0]["reason"]
    assert azure.writes() == []


def test_the_machine_is_found_while_the_graph_lags(azure: Azure):
    azure.world.tune(graph_lag=3600)
    azure.world.seed(estate())
    azure.attack()
    assert azure.owned() == BOTH


def test_a_block_may_be_extended_but_not_beyond_seven_days(azure: Azure):
    from datetime import timedelta as span

    import pytest

    from remediation.errors import BadInput, NotFound

    azure.world.seed(estate())
    azure.attack()
    block = azure.blocks()["outbound", ATTACKER]
    found = azure.app.operator.extend(OPERATOR, block_id=block.key.id, by=span(hours=48), reason="slow")
    assert found["state"] == "active"
    azure.clock.forward(hours=30)
    azure.sweep()
    assert azure.owned() == {"outbound": [ATTACKER]}
    with pytest.raises(BadInput, match="at most"):
        azure.app.operator.extend(OPERATOR, block_id=block.key.id, by=span(hours=168), reason="slow")
    with pytest.raises(NotFound):
        azure.app.operator.extend(OPERATOR, block_id="none", by=span(hours=1), reason="slow")


def test_two_alerts_in_one_event_are_both_handled(azure: Azure):
    azure.world.seed(estate(machines=2))
    both = [azure.know(alert()), azure.know(alert("vm2", SECOND))]
    azure.app.on_alert(both, event_id="e", event_time=None)
    assert azure.owned() == {"outbound": [ATTACKER, SECOND], "inbound": [ATTACKER, SECOND]}


def test_a_rule_that_goes_leaves_its_better_number_to_one_that_stays(azure: Azure):
    azure.world.seed(estate({"name": "early", "priority": 101, "direction": "Outbound"}))
    azure.attack()
    assert azure.rules()["defender-block-test-outbound"]["priority"] == 100
    azure.clock.forward(hours=24.1)
    azure.app.sweep._surroundings.refresh(azure.app.budget())  # the estate is known freshly enough
    azure.attack(attacker="2001:db8::7")
    assert azure.blocks()["outbound", "2001:db8::7"].state is BlockState.ACTIVE
    assert azure.rules()["defender-block-test-outbound-v6"]["priority"] == 100
    assert any("outside the policy's window" in n for n in azure.notices("priority"))
