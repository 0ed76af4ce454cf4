"""The model that anyone could write in ten lines: it gives back what it was given."""

from __future__ import annotations

from typing import Any

from tests.conformance.compare import Answer


class Echo:
    """PUT stores, GET shows, DELETE forgets."""

    def __init__(self) -> None:
        self._held: dict[str, Any] = {}

    def ask(self, method: str, path: str, body: Any) -> Answer:
        """One request."""
        key = path.partition("?")[0].lower()
        known = key in self._held
        if method == "PUT":
            place = path.partition("?")[0]
            self._held[key] = {**(body or {}), "id": place, "name": place.rpartition("/")[2]}
            return Answer(200 if known else 201, {}, self._held[key])
        if method == "DELETE":
            self._held.pop(key, None)
            return Answer(202, {}, None)
        if known:
            return Answer(200, {}, self._held[key])
        return Answer(404, {}, {"error": {"code": "ResourceNotFound", "message": ""}})

    def seed(self, path: str, body: Any) -> None:
        """What was there before."""
        self._held[path.partition("?")[0].lower()] = body
