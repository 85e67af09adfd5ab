"""Answers that cost money, kept by what was asked, so that nothing is paid twice."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from tunewright.core.artifacts import sha256_json
from tunewright.economics.prices import ApiPrice

PAID = "paid.sqlite"

Ending = Literal["whole", "cut", "refused"]


@dataclass(frozen=True)
class Paid:
    """An answer of an API."""

    text: str
    prompt_tokens: int = 0
    answer_tokens: int = 0
    cached_tokens: int = 0
    """Tokens of the prompt that the endpoint had read before, which cost less."""
    ending: Ending = "whole"
    """cut: it reached its length. refused: the model, or a filter before or behind it, would not answer."""
    latency_ms: float = 0.0
    """From sending the request that was answered to having its answer."""
    cache_write_tokens: int = 0
    """Tokens of the prompt that the endpoint kept for the next request, which some charge more for."""
    reasoning_tokens: int = 0
    """Those of `answer_tokens` that the model thought with, as far as the endpoint says."""

    def usd(self, price: ApiPrice) -> float:
        return price.usd(self.prompt_tokens, self.answer_tokens, self.cached_tokens, self.cache_write_tokens)


class PaidAnswers:
    """A file of answers. What was put in is on disk when `put` returns."""

    def __init__(self, file: Path):
        self._database = sqlite3.connect(file)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS paid (asked TEXT PRIMARY KEY, answer TEXT NOT NULL, "
            "at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
        )

    def get(self, asked: Any) -> Paid | None:
        """The answer to what was asked: endpoint, model and question, as plain values."""
        row = self._database.execute("SELECT answer FROM paid WHERE asked = ?", (sha256_json(asked),)).fetchone()
        return Paid(**json.loads(row[0])) if row else None

    def put(self, asked: Any, answer: Paid) -> None:
        with self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO paid (asked, answer) VALUES (?, ?)",
                (sha256_json(asked), json.dumps(asdict(answer))),
            )

    def __enter__(self) -> PaidAnswers:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._database.close()
