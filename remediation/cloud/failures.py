"""Azure's exceptions → ours, once, by status and error code, never by message text.

Codes and statuses: recorded traffic and issues (the project's facts on Azure's control plane).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from remediation.errors import (
    Conflict,
    Forbidden,
    Invalid,
    Locked,
    NoCapacity,
    NotFound,
    RemediationError,
    Throttled,
    Unavailable,
)

if TYPE_CHECKING:
    from azure.core.exceptions import HttpResponseError

_BY_CODE: dict[str, type[RemediationError]] = {
    "ScopeLocked": Locked,
    "InvalidAuthenticationTokenTenant": Forbidden,  # a subscription of somebody else's tenant
    "SubscriptionNotFound": NotFound,
    "ReadOnlyDisabledSubscription": Forbidden,
    "SecurityRuleConflict": Conflict,
    "SecurityRuleCountLimitReached": NoCapacity,
    "SecurityRuleAddressesOrPortsPerSecurityGroupLimitReached": NoCapacity,
    "RetryableError": Throttled,
    "RetryableErrorDueToAnotherOperation": Throttled,
    "AnotherOperationInProgress": Conflict,
    "Canceled": Conflict,
    "CanceledAndSupersededDueToAnotherOperation": Conflict,
    "OperationPreempted": Conflict,
    "InternalServerError": Unavailable,
    "ServerTimeout": Unavailable,
    "OperationTimedOut": Unavailable,
}

_BY_STATUS: dict[int, type[RemediationError]] = {
    400: Invalid,
    401: Unavailable,  # the token is no longer good: a matter of minutes, or of a person's mending
    403: Forbidden,
    404: NotFound,
    405: Invalid,
    408: Unavailable,
    409: Conflict,
    410: NotFound,
    412: Conflict,
    413: Invalid,
    429: Throttled,
}


def kind_of(status: int, code: str) -> type[RemediationError]:
    """Which of our errors an HTTP status (200 for a failed operation) and code stand for."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status >= 500 or (status < 300 and not code):
        return Unavailable  # no answer, or half of one
    return _BY_STATUS.get(status, Invalid)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Run SDK calls; what Azure raises leaves as one of our errors, `doing` in its message."""
    from azure.core import exceptions as azure

    try:
        yield
    except azure.ClientAuthenticationError as error:  # before its parent, HttpResponseError
        # No token, or one that is no longer good: a matter of minutes or of a person's mending,
        # never a reason to give an alert up.
        raise Unavailable(f"{doing}: not signed in: {_first_line(error)}") from error
    except azure.HttpResponseError as error:
        raise _from_response(doing, error) from error
    except azure.AzureError as error:
        raise Unavailable(f"{doing}: no answer: {type(error).__name__}") from error
    except AttributeError as error:
        # azure-data-tables looks for the headers of an answer that broke off, and finds no answer.
        if not isinstance(error.__context__, azure.HttpResponseError):
            raise
        raise _from_response(doing, error.__context__) from error.__context__


def _from_response(doing: str, error: HttpResponseError) -> RemediationError:
    status = error.status_code or 0
    code, message = _code_and_message(error)
    kind = kind_of(status, code)
    text = f"{doing}: {status} {code or 'no code'}: {message}"[:600]
    if issubclass(kind, Throttled | Conflict | Unavailable):
        return kind(text, code=code, retry_after=_retry_after(error))
    return kind(text, code=code)


def _code_and_message(error: HttpResponseError) -> tuple[str, str]:
    """ARM's `error.code`; of a failed operation the inner code where the outer is general.

    Table Storage keeps its code in a header or, in the SDK, in `error_code`.
    """
    code = getattr(error, "error_code", None)
    if code is not None:
        return str(getattr(code, "value", code)), _first_line(error)
    return _named(_body(error), _first_line(error))


def of_operation(doing: str, body: Mapping[str, Any]) -> RemediationError:
    """What an operation that was accepted ended with, from the body of its status."""
    code, message = _named(body, "no reason given")
    text = f"{doing}: ended {body.get('status', '')}: {code or 'no code'}: {message}"[:600]
    return kind_of(200, code)(text, code=code)


def _named(body: Mapping[str, Any], otherwise: str) -> tuple[str, str]:
    inner = body.get("error")
    found = inner if isinstance(inner, Mapping) else body
    code = str(found.get("code") or "")
    message = str(found.get("message") or otherwise)
    for detail in found.get("details") or ():
        if isinstance(detail, Mapping):
            message = f"{message} [{detail.get('code')}: {detail.get('message')}]"
            if str(detail.get("code")) in _BY_CODE:
                code = str(detail["code"])
    deeper = found.get("innererror")
    while isinstance(deeper, Mapping):  # Log Analytics: the innermost code says what it is
        code = str(deeper.get("code") or code)
        deeper = deeper.get("innererror")
    odata = body.get("odata.error")
    if not code and isinstance(odata, Mapping):
        code = str(odata.get("code") or "")
    return code, message


def _body(error: HttpResponseError) -> Mapping[str, Any]:
    from azure.core.exceptions import AzureError

    try:
        held = json.loads(error.response.text()) if error.response is not None else {}
    except (ValueError, AttributeError, TypeError, AzureError):
        return {}  # no JSON, or an answer that broke off unread: the status alone must do
    return held if isinstance(held, Mapping) else {}


def _retry_after(error: HttpResponseError) -> float | None:
    headers: Mapping[str, str] = getattr(error.response, "headers", None) or {}
    text = headers.get("Retry-After")
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
