"""The sandbox answers as recorded Azure did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conformance.__main__ import score
from tests.conformance.recordings import FILE, load
from tests.conformance.replay import Verdict, replay_all

LIST = json.loads((Path(__file__).parent / "unreplayable.json").read_text())
MOST_UNREPLAYABLE = 17
LEAST_INTERACTIONS, LEAST_CLASSES = 0.955, 0.845

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="recorded traffic is not beside the checkout")


@pytest.fixture(scope="module")
def verdicts() -> list[Verdict]:
    return replay_all(load())


def test_the_scope_is_407_interactions_in_28_recordings():
    recordings = load()
    assert len(recordings) == 28
    assert sum(x.scored for all_ in recordings.values() for x in all_) == 407


def test_the_score_does_not_fall(verdicts: list[Verdict], capsys: pytest.CaptureFixture[str]):
    found = score(verdicts)
    with capsys.disabled():
        print(f"\n  conformance, {len(verdicts)} interactions scored: "
              + ", ".join(f"{k} {100 * v:.1f} %" for k, v in found.items()))
        for why, keys in LIST.items():
            print(f"  cannot be replayed ({len(keys)}): {why}")
    assert found["interactions"] >= LEAST_INTERACTIONS
    assert found["classes"] >= LEAST_CLASSES


def test_only_what_is_listed_does_not_match(verdicts: list[Verdict]):
    listed = {key for keys in LIST.values() for key in keys}
    failed = {v.interaction.key for v in verdicts if not v.matches}
    assert failed <= listed, sorted(failed - listed)


def test_the_list_does_not_grow_and_holds_nothing_that_matches(verdicts: list[Verdict]):
    listed = {key for keys in LIST.values() for key in keys}
    assert len(listed) <= MOST_UNREPLAYABLE
    matched = {v.interaction.key for v in verdicts if v.matches}
    assert not listed & matched


def test_the_sandbox_beats_the_echo_model_by_far(verdicts: list[Verdict]):
    found = score(verdicts)
    assert found["shape"] > 4 * found["echo_shape"]
    assert found["interactions"] > 10 * found["echo_interactions"]
