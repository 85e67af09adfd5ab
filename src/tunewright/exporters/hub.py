"""Uploads a parcel to the Hugging Face Hub in one commit, so that it is there completely or not at all."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import httpx
from pydantic import RootModel, ValidationError

from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.exporters.artifact import Parcel

FILE_LIST = "tunewright.json"
"""The file in a repository that lists, by form, the files that the last push of each form wrote."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_TRIES = 4
_LONGEST_WAIT = 60.0
"""The most seconds before one retry, whatever the hub asks for."""
_WORTH_ANOTHER_TRY = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS)

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Pushed:
    """Where a parcel was uploaded."""

    address: str
    version: str
    """The commit, or the registered version."""


class _FileList(RootModel[dict[str, list[str]]]):
    """`FILE_LIST`."""


@dataclass(frozen=True)
class HubChanges:
    """What a push does to the files that a repository has."""

    deleted: tuple[str, ...]
    """Files of the last push of this form that this one lacks."""
    replaced: tuple[str, ...]
    """Files that no push wrote and that this one writes."""
    kept: tuple[str, ...]
    """Files that no push wrote and that look like an earlier model's."""

    def lines(self) -> Iterator[str]:
        """A line for each file."""
        yield from (f"{'deleted':>13}  {name}, of an earlier push" for name in self.deleted)
        yield from (f"{'replaced':>13}  {name}, which no push is known to have written" for name in self.replaced)
        yield from (f"{'kept':>13}  {name}; if it is of an earlier model, delete it on the hub" for name in self.kept)


def check_name(name: str) -> None:
    """Check the name of a repository.

    Raises:
        UserError: it is not owner/name.
    """
    if not _NAME.fullmatch(name) or "--" in name or ".." in name:
        raise UserError(f"'{name}' is no repository of the hub.", where="--to", fix="It has the form hub:owner/name.")


