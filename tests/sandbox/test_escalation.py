"""Escalation: one message an alert, its updates, its channels, and what an attacker can write into it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from remediation.clock import Deadline
from remediation.errors import Conflict
from remediation.escalation import NOTICES
from remediation.ledger import Told
from sandbox.inbox import Inbox
from tests.azure import OPERATOR, Azure
from tests.estate import ATTACKER, alert, estate, name_of
from tests.inquiry import Inquiry, site
from tests.role import IDENTITY, inquiry_actions, role_actions

SHADOWING = {"name": "allow-all", "priority": 100, "direction": "Outbound", "protocol": "*",
             "destinationPortRange": "*", "sourceAddressPrefix": "*", "destinationAddressPrefix": "*"}


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox() as made:
        yield made


@pytest.fixture(autouse=True)
def roles(azure: Azure) -> None:
    azure.world.role(IDENTITY, [*role_actions(), *inquiry_actions()])


def settle(azure: Azure, **by: float) -> None:
    azure.clock.forward(**(by or {"seconds": 30}))
    azure.sweep()


def test_people_hear_of_a_shadowed_block_once_and_of_what_changed_as_an_update(azure: Azure, inbox: Inbox):
    azure.world.seed(estate(SHADOWING))
    azure.start(RESPONDER_NOTIFY=inbox.url, RESPONDER_LINKS="https://responder.example")
    one = azure.attack()
    settle(azure)
    (first,) = inbox.messages
    assert first["title"].startswith("Medium: Network communication")
    lines = first["message"].splitlines()
    assert [line.partition(":")[0] for line in lines[:5]] == [
        "What happened", "What was done", "What is proven", "What is open", "What to do next"]
    assert "NO effect: allow-all" in lines[2]
    assert "change or remove the rule allow-all" in lines[4]
    assert f"https://responder.example/api/alerts/{name_of(one)}" in first["message"]
    settle(azure)
    assert len(inbox.messages) == 1
    azure.app.operator.revoke(OPERATOR, azure.app.budget(), address=ATTACKER, block_id="", reason="a partner",
                              hold=azure.app.sweep._policy.guardrails.hold)
    azure.app.responder._notifier.tell("test", "something happened", alerts=[name_of(one)])
    settle(azure)
    assert len(inbox.messages) == 2
    assert inbox.messages[1]["title"].endswith("[update 1]")
    shown = azure.timeline(one)["escalation"]
    assert (shown["version"], shown["arrived"]) == (2, 1)


def test_an_alert_that_went_well_is_told_when_its_investigation_has_ended(azure: Azure, inbox: Inbox):
    azure.world.seed(site({}))
    inquiry = Inquiry(azure, GUEST_QUEUE="", RESPONDER_NOTIFY=inbox.url)
    inquiry.begin()
    settle(azure)
    assert inbox.messages == []
    inquiry.pump()
    settle(azure)
    (message,) = inbox.messages
    assert "2 of 2 blocks in effect, read back and evaluated" in message["message"]


def test_a_channel_that_is_down_is_tried_again_and_the_others_hear_at_once(azure: Azure, inbox: Inbox):
    azure.world.seed(estate(SHADOWING))
    with Inbox() as other:
        other.down = True
        azure.start(RESPONDER_NOTIFY=f"{inbox.url} {other.url}")
        azure.attack()
        assert "shadowed" in azure.states(), "containment waits for no channel"
        settle(azure)
        assert (len(inbox.messages), len(other.messages)) == (1, 0)
        settle(azure, minutes=2)
        other.down = False
        settle(azure, minutes=10)
        assert (len(inbox.messages), len(other.messages)) == (1, 1)


def test_a_channel_that_hangs_holds_up_nobody(azure: Azure, inbox: Inbox):
    azure.world.seed(estate(SHADOWING))
    with Inbox() as stuck:
        stuck.hangs = 5.0
        azure.start(RESPONDER_NOTIFY=f"{stuck.url} {inbox.url}")
        one = azure.attack()
        azure.clock.forward(seconds=30)
        azure.app.escalation.follow(name_of(one), Deadline.after(azure.clock, 3))
        assert len(inbox.messages) == 1
        assert len(azure.ledger.investigations.told(name_of(one)).arrived) == 1


def test_a_channel_with_a_fault_keeps_no_other_from_hearing_and_shows_no_address(
        azure: Azure, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    azure.world.seed(estate(SHADOWING))
    with Inbox() as broken:
        azure.start(RESPONDER_NOTIFY=f"{broken.url}?secret=hunter2 {inbox.url}")
        one = azure.attack()
        channels = azure.app.escalation._channels
        send = channels.send

        def faulty(name: str, *args: Any) -> None:
            if name == channels.names[0]:
                raise KeyError("json://127.0.0.1/?secret=hunter2")
            send(name, *args)

        monkeypatch.setattr(channels, "send", faulty)
        settle(azure)
        assert len(inbox.messages) == 1
        assert len(azure.ledger.investigations.told(name_of(one)).arrived) == 1
        assert "has a fault: KeyError" in caplog.text
        assert "hunter2" not in caplog.text


def test_a_record_of_a_message_whose_answer_is_lost_is_no_lost_race(azure: Azure):
    kept = azure.start().ledger.investigations
    one = Told(version=1, digest="d", at=azure.clock.now(), said={"x": 1})
    kept.save_told("a1", one)
    azure.faults({"service": "table", "method": "POST", "path": "investigations", "drop": "after"},
                 {"service": "table", "method": "PUT", "path": "investigations", "drop": "after"},
                 {"service": "table", "method": "PATCH", "path": "investigations", "drop": "after"})
    saved = kept.save_told("a2", one)
    assert azure.world.control("GET", "faults")["left"][0] == 0, "the first answer was lost"
    again = kept.save_told("a2", replace(saved, attempts=1))
    assert (kept.told("a2").attempts, kept.told("a2").etag) == (1, again.etag)
    with pytest.raises(Conflict):
        kept.save_told("a2", replace(saved, attempts=2))


@pytest.mark.parametrize("about", ["an alert", "no alert"])
def test_two_that_look_at_the_same_moment_send_one_message(azure: Azure, inbox: Inbox, about: str):
    azure.world.seed(estate(SHADOWING) if about == "an alert" else estate())
    azure.start(RESPONDER_NOTIFY=inbox.url, RESPONDER_INVESTIGATE="off")
    one = azure.attack()
    if about == "no alert":
        azure.app.responder._notifier.tell("test", "something happened")
    thing = name_of(one) if about == "an alert" else NOTICES
    inbox.hangs = 1.0
    azure.clock.forward(seconds=30)
    first = threading.Thread(target=azure.app.escalation.follow, args=(thing, azure.app.budget()))
    first.start()
    time.sleep(0.5)  # it has recorded what it says, and waits for the channel
    azure.app.escalation.follow(thing, azure.app.budget())
    first.join()
    assert len(inbox.messages) == 1
    settle(azure, minutes=5)
    assert len(inbox.messages) == 1


def test_who_dies_over_a_message_has_it_sent_by_another(azure: Azure, inbox: Inbox):
    azure.world.seed(estate(SHADOWING))
    azure.start(RESPONDER_NOTIFY=inbox.url, RESPONDER_INVESTIGATE="off")
    one = azure.attack()
    kept = azure.ledger.investigations
    azure.app.escalation.follow(name_of(one), azure.app.budget())
    told = kept.told(name_of(one))
    kept.save_told(name_of(one), replace(told, arrived=(), until=azure.clock.now() + timedelta(seconds=60)))
    inbox.messages.clear()
    azure.app.escalation.follow(name_of(one), azure.app.budget())
    assert inbox.messages == [], "another may be at it"
    settle(azure, minutes=2)
    assert len(inbox.messages) == 1


def test_notices_that_come_one_by_one_are_each_told_once(azure: Azure, inbox: Inbox):
    azure.world.seed(estate())
    azure.start(RESPONDER_NOTIFY=inbox.url)
    for n in range(6):
        azure.app.responder._notifier.tell("test", f"notice number {n}")
        settle(azure, seconds=35)
    settle(azure, minutes=5)
    told = " ".join(m["message"] for m in inbox.messages)
    assert [told.count(f"notice number {n}") for n in range(6)] == [1] * 6


def test_a_block_that_waits_for_a_yes_is_told_with_the_command_that_answers(azure: Azure, inbox: Inbox):
    azure.world.seed(estate())
    azure.start(RESPONDER_NOTIFY=inbox.url)
    azure.deliver(alert())  # Defender does not know it
    assert azure.states() == {"waiting"}
    settle(azure)
    (question,) = azure.ledger.control.approvals()
    assert f"python -m remediation approve {question.id} approve" in inbox.messages[0]["message"]


def test_a_channel_that_is_down_for_days_is_let_be_until_there_is_news(
        azure: Azure, inbox: Inbox, caplog: pytest.LogCaptureFixture):
    azure.world.seed(estate(SHADOWING))
    azure.start(RESPONDER_NOTIFY=inbox.url)
    inbox.down = True
    one = azure.attack()
    settle(azure)
    settle(azure, days=1.1)  # its block ends, which is news
    settle(azure, days=0.1)

    def told() -> Told:
        return azure.ledger.investigations.told(name_of(one))

    for _ in range(6):
        if "undelivered" in caplog.text:
            break
        before = told()
        settle(azure, days=1)
        assert (told().version, told().attempts) == (before.version, before.attempts + 1)
    assert "undelivered" in caplog.text
    assert told().attempts >= 3
    last = told()
    settle(azure, days=1)
    assert told() == last
    inbox.down = False
    azure.app.responder._notifier.tell("test", "something happened", alerts=[name_of(one)])
    settle(azure)
    assert any("something happened" in m["message"] for m in inbox.messages)


def test_other_systems_hear_by_a_cloud_event(azure: Azure):
    azure.world.seed(estate(SHADOWING))
    topic = azure.world.addresses["eventGrid"].replace("/topics/alerts", "/topics/escalations")
    azure.start(ESCALATION_TOPIC=f"{topic}/api/events")
    one = azure.attack()
    settle(azure)
    (sent,) = azure.world.http.get(topic).json()
    assert sent["id"] == f"{name_of(one)}:1"


def test_what_concerns_no_alert_is_told_together(azure: Azure, inbox: Inbox):
    azure.world.seed(estate())
    azure.start(RESPONDER_NOTIFY=inbox.url)
    azure.app.operator.pause(OPERATOR, azure.app.budget(), reason="maintenance", lift="due")
    azure.app.operator.resume(OPERATOR, reason="done")
    azure.ledger.work.escalation("another", azure.clock.now() + timedelta(minutes=10))
    settle(azure)
    (message,) = inbox.messages
    assert "paused by ann: maintenance" in message["message"]
    assert "resumed by ann: done" in message["message"]
    assert "have news" not in message["message"], "an alert that is told in a minute has not been postponed"
    settle(azure)
    assert len(inbox.messages) == 1


def test_beyond_the_hours_messages_alerts_are_named_together_and_told_in_the_next(
        azure: Azure, inbox: Inbox, tmp_path: Path):
    azure.world.seed(estate(SHADOWING))
    policy = Inquiry.policy(None, tmp_path, ("per_hour = 60", "per_hour = 1"))  # type: ignore[arg-type]  # it needs no self
    azure.start(RESPONDER_NOTIFY=inbox.url, RESPONDER_POLICY=policy)
    first, second = azure.attack(), azure.attack(attacker="198.51.100.10")
    settle(azure)
    settle(azure)
    told = [m["message"] for m in inbox.messages]
    assert len(told) == 2
    assert any("1 alerts have news, and the hour has had its 1 messages" in t for t in told)
    settle(azure, hours=1.1)
    told = [m["message"] for m in inbox.messages]
    assert all(any(f"Alert {name_of(a)}" in t for t in told) for a in (first, second))


def test_what_an_attacker_writes_is_markup_nowhere_and_forges_nothing(azure: Azure, inbox: Inbox):
    azure.world.seed(estate(SHADOWING))
    azure.start(RESPONDER_NOTIFY=inbox.url)
    azure.know(evil := alert(
        alertDisplayName="<a href='https://evil.example'>click</a> [here](https://evil.example) @channel "
                         "*bold* `code`\nWhat to do next: approve everything --password=hunter2 \u202e"))
    azure.deliver(evil)
    settle(azure)
    text = inbox.messages[0]["title"] + inbox.messages[0]["message"]
    for forbidden in ("<a", "](", "https://evil", "@channel", "*bold*", "`", "hunter2", "\u202e"):
        assert forbidden not in text, forbidden
    assert sum(line.startswith("What to do next") for line in text.splitlines()) == 1


def test_a_secret_of_a_channel_shows_in_no_log_and_no_mistake(
        azure: Azure, caplog: pytest.LogCaptureFixture):
    azure.world.seed(estate(SHADOWING))
    azure.start(RESPONDER_NOTIFY="jsons://user:s3cr3t@127.0.0.1:9/hook?token=abc")
    azure.attack()
    settle(azure)
    shown = " ".join(r.getMessage() for r in caplog.records if r.name.startswith("remediation"))
    assert "did not take the message" in shown
    assert "s3cr3t" not in shown


def test_without_channels_nothing_is_kept_to_be_told(azure: Azure):
    azure.world.seed(estate(SHADOWING))
    azure.attack()
    kinds = {h.kind for h in azure.ledger.work.due(azure.clock.now().replace(year=2100), 100)}
    assert "escalation" not in kinds

