"""What a commit works with, and one round's working set."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from remediation.approvals import Approvals
from remediation.clock import Clock
from remediation.cloud.activity import ActivityLog
from remediation.cloud.graph import Graph
from remediation.cloud.guards import Guards
from remediation.cloud.managed import ManagedRules
from remediation.cloud.network import Network
from remediation.errors import PermanentError
from remediation.guardrails import Surroundings
from remediation.ledger import Block, Ledger
from remediation.model import BlockState
from remediation.notify import Notifier
from remediation.nsg import Nsg, Rule, family_of
from remediation.owned import Ownership
from remediation.policy import Policy
from remediation.settings import Settings
from remediation.surroundings import SurroundingsReader

ARM_RESERVE_SECONDS = 1.0
"""Less than this before the budget or the lease ends, no ARM call is begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The collaborators, wired once; all are safe to share between threads."""

    ledger: Ledger
    network: Network
    guards: Guards
    managed: ManagedRules
    graph: Graph
    surroundings: SurroundingsReader
    activity: ActivityLog
    approvals: Approvals
    notifier: Notifier
    policy: Policy
    ownership: Ownership
    settings: Settings
    clock: Clock

    def slot(self, block: Block) -> str:
        """The name of the owned rule that a block belongs in."""
        return self.ownership.name_on(
            block.key.nsg_id, block.key.direction, family_of(block.key.address))

    def look_again(self, nsg_id: str) -> None:
        """A write may still land though nobody waits for it any more: read the NSG again soon, and
        once more."""
        now, step = self.clock.now(), timedelta(seconds=self.settings.recheck_seconds)
        for n in (1, 3):
            self.ledger.work.recheck(nsg_id, now + n * step)

    def rule_of(self, block: Block, nsg: Nsg) -> Rule | None:
        """That rule as it stands in the NSG, if it is there and ours."""
        name = self.slot(block)
        return next((r for r in nsg.rules if r.name == name and self.ownership.owns(r)), None)

    def stands(self, block: Block, nsg: Nsg) -> bool:
        """Does our rule in the NSG deny the block's address?"""
        rule = self.rule_of(block, nsg)
        return rule is not None and not rule.allow and rule.names(block.key.address)

    def in_force(self, block: Block, nsg: Nsg) -> bool:
        """Is it proven, or does it stand by a write that did not fail? Whoever wrote it may have died, or
        have left the proof for later."""
        if block.proven is not None:
            return True
        rule = self.rule_of(block, nsg)
        return rule is not None and rule.state != "Failed" and self.stands(block, nsg)


@dataclass(slots=True)
class Committed:
    """What a run did. `left`: something remains, to be taken up after `wait` seconds; `hurried`: since other
    NSGs wait. `moved_to`: the NSG's new id."""

    held: bool = False
    writes: int = 0
    proven: int = 0
    shadowed: int = 0
    lifted: int = 0
    left: bool = False
    hurried: bool = False
    wait: float = 0.0
    moved_to: str = ""
    reason: str = ""


@dataclass(slots=True)
class Round:
    """The rows as they stand, the NSG as last read, and what became of each block.

    `lifts_only`: acting is paused, so nothing is denied that is not denied already. `drifted`: our
    rules that someone changed. `refused`: what Azure said to a write, by the rule's name.
    `deferred`: rules whose write gives way to a newcomer's more urgent one.
    """

    nsg: Nsg
    blocks: list[Block]
    now: datetime
    around: Surroundings
    changed: dict[str, Block] = field(default_factory=dict)
    again: bool = False
    lifts_only: bool = False
    drifted: set[str] = field(default_factory=set)
    refused: dict[str, PermanentError] = field(default_factory=dict)
    deferred: set[str] = field(default_factory=set)

    def set(self, block: Block) -> None:
        """A block's new content, to be saved at the end of the round. What has failed is in no rule of ours,
        or soon in none: no proof of it counts any more."""
        if block.state is BlockState.FAILED:
            block = replace(block, proven=None)
        self.changed[block.key.id] = block

    def current(self) -> list[Block]:
        """All blocks with the changes of this round."""
        return [self.changed.get(b.key.id, b) for b in self.blocks]
