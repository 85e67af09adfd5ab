"""Blob storage: requests are handed on to Azurite, so that faults and bytes are seen; what jobs read and write."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from tunewright.azure_emulator.blobs import ACCOUNT, CONTAINER
from tunewright.azure_emulator.cloud import HttpRequest, HttpResponse
from tunewright.azure_emulator.network import BLOBS

HOST = f"{ACCOUNT}{BLOBS}"
STORE = "/datastores/workspaceblobstore/paths/"
_ONE_HOP = ("connection", "transfer-encoding", "keep-alive", "content-encoding", "date", "server", "accept-encoding")
"""Headers that are about one connection and are not handed on."""


class Storage:
    """The workspace's storage account.

    Args:
        port: Azurite's.
        key: the account's; it never leaves this process.
        authority: a file, the certificates to trust.
    """

    def __init__(self, port: int, key: str, authority: Path):
        from azure.storage.blob import BlobServiceClient

        here = f"https://127.0.0.1:{port}"
        self._key = key
        self._direct = httpx.Client(
            base_url=here,
            verify=ssl.create_default_context(cafile=authority),
            timeout=300,
            trust_env=False,
            limits=httpx.Limits(max_connections=64),
        )
        service = BlobServiceClient(f"{here}/{ACCOUNT}", credential=key, connection_verify=str(authority))
        self._container = service.create_container(CONTAINER)

    def handed_on(self, request: HttpRequest) -> HttpResponse:
        """A request of a client, answered by Azurite."""
        headers = {name: value for name, value in request.headers.items() if name not in _ONE_HOP}
        reply = self._direct.request(request.method, request.target, headers=headers, content=request.body)
        kept = {name: value for name, value in reply.headers.items() if name.lower() not in _ONE_HOP}
        return HttpResponse(reply.status_code, reply.content, kept)

    def download(self, prefix: str, folder: Path) -> Path:
        """The blobs below a prefix as files. Returns the folder, or where the prefix is one blob's name, the file."""
        found = self.names(prefix)
        folder.mkdir(parents=True, exist_ok=True)
        for name in found:
            target = folder / (name[len(prefix) :].lstrip("/") or prefix.rpartition("/")[2])
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as stream:
                self._container.download_blob(name).readinto(stream)
        return folder / prefix.rpartition("/")[2] if found == [prefix] else folder

    def mirror(self, folder: Path, prefix: str) -> None:
        """Make what lies below a prefix what lies in a folder, as a mount does."""
        files = {f"{prefix}/{p.relative_to(folder).as_posix()}": p for p in sorted(folder.rglob("*")) if p.is_file()}
        for name, path in files.items():
            with path.open("rb") as stream:
                self.write(name, stream)
        for name in self.names(f"{prefix}/"):
            if name not in files:
                self._container.delete_blob(name)

    def write(self, name: str, content: Any) -> None:
        """One blob: bytes, or a file to be read."""
        self._container.upload_blob(name, content, overwrite=True)

    def names(self, prefix: str) -> list[str]:
        """The blobs that a prefix names or that lie below it."""
        listed = self._container.list_blob_names(name_starts_with=prefix)
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        return [name for name in listed if name == prefix or name.startswith(folder)]

    def signed(self, name: str, leave: str = "r") -> str:
        """A blob's address for an hour that needs no sign-in; `leave` to read (r), create (c), write (w)."""
        from azure.storage.blob import generate_blob_sas

        until = datetime.now(UTC) + timedelta(hours=1)
        sas = generate_blob_sas(ACCOUNT, CONTAINER, name, account_key=self._key, expiry=until, permission=leave)
        return f"https://{HOST}/{CONTAINER}/{name}?{sas}"


def path_of(uri: str) -> str | None:
    """The blob name or prefix that an address of the datastore, or of its container, stands for; None for others."""
    _, found, path = uri.partition(STORE if STORE in uri else f"//{HOST}/{CONTAINER}/")
    return path.strip("/") if found else None
