"""The conversation that every task with a system prompt holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Self

from tunewright.tasks.example import Example, Message

WRITTEN_OUT: Mapping[str, str] = MappingProxyType({})
"""No codes."""


class Conversation(ABC):
    """What a model is shown: the system prompt, solved examples, the request; and how its answer is written.

    Args:
        system: the system prompt.
        lead: what the assistant writes before an answer.
        codes: for each answer what it writes in its place; empty where answers are written out.
    """

    def __init__(self, system: str, lead: str, codes: Mapping[str, str] = WRITTEN_OUT):
        self.system, self.lead, self.codes = system.strip(), lead, codes

    def untaught(self) -> Self:
        return self

    @abstractmethod
    def canonical(self, answer: str) -> str: ...

    def of_portion(self, answer: str) -> str:
        return self.canonical(answer)

    def within(self, tokens: int) -> Self:  # noqa: ARG002 (the protocol)
        return self

    def portions(self, request: str, count: Callable[[str], int]) -> list[str]:  # noqa: ARG002 (the protocol)
        return [request]

    def lessons(self, example: Example, count: Callable[[str], int]) -> list[Example]:  # noqa: ARG002 (the protocol)
        return [example]

    def prompt(self, request: str, shots: Sequence[Example] = ()) -> list[Message]:
        shown = [
            message
            for shot in shots
            for message in (Message(role="user", content=shot.request), self.written(shot.answer))
        ]
        return [Message(role="system", content=self.system), *shown, Message(role="user", content=request)]

    def written(self, answer: str) -> Message:
        return Message(role="assistant", content=self.lead + self.codes.get(answer, answer))
