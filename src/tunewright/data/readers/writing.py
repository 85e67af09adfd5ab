"""Writing examples as OpenAI chat JSONL, and refused rows as a quarantine file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewright.artifacts import write_jsonl
from tunewright.data.readers.base import Fault
from tunewright.tasks import Example, Message


def write_chat(path: Path, examples: Iterable[Example]) -> None:
    """One example a line: messages, tools and weight as OpenAI has them, then the keys of `meta.extra`.

    Reading the file gives the same examples, but for id and source, which say where a row was read. Group and time are
    written under these names: read them with `Columns(group="group", time="time")`.
    """
    write_jsonl(path, (_chat_row(example) for example in examples))


def write_quarantine(path: Path, faults: Iterable[Fault]) -> None:
    """One refused row a line: where, code, reason and the raw text."""
    write_jsonl(path, (asdict(fault) for fault in faults))


def _chat_row(example: Example) -> dict[str, Any]:
    row: dict[str, Any] = {"messages": [_chat_message(message) for message in example.messages]}
    if example.tools:
        row["tools"] = example.tools
    if example.weight != 1.0:
        row["weight"] = example.weight
    for key in ("group", "time"):
        if (value := getattr(example.meta, key)) is not None:
            row[key] = value
    return row | example.meta.extra


def _chat_message(message: Message) -> dict[str, Any]:
    written = message.model_dump(exclude_defaults=True, exclude={"extra"}) | message.extra
    if not message.content and (message.tool_calls or message.extra.get("function_call")):
        written["content"] = None
    if message.weight is not None and message.weight.is_integer():
        written["weight"] = int(message.weight)  # OpenAI takes 0 and 1, not 0.0 and 1.0
    return written
