"""Signs of life of a project's servers: a file each, with the loaded versions and what went wrong.

A promotion must know whether any server runs, and whether one has the challenger on trial. A server knows nobody to
report to, so it writes a small file, `runs/servers/HOST-PID.json`, every few seconds.
"""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

SERVERS = "servers"
EVERY = 5.0
"""Seconds between two signs of life of a server."""
_ALIVE = timedelta(seconds=6 * EVERY)
_FORGOTTEN = timedelta(days=1)


class Presence(BaseModel):
    """A server's sign of life."""

    model_config = ConfigDict(extra="forbid")

    time: AwareDatetime
    address: str
    champion: str
    """The version that the server answers with."""
    told: str | None = None
    """The folder name of the challenger that `serving.json` names."""
    challenger: str | None = None
    """The version on trial; None: there is none, or it could not be loaded, or it failed too often."""
    asked: int = 0
    """Requests that went to the challenger."""
    failed: int = 0
    """Requests of these that the champion had to answer."""
    trouble: str = ""
    """Why the challenger is not on trial."""


class Sign:
    """A server's file. If the server can't write it, it serves all the same.

    Args:
        runs: the folder of outputs.
    """

    def __init__(self, runs: Path):
        self._folder = runs / SERVERS
        self._file = self._folder / f"{socket.gethostname()}-{os.getpid()}.json"

    def give(self, presence: Presence) -> None:
        with suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            fresh = self._file.with_name(f".{self._file.name}.{uuid.uuid4().hex[:8]}")
            fresh.write_text(presence.model_dump_json(), "utf-8")
            fresh.replace(self._file)

    def take_away(self) -> None:
        with suppress(OSError):
            self._file.unlink(missing_ok=True)


def now() -> datetime:
    return datetime.now(UTC)


def servers_of(runs: Path) -> list[Presence]:
    """The running servers. Files that killed servers left are removed after a day."""
    alive = []
    for file in sorted((runs / SERVERS).glob("*.json")):
        try:
            presence = Presence.model_validate_json(file.read_bytes())
            silent = now() - presence.time
            if silent > _FORGOTTEN:
                file.unlink(missing_ok=True)
        except (OSError, ValidationError):
            continue
        if silent < _ALIVE:
            alive.append(presence)
    return alive
