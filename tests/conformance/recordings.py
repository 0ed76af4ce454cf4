"""Recorded ARM traffic, read in place; nothing of it is kept here."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FILE = Path(__file__).resolve().parents[3] / "shared" / "data" / "arm" / "golden_interactions.jsonl.gz"

SCOPE = re.compile(
    r"providers/Microsoft\.(Network/(networkSecurityGroups|networkInterfaces|virtualNetworks)"
    r"|Compute/virtualMachines)(/|$)", re.IGNORECASE)
"""What is scored: 407 interactions in 28 recordings."""

BEFORE = re.compile(
    r"providers/Microsoft\.(Network/(loadBalancers|applicationGateways|natGateways|publicIPAddresses)"
    r"|Compute/virtualMachineScaleSets)(/|$)", re.IGNORECASE)
"""What stands before machines: 357 interactions in 27 recordings."""

FIREWALLS = re.compile(r"providers/Microsoft\.Network/(azureFirewalls|firewallPolicies|ipGroups)(/|$)",
                       re.IGNORECASE)
"""Firewalls, their policies and IP groups: 197 interactions in 9 recordings."""

OPERATION = re.compile(
    r"/locations/[^/]+/(?P<kind>(?:nfv)?(?:operations|operationResults))/(?P<id>[0-9a-f-]{36})",
    re.IGNORECASE)


@dataclass(frozen=True)
class Interaction:
    """One recorded request and its answer. Header names are lower-cased."""

    src: str
    i: int
    method: str
    url: str
    template: str
    request: Any
    raw_request: str
    status: int
    headers: dict[str, str]
    response: Any
    raw_response: str
    scored: bool
    """In scope."""

    @property
    def path(self) -> str:
        """Path with query."""
        parts = urlsplit(self.url)
        return parts.path + (f"?{parts.query}" if parts.query else "")

    @property
    def code(self) -> str:
        """The error's code, '' if there is none."""
        error = self.response.get("error") if isinstance(self.response, dict) else None
        return str(error.get("code", "")) if isinstance(error, dict) else ""

    @property
    def key(self) -> str:
        """A name for this interaction that is no payload: recording and number."""
        return f"{Path(self.src).stem}#{self.i}"

    @property
    def klass(self) -> tuple[str, str, int, str]:
        """(method, template, status, code): each class counts once in the class score."""
        return (self.method, self.template.lower(), self.status, self.code)


def _json(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return None


def load(scope: re.Pattern[str] = SCOPE) -> dict[str, list[Interaction]]:
    """Recordings with anything in scope, each in order."""
    found: dict[str, list[Interaction]] = {}
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        for line in lines:
            r = json.loads(line)
            found.setdefault(r["src"], []).append(Interaction(
                r["src"], r["i"], r["method"], r["url"], r["template"], _json(r["req"]),
                r["req"] if isinstance(r["req"], str) else "", r["status"],
                {k.lower(): v for k, v in (r["headers"] or {}).items()}, _json(r["resp"]),
                r["resp"] if isinstance(r["resp"], str) else "", scope.search(r["template"]) is not None,
            ))
    return {src: sorted(all_, key=lambda x: x.i) for src, all_ in found.items()
            if any(x.scored for x in all_)}

GROUPED = re.compile(r"/subscriptions/(?P<sub>[^/]+)/resourceGroups/(?P<group>[^/?]+)", re.IGNORECASE)
