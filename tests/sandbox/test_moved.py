"""An NSG that is not where it was: moved, copied or deleted."""

from __future__ import annotations

from typing import Any

from remediation.commit.moved import relocated
from remediation.model import BlockState, Target
from remediation.nsg import Nsg
from tests.azure import Azure
from tests.estate import ATTACKER, GROUP, SECOND, SUB, estate, nsg_id, nsg_path

BOTH = {"outbound": [ATTACKER], "inbound": [ATTACKER]}
SUBNET = nsg_path().replace("networkSecurityGroups/nsg", "virtualNetworks/vnet/subnets/sub")
NEW_GROUP = f"/subscriptions/{SUB}/resourceGroups/new"
NEW_NSG = nsg_path().replace("/rg/", "/new/")


def move(azure: Azure, *kinds: str) -> None:
    azure.world.seed({"subscription": SUB, "groups": [{"name": "new"}]})
    ids = [nsg_path(), *(nsg_path().replace("networkSecurityGroups/nsg", k) for k in kinds)]
    answer = azure.world.arm(
        "POST", f"/subscriptions/{SUB}/resourceGroups/{GROUP}/moveResources",
        {"resources": ids, "targetResourceGroup": NEW_GROUP})
    assert answer.status_code == 202


def delete_nsg(azure: Azure) -> None:
    azure.world.arm("PUT", SUBNET, {"properties": {"addressPrefix": "10.0.0.0/16"}})
    assert azure.world.arm("DELETE", nsg_path()).status_code == 202


def blocks_there(azure: Azure) -> list[Any]:
    return azure.app.ledger.blocks.live(NEW_NSG.lower())


def after(azure: Azure, hours: float, then: int = 1) -> None:
    """A sweep so much later, and some more, a minute apart."""
    azure.clock.forward(hours=hours)
    azure.sweep()
    minutes(azure, then)


def minutes(azure: Azure, count: int) -> None:
    for _ in range(count):
        azure.clock.forward(seconds=61)
        azure.sweep()


def test_blocks_follow_an_nsg_that_moved_and_are_lifted_there_on_time(azure: Azure):
    azure.world.seed(estate())
    one = azure.attack()
    before = azure.blocks()["outbound", ATTACKER]
    move(azure)
    after(azure, 1.1)
    assert azure.blocks() == {}
    assert {b.state for b in blocks_there(azure)} == {BlockState.ACTIVE}
    assert {b.expires for b in blocks_there(azure)} >= {before.expires}
    assert azure.owned() == BOTH
    assert azure.notices("moved")
    assert not azure.notices("adopted")
    assert "moved" in {a["action"] for a in azure.timeline(one)["actions"]}
    azure.clock.forward(hours=24)
    azure.sweep()
    assert azure.owned() == {}
    assert {b.state for b in azure.ended()} == {BlockState.LIFTED}


def test_a_lift_that_comes_due_after_the_move_is_done_at_the_new_place(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    move(azure)
    after(azure, 24.5)
    assert azure.owned() == {}
    assert {b.state for b in azure.ended()} == {BlockState.LIFTED}


def test_a_move_with_network_and_nic_is_followed_too(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    move(azure, "virtualNetworks/vnet", "networkInterfaces/nic")
    after(azure, 1.1)
    assert {b.state for b in blocks_there(azure)} == {BlockState.ACTIVE}
    assert azure.owned() == BOTH


def test_an_alert_planned_on_the_old_place_is_committed_at_the_new_one(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    move(azure)
    azure.attack(attacker=SECOND)  # the guard was read a moment ago, at its old place
    assert azure.blocks() == {}
    minutes(azure, 1)
    assert {b.state for b in blocks_there(azure)} == {BlockState.ACTIVE}
    assert azure.owned() == {d: [ATTACKER, SECOND] for d in BOTH}
    assert not azure.notices("block-failed")


def test_a_machine_whose_guard_is_gone_is_looked_at_anew(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    azure.app.responder._survey._guards.forget(nsg_id())  # five seconds later
    move(azure)
    azure.attack(attacker=SECOND)
    assert {(b.key.address, b.state) for b in blocks_there(azure)} >= {(SECOND, BlockState.ACTIVE)}
    assert azure.owned()["outbound"] == [ATTACKER, SECOND], "what no row here explains is kept"
    after(azure, 1.1)
    assert azure.blocks() == {}
    assert azure.owned() == {d: [ATTACKER, SECOND] for d in BOTH}


def test_a_move_that_the_graph_does_not_show_yet_is_waited_for(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    azure.sweep()
    azure.world.tune(graph_lag=3600)
    move(azure)
    after(azure, 1.1, 2)
    assert azure.states() == {"active"}, "nothing is decided while the graph may lag"
    azure.world.tune(graph_lag=0)
    minutes(azure, 2)
    assert {b.state for b in blocks_there(azure)} == {BlockState.ACTIVE}


def test_an_nsg_deleted_meanwhile_ends_its_lifts_after_a_while(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    delete_nsg(azure)
    azure.clock.forward(hours=25)
    azure.sweep()
    assert azure.states() == {"lifting"}, "a lift is not given up at the first 404"
    minutes(azure, 11)
    assert {b.state for b in azure.ended()} == {BlockState.LIFTED}
    assert "gone" in azure.ended()[0].detail


def test_an_nsg_deleted_meanwhile_fails_its_blocks_and_is_told(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    delete_nsg(azure)
    after(azure, 1.1, 12)
    assert azure.states() == {"failed"}
    assert any("is gone" in n for n in azure.notices("block-failed"))


def test_several_copies_are_not_guessed_between_but_each_is_looked_after(azure: Azure):
    azure.world.seed(estate())
    azure.attack()
    copied = [{"name": n, **p} for n, p in azure.rules().items()]
    for rule in copied:
        rule.pop("provisioningState", None)
    azure.world.seed({"subscription": SUB, "groups": [
        {"name": g, "nsgs": [{"name": "nsg", "rules": copied}]} for g in ("one", "two")]})
    delete_nsg(azure)
    after(azure, 1.1, 2)
    for group in ("one", "two"):
        rows = azure.app.ledger.blocks.live(nsg_id().replace("/rg/", f"/{group}/"))
        assert {b.key.address for b in rows} == {ATTACKER}
    azure.clock.forward(hours=25)
    azure.sweep()
    assert azure.owned() == {}


def test_a_target_is_found_again_by_name_among_what_the_nsg_guards():
    nsg = Nsg("/new/nsg", (), frozenset({"/new/virtualnetworks/v/subnets/s"}),
              frozenset({"/new/networkinterfaces/n"}))
    old = Target("vm", "/old/networkinterfaces/n", "/old/virtualnetworks/v/subnets/s", ("10.0.0.4",))
    assert relocated(old, nsg) == Target("vm", "/new/networkinterfaces/n",
                                         "/new/virtualnetworks/v/subnets/s", ("10.0.0.4",))
    other = Target("vm", "/old/networkinterfaces/m", "/old/virtualnetworks/v/subnets/t", ())
    assert relocated(other, nsg) == other
