"""Who may do what: roles given to callers, single refusals, and a record of what was asked.

A caller without a role may do everything (people and pipelines in tests). With one, it may do what
its actions say and nothing else, as Azure's role-based access control has it: Resource Graph shows
it only the types that it may read.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from sandbox.arm.errors import ArmError

_TYPES = re.compile(r"\btype\s*(?:=~|==)\s*'([^']+)'", re.IGNORECASE)


class Access:
    """The roles of one local Azure."""

    def __init__(self) -> None:
        self.denied: list[dict[str, str]] = []
        self.roles: dict[str, list[str]] = {}
        self.used: dict[str, set[str]] = {}

    def give(self, caller: str, actions: Iterable[str]) -> None:
        """From now on this caller may do only these (`*` matches anything)."""
        self.roles[caller] = [a.lower() for a in actions]

    def may(self, caller: str, action: str) -> bool:
        """Is the action in the caller's role, if it has one?"""
        role = self.roles.get(caller)
        return role is None or any(fnmatch.fnmatchcase(action.lower(), a) for a in role)

    def check(self, caller: str, action: str, target: str) -> None:
        """May the caller do this there? Raises 403 AuthorizationFailed."""
        self.used.setdefault(caller, set()).add(action.lower())
        refused = any(
            re.search(rule["action"], action, re.IGNORECASE)
            and target.lower().startswith(rule.get("scope", "").lower())
            for rule in self._against(caller)
        )
        if refused or not self.may(caller, action):
            raise ArmError(
                403, "AuthorizationFailed",
                f"The client '{caller}' with object id '{caller}' does not have authorization to "
                f"perform action '{action}' over scope '{target}' or the scope is invalid. If access "
                "was recently granted, please refresh your credentials.", gateway=True,
            )

    def _against(self, caller: str) -> list[dict[str, str]]:
        return [rule for rule in self.denied if caller == rule.get("caller", caller)]

    def hidden(self, caller: str) -> list[tuple[str, str]]:
        """Where (a scope) which reads (a pattern) are refused to the caller: Resource Graph leaves out what
        one may not read, and says nothing of it."""
        return [(rule.get("scope", "").lower(), rule["action"].lower()) for rule in self._against(caller)]

    def readable(self, caller: str, types: Iterable[str]) -> list[str]:
        """Of these types those that Resource Graph shows the caller."""
        return [t for t in types if self.may(caller, f"{t}/read")]

    def queried(self, caller: str, query: str) -> None:
        """A query was run: the types it names were read."""
        used = self.used.setdefault(caller, set())
        used.add("microsoft.resourcegraph/resources/read")
        used.update(f"{t.lower()}/read" for t in _TYPES.findall(query))
