"""The role that `infra/` gives to the app: the tests' app may do this and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

ROLE = Path(__file__).resolve().parent.parent / "infra" / "modules" / "responder-role.bicep"
IDENTITY = "responder-identity"


def role_actions() -> list[str]:
    """The actions of the custom role, as Bicep has them."""
    block = re.search(r"\bactions: union\([\w, ]*\[(.*?)\]\)",
                      ROLE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None, "the role names no actions"
    return re.findall(r"'([^']+)'", block[1])


def firewall_actions() -> list[str]:
    """What the role adds where the app may change firewalls."""
    return _part("firewalls")


def inquiry_actions() -> list[str]:
    """What the role adds where machines are looked into."""
    return _part("inquiry")


def resolving_actions() -> list[str]:
    """What the role adds where the app may resolve alerts."""
    return _part("resolving")


def _part(name: str) -> list[str]:
    block = re.search(rf"\bvar {name} = \w+ \? \[(.*?)\]", ROLE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None, f"the role has no part for {name}"
    return re.findall(r"'([^']+)'", block[1])


def guest_actions() -> list[str]:
    """What the guest app may do: a role of its own."""
    text = (ROLE.parent / "guest-role.bicep").read_text(encoding="utf-8")
    block = re.search(r"\bactions: union\([\w, ]*\[(.*?)\]\)", text, re.DOTALL)
    assert block is not None, "the guest role names no actions"
    changing = re.findall(r"\bvar \w+ = \w+ \? \[(.*?)\] : \[\]", text, re.DOTALL)
    return [a for part in (block[1], *changing) for a in re.findall(r"'(Microsoft[^']+)'", part)]
