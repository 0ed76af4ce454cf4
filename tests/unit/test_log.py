"""Log lines are one JSON object each, findable by alert, and not to be forged."""

from __future__ import annotations

import json
import logging

import pytest

from remediation.log import MOST, say

LOG = logging.getLogger("remediation.test")


def test_a_line_is_one_json_object_that_names_its_alerts(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        say(LOG, "arm-put", alerts=("a-1", "a-2"), nsg="/n", addresses=3, missing=None)
    line = json.loads(caplog.records[0].getMessage())
    assert line == {"event": "arm-put", "alerts": ["a-1", "a-2"], "nsg": "/n", "addresses": 3,
                    "missing": None}


def test_text_from_outside_forges_no_line_and_fills_no_disk(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        say(LOG, "x", error="a\nINFO forged\u2028" + "b" * 10_000)
    message = caplog.records[0].getMessage()
    assert len(message.splitlines()) == 1
    assert len(json.loads(message)["error"]) == MOST


def test_a_level_that_is_off_costs_nothing(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        say(LOG, "quiet")
    assert not caplog.records
