"""When two texts count as the same, and what of a conversation is asked."""

from __future__ import annotations

from tunewright.tasks import Example


def normal(text: str) -> str:
    """A text without the differences of case and spacing that don't make it another one."""
    return " ".join(text.casefold().split())


def asked(example: Example) -> str:
    """What the model is to answer: all messages before the last answer, the system prompt aside."""
    messages = example.messages[:-1] if example.messages[-1].role == "assistant" else example.messages
    texts = [message.content for message in messages if message.role != "system"]
    return texts[0] if len(texts) == 1 else "\n".join(texts)


def system_prompt(example: Example) -> str:
    """The system message of the data; empty where there is none."""
    first = example.messages[0]
    return first.content if first.role == "system" else ""
