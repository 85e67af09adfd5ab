"""A chat request's messages as the one text that a tuned model was trained on."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.inference.bundle import BundleInfo
from tunewright.serving.requests import ChatMessage
from tunewright.tasks.system_prompts import hash_of
from tunewright.tasks.turns import as_one_text


class UnfitMessages(ValueError):
    """A tuned model can't take these messages."""


def one_text(messages: Sequence[ChatMessage], info: BundleInfo, *, any_system_prompt: bool = False) -> str:
    """The last message, a user's, with as many of those before it as the model takes.

    System prompts are left out: the model has its own.

    Args:
        any_system_prompt: also those that the bundle does not know.

    Raises:
        UnfitMessages: there is no such message, the model takes none before it, or a system prompt is of another job.
    """
    earlier_turns, known = info.task.earlier_turns, info.system_prompts
    given = [message.as_message() for message in messages]
    if known is not None and not any_system_prompt:
        for each in given:
            if each.role == "system" and each.content.strip() and hash_of(each.content) not in known:
                raise UnfitMessages(
                    "This model has learned one job, and the system prompt is of another: it is neither the model's "
                    "own, nor that of its API or its training rows. Leave it away, or start the server with "
                    "--any-system-prompt."
                )
    turns = [each for each in given if each.role != "system"]
    if not turns or turns[-1].role != "user":
        raise UnfitMessages("The last message must be a user's.")
    if len(turns) > 1 and not earlier_turns:
        raise UnfitMessages("This model takes exactly one user message; the system prompt is its own.")
    return as_one_text(turns, earlier_turns)
