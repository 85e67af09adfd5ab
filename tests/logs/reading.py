"""Reading the samples of logs: rows of exactly the shapes that others write, with content of our own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunewright.data.readers.base import Fault
from tunewright.data.readers.calls import read_calls
from tunewright.logs import LoggedCall

SAMPLES = Path(__file__).parent / "samples"


def rows_in(name: str) -> list[dict[str, Any]]:
    """The rows of a sample with one object a line."""
    return [json.loads(line) for line in (SAMPLES / name).read_text("utf-8").splitlines() if line.strip()]


def read_sample(name: str) -> list[LoggedCall]:
    """The calls of a sample, which has no line that can't be read."""
    found = []
    for each in read_calls(SAMPLES / name):
        assert not isinstance(each, Fault), each.reason
        found.append(each)
    return found


# A call of Anthropic's API, as forms keep it that keep bodies as they were

CLAUDE_ASKED = {
    "model": "claude-haiku",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "Answer in one sentence."}],
    "messages": [{"role": "user", "content": "Where is A-1?"}],
    "tools": [{"name": "track", "input_schema": {"type": "object"}}],
}
CLAUDE_CALLS = {"type": "tool_use", "id": "t1", "name": "track", "input": {"id": "A-1"}}
CLAUDE_USAGE = {"input_tokens": 10, "cache_read_input_tokens": 50, "output_tokens": 7}


def claude_said(*content: Any, stop_reason: str = "end_turn") -> dict[str, Any]:
    """An answer of Anthropic's API. A text stands for a block of text."""
    blocks = [{"type": "text", "text": each} if isinstance(each, str) else each for each in content]
    about = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5"}
    return {**about, "content": blocks, "stop_reason": stop_reason, "usage": CLAUDE_USAGE}


def check_claude(read: Callable[[dict[str, Any]], LoggedCall]) -> None:
    """Check what a form makes of a call of Anthropic's API.

    Args:
        read: the call with `CLAUDE_ASKED` as its request and with a response.
    """
    cut = read(claude_said("The first half of", stop_reason="max_tokens"))
    assert cut.answer and cut.answer.fault and cut.answer.fault[0] == "cut-answer"
    refused = read(claude_said("No.", stop_reason="refusal"))
    assert refused.answer and refused.answer.fault and refused.answer.fault[0] == "refusal"
    told = read(claude_said("A-1 is in ", "Cologne."))
    assert told.fault is None
    assert told.answer and told.answer.fault is None and told.answer.text == "A-1 is in Cologne."
    called = read(claude_said("I look.", CLAUDE_CALLS, stop_reason="tool_use"))
    assert called.answer and called.answer.text == "I look."
    assert called.answer.tool_calls == [{"id": "t1", "name": "track", "arguments": '{"id": "A-1"}'}]
    assert [(each["role"], each["content"]) for each in called.messages] == [
        ("system", "Answer in one sentence."),
        ("user", "Where is A-1?"),
    ]
    function = {"name": "track", "parameters": {"type": "object"}}
    assert called.request["tools"] == [{"type": "function", "function": function}]
