"""`make demo`: the main job, played through the real triggers, SDKs and tables.

    estate.py   the estate and the alerts of the story    story.py   the eight chapters
    count.py    what really happened, from the sandbox's log and the ledger
"""
