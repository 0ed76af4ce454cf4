"""An investigation as data: its tasks, what each found, what people are told of it. Pure.

    task     a step on a machine, how far it has come, and what it found
    output   what a script in a machine wrote → rows; it is not trusted
    redact   secrets taken out of command lines, and text made harmless before it reaches people
    seals    the manifest of an alert's evidence, chained so that a change shows
    sentences  what happened, what was done, what is proven, what is open, what to do next
    pack     all that is known of an alert → the message to the security team
"""
