"""The protocol every kind of task fulfils, so that no other room asks which kind it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tunewright.tasks.example import Example, Message


class Task(Protocol):
    """A job's prompt, the form of its answer, and how an answer is judged."""

    kind: str

    @property
    def answers(self) -> list[str]:
        """All possible answers, in the spec's order; empty where they are not a fixed set."""
        ...

    def prompt(self, request: str, shots: Sequence[Example] = ()) -> list[Message]:
        """The messages a model is shown before it answers; `shots` are solved examples to show first."""
        ...

    def conversation(self, example: Example) -> list[Message]:
        """The prompt followed by the right answer, as it is taught."""
        ...

    def parse(self, text: str) -> str | None:
        """The answer in a model's free text, or None where there is none."""
        ...
