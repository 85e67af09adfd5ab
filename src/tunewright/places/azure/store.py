"""The workspace's blob storage, where outputs of jobs lie: read by stream, so that size does not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunewright.errors import UserError
from tunewright.places.azure.connection import Connection, azure_errors
from tunewright.progress import track

DATASTORE = "azureml://datastores/workspaceblobstore/paths/"
_AT_ONCE = 4
"""Connections that a large file comes through."""


class Store:
    """The default datastore of a workspace, asked as whoever is signed in: no key, no signed address."""

    def __init__(self, at: Connection):
        from azure.storage.blob import ContainerClient

        with azure_errors("the workspace's storage"):
            store = at.ml.datastores.get_default()
        url = f"https://{store.account_name}.blob.{store.endpoint}"
        self._container: Any = ContainerClient(url, store.container_name, credential=at.credential)

    def download(self, prefix: str, folder: Path) -> int:
        """Bring everything below a prefix into a folder; what is there whole already is not brought again.

        Returns: how many files lie there.

        Raises:
            UserError: the storage refuses, or can't be reached.
        """
        start = f"{prefix.strip('/')}/"
        with azure_errors(f"the output {prefix}"):
            blobs = [blob for blob in self._container.list_blobs(name_starts_with=start) if not _is_folder(blob)]
            total = sum(blob.size for blob in blobs)
            done = 0
            with track("download", total / 1e6, "MB") as tracker:
                for blob in blobs:
                    target = folder / blob.name.removeprefix(start)
                    if not target.resolve().is_relative_to(folder.resolve()):
                        raise UserError(f"The output has a file that would lie outside its folder: {blob.name}.")
                    self._one(blob, target)
                    done += blob.size
                    tracker.update(done / 1e6)
        return len(blobs)

    def upload(self, folder: Path, prefix: str) -> None:
        """Put all files of a folder below a prefix, over what is there.

        Raises:
            UserError: the storage refuses, or can't be reached.
        """
        with azure_errors(f"the data {prefix}"):
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                with path.open("rb") as stream:
                    name = f"{prefix}/{path.relative_to(folder).as_posix()}"
                    self._container.upload_blob(name, stream, overwrite=True, max_concurrency=_AT_ONCE)

    def _one(self, blob: Any, target: Path) -> None:
        if target.is_file() and target.stat().st_size == blob.size:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")
        with partial.open("wb") as stream:
            self._container.download_blob(blob.name, max_concurrency=_AT_ONCE).readinto(stream)
        partial.replace(target)

    def text(self, name: str) -> str | None:
        """A small file's text; None where it is not there."""
        from azure.core.exceptions import ResourceNotFoundError

        with azure_errors(f"the output {name}"):
            try:
                return str(self._container.download_blob(name, encoding="utf-8").readall())
            except ResourceNotFoundError:
                return None


def _is_folder(blob: Any) -> bool:
    """Whether it stands for a folder, as storage with a hierarchy lists them."""
    return (blob.metadata or {}).get("hdi_isfolder") == "true"
