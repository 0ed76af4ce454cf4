"""Group commit: bring the owned rules of one NSG to what its live blocks want, and prove it.

The holder of the NSG's lease does rounds until nobody knocked during the last one:

    listen → read the blocks → mark what is due as lifting → read the NSG → checks → wanted rules
           → write the difference, the decisive direction first, the lease renewed before each call
           → read back → proof → mark all blocks, move out those that ended

A thousand alerts on one NSG so cost a handful of writes. What cannot be finished within the
budget is left in the rows, with a hint for the sweep and a message for the commit queue.

    rounds   the lease, the rounds under it, and what is left over
    parts    what a commit works with, and one round's working set
    marks    blocks marked in the ledger and in the timelines
    checks   guardrails again, orphans, names, drift, capacity: before anything is written
    write    the difference, written
    verdict  what the rules, read back, say of each block
    moved    the NSG is not where it was
"""

from remediation.commit.parts import Committed, Parts
from remediation.commit.rounds import Commit, needs_commit

__all__ = ["Commit", "Committed", "Parts", "needs_commit"]
