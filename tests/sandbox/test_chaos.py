"""The short part of `make chaos`: some faults at the calls that matter most."""

from __future__ import annotations

import pytest

from chaos.kinds import LASTING, OUTAGES, PASSING, Kind
from chaos.matrix import Call, Case, prepare, run
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
