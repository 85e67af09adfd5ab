"""The workspace's blob storage, which holds the jobs' data and outputs. Files are streamed, so their size does not
matter."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tunewright.backends.azure.connection import Connection, transport
from tunewright.backends.azure.refusals import Unreachable, azure_errors, found
from tunewright.core.errors import UserError
from tunewright.core.progress import track

FOLDER = "tunewright"
"""The folder of all our files."""
DATASTORE = "azureml://datastores/workspaceblobstore/paths/"
RETRIES = {"initial_backoff": 1, "increment_base": 2, "retry_total": 5, "random_jitter_range": 1}
"""How often a call is repeated if the storage has a fault: for half a minute in all."""
_SLOWER_SECONDS = (1, 2, 4, 8, 16)
"""Waits after a 429, which the storage's client does not retry."""
_TRIES = 3
"""How often a file that arrives too short is downloaded."""
_AT_ONCE = 4
"""How many files go up at once, and how many connections a large file uses."""


class BlobStore:
    """The default datastore of a workspace. It is used with the sign-in of the user: no key, no signed address."""

    def __init__(self, at: Connection):
        from azure.storage.blob import ContainerClient, ExponentialRetry

        store = at.datastore
        url = f"https://{store.account_name}.blob.{store.endpoint}"
        self._container: Any = ContainerClient(
            url,
            store.container_name,
            credential=at.credential,
            transport=transport(),
            retry_policy=ExponentialRetry(**RETRIES),
        )

    def upload(self, path: Path, prefix: str, *, anew: bool = False) -> None:
        """Upload a file, or everything below a folder, to a prefix that identifies the content. Files that are there
        already are not uploaded again.

        Args:
            anew: the prefix does not identify the content, so overwrite the files that are there.

        Raises:
            UserError: the storage refuses, or can't be reached.
        """
        files = {p.relative_to(path).as_posix(): p for p in sorted(path.rglob("*")) if p.is_file()}
        files = files or {path.name: path}
        start = f"{prefix.strip('/')}/"
        with azure_errors(f"the upload of {path.name}"):
            listed = () if anew else self._container.list_blobs(name_starts_with=start)
            there = {blob.name: blob.size for blob in listed}
            missing = [(start + name, p) for name, p in files.items() if there.get(start + name) != p.stat().st_size]
            done, total = 0, sum(p.stat().st_size for _, p in missing)
            with track("upload", total / 1e6, "MB") as tracker, ThreadPoolExecutor(_AT_ONCE) as several:
                for size in several.map(lambda pair: self._send(*pair), missing):
                    done += size
                    tracker.update(done / 1e6)

    def _send(self, name: str, path: Path) -> int:
        """Returns: the file's bytes."""

        def send() -> None:
            with path.open("rb") as stream:
                self._container.upload_blob(name, stream, overwrite=True, max_concurrency=_AT_ONCE)

        _slower(send)
        return path.stat().st_size

    def download(self, prefix: str, folder: Path) -> int:
        """Download everything below a prefix into a folder. Files that are there whole are not downloaded again.

        Returns: how many files are below the prefix.

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
                    self._receive(blob, target)
                    done += blob.size
                    tracker.update(done / 1e6)
        return len(blobs)

    def _receive(self, blob: Any, target: Path) -> None:
        if target.is_file() and target.stat().st_size == blob.size:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")

        def receive() -> None:
            with partial.open("wb") as stream:
                self._container.download_blob(blob.name, max_concurrency=_AT_ONCE).readinto(stream)

        for _ in range(_TRIES):
            _slower(receive)
            if (size := partial.stat().st_size) == blob.size:
                break
        else:
            raise Unreachable(
                f"Only {size} of {blob.size} bytes of {blob.name} arrived.",
                fix="Check the network, and whether a proxy stands in between (HTTPS_PROXY); then type the same "
                "command again: files that are here are not downloaded again.",
            )
        partial.replace(target)

    def text(self, name: str) -> str | None:
        """A small file's text; None if there is no such file."""
        with azure_errors(f"the output {name}"):
            blob = found(lambda: self._container.download_blob(name, encoding="utf-8").readall())
        return None if blob is None else str(blob)

    def names(self, prefix: str) -> list[str]:
        """The files below a prefix, by their names after it.

        Raises:
            UserError: the storage refuses, or can't be reached.
        """
        start = f"{prefix.strip('/')}/"
        with azure_errors(f"the files in {prefix}"):
            blobs = list(self._container.list_blobs(name_starts_with=start))
        return [blob.name.removeprefix(start) for blob in blobs if not _is_folder(blob)]

    def write(self, name: str, text: str) -> None:
        """Write a small file, whole or not at all.

        Raises:
            UserError: the storage refuses, or can't be reached.
        """
        with azure_errors(f"the file {name}"):
            _slower(lambda: self._container.upload_blob(name, text.encode("utf-8"), overwrite=True))

    def remove(self, name: str) -> None:
        """Delete a file, if it exists."""
        with azure_errors(f"the file {name}"):
            found(self._container.delete_blob, name)


def _slower(call: Callable[[], None]) -> None:
    """Make a call, and repeat it more slowly if the storage says that the calls come too fast."""
    from azure.core.exceptions import HttpResponseError

    for seconds in _SLOWER_SECONDS:
        try:
            return call()
        except HttpResponseError as error:
            if error.status_code != httpx.codes.TOO_MANY_REQUESTS:
                raise
            time.sleep(seconds)
    return call()


def _is_folder(blob: Any) -> bool:
    """Whether a blob is a folder's entry, which storage with a hierarchy lists too."""
    return (blob.metadata or {}).get("hdi_isfolder") == "true"
