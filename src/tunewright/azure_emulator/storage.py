"""Blob storage: it passes requests on to Azurite, so that the emulator sees bytes and injects faults; and the files
that jobs read and write."""

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
"""Headers that concern one connection and are not passed on."""


class Storage:
    """The workspace's storage account.

    Args:
        port: Azurite's port.
        key: the account's key; it never leaves this process.
        authority: the file of the certificates to trust.
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

    def forward(self, request: HttpRequest) -> HttpResponse:
        """Azurite's answer to a client's request."""
        headers = {name: value for name, value in request.headers.items() if name not in _ONE_HOP}
        reply = self._direct.request(request.method, request.target, headers=headers, content=request.body)
        kept = {name: value for name, value in reply.headers.items() if name.lower() not in _ONE_HOP}
        return HttpResponse(reply.status_code, reply.content, kept)

    def download(self, prefix: str, folder: Path) -> Path:
        """Download the blobs below a prefix. Returns the folder, or the file if the prefix is the name of one blob."""
        names = self.names(prefix)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            target = folder / (name[len(prefix) :].lstrip("/") or prefix.rpartition("/")[2])
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as stream:
                self._container.download_blob(name).readinto(stream)
        return folder / prefix.rpartition("/")[2] if names == [prefix] else folder

    def mirror(self, folder: Path, prefix: str) -> None:
        """Make the blobs below a prefix equal to the files in a folder, as a mount does."""
        files = {f"{prefix}/{p.relative_to(folder).as_posix()}": p for p in sorted(folder.rglob("*")) if p.is_file()}
        for name, path in files.items():
            with path.open("rb") as stream:
                self.write(name, stream)
        for name in self.names(f"{prefix}/"):
            if name not in files:
                self._container.delete_blob(name)

    def write(self, name: str, content: Any) -> None:
        """Write one blob.

        Args:
            content: bytes, or an open file.
        """
        self._container.upload_blob(name, content, overwrite=True)

    def names(self, prefix: str) -> list[str]:
        """The blob with this name, and the blobs below it."""
        listed = self._container.list_blob_names(name_starts_with=prefix)
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        return [name for name in listed if name == prefix or name.startswith(folder)]

    def signed(self, name: str, permission: str = "r") -> str:
        """A blob's address that needs no sign-in for an hour.

        Args:
            permission: to read (r), create (c), write (w).
        """
        from azure.storage.blob import generate_blob_sas

        until = datetime.now(UTC) + timedelta(hours=1)
        sas = generate_blob_sas(ACCOUNT, CONTAINER, name, account_key=self._key, expiry=until, permission=permission)
        return f"https://{HOST}/{CONTAINER}/{name}?{sas}"


def path_of(uri: str) -> str | None:
    """The blob name or prefix of an address in the datastore, or in its container; None for other addresses."""
    _, separator, path = uri.partition(STORE if STORE in uri else f"//{HOST}/{CONTAINER}/")
    return path.strip("/") if separator else None
