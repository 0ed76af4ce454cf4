"""The operators' HTTP API: requests checked, callers known, errors turned into clear answers.

Described by `docs/openapi.json`; a test holds the two together. Bad input is 400 with the field
and the reason, an unknown id 404, a lost race 409, a caller without the role 403.
"""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from typing import Any

from remediation.alerts import ALERT_ID, read
from remediation.clock import Clock, Deadline
from remediation.errors import (
    BadInput,
    Conflict,
    MalformedAlert,
    NotFound,
    PermanentError,
    RemediationError,
    TemporaryError,
)
from remediation.firewall_api import FirewallApi
from remediation.inputs import (
    ALL_ROLES,
    APPROVE,
    OPERATE,
    READ,
    Refused,
    Reply,
    Request,
    Routes,
    address_of,
    body_of,
    flag,
    number,
    path_id,
    prefix_of,
    principal,
    reason_of,
    text_of,
    unwrap_token,
    word,
    wrap_token,
)
from remediation.ledger import Ledger
from remediation.log import say
from remediation.model import BlockState, Caller
from remediation.operators import Operator
from remediation.policy import Policy
from remediation.selftest import SelfTest
from remediation.settings import Settings, is_loopback

_log = logging.getLogger(__name__)

MAX_REPLAY = 50
LONGEST_RESOURCE_ID = 1000
MAX_PROTECTED = 1000
MAX_HOLD_HOURS = 24 * 31
MOST_STEPS = 50
MACHINE = re.compile(
    r"/subscriptions/[0-9a-f-]{36}/resourcegroups/[\w.()-]{1,90}/providers/microsoft\.compute/"
    r"(?:virtualmachines|virtualmachinescalesets/[\w.-]{1,80}/virtualmachines)/[\w.-]{1,80}",
    re.ASCII | re.IGNORECASE)


