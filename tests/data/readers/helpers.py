"""Helpers for the readers' tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.data.readers import Columns, Fault, Note, read
from tunewright.tasks import Example


@dataclass
class Read:
    examples: list[Example] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @property
    def fault(self) -> Fault:
        (only,) = self.faults
        return only

    @property
    def example(self) -> Example:
        (only,) = self.examples
        return only

    @property
    def placed(self) -> list[tuple[int, str]]:
        """(line, code) of each fault."""
        return [(int(fault.where.rpartition(":")[2]), fault.code) for fault in self.faults]

    @property
    def noted(self) -> list[tuple[int, str]]:
        return [(int(note.where.rpartition(":")[2]), note.code) for note in self.notes]

    @property
    def requests(self) -> list[str]:
        return [example.request for example in self.examples]


def read_all(source: str | Path, form: str | None = None, columns: Columns | None = None) -> Read:
    result = Read()
    for item in read(source, form=form, columns=columns):
        if isinstance(item, Example):
            result.examples.append(item)
        elif isinstance(item, Fault):
            result.faults.append(item)
        else:
            result.notes.append(item)
    return result


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(rows: Iterable[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def talk(request: Any = "hi", answer: Any = "hello", **more: Any) -> dict[str, Any]:
    return {"messages": [user(request), assistant(answer)], **more}
