"""A chat request's messages as the one text that a tuned model was trained on."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.serving.requests import ChatMessage
from tunewright.tasks.turns import as_one_text


class UnfitMessages(ValueError):
    """A tuned model can't take these messages."""


def one_text(messages: Sequence[ChatMessage], earlier_turns: int) -> str:
    """The last message, a user's, with up to `earlier_turns` of those before it.

    System prompts are left out: the model has its own.

    Raises:
        UnfitMessages: there is no such message, or the model takes none before it.
    """
    turns = [each for each in (message.as_message() for message in messages) if each.role != "system"]
    if not turns or turns[-1].role != "user":
        raise UnfitMessages("The last message must be a user's.")
    if len(turns) > 1 and not earlier_turns:
        raise UnfitMessages("This model takes exactly one user message; the system prompt is its own.")
    return as_one_text(turns, earlier_turns)
