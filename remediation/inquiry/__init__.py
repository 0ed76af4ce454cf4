"""An investigation under way.

    parts      what all of it works with; a task's message on its way
    runner     one message: the task claimed, one call of its step, what it came to recorded, what it left
    behind
               taken away
    sealing    the end: evidence sealed, the alert resolved where the policy says so

`remediation.investigator` begins investigations, hands out messages and answers people.
"""
