"""Evidence as blobs: one folder per alert, each file written once. And where scripts leave their output.

`<container>/<alert>/<file>` is never overwritten; where the account has an immutability policy, not by
anyone. `<container>-incoming/<name>` is where a machine's agent appends what a script says, with an address
that is good for that one blob and some hours; it is read, kept as evidence and deleted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from remediation.cloud.clients import EMULATOR, Clients
from remediation.cloud.failures import translated
from remediation.cloud.retry import briefly
from remediation.errors import Conflict, Forbidden, Invalid, NotFound
from remediation.investigation.seals import sha256
from remediation.settings import Settings

KEY_LASTS = timedelta(hours=12)
MOST_COLLISIONS = 100


INCOMING = "-incoming"
"""The container of what machines write is named after that of the evidence."""


class EvidenceStore:
    """What we ask of Blob Storage."""

    def __init__(self, clients: Clients, settings: Settings) -> None:
        self._clients = clients
        self._settings = settings
        self._container = settings.evidence_container
        self._incoming = settings.evidence_container + INCOMING

    @contextmanager
    def _blob(self, container: str, name: str) -> Iterator[Any]:
        with translated(f"blob {name.rpartition('/')[2]}"):
            service = self._clients.blobs(incoming=container == self._incoming)
            yield service.get_blob_client(container, name)

    def keep(self, alert_id: str, name: str, data: bytes) -> tuple[str, str]:
        """Write a file of an alert once → (its name, its SHA-256). The same again is no second file; other
        content under a name that is taken gets a name of its own."""
        stem, dot, kind = name.rpartition(".")
        for n in range(1, MOST_COLLISIONS + 1):
            tried = name if n == 1 else f"{stem}-{n}{dot}{kind}"
            if self.keep_as(alert_id, tried, data):
                return tried, sha256(data)
        raise Invalid(f"{name}: {MOST_COLLISIONS} files of that name are there already")

    def keep_as(self, alert_id: str, name: str, data: bytes) -> bool:
        """Write a file of an alert under this very name; False if another is there."""
        try:
            self._write(f"{folder_of(alert_id)}/{name}", data)
        except Conflict:
            return self.read(alert_id, name) == data
        except Forbidden:  # who may only add is told so of a file that is there
            held = self.read(alert_id, name)
            if held is None:
                raise
            return held == data
        return True

    def _write(self, path: str, data: bytes) -> None:
        def write() -> None:
            with self._blob(self._container, path) as blob:
                blob.upload_blob(data, overwrite=False)

        try:
            briefly(write)
        except NotFound:
            self._make(self._container)
            briefly(write)

    def read(self, alert_id: str, name: str) -> bytes | None:
        """A file of an alert; None if it is not there."""
        try:
            with self._blob(self._container, f"{folder_of(alert_id)}/{name}") as blob:
                return bytes(blob.download_blob(decompress=False).readall())
        except NotFound:
            return None

    def _make(self, container: str) -> None:
        try:
            with translated(f"create container {container}"):
                self._clients.blobs().create_container(container)
        except Conflict:
            return  # another was faster: as good

    # --- what machines write ---

    def incoming(self, name: str, now: datetime, lasting: timedelta) -> str:
        """An address to which a machine may append, and which it may create, for so long; nothing else."""
        from azure.storage.blob import BlobSasPermissions, generate_blob_sas

        service = self._clients.blobs(incoming=True)
        with translated("make an address for a machine's output"):
            until = now + lasting
            key: dict[str, Any]
            held = self._settings.evidence_connection
            if held:
                parts = dict(p.split("=", 1) for p in held.split(";") if "=" in p)
                key = {
                    "account_key": EMULATOR[1] if "UseDevelopmentStorage" in parts else parts["AccountKey"]
                }
            else:  # keys are off: the address is signed for the app's identity
                key = {"user_delegation_key": service.get_user_delegation_key(now - KEY_LASTS / 12, until)}
            signature = generate_blob_sas(
                service.account_name or "", self._incoming, name, expiry=until,
                permission=BlobSasPermissions(read=True, create=True, add=True, write=True), **key)
        if held:  # in Azure it is made by infra/: who hands out addresses may not make containers
            self._make(self._incoming)
        with self._blob(self._incoming, name) as blob:
            return f"{blob.url}?{signature}"

    def arrived(self, name: str, most: int) -> tuple[bytes, bool] | None:
        """What a machine has written there, at most so many bytes, and whether there was more; None if it
        wrote nothing."""
        try:
            with self._blob(self._incoming, name) as blob:
                size = int(blob.get_blob_properties().size)
                # what it says of its encoding is the machine's word, too: nothing is unpacked
                whole = blob.download_blob(0, min(size, most), decompress=False) if size else None
                data = bytes(whole.readall()) if whole is not None else b""
        except NotFound:
            return None
        return data, size > most

    def forget_incoming(self, name: str) -> None:
        """It is kept as evidence now."""
        try:
            with self._blob(self._incoming, name) as blob:
                blob.delete_blob()
        except NotFound:
            return


def folder_address(settings: Settings, alert_id: str) -> str:
    """Where an alert's evidence is, for people with the right to read it; '' in local storage."""
    base = settings.blob_endpoint.rstrip("/")
    return f"{base}/{settings.evidence_container}/{folder_of(alert_id)}/" if base else ""


def folder_of(alert_id: str) -> str:
    """The alert's folder: its id, with what would be a path of its own taken out."""
    return "".join(c if c.isalnum() or c in "_-." else "_" for c in alert_id)[:200].lstrip(".") or "_"
