"""The roles that `infra/` puts together from capabilities: the tests' apps may do this and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

INFRA = Path(__file__).resolve().parent.parent / "infra"
CAPABILITIES = INFRA / "modules" / "capabilities.bicep"
IDENTITY = "responder-identity"


def capabilities() -> dict[str, list[str]]:
    """Word → actions, as Bicep has them."""
    text = CAPABILITIES.read_text(encoding="utf-8")
    table = text[text.index("var actionsOf = {"):text.index("\n}\n")]
    found = {
        word: re.findall(r"'(Microsoft[^']+)'", actions)
        for word, actions in re.findall(r"^  (\w+): \[(.*?)^  \]", table, re.DOTALL | re.MULTILINE)
    }
    assert found, "the table of capabilities cannot be read"
    return found


def _of(*words: str) -> list[str]:
    table = capabilities()
    return list(dict.fromkeys(action for word in words for action in table[word]))


def role_actions() -> list[str]:
    """What the app may do by default, but for looking into machines."""
    return _of("alerts", "trace", "block", "waf")


def firewall_actions() -> list[str]:
    """What the role adds where the app may change firewalls."""
    return _of("firewall")


def inquiry_actions() -> list[str]:
    """What the role adds where machines are looked into."""
    return _of("inquiry")


def resolving_actions() -> list[str]:
    """What the role adds where the app may resolve alerts."""
    return _of("resolve")


def guest_actions() -> list[str]:
    """What the guest app may do: a role of its own."""
    return _of("guest", "updates", "antimalware")


def selftest_actions() -> list[str]:
    """What the role adds for the self-test, and what the app may do with the Logic App alone."""
    text = (INFRA / "modules" / "self-test-role.bicep").read_text(encoding="utf-8")
    return [*_of("selftest"), *re.findall(r"'(Microsoft\.Logic/[^']+)'", text)]
