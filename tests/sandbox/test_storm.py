"""Many alerts at once: few writes, few reads, nothing lost, nothing asked twice for nothing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from remediation.cloud.defender import GETS_AT_ONCE
from remediation.policy import DEFAULT_POLICY
from tests.estate import alert, estate
from tests.sandbox.conftest import Azure


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