class Api:
    """One method per route; `serve` wraps each with the caller's check and the errors."""

    def __init__(
        self, operator: Operator, firewall: FirewallApi, selftest: SelfTest, ledger: Ledger, policy: Policy,
        settings: Settings, clock: Clock,
    ) -> None:
        self._firewall = firewall
        self._selftest = selftest
        self._operator = operator
        self._ledger = ledger
        self._policy = policy
        self._settings = settings
        self._clock = clock

    def _budget(self) -> Deadline:
        return Deadline.after(self._clock, self._settings.budget_seconds)

    def serve(self, route: str, request: Request) -> Reply:
        """Run one route."""
        handler, role = self._routes()[route]
        try:
            caller = self.caller(request)
            if not caller.may(role):
                raise Refused(403, f"{caller.name} lacks the role {role}")
            return handler(request, caller)
        except BadInput as error:
            return Reply(400, {"error": "bad request", "field": error.field, "reason": error.reason})
        except MalformedAlert as error:
            return Reply(400, {"error": "malformed alert", "field": error.field,
                               "reason": error.reason})
        except Refused as error:
            return Reply(error.status, {"error": str(error)})
        except NotFound as error:
            return Reply(404, {"error": str(error)})
        except Conflict as error:
            return Reply(409, {"error": str(error)})
        except TemporaryError as error:
            say(_log, "http", level=logging.WARNING, route=route, error=str(error))
            return Reply(503, {"error": "not now, try again", "reason": type(error).__name__})
        except PermanentError as error:
            say(_log, "http", level=logging.WARNING, route=route, error=str(error))
            return Reply(502, {"error": "Azure refuses", "reason": type(error).__name__,
                               "code": error.code})

    def _routes(self) -> Routes:
        return {
            "replay": (self.replay, READ),
            "blocks": (self.blocks, READ),
            "revoke": (self.revoke, OPERATE),
            "extend": (self.extend, OPERATE),
            "approvals": (self.approvals, READ),
            "approve": (self.approve, APPROVE),
            "pause": (self.pause, OPERATE),
            "resume": (self.resume, OPERATE),
            "protected": (self.protected, READ),
            "protect": (self.protect, OPERATE),
            "alert": (self.alert, READ),
            "pack": (self.pack, READ),
            "investigate": (self.investigate, OPERATE),
            "health": (self.health, READ),
            "selftest": (self.selftest, OPERATE),
            "selftested": (self.selftested, READ),
            **self._firewall.routes(),
        }

    # --- who asks ---

    def caller(self, request: Request) -> Caller:
        """The principal where App Service authentication is on (and nowhere else is its header
        believed); else whoever has a key: unidentified, and may not approve, but on loopback."""
        if self._settings.auth_on:
            return principal(request.headers.get("x-ms-client-principal", ""))
        if self._settings.local and is_loopback(request.url):
            return Caller("local operator", ALL_ROLES, identified=True)
        return Caller("unidentified (function key)", frozenset({READ, OPERATE}), identified=False)

    # --- routes ---

    def replay(self, request: Request, caller: Caller) -> Reply:
        """POST /api/replay"""
        dry = flag(request.query, "dryRun")
        override = flag(request.query, "override")
        if not dry and not caller.may(OPERATE):
            raise Refused(403, f"{caller.name} lacks the role {OPERATE}")
        if override and not caller.may(APPROVE):
            raise Refused(403, f"override: {caller.name} lacks the role {APPROVE}")
        deadline = self._budget()
        raws = read(text_of(request.body))
        if len(raws) == 1 and isinstance(raws[0], dict) and set(raws[0]) == {"alertId"}:
            alert_id = raws[0]["alertId"]
            if not isinstance(alert_id, str) or not ALERT_ID.fullmatch(alert_id):
                raise BadInput("alertId", "must be an alert's id")
            one = self._operator.replay_id(alert_id, caller, deadline, dry_run=dry,
                                           override=override)
            return Reply(200, {"results": [one]})
        if not raws:
            raise BadInput("body", "holds no alert")
        if len(raws) > MAX_REPLAY:
            raise BadInput("body", f"holds {len(raws)} alerts; at most {MAX_REPLAY} at a time")
        return Reply(200, {"results": [
            self._replay_one(raw, len(raws), caller, deadline, dry, override) for raw in raws
        ]})

    def _replay_one(
        self, raw: Any, of: int, caller: Caller, deadline: Any, dry: bool, override: bool
    ) -> dict[str, Any]:
        """One of several: its error stands in its place, and the others go on."""
        try:
            return self._operator.replay_raw(raw, caller, deadline, dry_run=dry, override=override)
        except RemediationError as error:
            if of == 1:
                raise
            return {"error": str(error), "kind": type(error).__name__}

    def blocks(self, request: Request, caller: Caller) -> Reply:
        """GET /api/blocks"""
        q = request.query
        state = q.get("state", "")
        if state and state not in set(BlockState):
            raise BadInput("state", f"must be one of {', '.join(BlockState)}")
        address = address_of("address", q["address"]) if q.get("address") else ""
        nsg_id = q.get("nsg", "").lower()
        if len(nsg_id) > LONGEST_RESOURCE_ID:
            raise BadInput("nsg", "is longer than any resource id")
        size = number("pageSize", q.get("pageSize", "100"), 1, 1000)
        token = unwrap_token(q.get("pageToken", ""))
        found, following = self._ledger.blocks.page(
            state=state, address=address, nsg_id=nsg_id, size=size, token=token
        )
        return Reply(200, {"blocks": [b.to_json() for b in found],
                           "nextPageToken": wrap_token(following)})

    def revoke(self, request: Request, caller: Caller) -> Reply:
        """POST /api/blocks/revoke"""
        body = body_of(request, {"address", "blockId", "reason", "holdHours"})
        address = address_of("address", body["address"]) if "address" in body else ""
        block_id = word(body, "blockId") if "blockId" in body else ""
        if bool(address) == bool(block_id):
            raise BadInput("address", "give either address or blockId")
        hold = self._policy.guardrails.hold
        if "holdHours" in body:
            hold = timedelta(hours=number("holdHours", body["holdHours"], 0, MAX_HOLD_HOURS))
        return Reply(200, self._operator.revoke(
            caller, self._budget(), address=address, block_id=block_id,
            reason=reason_of(body), hold=hold,
        ))

    def extend(self, request: Request, caller: Caller) -> Reply:
        """POST /api/blocks/extend"""
        body = body_of(request, {"blockId", "hours", "reason"})
        hours = number("hours", body.get("hours", 24), 1, 24 * 7)
        return Reply(200, self._operator.extend(
            caller, block_id=word(body, "blockId"), by=timedelta(hours=hours),
            reason=reason_of(body),
        ))

    def approvals(self, request: Request, caller: Caller) -> Reply:
        """GET /api/approvals"""
        wanted = request.query.get("state", "open")
        states = ("open", "approved", "rejected", "expired", "all")
        if wanted not in states:
            raise BadInput("state", f"must be one of {', '.join(states)}")
        found = [a.to_json() for a in self._ledger.control.approvals()
                 if wanted in ("all", a.state)]
        return Reply(200, {"approvals": found})

    def approve(self, request: Request, caller: Caller) -> Reply:
        """POST /api/approvals/{id}"""
        body = body_of(request, {"decision", "reason"})
        decision = body.get("decision")
        if decision not in ("approve", "reject"):
            raise BadInput("decision", "must be approve or reject")
        return Reply(200, self._operator.decide(
            path_id(request), caller, self._budget(),
            approve=decision == "approve", reason=reason_of(body),
        ))

    def pause(self, request: Request, caller: Caller) -> Reply:
        """POST /api/pause"""
        body = body_of(request, {"reason", "lift"})
        lift = body.get("lift", "due")
        if lift not in ("due", "none", "all"):
            raise BadInput("lift", "must be due, none or all")
        return Reply(200, self._operator.pause(caller, self._budget(), reason=reason_of(body),
                                               lift=lift))

    def resume(self, request: Request, caller: Caller) -> Reply:
        """POST /api/resume"""
        return Reply(200, self._operator.resume(caller, reason=reason_of(body_of(request, {"reason"}))))

    def protected(self, request: Request, caller: Caller) -> Reply:
        """GET /api/protected"""
        return Reply(200, {"protected": self._operator.protected()})

    def protect(self, request: Request, caller: Caller) -> Reply:
        """PUT /api/protected"""
        given = body_of(request, {"protected"}).get("protected")
        if not isinstance(given, list) or len(given) > MAX_PROTECTED:
            raise BadInput("protected", f"must be a list of at most {MAX_PROTECTED} entries")
        entries = {}
        for n, one in enumerate(given):
            where = f"protected[{n}]"
            if not isinstance(one, dict) or set(one) - {"prefix", "reason", "by", "at"}:
                raise BadInput(where, "must be an object with prefix and reason")
            entries[prefix_of(f"{where}.prefix", one.get("prefix"))] = reason_of(one, where + ".")
        return Reply(200, {"protected": self._operator.protect(caller, list(entries.items()))})

    def alert(self, request: Request, caller: Caller) -> Reply:
        """GET /api/alerts/{id}"""
        return Reply(200, self._operator.timeline(path_id(request)))

    def pack(self, request: Request, caller: Caller) -> Reply:
        """GET /api/alerts/{id}/pack"""
        found = self._operator.pack(path_id(request))
        return Reply(200, {**found.to_json(), "text": found.text()})

    def investigate(self, request: Request, caller: Caller) -> Reply:
        """POST /api/investigations"""
        body = body_of(request, {"alertId", "machine", "steps", "reason"})
        alert_id, machine, steps = body.get("alertId"), body.get("machine", ""), body.get("steps", [])
        if not isinstance(alert_id, str) or not ALERT_ID.fullmatch(alert_id):
            raise BadInput("alertId", "must be an alert's id")
        if not isinstance(machine, str) or len(machine) > LONGEST_RESOURCE_ID:
            raise BadInput("machine", "must be the id of one of the alert's machines, or be left out for all")
        if (
            not isinstance(steps, list)
            or not all(isinstance(s, str) for s in steps)
            or len(steps) > MOST_STEPS
        ):
            raise BadInput("steps", "must be a list of steps, or be left out for those of the policy")
        return Reply(
            202,
            self._operator.investigate(
                alert_id,
                caller,
                self._budget(),
                machine=machine.lower().rstrip("/"),
                steps=steps,
                reason=reason_of(body),
            ),
        )

    def selftest(self, request: Request, caller: Caller) -> Reply:
        """POST /api/selftest"""
        machine = body_of(request, {"machine"}).get("machine", "")
        if not isinstance(machine, str) or (machine and not MACHINE.fullmatch(machine)):
            raise BadInput("machine", "must be a machine's resource id, or be left out for any")
        report = self._selftest.begin(caller.name, self._budget(), machine.lower())
        return Reply(202, report.to_json())

    def selftested(self, request: Request, caller: Caller) -> Reply:
        """GET /api/selftest"""
        wanted = request.query.get("id", "")
        if wanted and not ALERT_ID.fullmatch(wanted):
            raise NotFound("no such id")
        deadline = self._budget()
        found = self._selftest.look(wanted, deadline) if wanted else self._selftest.latest(deadline)
        return Reply(200, found.to_json())

    def health(self, request: Request, caller: Caller) -> Reply:
        """GET /api/health"""
        found = self._operator.health(self._budget())
        return Reply(200 if found["ok"] else 503, found)
