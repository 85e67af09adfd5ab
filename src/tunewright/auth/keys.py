"""API keys: which clients may use a server, and how often. A key is shown once, when it is made; only its hash is
kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunewright.core.artifacts import write_private
from tunewright.core.errors import UserError
from tunewright.core.progress import say

PREFIX = "tw-"
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}"
"""The form of a key's or an adapter's name."""


@dataclass(frozen=True)
class Principal:
    """A client of a server, and its rights."""

    name: str
    per_minute: int | None
    """Requests that it may send in a minute; None: any number."""
    models: tuple[str, ...] | None
    """The models that it may use; None: all."""

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models


class Key(BaseModel):
    """A key's entry in the key file."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=f"^{NAME}$")
    sha256: str
    """The key's hash. The key has 256 random bits, so a plain hash can't be reversed by guessing."""
    created: str
    per_minute: int | None = Field(None, ge=1)
    """Requests that the client may send in a minute; None: any number."""
    models: list[str] | None = None
    """The models that the client may use; None: all."""

    @property
    def principal(self) -> Principal:
        return Principal(self.name, self.per_minute, tuple(self.models) if self.models is not None else None)


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[Key] = []


def read_keys(file: Path) -> list[Key]:
    """Raises:
    UserError: the file is absent, can't be read, or is no key file.
    """
    try:
        return _KeyFile.model_validate_json(file.read_text("utf-8")).keys
    except FileNotFoundError:
        raise UserError(
            "There is no such key file.",
            where=file,
            fix=f"Make a key: tunewright keys add NAME --file {quote(str(file))}",
        ) from None
    except OSError as error:
        raise UserError(
            "The key file can't be read.",
            where=file,
            why=f"{error.strerror}.",
            fix="Give it to the user who runs the server: chown USER FILE",
        ) from None
    except (ValidationError, UnicodeDecodeError):
        raise UserError(
            "This is no key file.", where=file, fix="Make another: tunewright keys add NAME --file OTHER"
        ) from None


def add_key(file: Path, name: str, per_minute: int | None = None, models: list[str] | None = None) -> str:
    """Make a key and keep its hash. Returns the key, which is stored nowhere.

    Args:
        per_minute: requests that the client may send in a minute; None: any number.
        models: the models that the client may use; None: all.

    Raises:
        UserError: the name is taken or not well-formed, or the file can't be read or is no key file.
    """
    token = PREFIX + secrets.token_urlsafe(32)
    try:
        key = Key(name=name, sha256=_hash(token), created=_now(), per_minute=per_minute, models=models)
    except ValidationError:
        raise UserError(
            f"A key can't be called '{name}'.", fix="A name has up to 60 letters, digits, '_', '.' and '-'."
        ) from None
    file.resolve().parent.mkdir(parents=True, exist_ok=True)
    with _changing(file):
        keys = read_keys(file) if file.exists() else []
        if any(other.name == name for other in keys):
            raise UserError(
                f"There is a key '{name}' already.",
                where=file,
                fix=f"Remove it: tunewright keys rm {quote(name)} --file {quote(str(file))}",
            )
        _write(file, [*keys, key])
    return token


def remove_key(file: Path, name: str) -> None:
    """Raises:
    UserError: there is no such key.
    """
    with _changing(file):
        keys = read_keys(file)
        left = [key for key in keys if key.name != name]
        if len(left) == len(keys):
            raise UserError(f"There is no key '{name}'.", where=file, fix="See: tunewright keys ls")
        _write(file, left)


class KeyRing:
    """The keys of a file, which may change while a server runs; a change counts from the next request on.

    If the file breaks or can't be read later, the keys stay as they were, and the log says so. If it is deleted, no key
    is valid.

    Raises:
        UserError: as `read_keys`, when it is made.
    """

    def __init__(self, file: Path):
        self._file = file
        self._seen = _stamp(file)  # first, so that a change meanwhile is read later
        self._keys = _clients(file)
        self._reported: tuple[int, int] | None = None
        """The stamp of the file that the log has reported as broken."""

    def find(self, token: str) -> Principal | None:
        """The client that a key belongs to; None: the key is unknown."""
        self._reload()
        return self._keys.get(_hash(token))

    def _reload(self) -> None:
        stamp = _stamp(self._file)
        if stamp == self._seen:
            return
        try:
            self._keys = {} if stamp is None else _clients(self._file)
        except UserError as error:  # the next request tries again, because a new owner changes no stamp
            if stamp != self._reported:
                say(f"The keys that were read before stay valid, and so do removed ones. Error: {error.paragraph()}")
            self._reported = stamp
        else:
            self._seen = stamp


class Allowances:
    """How many requests each client may still send: a token bucket that fills evenly and holds a minute's requests at
    most."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By name: the requests left, and the time in seconds when that was true. The longest silent client comes
        first."""

    def wait(self, principal: Principal) -> float:
        """Take a request from a client's allowance. Returns 0, or if none is left the seconds until one is."""
        if principal.per_minute is None:
            return 0.0
        now, most = time.monotonic(), float(principal.per_minute)
        left, since = self._left.get(principal.name, (most, now))
        left = min(most, left + (now - since) * most / 60)
        self._left[principal.name] = (left - 1 if left >= 1 else left, now)
        self._left.move_to_end(principal.name)
        while now - next(iter(self._left.values()))[1] > 60:  # after a silent minute, the allowance is full again
            self._left.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) * 60 / most


def _clients(file: Path) -> dict[str, Principal]:
    return {key.sha256: key.principal for key in read_keys(file)}


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _changing(file: Path) -> Iterator[None]:
    """Wait until nobody else changes the file, and keep others from it. The lock is on its folder, because each change
    replaces the file."""
    with ExitStack() as held:
        with suppress(OSError):  # the folder is absent, or on a network and has no locks
            folder = os.open(file.resolve().parent, os.O_RDONLY)
            held.callback(os.close, folder)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield


def _write(file: Path, keys: list[Key]) -> None:
    """Write the file whole or not at all, readable for its owner only. A link still leads to it."""
    write_private(file.resolve(), (_KeyFile(keys=keys).model_dump_json(indent=2) + "\n").encode())
