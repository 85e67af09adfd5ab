"""Writing examples as OpenAI chat JSONL, and refused rows as a quarantine file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tunewright.core.artifacts import write_jsonl
from tunewright.data.readers.base import Fault
from tunewright.data.readers.forms import Columns
from tunewright.tasks import Example, Message

_RESERVED = ("messages", "tools", "weight")


def write_chat(path: Path, examples: Iterable[Example], columns: Columns) -> None:
    """Write one example a line: messages, tools and weight in OpenAI's format, then the keys of `meta.extra`.

    Reading the file with the same columns gives the same examples, except id and source, which name the place of a
    row. A group or time whose column has no name is left out.
    """
    write_jsonl(path, (_chat_row(example, columns) for example in examples))


def quarantine_line(fault: Fault) -> str:
    """A refused row as a line of a quarantine file: place, code, reason and the raw text."""
    line = {"where": fault.where, "code": fault.code, "reason": fault.reason, "raw": fault.raw}
    return json.dumps(line, ensure_ascii=False) + "\n"


def _chat_row(example: Example, columns: Columns) -> dict[str, Any]:
    row: dict[str, Any] = {"messages": [_chat_message(message) for message in example.messages]}
    if example.tools:
        row["tools"] = example.tools
    if example.weight != 1.0:
        row["weight"] = example.weight
    for column, value in ((columns.group, example.meta.group), (columns.time, example.meta.time)):
        if column and value is not None:
            row[column] = value
    # A column with a name that OpenAI's rows use gets another name, so that the row keeps its meaning.
    return row | {
        f"column_{key}" if key in _RESERVED or key in row else key: v for key, v in example.meta.extra.items()
    }


def _chat_message(message: Message) -> dict[str, Any]:
    written = message.model_dump(exclude_defaults=True, exclude={"extra"}) | message.extra
    if not message.content and (message.tool_calls or message.extra.get("function_call")):
        written["content"] = None
    if message.weight is not None and message.weight.is_integer():
        written["weight"] = int(message.weight)  # OpenAI takes 0 and 1, not 0.0 and 1.0
    return written
