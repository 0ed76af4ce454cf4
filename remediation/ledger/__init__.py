"""The ledger in Table Storage: what was seen, decided, done and proven, and what is still due.

| table    | PartitionKey             | RowKey                        | holds                        |
|----------|--------------------------|-------------------------------|------------------------------|
| alerts   | alert id                 | `alert|<accusation>`          | normal form, raw, plan, state|
|          |                          | `a|<time>|<n>`                | the actions of one moment    |
| blocks   | NSG id                   | `<direction>|<address>`       | a live block                 |
|          | NSG id + `~ended`        | … + `|<claimed at>`           | a block that has ended       |
| work     | shard                    | `<look at>|<kind>|<id>`       | a hint where to look, when   |
| leases   | NSG id                   | `lease`, `knock`              | who commits; who waits       |
| investigations | alert id           | `head`, `task|…`, `told`      | what is found out and told   |
| control  | `guard`, `approval`, …   | …                             | wishes, counters, self-tests |

Changes of alerts, blocks, leases, questions, holds and counters are conditional on etags; of hints, notes
and notices each writer writes its own, and of the pause, the protected list and the estate's snapshot the
newest word counts. `store` speaks to the service; the others know one subject
each. Hints are written before the rows they point to and are never the truth.
"""

from datetime import datetime, timedelta

from remediation.ledger.alerts import AlertRecord, Alerts
from remediation.ledger.block import Block, Claim, claim_of
from remediation.ledger.blocks import Blocks
from remediation.ledger.control import Approval, Control, Pause
from remediation.ledger.firewall import Approved, Firewall
from remediation.ledger.investigations import Head, Investigations, Told
from remediation.ledger.leases import Lease, Leases
from remediation.ledger.selftests import SelfTests
from remediation.ledger.store import Tables
from remediation.ledger.work import Hint, Work

__all__ = [
    "AlertRecord",
    "Alerts",
    "Approval",
    "Approved",
    "Block",
    "Blocks",
    "Claim",
    "Control",
    "Firewall",
    "Head",
    "Hint",
    "Investigations",
    "Lease",
    "Leases",
    "Ledger",
    "Pause",
    "Tables",
    "Told",
    "Work",
    "claim_of",
]


class Ledger:
    """All tables of the ledger, by subject."""

    def __init__(self, tables: Tables, lease_seconds: float) -> None:
        self.alerts = Alerts(tables)
        self.blocks = Blocks(tables)
        self.work = Work(tables)
        self.leases = Leases(tables, lease_seconds)
        self.control = Control(tables)
        self.firewall = Firewall(tables)
        self.investigations = Investigations(tables)
        self.selftests = SelfTests(tables)

    def watch_again(self, alert_id: str, now: datetime) -> None:
        """Something comes into force for an alert whose watch may have ended: the sweep looks a minute later,
        when it is recorded, if the alert is looked into at all."""
        if self.investigations.begun(alert_id):
            self.work.investigation(alert_id, now + timedelta(minutes=1))
