"""Rogue firewall rules, from the look to the removal.

`watch` reads firewalls, finds, and decides what comes next; `removal` carries out what was decided, under the
lease of the policy, and proves it. Both write to the ledger before they act.
"""

from remediation.rogues.desk import Desk
from remediation.rogues.removal import Removal
from remediation.rogues.watch import Watch

__all__ = ["Desk", "Removal", "Watch"]
