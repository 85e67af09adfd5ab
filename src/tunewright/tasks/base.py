"""The protocol every kind of task fulfils, so that no other room asks which kind it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self

from tunewright.tasks.example import Example, Message


class Task(Protocol):
    """A job's prompt, the form of its answer, and how an answer is judged."""

    kind: str
    lead: str
    """What the assistant writes before an answer, so that the tokenizer finds whole words; a part of the bundle."""

    def fitted(self, encode: Callable[[str], Sequence[int]]) -> Self:
        """This task with the lead that suits a tokenizer. `encode`: text -> its token ids."""
        ...

    @property
    def answers(self) -> list[str]:
        """All possible answers, in the spec's order; empty where they are not a fixed set."""
        ...

    def prompt(self, request: str, shots: Sequence[Example] = ()) -> list[Message]:
        """The messages a model is shown before it answers; `shots` are solved examples to show first."""
        ...

    def written(self, answer: str) -> Message:
        """An answer as the assistant is taught to write it."""
        ...

    def parse(self, text: str) -> str | None:
        """The answer in a model's free text, or None where there is none."""
        ...
