"""A request's messages, or its text, as the one input that a tuned model was trained on."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.inference.bundle import BundleInfo
from tunewright.serving.requests import ChatMessage
from tunewright.tasks.input_form import InputForm
from tunewright.tasks.system_prompts import hash_of


class UnfitMessages(ValueError):
    """A tuned model can't take these messages, or this text."""


def one_text(messages: Sequence[ChatMessage], info: BundleInfo, *, any_system_prompt: bool = False) -> str:
    """The input in the messages: the last one, a user's, with the turns before it that belong to the input.

    System prompts are left out: the model has its own.

    Args:
        any_system_prompt: also those that the bundle does not know.

    Raises:
        UnfitMessages: there is no such message, the model takes none before it, there is no input in it, or a system
            prompt is of another job.
    """
    form, known = InputForm.of(info.task), info.system_prompts
    given = [message.as_message() for message in messages]
    if known is not None and not any_system_prompt:
        for each in given:
            if each.role == "system" and each.content.strip() and hash_of(each.content) not in known:
                raise UnfitMessages(
                    "This model has learned one job, and the system prompt is of another: it is neither the model's "
                    "own, nor that of its API or its training rows. Leave it away; a server started with "
                    "--any-system-prompt takes it."
                )
    turns = [each for each in given if each.role != "system"]
    if not turns or turns[-1].role != "user":
        raise UnfitMessages("The last message must be a user's.")
    if len(turns) > 1 and not form.earlier_turns:
        raise UnfitMessages("This model takes exactly one user message; the system prompt is its own.")
    return _not_empty(turns[-1].content, form.of_turns(turns))


def one_input(text: str, form: InputForm) -> str:
    """The input in one text.

    Raises:
        UnfitMessages: there is none in it.
    """
    return _not_empty(text, form.of_text(text))


def require_text(text: str) -> None:
    """Refuse an empty text: a model would make something up.

    Raises:
        UnfitMessages: it is empty.
    """
    if not text.strip():
        raise UnfitMessages("The text is empty: there is nothing in it to read.")


def _not_empty(text: str, found: str) -> str:
    require_text(text)
    if not found.strip():
        raise UnfitMessages("There is nothing between the fixed texts of this model's template.")
    return found
