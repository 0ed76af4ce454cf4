"""The sandbox against recorded Azure traffic. `python -m tests.conformance` prints the detail.

    recordings.py   reads the recordings in place and chooses what is in scope
    replay.py       sends one recording to a model, alone and in order
    compare.py      when does an answer match a recorded one
    echo.py         the ten-line model that is scored beside the sandbox
"""
