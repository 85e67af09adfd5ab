"""The protocol every kind of task fulfils, so that no other room asks which kind it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from tunewright.tasks.example import Example, Message
from tunewright.tasks.measures import Ratio


class Unfit(ValueError):
    """Why a text is no answer of a task."""


@dataclass(frozen=True)
class OneOf:
    """An answer is one of these."""

    answers: tuple[str, ...]


@dataclass(frozen=True)
class SomeOf:
    """An answer is a JSON list of some of these labels, in their order; none is an answer too."""

    labels: tuple[str, ...]


@dataclass(frozen=True)
class JsonRecord:
    """An answer is a JSON object of a schema, draft 2020-12, in canonical form."""

    schema: Mapping[str, Any]
    chunk: Mapping[str, Any]
    """The schema of what is read in one portion of a request; that of the whole where requests are read whole."""


@dataclass(frozen=True)
class FreeText:
    """An answer is any text."""

    most: int | None
    """Tokens that it may have; None: what the longest that is known suggests."""
    stop: tuple[str, ...]
    """Texts that end it, and are no part of it."""


Constraint = OneOf | SomeOf | JsonRecord | FreeText
"""What confines an answer while it is decoded."""


def labels_of(constraint: Constraint) -> list[str]:
    """The labels of which an answer has one or some; empty where answers are written."""
    match constraint:
        case OneOf(labels) | SomeOf(labels):
            return list(labels)
        case _:
            return []


class Task(Protocol):
    """A job's prompt, the form of its answer, and how an answer is judged."""

    kind: str
    lead: str
    """What the assistant writes before an answer, so that the tokenizer finds whole words; a part of the bundle."""
    label_tokens: Mapping[str, str]
    """For each answer what is written in its place; empty where answers are written out. A part of the bundle."""

    def fitted(self, encode: Callable[[str], Sequence[int]]) -> Self:
        """This task with the lead, and the tokens for its labels where it wants any, that suit a tokenizer. `encode`:
        text -> its token ids.

        Raises:
            UserError: the tokenizer has too few words for the labels.
        """
        ...

    def untaught(self) -> Self:
        """This task as it is put to a model that was not trained for it: answers are written out."""
        ...

    primary_metric: str
    """The measure that goals, gates and the choice of an adapter are about."""

    @property
    def constraint(self) -> Constraint: ...

    @property
    def summary(self) -> str:
        """The task in a few words, after its kind."""
        ...

    def claim(self, share: str) -> str:
        """What a primary metric of `share` says of a model, as the rest of a sentence."""
        ...

    @property
    def answers(self) -> list[str]:
        """All possible answers, in the spec's order; empty where they are not a fixed set."""
        ...

    def within(self, tokens: int) -> Self:
        """This task for a model that reads so many tokens at once: what is longer is read in portions, where the task
        can be done so."""
        ...

    def chunks(self, request: str, count: Callable[[str], int]) -> list[str]:
        """The pieces in which a request is read; itself, unless it is longer than the task reads at once.

        Args:
            count: text -> its number of tokens.
        """
        ...

    def training_examples(self, example: Example, count: Callable[[str], int]) -> list[Example]:
        """What an example teaches: itself, or what stands in each portion of its request."""
        ...

    def prompt(self, request: str, shots: Sequence[Example] = ()) -> list[Message]:
        """The messages a model is shown before it answers; `shots` are solved examples to show first."""
        ...

    def written(self, answer: str) -> Message:
        """An answer as the assistant is taught to write it."""
        ...

    def canonical(self, answer: str) -> str:
        """An answer in the one form in which answers are taught and compared.

        Raises:
            Unfit: it is no answer of this task.
        """
        ...

    def of_chunk(self, answer: str) -> str:
        """The answer to one portion of a request in canonical form.

        Raises:
            Unfit: it is none.
        """
        ...

    def measures(self, request: str, gold: str, answer: str) -> dict[str, Ratio]:
        """What an answer is worth, by the name of the measure, the primary metric first; both answers in canonical
        form."""
        ...
