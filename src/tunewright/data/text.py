"""The normal form of texts, and the parts of a conversation: the request and the system prompt."""

from __future__ import annotations

from tunewright.tasks import Example


def normal(text: str) -> str:
    """The form by which texts are compared: without differences of case and spacing."""
    return " ".join(text.casefold().split())


def request_text(example: Example) -> str:
    """The text the model must answer: all messages before the last answer except the system prompt."""
    messages = example.messages[:-1] if example.messages[-1].role == "assistant" else example.messages
    texts = [message.content for message in messages if message.role != "system"]
    return texts[0] if len(texts) == 1 else "\n".join(texts)


def system_prompt(example: Example) -> str:
    """The system message of the example; empty where there is none."""
    first = example.messages[0]
    return first.content if first.role == "system" else ""
