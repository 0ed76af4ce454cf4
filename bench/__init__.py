"""Side by side, in one run, on the sandbox: this project, two peers, and the bare limit.

    loads.py       what arrives: estates and alerts, attackers seeded
    judge.py       from the sandbox's record of effects: who is denied since when
    peers.py       the peers and the bare limit, in a process of their own
    contest.py     one contender under one load → its numbers
    sweep.py       what a sweep costs with few and with many live blocks
    starts.py      cold start, first block, parse and decide
    report.py      table, plots, JSON
"""
