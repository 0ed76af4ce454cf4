"""Many alerts at once: few writes, few reads, nothing lost, nothing asked twice for nothing."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from remediation.cloud.defender import GETS_AT_ONCE
from remediation.commit import Committed
from remediation.commit.write import Writer
from remediation.policy import DEFAULT_POLICY
from sandbox.world import waiting
from tests.azure import Azure
from tests.estate import alert, estate, nsg_id


@pytest.fixture
def wide(azure: Azure, tmp_path: Path) -> Azure:
    """An app whose caps are out of the way."""
    return capped(azure, tmp_path, 10_000)


def capped(azure: Azure, folder: Path, most: int) -> Azure:
    policy = folder / "policy.toml"
    policy.write_text(DEFAULT_POLICY.read_text().replace(
        "blocks_per_hour = 100", f"blocks_per_hour = {most}"))
    azure.start(RESPONDER_POLICY=str(policy))
    return azure


def together(azure: Azure, alerts: list[dict[str, Any]], threads: int = 16) -> None:
    """Deliver all, so many at a time."""
    todo = list(alerts)
    errors: list[BaseException] = []

    def work() -> None:
        while todo:
            try:
                azure.deliver(todo.pop())
            except IndexError:
                return
            except BaseException as error:  # noqa: BLE001 - shown by the assert below
                errors.append(error)

    crowd = [threading.Thread(target=work) for _ in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(120)
    assert errors == []


def known(azure: Azure, count: int, machines: int) -> list[dict[str, Any]]:
    """Alerts that Defender holds, each with an attacker of its own."""
    made = [alert(f"vm{n % machines + 1 if n % machines else ''}", f"198.51.100.{n + 1}")
            for n in range(count)]
    azure.world.seed({"subscription": made[0]["id"].split("/")[2],
                      "alerts": [a["properties"] for a in made]})
    return made


def calls(azure: Azure, part: str) -> int:
    return sum(part in r["path"] for r in azure.world.log())


def test_alerts_beyond_the_pace_of_gets_are_confirmed_together_through_the_graph(wide: Azure):
    azure = wide
    azure.world.seed(estate(machines=4))
    azure.world.tune(settle=0.2, read=0.05)
    pace = azure.app.operator._defender._pace
    pace._rate = 0  # what is spent stays spent, however slow the machine
    together(azure, known(azure, 100, 4))
    assert len(azure.blocks()) == 200
    if azure.states() != {"active"}:  # a slow machine: the holder's budget ended with rows left over
        azure.clock.forward(seconds=60)
        azure.sweep()
    assert azure.states() == {"active"}
    assert calls(azure, "Microsoft.Security/locations") == GETS_AT_ONCE
    assert calls(azure, "Microsoft.ResourceGraph") < 60, "fewer than the alerts it confirmed"
    assert len(azure.writes()) <= 24


def test_what_the_graph_does_not_know_yet_is_fetched_by_get(wide: Azure):
    azure = wide
    azure.world.seed(estate())
    azure.attack()  # the graph is built, and will lag from here on
    azure.world.tune(graph_lag=600)
    alerts = known(azure, 60, 1)
    together(azure, alerts)
    assert {b.state.value for b in azure.blocks().values()} == {"active"}
    assert len(azure.blocks()) == 120


def test_a_name_met_in_another_subscription_confirms_nothing(azure: Azure):
    azure.world.seed(estate())
    elsewhere = alert()
    azure.world.seed({"subscription": "00000000-0000-0000-0000-0000000000ff",
                      "alerts": [elsewhere["properties"]]})
    defender = azure.app.operator._defender
    defender._pace._tokens = defender._pace._rate = 0  # as in a storm: only the graph is asked
    azure.deliver(elsewhere)
    assert azure.states() == {"waiting"}, "unknown in its own subscription: a person is asked"


def test_the_hours_allowance_is_given_out_once_however_many_ask(azure: Azure, tmp_path: Path):
    capped(azure, tmp_path, 30)
    azure.world.seed(estate(machines=2))
    together(azure, known(azure, 40, 2))
    states = [b.state.value for b in azure.blocks().values()]
    assert states.count("active") == 30
    assert states.count("waiting") == 50


def test_a_queue_that_is_made_by_two_at_once_takes_both_messages(azure: Azure):
    queue = azure.app.responder._queue
    queue._create()
    queue._create()
    queue.send("/a")
    client = queue._clients.queue(azure.settings["COMMIT_QUEUE"])
    assert client.get_queue_properties().approximate_message_count == 1


def test_a_newcomers_decisive_direction_is_written_before_the_other_one_of_those_already_stopped(
    wide: Azure,
):
    azure = wide
    azure.world.seed(estate())
    azure.world.tune(settle=1.5)
    one, two = known(azure, 2, 1)
    first = threading.Thread(target=azure.deliver, args=(one,))
    first.start()
    for _ in waiting(10):
        if azure.writes():
            break
    azure.deliver(two)  # while the first one's outbound rule is on its way
    first.join(30)
    assert [w.rpartition("-")[2] for w in azure.writes()] == ["outbound", "outbound", "inbound"]
    assert azure.states() == {"active"}
    assert len(azure.blocks()) == 4


def test_newcomers_cannot_put_the_other_direction_off_for_ever(wide: Azure):
    commit = wide.app.responder._commit
    lease = wide.app.ledger.leases.take(nsg_id(), wide.clock)
    assert lease is not None
    writer = Writer(commit._parts, lease, wide.app.budget(), Committed(), lambda: True)
    assert [writer._gives_way() for _ in range(6)] == [True] * 4 + [False, True]
    writer = Writer(commit._parts, lease, wide.app.budget(), Committed(), lambda: False)
    assert writer._gives_way() is False, "nobody waits"


def test_what_this_process_knows_to_be_done_costs_no_table_call_when_it_comes_again(azure: Azure):
    azure.world.seed(estate())
    one = azure.attack()
    before = sum(r["service"] == "table" for r in azure.world.log())
    for _ in range(5):
        assert azure.deliver(one).outcome == "duplicate"
    assert sum(r["service"] == "table" for r in azure.world.log()) == before
    azure.start()  # another process
    assert azure.deliver(one).outcome == "duplicate"


def test_a_process_takes_a_little_of_the_hours_allowance_ahead_and_gives_out_all_of_it(
    azure: Azure, tmp_path: Path
):
    capped(azure, tmp_path, 200)
    azure.world.seed(estate())
    reserve = azure.app.responder._survey._allowance
    kind = ("Network_CommunicationWithC2", 200)
    assert [reserve(kind, 2) for _ in range(101)] == [2] * 100 + [0]
    azure.clock.forward(hours=1)
    assert reserve(kind, 2) == 2


def test_when_arm_has_few_reads_left_defender_is_asked_through_the_graph(azure: Azure):
    azure.world.seed(estate())
    azure.world.tune(throttle=True, reads=[60, 0.1])
    azure.attack()
    asked = calls(azure, "Microsoft.Security/locations")
    azure.attack(attacker="198.51.100.20")
    assert calls(azure, "Microsoft.Security/locations") == asked
    assert azure.states() == {"active"}
    assert len(azure.blocks()) == 4


def test_a_hint_for_many_claims_of_one_moment_is_left_once(azure: Azure):
    work, now = azure.app.ledger.work, azure.clock.now()
    before = sum(r["service"] == "table" for r in azure.world.log())
    for _ in range(5):
        work.nsg_soon(nsg_id(), now, timedelta(seconds=30))
    assert sum(r["service"] == "table" for r in azure.world.log()) - before <= 3  # the table is made, too
    assert [h.id for h in work.due(now + timedelta(seconds=40), 10)] == [nsg_id()]
    work.nsg_soon(nsg_id(), now, timedelta(seconds=1))
    assert len(work.due(now + timedelta(seconds=40), 10)) == 2, "so soon it may be followed already"
