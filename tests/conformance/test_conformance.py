"""The sandbox answers as recorded Azure did."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.__main__ import score
from tests.conformance.recordings import BEFORE, FILE, FIREWALLS, SCOPE, load
from tests.conformance.replay import Verdict, replay_all

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="recorded traffic is not beside the checkout")


@dataclass(frozen=True)
class Part:
    """A part of Azure, how much of it is recorded, how much of that must match, and what cannot."""

    name: str
    scope: re.Pattern[str]
    recordings: int
    interactions: int
    least: float
    least_classes: float
    unreplayable: str
    most_unreplayable: int

    @property
    def listed(self) -> dict[str, list[str]]:
        """Why → which interactions."""
        found: dict[str, list[str]] = json.loads((Path(__file__).parent / self.unreplayable).read_text())
        return found


PARTS = (Part("machines and guards", SCOPE, 28, 407, 0.955, 0.845, "unreplayable.json", 17),
         Part("what stands before them", BEFORE, 27, 357, 0.9, 0.63, "unreplayable_before.json", 31),
         Part("firewalls", FIREWALLS, 9, 197, 0.97, 0.8, "unreplayable_firewalls.json", 5))


@pytest.fixture(scope="module", params=PARTS, ids=lambda p: p.name)
def played(request: pytest.FixtureRequest) -> tuple[Part, list[Verdict]]:
    part: Part = request.param
    recordings = load(part.scope)
    assert len(recordings) == part.recordings
    assert sum(x.scored for all_ in recordings.values() for x in all_) == part.interactions
    return part, replay_all(recordings)


def test_the_score_does_not_fall(
    played: tuple[Part, list[Verdict]], capsys: pytest.CaptureFixture[str]
):
    part, verdicts = played
    found = score(verdicts)
    with capsys.disabled():
        print(f"\n  conformance, {part.name}, {len(verdicts)} interactions scored: "
              + ", ".join(f"{k} {100 * v:.1f} %" for k, v in found.items()))
        for why, keys in part.listed.items():
            print(f"  does not match ({len(keys)}): {why}")
    assert found["interactions"] >= part.least
    assert found["classes"] >= part.least_classes


def test_only_what_is_listed_does_not_match(played: tuple[Part, list[Verdict]]):
    part, verdicts = played
    listed = {key for keys in part.listed.values() for key in keys}
    failed = {v.interaction.key for v in verdicts if not v.matches}
    assert failed <= listed, sorted(failed - listed)


def test_the_list_does_not_grow_and_holds_nothing_that_matches(played: tuple[Part, list[Verdict]]):
    part, verdicts = played
    listed = {key for keys in part.listed.values() for key in keys}
    assert len(listed) <= part.most_unreplayable
    matched = {v.interaction.key for v in verdicts if v.matches}
    assert not listed & matched


def test_the_sandbox_beats_the_echo_model_by_far(played: tuple[Part, list[Verdict]]):
    _, verdicts = played
    found = score(verdicts)
    assert found["shape"] > 4 * found["echo_shape"]
    assert found["interactions"] > 10 * found["echo_interactions"]
