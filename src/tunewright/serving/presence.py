"""What a server of a project tells of itself beside the outputs: that it lives, what it has loaded, what went wrong.

Whoever promotes a model must know whether anything serves, and whether a challenger does; a server knows nobody to
tell it to. So it leaves a small file, `runs/servers/HOST-PID.json`, anew every few seconds.
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
"""Seconds between two signs of life."""
_ALIVE = timedelta(seconds=6 * EVERY)
_FORGOTTEN = timedelta(days=1)


class Presence(BaseModel):
    """A server's sign of life."""

    model_config = ConfigDict(extra="forbid")

    time: AwareDatetime
    address: str
    champion: str
    """The version that it answers with."""
    told: str | None = None
    """The name of the folder of the challenger that it was told of."""
    challenger: str | None = None
    """The version that it has on trial; None where there is none, or it could not be loaded or failed too often."""
    asked: int = 0
    """Requests that went to the challenger."""
    failed: int = 0
    """Those of them that the champion had to answer, because the challenger could not."""
    trouble: str = ""
    """Why the challenger that it was told of is not on trial."""


class Sign:
    """A server's own file. A folder that it can't write to keeps it from nothing else.

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
    """The servers that live. What killed ones left is taken away after a day."""
    alive = []
    for file in sorted((runs / SERVERS).glob("*.json")):
        try:
            found = Presence.model_validate_json(file.read_bytes())
            silent = now() - found.time
            if silent > _FORGOTTEN:
                file.unlink(missing_ok=True)
        except (OSError, ValidationError):
            continue
        if silent < _ALIVE:
            alive.append(found)
    return alive
