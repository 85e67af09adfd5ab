"""Data files of every form: rows, faults and notes, or one paragraph."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz.mutation import as_json, mutated, names, rewritten, seeds
from tests.fuzz.running import Input
from tunewright.data.readers import Columns, Fault, Note, quarantine_line, read, read_rows
from tunewright.tasks import Example

ROWS = [
    json.loads(line) for name, content in seeds("readers") if name == "forms.jsonl" for line in content.splitlines()
]
KEYS = (
    "messages",
    "conversations",
    "instruction",
    "output",
    "input",
    "prompt",
    "completion",
    "text",
    "label",
    "meta",
    "tools",
    "tool_calls",
    "weight",
    "role",
    "content",
    "from",
    "value",
    "system",
)


def parquet(rows: int) -> bytes:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"text": [f"text {n}" for n in range(rows)], "label": ["a", None, "b"][:rows]})
    stream = io.BytesIO()
    pyarrow.parquet.write_table(table, stream)
    return stream.getvalue()


def check(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        for columns in (None, Columns("text", "label")):
            for item in read(file, columns=columns):
                assert isinstance(item, (Example, Fault, Note))
                if isinstance(item, Fault):
                    quarantine_line(item).encode()
                if isinstance(item, Example):
                    json.dumps(item.row(), ensure_ascii=False).encode()
        for _, row in read_rows(file):
            json.dumps(row, ensure_ascii=False).encode()


@pytest.mark.parametrize("seed", seeds("readers"), ids=names("readers"))
def test_kept(seed: Input, keep: Callable[..., None]) -> None:
    keep(check, seed)


def test_mutated_files(fuzz: Callable[..., None]) -> None:
    fuzz(check, mutated("readers"), 125)


def test_rows_that_hold_anything(fuzz: Callable[..., None]) -> None:
    lines = st.lists(rewritten(ROWS, KEYS).map(as_json), min_size=1, max_size=3)
    fuzz(check, lines.map(lambda found: ("rows.jsonl", b"\n".join(found))), 125)


def test_mutated_parquet(fuzz: Callable[..., None]) -> None:
    fuzz(check, mutated("readers", tuple([("rows.parquet", parquet(n)) for n in (1, 3)] * 10)), 30)
