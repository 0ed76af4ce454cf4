"""What can go wrong, as an answer to one question: is another try worth it?

    RemediationError
    ├─ PermanentError              a retry is useless: record it, tell a human
    │  ├─ MalformedAlert           the alert cannot be read
    │  ├─ BadSettings · BadPolicy  the configuration is wrong; every mistake is listed
    │  ├─ Forbidden                the identity lacks a permission (403)
    │  ├─ NotFound                 the resource is not there (404)
    │  ├─ Invalid                  Azure refuses the request (400)
    │  ├─ BadInput                 what a person asked for cannot be done as it stands
    │  ├─ Locked                   a management lock forbids it (409 ScopeLocked)
    │  └─ NoCapacity               an NSG's limits would be exceeded
    └─ TemporaryError              worth another try, after `retry_after` seconds if given
       ├─ Throttled                429
       ├─ Conflict                 someone else's write came between (409, 412)
       ├─ Unavailable              5xx, a timeout, a dropped connection
       ├─ Unfinished               the time budget ended first; the sweep goes on
       └─ LeaseLost                another holder took the NSG: stop, mark nothing

Azure's exceptions become these in `cloud/`, by status and code, never by message text.
A guardrail's refusal is no error: it is an entry of `Plan.skipped`.
"""

from __future__ import annotations

from collections.abc import Sequence


class RemediationError(Exception):
    """The root. `code` is Azure's error code where there is one."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class PermanentError(RemediationError):
    """A retry is useless: record it and tell a human."""


class MalformedAlert(PermanentError):
    """An alert that cannot be read; `field` names the part that is wrong."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class _Mistakes(PermanentError):
    """Several mistakes, all reported at once."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class BadSettings(_Mistakes):
    """The environment's settings are wrong."""


class BadPolicy(_Mistakes):
    """`policy.toml` is wrong."""


class Forbidden(PermanentError):
    """The identity may not do this."""


class NotFound(PermanentError):
    """The resource, or its parent, is not there."""


class Invalid(PermanentError):
    """Azure refuses the request as it stands."""


class BadInput(PermanentError):
    """What a person asked for: which field is wrong, and why."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class Locked(PermanentError):
    """A management lock forbids the write or the delete."""


class NoCapacity(PermanentError):
    """The NSG has no room for what we want to write."""


class TemporaryError(RemediationError):
    """Worth another try, after `retry_after` seconds if given."""

    def __init__(self, message: str, *, code: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class Throttled(TemporaryError):
    """Azure asks us to slow down."""


class Conflict(TemporaryError):
    """Someone else's write came between; read again."""


class Unavailable(TemporaryError):
    """Azure did not answer, or answered that it cannot now."""


class Unfinished(TemporaryError):
    """Our own time budget ended before the work did."""


class LeaseLost(TemporaryError):
    """The NSG's lease is someone else's now: nothing may be marked."""
