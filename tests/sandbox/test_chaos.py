"""The short part of `make chaos`: some faults at the calls that matter most."""

from __future__ import annotations

import pytest

import chaos.scenes  # noqa: F401 - they put themselves on the programme
from chaos.kinds import LASTING, OUTAGES, PASSING, Kind
from chaos.matrix import Call, Case, prepare, run
from chaos.scenes.days import live_through
from chaos.stage import perform
from sandbox.world import World

KINDS = {k.name: k for k in (*PASSING, *OUTAGES, *LASTING)}
WRITE = ("arm", "PUT", "securityRules/defender-block-test-outbound")
REMOVE = ("arm", "DELETE", "securityRules/defender-block-test-outbound")
BATCH = ("table", "POST", r"\$batch")
LEASE = ("table", "PUT", r"/\w*leases\b")


@pytest.mark.parametrize(("phase", "call", "kind"), [
    ("block", WRITE, "412"),
    ("block", WRITE, "connection reset after the server acted"),
    ("block", WRITE, "503, again and again"),
    ("block", WRITE, "403"),
    ("block", ("arm", "GET", "/operations/"), "operation Canceled"),
    ("block", ("arm", "GET", r"/alerts/[^/?]+$"), "403"),
    ("block", BATCH, "connection reset after the server acted"),
    ("block", LEASE, "503 of the tables, again and again"),
    ("lift", REMOVE, "ScopeLocked"),
    ("lift", REMOVE, "connection reset after the server acted"),
    ("lift", ("arm", "GET", "/operations/"), "operation Failed"),
    ("lift", LEASE, "connection reset before the server acted"),
    ("lift", BATCH, "503 of the tables, again and again"),
])
def test_a_block_survives(world: World, phase: str, call: tuple[str, str, str], kind: str):
    prepare(world)
    chosen: Kind = KINDS[kind]
    result = run(world, Case(Call(phase, *call), chosen))
    assert result.struck, "the fault met no call"
    assert result.damage.survived, result.damage.why


@pytest.mark.parametrize("name", [
    "lease: an old holder's PUT lands after another took over",
    "lease: an ARM that does not look at If-Match",
    "storage: a table is missing",
    "tamper: the protected list changes while blocks live",
])
def test_a_scene_ends_well(world: World, name: str):
    prepare(world)
    result = perform(world, name)
    assert result.struck
    assert result.damage.survived, result.damage.why


def test_a_few_random_days_end_as_the_model_says(world: World):
    prepare(world)
    assert live_through(world, 3, same=True) == ""
