"""Captured exchanges: what applications asked, what came back, what it cost and how long it took.

Headers are never captured, so no key can be.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tunewright.economics.usage import TokenUsage
from tunewright.gateway.answers import AnswerChoice
from tunewright.gateway.config import CaptureSpec
from tunewright.gateway.routes import Kind
from tunewright.serving.captures import is_drawn
from tunewright.serving.line_log import LineLog, files_of

_STEM = "exchanges"
EXCHANGE_FILES = f"{_STEM}-*.jsonl"
"""The names of the files of captures, as a pattern."""
_DATA_URL = re.compile(
    r"data:([^\s,:]{0,200}?);base64,((?:[A-Za-z0-9+/_%-]{60,}+\r?\n)*+[A-Za-z0-9+/_%-]*+={0,2})", re.IGNORECASE
)
"""A file in a text: its type with parameters, and its base64, which may have lines as in mails."""
Ending = Literal["whole", "left", "broken"]


class Exchange(BaseModel):
    """A request and its answer."""

    model_config = ConfigDict(extra="ignore")  # the reader may be older than the gateway that wrote the exchange

    id: str
    time: str
    """When the request came, in UTC."""
    upstream: str
    kind: Kind
    path: str
    """Without the query."""
    client: str | None
    """The name of the client's key; None: the gateway has no keys of its own."""
    model: str | None
    """As the request names it."""
    request: dict[str, Any] | None
    """The request's JSON object, files in it replaced by their size and hash. None: it is too large, or no JSON."""
    request_bytes: int
    status: int
    answered_model: str | None = None
    """As the answer names it, often with a date."""
    choices: list[AnswerChoice] = []
    is_whole: bool = True
    """Whether `choices` hold the whole answer."""
    answer_bytes: int = 0
    usage: TokenUsage | None = None
    """None: the upstream sent no token counts."""
    usage_is_estimated: bool = False
    """Whether the token counts are an estimate, because a stream came without."""
    usd: float | None = None
    """The price by the book; None: no token counts, or no such model in the book."""
    seconds: float
    """From the request's first byte to the answer's last."""
    first_seconds: float | None = None
    """To the answer's first byte."""
    streamed: bool = False
    ending: Ending = "whole"
    """left: the client left before the answer's end. broken: the upstream broke the answer off."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of exchanges that the gateway captures: this one stands for 1 / share."""
    job: str | None = None
    """The job in gateway.yaml; None: no own model may answer. The next fields are of such jobs alone."""
    mode: str | None = None
    answered_by: Literal["own", "upstream"] = "upstream"
    version: str | None = None
    """Of the own model that answered."""
    confidence: float | None = None
    fallback: str | None = None
    """The upstream's fault for which the own model answered."""
    is_audit: bool = False
    """Whether no client got this answer: it was asked for to compare it with an own one, which another line has."""


Redact = Callable[[dict[str, Any]], dict[str, Any]]
"""A function that takes personal data out of the fields of an exchange."""


class ExchangeLog:
    """Writes exchanges to a folder. Thread-safe.

    Raises:
        UserError: the folder can't be written to.
    """

    def __init__(self, spec: CaptureSpec, redact: Redact | None = None):
        self.share, self.largest = spec.share, spec.largest_kib << 10
        self.redact = redact
        self._lines = LineLog(spec.folder, _STEM)

    def takes(self, identity: str) -> bool:
        """Whether the exchange with this id belongs to the share to capture."""
        return is_drawn(identity, self.share)

    def keep(self, fields: dict[str, Any]) -> bool:
        """Write the fields of an `Exchange`. Returns whether it is kept; False where the disk is full or gone."""
        if self.redact:
            fields = self.redact(fields)
        line = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), default=asdict)
        return self._lines.append(line.encode("utf-8", "replace") + b"\n")

    def close(self) -> None:
        self._lines.close()


def read_exchanges(folder: Path, unreadable: Callable[[Path, int], None] | None = None) -> Iterator[Exchange]:
    """All exchanges in a folder, file by file; see `exchanges_in`."""
    return exchanges_in(files_of(folder, _STEM), unreadable)


def exchanges_in(files: Iterable[Path], unreadable: Callable[[Path, int], None] | None = None) -> Iterator[Exchange]:
    """All exchanges in some files. A gateway may still be writing to them.

    Args:
        unreadable: is called with the file and the number, from 1, of each line that is no exchange. None: raise.

    Raises:
        ValueError: a line is no exchange.
    """
    for file in files:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    continue
                try:
                    exchange = Exchange.model_validate_json(line)
                except ValueError:
                    if unreadable is None:
                        raise
                    unreadable(file, number)
                else:
                    yield exchange


def has_exchanges(folder: Path) -> bool:
    """Whether a folder has the captures of a gateway."""
    return folder.is_dir() and bool(files_of(folder, _STEM))


def without_files(value: Any) -> Any:
    """A JSON value with its base64 files replaced by their type, size and hash."""
    if isinstance(value, str):
        return _DATA_URL.sub(_named, value)
    if isinstance(value, list):
        return [without_files(each) for each in value]
    if isinstance(value, dict):
        return {
            name: _sized(each) if isinstance(each, str) and _is_file(value, name) else without_files(each)
            for name, each in value.items()
        }
    return value


def _named(found: re.Match[str]) -> str:
    return f"data:{found[1]};{_sized(found[2])}" if found[2] else found[0]


def _is_file(part: Mapping[str, Any], name: str) -> bool:
    """Whether a value of OpenAI's form is a file, whatever it begins with: a sound, a document, a picture that the API
    has made. Source: openai-python (2026-12-02)."""
    return (
        (name == "data" and "format" in part)
        or name == "file_data"
        or (name == "result" and part.get("type") == "image_generation_call")
    )


def _sized(file: str) -> str:
    """The size and the hash of a file in base64, with its type if it is a data URL."""
    kind, comma, data = file.rpartition(";base64,")
    data = "".join(data.split())
    size = len(data.rstrip("=")) * 3 // 4
    return f"{kind}{comma and ';'}{size} bytes, sha256 {hashlib.sha256(data.encode()).hexdigest()[:16]}"
