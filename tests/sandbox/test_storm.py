"""Many alerts at once: few writes, few reads, nothing lost, nothing asked twice for nothing."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from remediation.cloud.crowd import ONE_BY_ONE
from remediation.cloud.defender import GETS_AT_ONCE
from remediation.commit import Committed
from remediation.commit.write import Hurried, Writer
from remediation.errors import Unavailable
from remediation.guardrails import Protected
from remediation.ledger import Lease
from remediation.model import Machine
from remediation.policy import DEFAULT_POLICY
from sandbox.world import waiting
from tests.azure import OPERATOR, Azure
from tests.estate import ATTACKER, COMPUTE, NETWORK, alert, estate, name_of, nsg_id, nsg_path


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
    assert calls(azure, "Microsoft.ResourceGraph") < 25, "far fewer than the alerts it confirmed"
    assert len(azure.writes()) <= 24


def stormy(azure: Azure) -> None:
    """Many alerts are under way, and GETs are spent."""
    azure.app.responder._under_way._now = 10
    pace = azure.app.operator._defender._pace
    pace._tokens = pace._rate = 0


def test_in_a_storm_the_newest_alerts_are_read_once_with_their_machines_for_all_that_are_to_come(wide: Azure):
    azure = wide
    azure.world.seed(estate(machines=8))
    azure.attack()
    stormy(azure)
    crowded(azure)
    azure.app.operator._defender._lately._seconds = 60  # however slow the machine
    alerts = known(azure, 8, 8)
    for one in alerts[:2]:
        azure.deliver(one)
    before = calls(azure, "Microsoft.ResourceGraph")
    for one in alerts[2:]:
        azure.deliver(one)
    assert calls(azure, "Microsoft.ResourceGraph") == before
    assert calls(azure, "Microsoft.Security/locations") == 1, "of the one before the storm"
    assert calls(azure, "Microsoft.Compute/virtualMachines/") == 1
    assert len(azure.blocks()) == 16
    assert azure.states() == {"active"}


def test_an_alert_that_defender_changed_since_the_newest_were_read_is_asked_for_itself(wide: Azure):
    azure = wide
    azure.world.seed(estate())
    stormy(azure)
    first, other = azure.know(alert()), azure.know(alert(attacker="198.51.100.30"))
    azure.deliver(first)
    grown = alert(attacker=["198.51.100.30", "198.51.100.31"])["properties"]
    azure.deliver(azure.know({**other, "properties": {**grown, "systemAlertId": other["name"]}}))
    assert azure.owned()["outbound"] == ["198.51.100.30/31", ATTACKER]
    assert azure.states() == {"active"}


@pytest.fixture
def unaware(wide: Azure) -> Azure:
    """In a storm, one attacker blocked; what people wish from here on no plan knows."""
    wide.world.seed(estate())
    stormy(wide)
    surroundings = wide.app.responder._survey._surroundings
    surroundings._paused._seconds = surroundings._wishes._seconds = 60
    wide.attack()
    return wide


def test_a_pause_in_a_storm_is_seen_by_the_commit_though_the_plan_knew_of_none(unaware: Azure):
    azure = unaware
    azure.ledger.control.pause("ann", "drill", azure.clock.now(), "due")
    azure.attack(attacker="198.51.100.30")
    assert azure.owned()["outbound"] == [ATTACKER]
    assert azure.blocks()["outbound", "198.51.100.30"].state.value == "pending"


def test_a_protected_address_in_a_storm_is_seen_by_the_commit_though_the_plan_knew_of_none(unaware: Azure):
    azure = unaware
    azure.ledger.control.protect([Protected("198.51.100.30/32", "ours", "ann", azure.clock.now())])
    azure.attack(attacker="198.51.100.30")
    assert azure.owned()["outbound"] == [ATTACKER]


def test_a_revoke_in_a_storm_is_the_later_word_though_the_plan_did_not_know_of_it(unaware: Azure):
    azure = unaware
    azure.attack(attacker="198.51.100.30")
    azure.app.operator.revoke(OPERATOR, azure.app.budget(), address=ATTACKER, block_id="", reason="mine",
                              hold=timedelta(hours=1))
    azure.attack()
    azure.clock.forward(seconds=90)
    azure.sweep()
    assert azure.owned()["outbound"] == ["198.51.100.30"]


def test_an_alert_of_a_storm_is_looked_into_when_the_sweep_comes_to_it(wide: Azure):
    azure = wide
    azure.start(RESPONDER_INVESTIGATE="on")
    azure.world.seed(estate())
    stormy(azure)
    one = azure.attack()
    assert azure.ledger.investigations.head(name_of(one)) is None
    azure.app.responder._under_way._now = 0
    for _ in range(3):
        azure.clock.forward(seconds=90)
        azure.sweep()
    head = azure.ledger.investigations.head(name_of(one))
    assert head is not None
    assert len(head.machines) == 1


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
    first = writing(azure, one)
    azure.deliver(two)  # while the first one's outbound rule is on its way
    first.join(30)
    assert [w.rpartition("-")[2] for w in azure.writes()] == ["outbound", "outbound", "inbound"]
    assert azure.states() == {"active"}
    assert len(azure.blocks()) == 4


def writing(azure: Azure, one: dict[str, Any]) -> threading.Thread:
    """A thread that delivers an alert, once its first rule is on its way."""
    thread = threading.Thread(target=azure.deliver, args=(one,))
    thread.start()
    for _ in waiting(10):
        if azure.writes():
            break
    return thread


def outbreak(azure: Azure, nsgs: int) -> list[dict[str, Any]]:
    """An alert on each of so many NSGs."""
    azure.world.seed(estate(nsgs=nsgs))
    return known(azure, nsgs, nsgs)


def test_where_alerts_on_many_nsgs_come_at_once_what_stops_the_attacks_is_written_first(wide: Azure):
    azure = wide
    alerts = outbreak(azure, 12)
    azure.world.tune(settle=1.0, throttle=True, reads=[140, 25])
    together(azure, alerts)
    names = ["nsg", *(f"nsg{n}" for n in range(2, 13))]
    assert all("outbound" in azure.owned(n) for n in names)
    early = [n for n in names if "inbound" in azure.owned(n)]
    assert len(early) < 8, "most have left it for later"
    order = [w.rpartition("-")[2] for w in azure.writes()]
    assert order[:8] == ["outbound"] * 8
    assert {s for n in names for s in azure.states(n)} <= {"pending", "active"}
    azure.world.tune(settle=0, throttle=False)
    azure.clock.forward(seconds=40)
    azure.sweep()
    assert {s for n in names for s in azure.states(n)} == {"active"}
    assert all(set(azure.owned(n)) == {"outbound", "inbound"} for n in names)


def test_where_arm_has_reads_to_spare_nothing_is_left_for_later(wide: Azure):
    azure = wide
    alerts = outbreak(azure, 12)
    azure.world.tune(settle=1.0)
    together(azure, alerts)
    names = ["nsg", *(f"nsg{n}" for n in range(2, 13))]
    assert {s for n in names for s in azure.states(n)} == {"active"}


def hurried(azure: Azure) -> None:
    """Many other NSGs are at it, alerts wait, and ARM has few reads left: only what stops the attack is
    written, and nothing proven."""
    azure.world.tune(throttle=True, reads=[140, 25])
    commit = azure.app.responder._commit
    commit.alerts_wait = lambda: True
    commit._here._called.update({f"/other/{n}": False for n in range(10)})
    azure.attack()
    commit._here._called.clear()
    azure.world.tune(throttle=False)
    assert azure.states() == {"pending"}
    assert azure.owned() == {"outbound": [ATTACKER]}


def test_a_pause_keeps_what_is_written_though_nobody_has_proven_it_yet(azure: Azure):
    azure.world.seed(estate())
    hurried(azure)
    azure.app.operator.pause(OPERATOR, azure.app.budget(), reason="drill", lift="due")
    azure.clock.forward(seconds=90)
    azure.sweep()
    assert azure.owned() == {"outbound": [ATTACKER]}
    assert {d: b.state.value for (d, _), b in azure.blocks().items()} == {
        "outbound": "active", "inbound": "pending"}
    azure.app.operator.resume(OPERATOR, reason="over")
    azure.clock.forward(seconds=90)
    azure.sweep()
    assert azure.states() == {"active"}


def test_a_mode_that_no_longer_acts_keeps_what_is_written_too(azure: Azure):
    azure.world.seed(estate())
    hurried(azure)
    azure.start(RESPONDER_MODE="notify")
    azure.clock.forward(seconds=90)
    azure.sweep()
    assert azure.owned() == {"outbound": [ATTACKER]}
    assert azure.blocks()["outbound", ATTACKER].state.value == "active"
    assert azure.notices("adopted") == []


def test_what_is_written_and_may_not_be_looked_at_for_a_while_stays_denied(azure: Azure):
    azure.world.seed(estate())
    hurried(azure)
    azure.faults({"service": "arm", "method": "GET", "path": "networkSecurityGroups/nsg$", "status": 403,
                  "body": {"error": {"code": "AuthorizationFailed", "message": "no"}}, "times": 1000})
    for _ in range(2):
        azure.clock.forward(seconds=90)
        azure.sweep()
    assert azure.blocks()["outbound", ATTACKER].state.value == "pending"
    assert len(azure.notices("block-failed")) == 1
    azure.faults()
    azure.clock.forward(hours=1.1)
    azure.sweep()
    assert azure.blocks()["outbound", ATTACKER].state.value == "active"


def test_a_rule_whose_write_failed_is_not_in_force_and_a_pause_does_not_write_it(azure: Azure):
    azure.world.seed(estate())
    hurried(azure)
    parts, budget = azure.app.responder._commit._parts, azure.app.budget()
    nsg = parts.guards.read(nsg_id(), budget)
    (block,) = [b for (d, _), b in azure.blocks().items() if d == "outbound"]
    assert parts.in_force(block, nsg)
    failed = replace(nsg, rules=tuple(replace(r, state="Failed") for r in nsg.rules))
    assert not parts.in_force(block, failed)


def test_what_is_written_and_not_proven_goes_when_a_guardrail_says_so(azure: Azure):
    azure.world.seed(estate())
    hurried(azure)
    azure.app.operator.protect(OPERATOR, [(f"{ATTACKER}/32", "ours")])
    azure.clock.forward(seconds=90)
    azure.sweep()
    assert azure.owned() == {}
    assert {b.state.value for b in azure.ended()} <= {"lifted", "failed"}


def test_a_newcomer_on_the_same_nsg_is_not_left_for_later(wide: Azure):
    azure = wide
    azure.world.seed(estate())
    commit = azure.app.responder._commit
    commit.alerts_wait = lambda: True
    commit._here._called.update({f"/other/{n}": False for n in range(10)})  # threads at other NSGs
    azure.world.tune(settle=1.0, throttle=True, reads=[140, 25])
    one, two = known(azure, 2, 1)
    first = writing(azure, one)
    azure.deliver(two)
    first.join(30)
    assert azure.owned() == {"outbound": ["198.51.100.1", "198.51.100.2"]}


def test_many_machines_at_once_are_read_together(wide: Azure):
    azure = wide
    azure.world.seed(estate(machines=60))
    azure.app.responder._survey._tracer._crowd._pace._rate = 0  # what is spent stays spent
    together(azure, known(azure, 60, 60))
    azure.clock.forward(seconds=40)
    azure.sweep()
    assert azure.states() == {"active"}
    assert len(azure.blocks()) == 120
    assert calls(azure, "Microsoft.Compute/virtualMachines/") == ONE_BY_ONE
    assert calls(azure, "Microsoft.ResourceGraph") < 40


def crowded(azure: Azure) -> None:
    """No machine is read alone for want of reads."""
    azure.app.responder._survey._tracer._crowd._pace._tokens = 0
    azure.app.responder._survey._tracer._crowd._pace._rate = 0


def test_of_a_machine_in_a_crowd_all_interfaces_are_found_though_the_graph_lacks_one(wide: Azure):
    azure = wide
    data = estate(nsgs=2)
    group = data["groups"][0]
    group["vms"][0]["nics"].append({"name": "second", "subnet": "vnet/sub2", "address": "10.1.0.99"})
    data["graph"] = {"unseen": [f"{NETWORK}/networkInterfaces/second"]}
    azure.world.seed(data)
    crowded(azure)
    azure.attack()
    assert azure.states() == azure.states("nsg2") == {"active"}


def test_of_a_crowd_a_guard_just_attached_is_found_however_many_machines_have_none(wide: Azure):
    azure = wide
    data = estate(machines=30)
    data["groups"][0]["vnets"][0]["subnets"][0].pop("nsg")
    azure.world.seed(data)
    what_it_saw = azure.app.responder._survey._tracer._members.known
    assert what_it_saw({f"{COMPUTE}/virtualMachines/vm".lower()}, azure.app.budget()) == {}
    azure.world.tune(graph_lag=600)
    nic = f"{NETWORK}/networkInterfaces/nic30"
    body = azure.world.arm("GET", nic).json()
    body["properties"]["networkSecurityGroup"] = {"id": nsg_path()}
    assert azure.world.arm("PUT", nic, body).status_code == 200
    crowded(azure)
    together(azure, known(azure, 30, 30))
    assert azure.states() == {"active"}
    assert azure.owned()["outbound"] == ["198.51.100.30"]


def test_a_graph_that_does_not_answer_is_waited_for_once_and_machines_are_read_by_get(
    wide: Azure, monkeypatch: pytest.MonkeyPatch
):
    azure = wide
    azure.world.seed(estate(machines=3))
    crowded(azure)
    asked = []

    def silent(machines: set[str], _: object) -> dict[str, Machine]:
        asked.append(machines)
        raise Unavailable("no answer")

    tracer = azure.app.responder._survey._tracer
    monkeypatch.setattr(tracer._members, "known", silent)
    tracer._crowd._silent._seconds = 60  # however slow the machine
    for one in known(azure, 3, 3):
        azure.deliver(one)
    assert azure.states() == {"active"}
    assert len(azure.blocks()) == 6
    assert len(asked) == 1


def test_a_machine_that_is_not_there_is_said_so_in_a_crowd_too(wide: Azure):
    azure = wide
    azure.world.seed(estate())
    azure.app.responder._survey._tracer._crowd._pace._tokens = 0
    gone = azure.attack("vm-gone")
    assert azure.timeline(gone)["plan"]["skipped"][0]["reason"] == (
        "not traced: the machine is not there (any more)")


def test_the_first_block_on_an_nsg_needs_no_second_read_and_a_later_one_does(azure: Azure):
    azure.world.seed(estate(machines=2))
    azure.attack()
    assert calls(azure, "networkSecurityGroups/nsg") - len(azure.writes()) == 2, "for the plan, and read back"
    azure.attack("vm2", "198.51.100.20")
    reads = calls(azure, "networkSecurityGroups/nsg") - len(azure.writes())
    assert reads == 4, "under the lease, and read back; the plan shares the read of a moment ago"
    assert azure.states() == {"active"}


def test_a_write_that_outlasts_a_short_lease_is_asked_after_as_seldom_as_azure_wants(azure: Azure):
    azure.start(RESPONDER_LEASE_SECONDS="3")
    azure.world.seed(estate())
    azure.world.tune(settle=3, retry_after=True)
    azure.attack()
    assert calls(azure, "/operations/") < 15
    azure.world.tune(settle=0, retry_after=False)
    azure.clock.forward(seconds=90)
    azure.sweep()
    assert azure.states() == {"active"}


def test_what_someone_writes_between_plan_and_commit_is_met(azure: Azure, monkeypatch: pytest.MonkeyPatch):
    azure.world.seed(estate())
    stale = azure.app.responder._commit._parts.guards.read(nsg_id(), azure.app.budget())
    mine = {"properties": {"priority": 100, "direction": "Outbound", "access": "Allow", "protocol": "*",
                           "sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationPortRange": "*",
                           "destinationAddressPrefix": "*"}}
    assert azure.world.arm("PUT", f"{nsg_path()}/securityRules/just-now", mine).status_code == 201
    monkeypatch.setattr(azure.app.responder._commit._parts.guards, "glimpse", lambda _: stale)
    azure.attack()
    assert {b.state.value for (d, _), b in azure.blocks().items() if d == "outbound"} == {"shadowed"}
    assert azure.rules()["just-now"]["priority"] == 100


def test_newcomers_cannot_put_the_other_direction_off_for_ever(wide: Azure):
    commit = wide.app.responder._commit
    lease = wide.app.ledger.leases.take(nsg_id(), wide.clock)
    assert lease is not None
    writer = Writer(commit._parts, lease, wide.app.budget(), Committed(), lambda: True)
    assert [writer._gives_way(urgent=True) for _ in range(10)] == [True] * 8 + [False] * 2, "all that is left"
    writer = Writer(commit._parts, lease, wide.app.budget(), Committed(), lambda: True)
    assert writer._gives_way(urgent=True), "in the next run newcomers are first again"
    writer = Writer(commit._parts, lease, wide.app.budget(), Committed(), lambda: False)
    assert writer._gives_way(urgent=True) is False, "nobody waits"
    writer = Writer(commit._parts, lease, wide.app.budget(), Committed(), lambda: False, lambda: True)
    for _ in range(8):
        with pytest.raises(Hurried):
            writer._gives_way(urgent=True)
    assert writer._gives_way(urgent=True) is False
    assert writer._gives_way(urgent=False) is False, "a lift waits for nobody"


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


def test_while_newcomers_keep_coming_every_fourth_write_is_proven(
    wide: Azure, monkeypatch: pytest.MonkeyPatch
):
    azure, commit = wide, wide.app.responder._commit
    azure.world.seed(estate())
    others = iter(f"198.51.100.{n}" for n in range(30, 130, 20))
    seen: list[tuple[set[str], int]] = []
    really = commit._someone_waits

    def newcomer(lease: Lease) -> bool:
        seen.append(({b.state.value for b in azure.blocks().values()}, len(actions())))
        if (address := next(others, "")):
            azure.deliver(azure.know(alert(attacker=address)))
        return really(lease)

    first = azure.know(alert())

    def actions() -> list[dict[str, Any]]:
        return azure.app.ledger.alerts.actions(name_of(first))

    monkeypatch.setattr(commit, "_someone_waits", newcomer)
    azure.deliver(first)
    assert [states for states, _ in seen] == [{"pending"}] * 4 + [{"active", "pending"}] * 2
    assert [told for _, told in seen] == [0] * 4 + [1] * 2, "a write alone is no news"
    assert azure.states() == {"active"}
    assert [a["action"] for a in actions()] == ["proven", "proven"]
    assert len(azure.owned()["outbound"]) == len(azure.owned()["inbound"]) == 6
