"""The role that `infra/` gives to the app: the tests' app may do this and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

ROLE = Path(__file__).resolve().parent.parent / "infra" / "modules" / "responder-role.bicep"
IDENTITY = "responder-identity"


def role_actions() -> list[str]:
    """The actions of the custom role, as Bicep has them."""
    block = re.search(r"\bactions: union\(flows, \[(.*?)\]\)", ROLE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None, "the role names no actions"
    return re.findall(r"'([^']+)'", block[1])
