"""The conversation that every task with a system prompt holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Self

from tunewright.tasks.example import Example, Message

WRITTEN_OUT: Mapping[str, str] = MappingProxyType({})
"""Labels are written as they are."""


class Conversation(ABC):
    """What a model is shown: the system prompt, solved examples, the request; and how its answer is written.

    Args:
        system: the system prompt.
        lead: what the assistant writes before an answer.
        label_tokens: the token that is written in the place of each answer; empty where answers are written out.
    """

    def __init__(self, system: str, lead: str, label_tokens: Mapping[str, str] = WRITTEN_OUT):
        self.system, self.lead, self.label_tokens = system.strip(), lead, label_tokens

    def untaught(self) -> Self:
        return self

    @abstractmethod
    def canonical(self, answer: str) -> str: ...

    def of_chunk(self, answer: str) -> str:
        return self.canonical(answer)

    def within(self, tokens: int) -> Self:  # noqa: ARG002 (the protocol)
        return self

    def chunks(self, request: str, count: Callable[[str], int]) -> list[str]:  # noqa: ARG002 (the protocol)
        return [request]

    def training_examples(self, example: Example, count: Callable[[str], int]) -> list[Example]:  # noqa: ARG002 (the protocol)
        return [example]

    def prompt(self, request: str, shots: Sequence[Example] = ()) -> list[Message]:
        shown = [
            message
            for shot in shots
            for message in (Message(role="user", content=shot.request), self.written(shot.answer))
        ]
        return [Message(role="system", content=self.system), *shown, Message(role="user", content=request)]

    def written(self, answer: str) -> Message:
        return Message(role="assistant", content=self.lead + self.label_tokens.get(answer, answer))
