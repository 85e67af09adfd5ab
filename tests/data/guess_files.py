"""Data files from which a spec is guessed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tunewright.config import Spec, load_spec
from tunewright.data.guess.spec import guess_spec

TEXTS = [f"a rather long message number {n} about something" for n in range(8)]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def labelled(*labels: object, text: str = "text", label: str = "label") -> list[dict[str, object]]:
    return [{text: t, label: labels[n % len(labels)]} for n, t in enumerate(TEXTS)]


def guessed(path: Path) -> Spec:
    """The guess, written and read again as by `init` and `run`."""
    (path.parent / "tunewright.yaml").write_text(guess_spec(path, path.parent).text, "utf-8")
    return load_spec(path.parent)


def many(**columns: Sequence[object]) -> list[dict[str, object]]:
    """40 rows with a text; each column repeats its values."""
    return [
        {"text": f"message number {n} about something", **{name: each[n % len(each)] for name, each in columns.items()}}
        for n in range(40)
    ]


def table(path: Path, header: str, row: Callable[[int], str], count: int = 36) -> Path:
    path.write_text("\n".join([header, *map(row, range(count))]) + "\n", "utf-8")
    return path


TEAMS = ("Billing", "Login", "Shipping")
