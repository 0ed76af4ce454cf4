"""What happens when a process starts: settings and policy are checked, and nothing else is loaded.

A process is indexed before it serves, and in a storm every new instance is a cold one: the app itself
is imported at the first call.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from remediation.errors import BadPolicy, BadSettings
from remediation.policy import load_policy
from remediation.settings import load_settings, policy_path
from remediation.steps import check_names

if TYPE_CHECKING:
    from remediation.app import App

_log = logging.getLogger(__name__)
_making = threading.Lock()


def check(env: Mapping[str, str]) -> list[str]:
    """Every mistake in the settings and the policy, logged: to be called when the process starts.

    Nothing is raised, so that the host finds its triggers: an event that meets a wrong setting
    fails and comes again, for a day and then as a dead letter, instead of finding nobody.
    """
    mistakes: list[str] = []
    for read in (lambda: load_settings(env), lambda: check_names(load_policy(policy_path(env)))):
        try:
            read()
        except (BadSettings, BadPolicy) as error:
            mistakes += error.mistakes
    try:
        troubles = list(load_settings(env).troubles)
    except BadSettings:
        troubles = []  # said with the mistakes, when those are mended
    for one in (*mistakes, *troubles):
        _log.critical("%s", one)
    return mistakes


def app() -> App:
    """The app of this process, made at the first call: of several at once, one makes it."""
    with _making:
        return _app()


@cache
def _app() -> App:
    from remediation.app import build

    for name in ("azure", "urllib3"):  # or they log every request with its address, which may be a secret
        logging.getLogger(name).setLevel(logging.WARNING)
    return build(os.environ)
