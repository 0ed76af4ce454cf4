"""ARM's error bodies. Two writers: the gateway (no `details`) and the resource providers."""

from __future__ import annotations

from typing import Any


class ArmError(Exception):
    """An answer other than success. `gateway`: written by ARM itself, before any provider."""

    def __init__(
        self, status: int, code: str, message: str, *, gateway: bool = False,
        details: list[dict[str, Any]] | None = None, headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.gateway = gateway
        self.details = details or []
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """As it goes over the wire."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if not self.gateway:
            error["details"] = self.details
        return {"error": error}


def not_found(kind: str, names: str, group: str) -> ArmError:
    """A resource, or the parent of one, that is not there."""
    return ArmError(
        404, "ResourceNotFound",
        f"The Resource '{kind}/{names}' under resource group '{group}' was not found. For more "
        "details please go to https://aka.ms/ARMResourceNotFoundFix", gateway=True,
    )


def no_group(group: str) -> ArmError:
    """The resource group is not there."""
    return ArmError(404, "ResourceGroupNotFound",
                    f"Resource group '{group}' could not be found.", gateway=True)


def bad(code: str, message: str) -> ArmError:
    """A provider's 400."""
    return ArmError(400, code, message)
