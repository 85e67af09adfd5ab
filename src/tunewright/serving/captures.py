"""The request log: questions, answers and feedback, kept in a folder for review and retraining.

See `tunewright.serving.line_log` for what a kill may cost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tunewright.serving.line_log import LineLog, files_of

_STEM = "captures"
MOST_ID = 64
"""Letters that an answer's id may have."""
LEAST_SHARE = 1e-6
"""The smallest share of the requests that can be kept."""
Count = Annotated[int, Field(ge=0, lt=2**31)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="ignore")  # the reader may be older than the server that wrote the entry

    id: Annotated[str, Field(min_length=1, max_length=MOST_ID)]
    """The answer's id."""
    time: str
    model: str
    by: str | None
    """The client's key name; None: the server has no keys."""


class CaptureRecord(_Entry):
    """A request and its answer."""

    kind: Literal["capture"] = "capture"
    version: str
    """The version of the model's bundle."""
    request: str
    answer: str
    confidence: float | None
    escalate: bool | None
    in_scope: bool | None
    share: Annotated[float, Field(ge=LEAST_SHARE, le=1)] = 1.0
    """The share of the requests that the server keeps: this one stands for 1 / share."""
    prompt_tokens: Count = 0
    answer_tokens: Count = 0
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Time from the request to the answer."""


class Feedback(_Entry):
    """A client's feedback to an answer."""

    kind: Literal["feedback"] = "feedback"
    right: bool
    answer: str | None
    """The right answer, if the model's was wrong and the client gives it."""
    comment: str


class SecondAnswer(_Entry):
    """Another model's answer to a request that was kept. `by` says whose it is: `api`, or a bundle's version."""

    kind: Literal["second"] = "second"
    by: str
    answer: str


Entry = CaptureRecord | Feedback | SecondAnswer
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


class Redact(Protocol):
    """A function that takes personal data out of an entry; see `tunewright.serving.redaction`."""

    def __call__(self, entry: CaptureRecord | Feedback, *, from_fixed_set: bool) -> CaptureRecord | Feedback: ...


class RequestLog:
    """Writes a server's entries to a folder. Thread-safe.

    Args:
        folder: as `LineLog`'s.
        share: the share of the requests to keep.
        redact: applied to each entry before it is written.

    Raises:
        UserError: the folder can't be written to.
    """

    def __init__(self, folder: Path, share: float = 1.0, redact: Redact | None = None):
        self.share = share
        self._redact = redact
        self._lines = LineLog(folder, _STEM)

    def takes(self, identity: str) -> bool:
        """Whether the request with this id belongs to the share to keep. The id alone decides, on every server."""
        return is_drawn(identity, self.share)

    def keep(self, entry: Entry, *, from_fixed_set: bool = False) -> bool:
        """Write an entry. Returns whether it is kept; False where the disk is full or gone.

        Args:
            from_fixed_set: the answer is a label, which needs no redaction.
        """
        if self._redact and not isinstance(entry, SecondAnswer):
            entry = self._redact(entry, from_fixed_set=from_fixed_set)
        return self._lines.append(entry.model_dump_json().encode() + b"\n")

    def close(self) -> None:
        self._lines.close()


def is_drawn(identity: str, share: float) -> bool:
    """Whether an id belongs to a share of all ids. The id alone decides, in every process."""
    return int.from_bytes(hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()[:8]) < share * 2**64


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def request_logs(folder: Path) -> list[Path]:
    """The request logs in a folder and in its subfolders, one subfolder a server."""
    return files_of(folder, _STEM)


def read_entry(line: bytes) -> Entry:
    """A line of a request log.

    Raises:
        ValueError: the line is no entry.
    """
    return _ENTRY.validate_json(line)


def read_captures(folder: Path) -> Iterator[Entry]:
    """All entries in a folder, file by file. A server may still be writing to it."""
    for file in request_logs(folder):
        with file.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    yield read_entry(line)