def push_to_hub(parcel: Parcel, name: str, *, public: bool = False) -> Pushed:
    """Upload a parcel into a repository, which is created if it does not exist, private by default.

    It changes the repository's files as `changes_on_hub` says. The token is the hub's own: HF_TOKEN, or the one from
    `hf auth login`.

    Args:
        name: owner/name.
        public: whether everybody may read it.

    Raises:
        UserError: nobody is signed in, the hub refuses, the repository's list of files can't be read, or the repository
            is public without `public`, or private with it.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = _signed_in(name)
    _call(name, lambda: api.create_repo(name, private=not public, exist_ok=True))
    repository = _call(name, lambda: api.model_info(name))
    if not public and not repository.private:
        raise UserError(
            f"The repository {name} is public: everybody could read the model.",
            where="--to",
            fix="Make it private on the hub, name another, or add --public.",
        )
    if public and repository.private:
        raise UserError(
            f"The repository {name} is private, and --public makes only a new one public.",
            where="--to",
            fix="Make it public on the hub, name another, or leave --public out.",
        )
    written = _written(api, name, repository)
    operations: list[Any] = [CommitOperationAdd(file, each) for file, each in parcel.files.items()]
    operations += [CommitOperationDelete(file) for file in _changes(parcel, repository, written).deleted]
    listed = json.dumps({**written, parcel.form: sorted(parcel.files)}, indent=2) + "\n"
    operations.append(CommitOperationAdd(FILE_LIST, listed.encode()))
    message = f"Tunewright: {parcel.form}, content {parcel.content[:12]}"
    commit = _call(name, lambda: api.create_commit(name, operations, commit_message=message))
    return Pushed(f"{api.endpoint}/{name}", str(commit.oid))


def changes_on_hub(parcel: Parcel, name: str) -> HubChanges:
    """What `push_to_hub` would do to the files that a repository has. It changes nothing.

    Raises:
        UserError: nobody is signed in, the hub refuses, or the repository's list of files can't be read.
    """
    api = _signed_in(name)
    if not _call(name, lambda: api.repo_exists(name)):
        return HubChanges((), (), ())
    repository = _call(name, lambda: api.model_info(name))
    return _changes(parcel, repository, _written(api, name, repository))


def _signed_in(name: str) -> Any:
    """The hub's API, for a repository.

    Raises:
        UserError: nobody is signed in, or the name is not owner/name.
    """
    from huggingface_hub import HfApi, get_token

    check_name(name)
    if not get_token():
        raise UserError("Nobody is signed in to the Hugging Face Hub.", fix="Type: hf auth login  (or set HF_TOKEN)")
    return HfApi(library_name="tunewright")


def _changes(parcel: Parcel, repository: Any, written: dict[str, list[str]]) -> HubChanges:
    """
    Args:
        repository: the hub's description of it.
        written: as of `_written`.
    """
    there = sorted({each.rfilename for each in repository.siblings or []} - {FILE_LIST})
    own = set(written.get(parcel.form, []))
    others = {file for form, files in written.items() if form != parcel.form for file in files}
    gone = [file for file in there if file not in parcel.files and file not in others]
    return HubChanges(
        tuple(file for file in gone if file in own),
        tuple(file for file in there if file in parcel.files and file not in own | others),
        tuple(file for file in gone if file not in own and parcel.belongs(file)),
    )


def _written(api: Any, name: str, repository: Any) -> dict[str, list[str]]:
    """The files that the last push of each form wrote into a repository.

    Raises:
        UserError: its list can't be read.
    """
    if not any(each.rfilename == FILE_LIST for each in repository.siblings or []):
        return {}
    with TemporaryDirectory() as folder:
        file = _call(name, lambda: api.hf_hub_download(name, FILE_LIST, revision=repository.sha, local_dir=folder))
        content = Path(file).read_bytes()
    try:
        return _FileList.model_validate_json(content).root
    except ValidationError:
        raise UserError(
            f"The repository's {FILE_LIST} lists the files of earlier pushes, and can't be read.",
            where=name,
            fix="Delete it on the hub. Files of earlier pushes then stay there.",
        ) from None


def _call(name: str, call: Callable[[], _Result]) -> _Result:
    """The hub's answer. A call is repeated where the hub is at fault or asks to slow down.

    Raises:
        UserError: the hub refuses, can't be reached, or waiting did not help.
    """
    from huggingface_hub.errors import HfHubHTTPError

    broken: tuple[type[Exception], ...] = (*_transport_errors(), OSError, RuntimeError, ValueError)
    for attempt in range(_TRIES):
        try:
            return call()
        except HfHubHTTPError as error:
            status = error.response.status_code
            last = attempt == _TRIES - 1
            if last or not (error.response.is_server_error or status in _WORTH_ANOTHER_TRY):
                raise _refused(name, status, error) from None
            wait = min(float(_retry_after(error.response) or 2**attempt), _LONGEST_WAIT)
            say(f"  the hub answers {status}; next try in {wait:.0f} s")
            time.sleep(wait)
        except broken as error:
            # Its client wraps errors about a file. Their text may hold signed addresses, so it is not shown.
            if isinstance(error.__cause__, HfHubHTTPError):
                raise _refused(name, error.__cause__.response.status_code, error.__cause__) from None
            raise UserError(
                "The Hugging Face Hub could not be reached, or the upload broke.",
                why=f"{type(error).__name__}.",
                fix="Check the network, then type the same command again: nothing was committed.",
            ) from None
    raise AssertionError


def _transport_errors() -> tuple[type[Exception], ...]:
    """The errors of the hub's client where nobody answers; since its version 2 it brings its own httpx."""
    return tuple(import_module(name).HTTPError for name in ("httpx", "httpx2") if find_spec(name))


def _retry_after(response: Any) -> str | None:
    seconds = response.headers.get("retry-after", "")
    return seconds if seconds.isdecimal() else None


def _refused(name: str, status: int, error: Any) -> UserError:
    match status:
        case 401:
            fix = "The token is not valid, or the hub hides the repository from it. Type: hf auth login"
        case 403:
            fix = "The token may not write there: use one with the role write, and be a member of the organisation."
        case 404:
            fix = "Check the owner's name."
        case 429:
            fix = "The hub asks to slow down, and waiting did not help. Type the same command again in some minutes."
        case _ if status >= 500:
            fix = "The hub is at fault. Type the same command again: nothing was committed."
        case _:
            fix = "Fix that, then type the same command again."
    return UserError(f"The hub refuses {name} ({status}).", why=error.server_message or None, fix=fix)
