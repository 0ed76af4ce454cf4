"""Shaken until nothing is lost: faults injected from outside, at every call, and a judge.

    kinds.py     what can go wrong with a call
    life.py      a block's life on an Azure of its own, and what must be true of it afterwards
    matrix.py    every call × every fault
    crew.py      several worlds at once
"""
