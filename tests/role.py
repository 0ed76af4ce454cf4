"""The role that `infra/` gives to the app: the tests' app may do this and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

ROLE = Path(__file__).resolve().parent.parent / "infra" / "modules" / "responder-role.bicep"
IDENTITY = "responder-identity"


def role_actions() -> list[str]:
    """The actions of the custom role, as Bicep has them."""
    block = re.search(r"\bactions: union\(flows, firewalls, \[(.*?)\]\)",
                      ROLE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None, "the role names no actions"
    return re.findall(r"'([^']+)'", block[1])


def firewall_actions() -> list[str]:
    """What the role adds where the app may change firewalls."""
    block = re.search(r"\bvar firewalls = changeFirewalls \? \[(.*?)\]", ROLE.read_text(encoding="utf-8"),
                      re.DOTALL)
    assert block is not None, "the role has no part for firewalls"
    return re.findall(r"'([^']+)'", block[1])
