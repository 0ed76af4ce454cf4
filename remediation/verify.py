"""Is an alert's evidence as it was sealed? For the command line: from a folder, or from the storage
account."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from remediation.cloud.clients import Clients
from remediation.cloud.evidence import EvidenceStore
from remediation.errors import BadSettings, RemediationError
from remediation.investigation.seals import verify
from remediation.settings import load_settings


class CannotTell(Exception):
    """The evidence cannot be read, and why."""


def check(what: str, seal: str, env: Mapping[str, str]) -> tuple[list[str], int]:
    """What is wrong, and how many files were checked. `what` is a folder or an alert's id. Raises
    CannotTell."""
    folder = Path(what)
    if folder.is_dir():

        def from_folder(name: str) -> bytes | None:
            path = folder / Path(name).name
            return path.read_bytes() if path.is_file() else None

        return verify(from_folder, seal)
    try:
        settings = load_settings(env)
    except BadSettings as error:
        raise CannotTell(f"{what} is no folder, and the account cannot be read for want of settings:\n{error}"
                         ) from error
    store = EvidenceStore(Clients(settings), settings)
    try:
        return verify(lambda name: store.read(what, name), seal, what)
    except RemediationError as error:
        raise CannotTell(f"the evidence of {what} cannot be read: {error}") from error
