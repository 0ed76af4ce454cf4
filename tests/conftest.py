"""Shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A slow machine is no failure: what a test may cost is counted, not timed.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
# Where a run must be repeatable the examples are the same each time; elsewhere they are new ones.
settings.register_profile("repeatable", derandomize=True, max_examples=300, deadline=None)
if os.environ.get("HYPOTHESIS_PROFILE"):
    settings.load_profile(os.environ["HYPOTHESIS_PROFILE"])

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def recorded_alerts() -> Path:
    """The folder of recorded real alerts, read in place."""
    folder = SHARED / "alerts"
    if not folder.exists():
        pytest.skip("recorded alerts are not beside the checkout")
    return folder
