"""Paid answers, kept by their question so that nothing is paid twice."""

from __future__ import annotations

import json
import sqlite3
from contextlib import AbstractContextManager, nullcontext
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
    """Its text; where it calls tools, the calls as `tunewright.tasks.tools.as_answer` writes them."""
    prompt_tokens: int = 0
    answer_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens from the endpoint's cache, which cost less."""
    ending: Ending = "whole"
    """cut: the answer reached its token limit. refused: the model, or a filter before or behind it, did not answer, or
    the prompt is longer than it reads."""
    latency_ms: float = 0.0
    """Time from sending the request that was answered to having its answer."""
    cache_write_tokens: int = 0
    """Prompt tokens that the endpoint wrote to its cache, for which some charge more."""
    reasoning_tokens: int = 0
    """The thinking among `answer_tokens`, where the endpoint reports it."""

    def usd(self, price: ApiPrice) -> float:
        return price.usd(self.prompt_tokens, self.answer_tokens, self.cached_tokens, self.cache_write_tokens)


class PaidAnswers:
    """A file of answers. An answer is on disk when `put` returns."""

    def __init__(self, file: Path):
        self._database = sqlite3.connect(file)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS paid (asked TEXT PRIMARY KEY, answer TEXT NOT NULL, "
            "at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
        )

    def get(self, key: Any) -> Paid | None:
        """The answer kept under a key: endpoint, model and question, as plain values."""
        row = self._database.execute("SELECT answer FROM paid WHERE asked = ?", (sha256_json(key),)).fetchone()
        return Paid(**json.loads(row[0])) if row else None

    def day(self, key: Any) -> str:
        """The day on which the answer kept under a key was paid, in UTC; empty if there is none."""
        row = self._database.execute("SELECT at FROM paid WHERE asked = ?", (sha256_json(key),)).fetchone()
        return str(row[0])[:10] if row else ""

    def put(self, key: Any, answer: Paid) -> None:
        with self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO paid (asked, answer) VALUES (?, ?)",
                (sha256_json(key), json.dumps(asdict(answer))),
            )

    @classmethod
    def kept(cls, runs: Path) -> AbstractContextManager[PaidAnswers | None]:
        """The answers in a folder of outputs, to look at; None where nothing was paid yet."""
        return cls(runs / PAID) if (runs / PAID).exists() else nullcontext()

    def __enter__(self) -> PaidAnswers:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._database.close()
