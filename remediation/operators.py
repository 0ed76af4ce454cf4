"""What people ask for over HTTP or the command line: replay, revoke, extend, approve, pause, look.

Every act is recorded with who asked and why before it takes effect.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from remediation.alerts import normalise
from remediation.clock import Clock, Deadline
from remediation.cloud.defender import Defender
from remediation.cloud.graph import Graph
from remediation.cloud.managed import ManagedRules
from remediation.cloud.network import Network
from remediation.commit import Commit
from remediation.dossier import Dossier
from remediation.errors import BadInput, Conflict, NotFound, RemediationError
from remediation.escalation import Escalation
from remediation.guardrails import Hold, Protected
from remediation.investigation.pack import Pack
from remediation.investigator import Investigator
from remediation.ledger import Block, Ledger
from remediation.ledger.alerts import AlertState, plan_to_json
from remediation.model import BlockState, Caller, Direction, Verdict, utc
from remediation.notify import Notifier
from remediation.nsg import Rule, rule_to_arm
from remediation.owned import Ownership, difference, wanted_rules
from remediation.policy import Policy
from remediation.prefixes import network
from remediation.responder import Responder, blind
from remediation.settings import Settings
from remediation.survey import Decision, Survey
from remediation.view import expected

_log = logging.getLogger(__name__)

class Operator:
    """The operators' verbs."""

    def __init__(
        self,
        *,
        responder: Responder,
        investigator: Investigator,
        escalation: Escalation,
        dossier: Dossier,
        survey: Survey,
        commit: Commit,
        ledger: Ledger,
        defender: Defender,
        network: Network,
        managed: ManagedRules,
        graph: Graph,
        notifier: Notifier,
        policy: Policy,
        ownership: Ownership,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._responder = responder
        self._investigator = investigator
        self._escalation = escalation
        self._dossier = dossier
        self._survey = survey
        self._commit = commit
        self._ledger = ledger
        self._defender = defender
        self._network = network
        self._managed = managed
        self._graph = graph
        self._notifier = notifier
        self._policy = policy
        self._ownership = ownership
        self._settings = settings
        self._clock = clock

    # --- replay ---

    def replay_raw(
        self, raw: Any, caller: Caller, deadline: Deadline, *, dry_run: bool, override: bool
    ) -> dict[str, Any]:
        """Replay one body. What Defender does not confirm is a dry run, whatever was asked."""
        alert = normalise(raw)
        decision = self._survey.look(
            alert, deadline, override=caller.name if override else "", reserve=False
        )
        confirmed = decision.held.verdict is Verdict.CONFIRMED
        dry = dry_run or not confirmed
        over = self._managed.over((t for b in decision.plan.blocks for t in b.targets), deadline)
        answer = {
            "alertId": alert.alert_id,
            "dryRun": dry,
            "plan": plan_to_json(decision.plan),
            "machines": expected(decision.plan, decision.nsgs, self._policy, self._ownership, over),
            "difference": self._difference(decision),
        }
        if dry:
            if not dry_run:
                answer["why"] = "Defender does not confirm this body, so nothing was changed"
            return answer
        return {**answer, **self._really(raw, decision, caller, deadline, override=override)}

    def replay_id(
        self, alert_id: str, caller: Caller, deadline: Deadline, *, dry_run: bool, override: bool
    ) -> dict[str, Any]:
        """Replay an alert by id, from the ledger or else from Defender. Raises NotFound."""
        bodies = self._ledger.alerts.bodies(alert_id)
        raw: Any = self._ledger.alerts.raw(bodies[0]) if bodies else None
        if raw is None:
            raw = self._defender.find(alert_id, deadline) if _findable(alert_id) else None
        if raw is None:
            raise NotFound(f"no alert {alert_id} in the ledger or in Defender")
        return self.replay_raw(raw, caller, deadline, dry_run=dry_run, override=override)

    def _really(
        self, raw: Any, decision: Decision, caller: Caller, deadline: Deadline, *, override: bool
    ) -> dict[str, Any]:
        """Record, claim anew (a replay prolongs), commit."""
        alert = decision.alert
        now = self._clock.now()
        record = self._ledger.alerts.get(alert.alert_id, alert.accusation())
        if record is None:
            record = self._ledger.alerts.receive(alert, raw, received=utc(now), via="replay")
        self._responder.note([alert.alert_id], "replayed", by=caller.name, override=override,
               identified=caller.identified)
        if record is not None:
            self._ledger.alerts.update(
                record, state=AlertState.DONE.value, verified=utc(decision.verified),
                planned=utc(now), blind=blind(decision.plan),
                **self._ledger.alerts.plan_facts(decision.plan),
            )
            if blind(decision.plan):
                self._responder.hint_again(record)
        keys = self._responder.claim(decision, explicit=True, by=caller.name if override else "")
        self._ledger.watch_again(alert.alert_id, self._clock.now())
        commits = self._responder.commit_all((k.nsg_id for k in keys), deadline)
        return {
            "claimed": [k.id for k in keys],
            "writes": sum(c.writes for c in commits),
            "left": any(c.left for c in commits),
            "blocks": [b.to_json() for k in keys if (b := self._ledger.blocks.get(k)) is not None],
        }

    def _difference(self, decision: Decision) -> list[dict[str, Any]]:
        """What carrying the plan out would write, per NSG; blocks that wait are left out."""
        found: list[dict[str, Any]] = []
        for nsg_id, nsg in decision.nsgs.items():
            addresses: dict[Direction, set[str]] = {}
            for block in self._ledger.blocks.live(nsg_id):
                if block.wanted:
                    addresses.setdefault(block.key.direction, set()).add(block.key.address)
            planned = [b for b in decision.plan.blocks if b.key.nsg_id == nsg_id and not b.ask]
            if not planned:
                continue
            for b in planned:
                addresses.setdefault(b.key.direction, set()).add(b.key.address)
            wanted = wanted_rules(nsg, addresses, self._ownership, self._policy.window)
            for write in difference(nsg, wanted, self._ownership):
                found.append({
                    "nsg": nsg_id, "rule": write.name, "write": write.kind,
                    "before": _shown(write.before), "after": _shown(write.rule),
                })
        return found

    # --- blocks ---

    def revoke(
        self, caller: Caller, deadline: Deadline, *, address: str, block_id: str, reason: str,
        hold: timedelta,
    ) -> dict[str, Any]:
        """Lift blocks now and keep their addresses from being blocked unasked for a while."""
        now = self._clock.now()
        if address:  # held before anything is looked up: what is claimed meanwhile meets the hold
            self._ledger.control.hold(Hold(address, now + hold, caller.name, reason, now))
        blocks = list(self._ledger.blocks.find(address=address, block_id=block_id))
        if not blocks and not address:
            raise NotFound(f"no live block {block_id}")
        for held in {b.key.address for b in blocks} - {address}:
            self._ledger.control.hold(Hold(held, now + hold, caller.name, reason, now))
        revoked: list[str] = []
        for block in blocks:
            if self._revoke_one(block, caller, reason):
                revoked.append(block.key.id)
        commits = self._responder.commit_all((b.key.nsg_id for b in blocks), deadline)
        return {
            "revoked": revoked, "heldUntil": utc(now + hold),
            "left": any(c.left for c in commits),
        }

    def _revoke_one(self, block: Block, caller: Caller, reason: str) -> bool:
        now = self._clock.now()
        for _ in range(10):
            self._commit.look_at(block.key.nsg_id, now)
            never = block.state is BlockState.WAITING
            after = replace(
                block, state=BlockState.REVOKED if never else BlockState.LIFTING,
                revoked_by=caller.name, revoke_reason=reason, ended=now if never else None,
                retry_at=None,
            )
            self._responder.note(block.alerts, "revoked", by=caller.name, reason=reason, block=block.key.id,
                   nsg=block.key.nsg_id, direction=block.key.direction.value,
                   address=block.key.address)
            saved, lost = self._ledger.blocks.save([after])
            if saved:
                if never:
                    self._ledger.blocks.end(saved[0])
                return True
            fresh = self._ledger.blocks.get(block.key) if lost else None
            if fresh is None:
                return False
            block = fresh
        raise Conflict(f"block {block.key.id} keeps changing")

    def extend(
        self, caller: Caller, *, block_id: str, by: timedelta, reason: str
    ) -> dict[str, Any]:
        """Let a block live longer, at most `max_extension` counted from its first proof."""
        for _ in range(10):
            block = next(iter(self._ledger.blocks.find(block_id=block_id)), None)
            if block is None:
                raise NotFound(f"no live block {block_id}")
            if block.expires is None or block.first_proven is None or not block.wanted:
                raise BadInput("blockId", f"the block is {block.state}: only a proven one can be "
                               "extended")
            longest = block.first_proven + self._policy.guardrails.max_extension
            until = block.expires + by
            if until > longest:
                raise BadInput("hours", f"the block may live until {utc(longest)} at most")
            self._commit.look_at(block.key.nsg_id, until)
            self._responder.note(block.alerts, "extended", by=caller.name, reason=reason,
                                 block=block.key.id, expires=utc(until))
            saved, _ = self._ledger.blocks.save([replace(block, expires=until)])
            if saved:
                return saved[0].to_json()
        raise Conflict(f"block {block_id} keeps changing")

    # --- approvals ---

    def decide(
        self, approval_id: str, caller: Caller, deadline: Deadline, *, approve: bool, reason: str
    ) -> dict[str, Any]:
        """Answer a question, once. Raises NotFound, or Conflict if it is answered or expired."""
        approval = self._ledger.control.approval(approval_id)
        if approval is None:
            raise NotFound(f"no question {approval_id}")
        now = self._clock.now()
        if approval.state != "open" or approval.expires <= now:
            state = approval.state if approval.state != "open" else "expired"
            raise Conflict(f"question {approval_id} is {state} already")
        if approval.tasks and not self._investigator.waiting(approval):
            raise Conflict(f"question {approval_id} is about a step that does not wait for it any more")
        if approval.by == caller.name:
            raise BadInput(
                "id", "who asked for the change cannot approve it: somebody else has to look at it"
            )
        self._ledger.work.hint("approval", approval_id, now + timedelta(seconds=60))
        state = "approved" if approve else "rejected"
        if not self._ledger.control.decide(approval, state, caller.name, reason, now):
            raise Conflict(f"question {approval_id} was answered a moment ago")
        touched = self._responder.carry_out(approval_id, deadline)
        return {"id": approval_id, "state": state, "blocks": [k.id for k in touched],
                "steps": [{"machine": m, "step": s} for m, s in approval.tasks]}

    # --- pause, protected, looking ---

    def pause(self, caller: Caller, deadline: Deadline, *, reason: str, lift: str) -> dict[str, Any]:
        """Stop acting. `lift`: `due` (the default) goes on lifting what is due, `none` stops that
        too, `all` revokes every live block first."""
        now = self._clock.now()
        self._ledger.control.pause(caller.name, reason, now, "none" if lift == "none" else "due")
        self._notifier.tell("pause", f"paused by {caller.name}: {reason}", lift=lift)
        revoked = 0
        if lift == "all":
            blocks = list(self._ledger.blocks.find())
            for block in blocks:
                revoked += self._revoke_one(block, caller, f"pause: {reason}")
            for nsg_id in dict.fromkeys(b.key.nsg_id for b in blocks):
                if deadline.over:
                    break  # the hints left by revoking bring the sweep there
                self._responder.commit_nsg(nsg_id, deadline)
        return {"paused": True, "lift": lift, "revoked": revoked}

    def resume(self, caller: Caller, *, reason: str) -> dict[str, Any]:
        """Act again; what waited is taken up by the next sweep."""
        self._ledger.control.resume(caller.name, reason, self._clock.now())
        self._notifier.tell("pause", f"resumed by {caller.name}: {reason}")
        return {"paused": False}

    def protect(self, caller: Caller, entries: list[tuple[str, str]]) -> list[dict[str, Any]]:
        """Replace the protected list."""
        now = self._clock.now()
        old = {p.prefix: p for p in self._ledger.control.wishes()[0]}
        new = [old.get(prefix) if prefix in old and old[prefix].reason == reason else
               Protected(prefix, reason, caller.name, now) for prefix, reason in entries]
        self._notifier.tell("protected", f"protected list changed by {caller.name}",
                            entries=[p for p, _ in entries])
        self._ledger.control.protect([p for p in new if p is not None])
        self._look_at_blocks_of([p for p, _ in entries if p not in old])
        return self.protected()

    def _look_at_blocks_of(self, prefixes: list[str]) -> None:
        """Blocks in force on what is protected from now on are lifted by the next sweep."""
        nets = [n for n in map(network, prefixes) if n is not None]
        now = self._clock.now()
        nsgs = {
            b.key.nsg_id for b in self._ledger.blocks.find()
            if b.wanted and any(ipaddress.ip_address(b.key.address) in n for n in nets)
        } if nets else set()
        for nsg_id in sorted(nsgs):
            self._ledger.work.recheck(nsg_id, now)

    def protected(self) -> list[dict[str, Any]]:
        """The protected list."""
        return [
            {"prefix": p.prefix, "reason": p.reason, "by": p.by, "at": utc(p.at) if p.at else None}
            for p in self._ledger.control.wishes()[0]
        ]

    def timeline(self, alert_id: str) -> dict[str, Any]:
        """All that is known of an alert: bodies, normal form, plan, what was found out, actions with the
        time of every hop. Raises NotFound."""
        return self._dossier.of(alert_id)

    def pack(self, alert_id: str) -> Pack:
        """The message to the security team, as it would be now. Raises NotFound."""
        return self._escalation.pack(alert_id)

    def investigate(
        self,
        alert_id: str,
        caller: Caller,
        deadline: Deadline,
        *,
        machine: str,
        steps: Sequence[str],
        reason: str,
    ) -> dict[str, Any]:
        """Begin an investigation, or do steps anew."""
        return {"alertId": alert_id,
                "queued": self._investigator.again(alert_id, caller, machine, steps, reason, deadline)}

    def health(self, deadline: Deadline) -> dict[str, Any]:
        """What is reachable and what is not; no secrets, no addresses."""

        def check(call: Any) -> dict[str, Any]:
            try:
                call()
            except RemediationError as error:
                return {"ok": False, "error": type(error).__name__, "code": error.code}
            return {"ok": True}

        short = deadline.within(5)
        checks = {
            "ledger": check(lambda: self._ledger.control.last_job("sweep")),
            "arm": check(lambda: self._network.subscriptions(short)),
            "graph": check(lambda: self._graph.rows("ping", short)),
        }
        ledger = checks["ledger"]["ok"]
        last = self._ledger.control.last_job("sweep") if ledger else None
        pause = self._ledger.control.paused() if ledger else None
        return {
            "ok": all(c["ok"] for c in checks.values()),
            "checks": checks,
            "lastSweep": utc(last) if last else None,
            "paused": pause is not None,
            "mode": self._settings.mode.value,
            "troubles": list(self._settings.troubles),
            "deployment": self._settings.deployment,
        }


def _shown(rule: Rule | None) -> Mapping[str, Any] | None:
    return None if rule is None else rule_to_arm(rule)["properties"]


def _findable(alert_id: str) -> bool:
    """May stand in a graph query."""
    return all(c.isalnum() or c in "_-." for c in alert_id)
