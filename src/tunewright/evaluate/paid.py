"""Answers that cost money, kept by what was asked, so that nothing is paid twice."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tunewright.artifacts import sha256_json

PAID = "paid.sqlite"


@dataclass(frozen=True)
class Paid:
    """An answer of an API."""

    text: str
    prompt_tokens: int
    answer_tokens: int


class PaidAnswers:
    """A file of answers. What was put in is on disk when `put` returns."""

    def __init__(self, file: Path):
        self._database = sqlite3.connect(file)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS answers (asked TEXT PRIMARY KEY, text TEXT NOT NULL, "
            "prompt_tokens INTEGER NOT NULL, answer_tokens INTEGER NOT NULL, "
            "at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
        )

    def get(self, asked: Any) -> Paid | None:
        """The answer to what was asked: endpoint, model and messages, as plain values."""
        row = self._database.execute(
            "SELECT text, prompt_tokens, answer_tokens FROM answers WHERE asked = ?", (sha256_json(asked),)
        ).fetchone()
        return Paid(*row) if row else None

    def put(self, asked: Any, answer: Paid) -> None:
        with self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO answers (asked, text, prompt_tokens, answer_tokens) VALUES (?, ?, ?, ?)",
                (sha256_json(asked), answer.text, answer.prompt_tokens, answer.answer_tokens),
            )

    def __enter__(self) -> PaidAnswers:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._database.close()
