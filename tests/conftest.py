"""Shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def recorded_alerts() -> Path:
    """The folder of recorded real alerts, read in place."""
    folder = SHARED / "alerts"
    if not folder.exists():
        pytest.skip("recorded alerts are not beside the checkout")
    return folder
