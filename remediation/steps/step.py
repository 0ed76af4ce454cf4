"""What a step is. Each has a file of its own and a line in the registry (`remediation.steps`).

A step looks first (`look`) and may say that a change is wanted; what changes something is its second half
(`act`), which waits for a person unless the policy says otherwise. Both are called again and again while they
answer `Later`: nothing waits inside a function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from remediation.errors import PermanentError
from remediation.investigation.output import Output
from remediation.investigation.task import Finding, Later, Task
from remediation.model import Alert

if TYPE_CHECKING:
    from remediation.clock import Deadline
    from remediation.cloud.activity import ActivityLog
    from remediation.cloud.defender import Defender
    from remediation.cloud.evidence import EvidenceStore
    from remediation.cloud.graph import Graph
    from remediation.cloud.guest import GuestCommands
    from remediation.cloud.logs import Logs
    from remediation.cloud.upkeep import Upkeep
    from remediation.ledger import Ledger
    from remediation.ledger.investigations import Head
    from remediation.policy import Policy
    from remediation.surroundings import SurroundingsReader


POLICY = "the policy"
"""Who has said yes where nobody was asked."""


class Skip(Exception):
    """There is nothing to do, and why."""


class StepFailed(PermanentError):
    """The step cannot come to an answer; another try would not help. `facts`: what is to be kept of it."""

    def __init__(self, message: str, facts: Any = None) -> None:
        super().__init__(message)
        self.facts = facts


def whole(out: Output) -> Output:
    """The output, for a judgement to which what is missing may matter. Raises StepFailed if anything is."""
    if not out.whole:
        raise StepFailed(
            f"the answer is not complete: {out.doubt}", {"rows": list(out.rows), "doubt": out.doubt})
    return out


@dataclass(frozen=True, slots=True)
class Tools:
    """What steps look with. `may_install`: what the identity has the right to install, of `updates` and
    `antimalware`. `pace`: the shortest pause between two looks at what goes on elsewhere, in
    seconds."""

    ledger: Ledger
    guest: GuestCommands
    store: EvidenceStore
    logs: Logs
    graph: Graph
    defender: Defender
    activity: ActivityLog
    upkeep: Upkeep
    policy: Policy
    surroundings: SurroundingsReader
    may_install: frozenset[str]
    pace: float = 1.0


@dataclass(frozen=True, slots=True)
class Work:
    """One call of a step: for which task, with what, until when."""

    task: Task
    alert: Alert
    head: Head
    tools: Tools
    deadline: Deadline
    now: datetime

    @property
    def machine(self) -> str:
        """The machine's id, lower-cased."""
        return self.task.machine

    @property
    def addresses(self) -> tuple[str, ...]:
        """The machine's private addresses, as they were when the investigation began."""
        return tuple(self.head.machine(self.task.machine).get("addresses") or ())

    @property
    def attackers(self) -> tuple[str, ...]:
        """The addresses that the alert accuses."""
        return tuple(dict.fromkeys(a.address for a in self.alert.attackers))

    @property
    def activity(self) -> tuple[datetime, datetime]:
        """From when to when the activity lasted, as far as the alert says; else the last day."""
        start = self.alert.start or self.alert.end or self.alert.generated or self.now - timedelta(days=1)
        end = self.alert.end or self.alert.generated or self.now
        return min(start, end, self.now), min(max(start, end), self.now)

    @property
    def memory(self) -> Mapping[str, Any]:
        """What the task remembers of its earlier calls."""
        return self.task.memory


type Half = Callable[[Work], Finding | Later]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. `guest`: it looks inside the machine, by the guest app. `of_alert`: once for the alert, not
    for each machine. `of_attackers`: its answer depends on who the attackers are. `budget`: how long one half
    may take in all. `permissions`: what it asks of Azure; `changing`: what its second half asks besides, and
    `changes`, in words, what that would change."""

    name: str
    does: str
    look: Half
    permissions: tuple[str, ...]
    act: Half | None = None
    changes: str = ""
    changing: tuple[str, ...] = ()
    guest: bool = False
    of_alert: bool = False
    of_attackers: bool = False
    budget: timedelta = timedelta(minutes=20)


READS_MACHINES = ("Microsoft.Compute/virtualMachines/read",
                  "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read")
READS_GRAPH = ("Microsoft.ResourceGraph/resources/read",)
READS_LOGS = tuple(f"Microsoft.OperationalInsights/workspaces/{one}" for one in (
    "read", "query/read", "query/*/read"))
RUNS_COMMANDS = tuple(
    f"Microsoft.Compute/{kind}/runCommands/{verb}"
    for kind in ("virtualMachines", "virtualMachineScaleSets/virtualMachines")
    for verb in ("read", "write", "delete"))
