"""How a report changes a block: it starts, prolongs or waits, and never doubles."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from remediation.ledger.block import Block, Claim, Sessions, merge_claim, merge_moved
from remediation.model import BlockKey, BlockState, Direction, Target
from remediation.topology import UNLISTED, hider

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=5)
KEY = BlockKey("/nsg", Direction.OUTBOUND, "198.51.100.7")
TARGET = Target("/vm", "/nic", "/subnet", ("10.0.0.4",))
FIRST = Claim(KEY, "alert-1", "C2", timedelta(hours=24), True, (TARGET,))
SECOND = replace(FIRST, alert_id="alert-2", targets=(replace(TARGET, nic_id="/nic-2"),))


def merged(block: Block | None, claim: Claim, at: datetime = NOW) -> Block:
    found = merge_claim(block, claim, at)
    assert found is not None
    return found


def active() -> Block:
    return replace(merged(None, FIRST), state=BlockState.ACTIVE, proven=NOW, first_proven=NOW,
                   expires=NOW + timedelta(hours=24))


def test_the_first_report_starts_a_pending_block():
    block = merged(None, FIRST)
    assert block.state is BlockState.PENDING
    assert block.reports == 1
    assert block.expires is None, "24 hours count from proof"


def test_questions_make_it_wait():
    assert merged(None, replace(FIRST, asks=("why",))).state is BlockState.WAITING


def test_the_same_alert_again_changes_nothing():
    assert merge_claim(active(), FIRST, LATER) is None


def test_the_same_alert_again_proves_anew_what_was_not_known_of_its_machines_and_is_now():
    unseen = replace(TARGET, hidden=hider(UNLISTED))
    block = replace(active(), targets=(unseen,))
    assert merge_claim(block, replace(FIRST, targets=(unseen,)), LATER) is None, "still not known"
    again = merged(block, FIRST, LATER)
    assert again.state is BlockState.PENDING
    assert again.targets == (TARGET,)
    assert merge_claim(block, replace(FIRST, asks=("why",)), LATER) is None, "who must ask knows no better"


def test_a_look_without_the_list_of_gateways_forgets_nothing_that_an_earlier_one_found():
    blind = replace(SECOND, targets=(replace(TARGET, hidden=hider(UNLISTED)),))
    assert merged(active(), blind, LATER).targets == (TARGET,), "nothing stands before it"
    behind = replace(TARGET, hidden="application gateway agw")
    assert merged(replace(active(), targets=(behind,)), blind, LATER).targets == (behind,)


def test_a_second_alert_prolongs_the_block_instead_of_adding_one():
    block = merged(active(), SECOND, LATER)
    assert block.state is BlockState.PENDING, "it is proven anew, and its time counts from that proof"
    assert block.alerts == ("alert-1", "alert-2")
    assert block.reports == 2
    assert {t.nic_id for t in block.targets} == {"/nic", "/nic-2"}


def test_an_explicit_replay_of_the_same_alert_prolongs():
    assert merged(active(), replace(FIRST, explicit=True)).state is BlockState.PENDING


def test_an_active_block_is_not_put_in_question_by_an_alert_that_asks():
    block = merged(active(), replace(SECOND, asks=("why",)))
    assert block.state is BlockState.ACTIVE
    assert block.expires == active().expires


@pytest.mark.parametrize(("state", "asks", "after"), [
    (BlockState.LIFTING, (), BlockState.PENDING),
    (BlockState.LIFTING, ("why",), BlockState.LIFTING),
    (BlockState.FAILED, (), BlockState.PENDING),
    (BlockState.FAILED, ("why",), BlockState.WAITING),
    (BlockState.WAITING, (), BlockState.PENDING),
    (BlockState.WAITING, ("why",), BlockState.WAITING),
    (BlockState.OVERRIDDEN, (), BlockState.PENDING),
    (BlockState.OVERRIDDEN, ("why",), BlockState.WAITING),
    (BlockState.SHADOWED, (), BlockState.PENDING),
])
def test_what_a_new_alert_makes_of_each_state(
    state: BlockState, asks: tuple[str, ...], after: BlockState
):
    assert merged(replace(active(), state=state), replace(SECOND, asks=asks)).state is after


def test_a_person_may_override_the_overridden():
    block = replace(active(), state=BlockState.OVERRIDDEN)
    assert merged(block, replace(SECOND, explicit=True)).state is BlockState.PENDING


def test_the_row_keeps_the_last_ten_alerts_and_a_count():
    block = active()
    for n in range(20):
        block = merged(block, replace(SECOND, alert_id=f"a{n}"))
    assert len(block.alerts) == 10
    assert block.alerts[-1] == "a19"
    assert block.reports == 21


def test_a_block_is_due_when_its_time_is_up():
    assert not active().due(LATER)
    assert active().due(NOW + timedelta(hours=24))
    assert not replace(active(), state=BlockState.PENDING).due(NOW + timedelta(hours=25))


def test_an_approval_that_is_not_written_yet_outlives_another_alert():
    approved = replace(active(), state=BlockState.PENDING, approved_by="ann")
    assert merged(approved, replace(SECOND, asks=())).approved_by == "ann"
    assert merged(replace(approved, state=BlockState.ACTIVE), replace(SECOND, asks=())).approved_by == ""


def test_a_claim_counts_from_when_the_wishes_were_read():
    assert merged(None, replace(SECOND, at=NOW - timedelta(seconds=9))).claimed == (
        NOW - timedelta(seconds=9))


def test_a_block_that_moved_takes_the_place_of_one_that_was_only_adopted():
    revoked = replace(active(), state=BlockState.LIFTING, revoked_by="ann")
    adopted = replace(active(), alerts=(), etag="there")
    assert merge_moved(adopted, revoked) == replace(revoked, etag="there")
    assert merge_moved(active(), revoked).state is BlockState.ACTIVE


@pytest.mark.parametrize(("state", "shadowed", "before", "after"), [
    (BlockState.ACTIVE, "", Sessions.CUT, Sessions.CUT),
    (BlockState.PENDING, "", Sessions.CUT, Sessions.CUT),
    (BlockState.SHADOWED, "allow", Sessions.CUT, Sessions.UNKNOWN),
    (BlockState.FAILED, "", Sessions.CUT, Sessions.UNKNOWN),
    (BlockState.ACTIVE, "", Sessions.NOT_CUT, Sessions.UNKNOWN),
])
def test_cut_sessions_stay_cut_only_while_the_rule_has_stood(
    state: BlockState, shadowed: str, before: Sessions, after: Sessions
):
    known = replace(merged(None, FIRST), state=state, shadowed_by=shadowed, sessions=before, proven=NOW)
    assert merged(known, SECOND).sessions is after
