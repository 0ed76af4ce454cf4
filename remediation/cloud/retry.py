"""The only place that tries again: tenacity, with jitter, Retry-After obeyed, and a time budget.

The SDKs' own retries are off, so that one call is one request and the budget is ours; only
azure-identity fetches its tokens in its own way.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random,
)

from remediation.clock import Deadline
from remediation.errors import Conflict, LeaseLost, TemporaryError, Unfinished
from remediation.log import say

_log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 0.3, 8.0


def _wait(state: RetryCallState) -> float:
    """Retry-After where Azure gave one; else exponential with full jitter."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, TemporaryError) and error.retry_after is not None:
        return error.retry_after + random.uniform(0, 0.2)  # noqa: S311 - jitter, not a secret
    top = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (state.attempt_number - 1))
    return random.uniform(top / 2, top)  # noqa: S311 - jitter, not a secret


def _again(error: BaseException) -> bool:
    """A conflict wants a new decision, a spent budget none: both are the caller's."""
    return isinstance(error, TemporaryError) and not isinstance(
        error, Conflict | LeaseLost | Unfinished
    )


def briefly[T](call: Callable[[], T]) -> T:
    """Up to three tries within a second: for the tables, whose callers have no deadline at hand."""
    return Retrying(
        retry=retry_if_exception(_again), wait=wait_random(0.1, 0.4), stop=stop_after_attempt(3),
        reraise=True,
    )(call)


def retrying[T](call: Callable[[], T], deadline: Deadline, *, what: str) -> T:
    """Call until it succeeds, fails for good, or the budget cannot hold another wait.

    The last temporary error is raised as it is.
    """

    def spent(state: RetryCallState) -> bool:
        return state.upcoming_sleep >= deadline.left()

    def note(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        say(_log, "retry", what=what, after=round(state.upcoming_sleep, 1), error=str(error))

    return Retrying(
        retry=retry_if_exception(_again),
        wait=_wait,
        stop=spent,
        sleep=deadline.clock.sleep,
        before_sleep=note,
        reraise=True,
    )(call)
