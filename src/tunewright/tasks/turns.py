"""Conversations as one text: the last user message after the turns before it."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.tasks.example import Example, Message


def as_one_text(turns: Sequence[Message], most: int) -> str:
    """The last turn after up to `most` of the turns before it, each with its speaker.

    Without earlier turns it is the last message as it is.

    Args:
        turns: in order, without system messages; at least one.
    """
    kept = turns[-1 - most :]
    if len(kept) == 1:
        return kept[0].content
    return "\n\n".join(f"{turn.role}: {said(turn)}" for turn in kept)


def turns_left_out(example: Example, most: int) -> int:
    """How many of its turns the model is not shown, if it is shown up to `most` before the last user message."""
    return max(0, len(_before_the_answer(example)) - 1 - most)


def _before_the_answer(example: Example) -> list[Message]:
    return [message for message in example.messages[:-1] if message.role != "system"]


def said(turn: Message) -> str:
    """What a message says, with its calls of tools in the form `name(arguments)`."""
    calls = [call.get("function", {}) for call in turn.tool_calls or ()]
    written = [f"{call.get('name')}({call.get('arguments')})" for call in calls]
    return "\n".join([*([turn.content] if turn.content else []), *written])
