"""The protocol of every kind of task. Other packages use it and never ask for the kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from tunewright.config.tool_list import TEXT
from tunewright.tasks.example import Example, Message
from tunewright.tasks.measures import Ratio


class Unfit(ValueError):
    """A text is not an answer of the task; the message says why."""


@dataclass(frozen=True)
class OneOf:
    """An answer is one of these."""

    answers: tuple[str, ...]


@dataclass(frozen=True)
class SomeOf:
    """An answer is a JSON list of some of these labels, in their order. The empty list is an answer too."""

    labels: tuple[str, ...]


@dataclass(frozen=True)
class JsonRecord:
    """An answer is a JSON object of a schema, draft 2020-12, in canonical form."""

    schema: Mapping[str, Any]
    chunk: Mapping[str, Any]
    """The schema of the record of one chunk of a request; the same as `schema` if requests are read whole."""

    @property
    def unjudged(self) -> frozenset[str]:
        """The paths of values that no metric looks at, so that they have no part in the confidence."""
        return frozenset()


@dataclass(frozen=True)
class ToolCall(JsonRecord):
    """An answer is the JSON of a tool call with its arguments, or of a text; see `tunewright.tasks.tools`."""

    tools: tuple[Mapping[str, Any], ...]
    """As `tunewright.config.tool_list.plain_tool` gives them."""

    @property
    def unjudged(self) -> frozenset[str]:
        return frozenset({TEXT})


@dataclass(frozen=True)
class FreeText:
    """An answer is any text."""

    max_tokens: int | None
    """Tokens that it may have; None: derived from the longest known answer."""
    stop: tuple[str, ...]
    """Texts that end it and are not part of it."""


Constraint = OneOf | SomeOf | JsonRecord | FreeText
"""The constraint on an answer during decoding."""


def labels_of(constraint: Constraint) -> list[str]:
    """The labels that answers consist of; empty if answers are written."""
    match constraint:
        case OneOf(labels) | SomeOf(labels):
            return list(labels)
        case _:
            return []


class Task(Protocol):
    """A job's prompt, the form of its answers, and how they are scored."""

    kind: str
    lead: str
    """The text that the assistant writes before an answer, so that the tokenizer gets whole words. The bundle stores
    it."""
    label_tokens: Mapping[str, str]
    """The single token that stands for each label; empty if labels are written out. The bundle stores it."""

    def fitted(self, encode: Callable[[str], Sequence[int]]) -> Self:
        """This task with the lead, and the single-token labels if it has any, that fit a tokenizer.

        Args:
            encode: text -> its token ids.

        Raises:
            UserError: the tokenizer has too few words for the labels.
        """
        ...

    def untaught(self) -> Self:
        """This task for a model that was not trained on it: labels are written out, and the prompt is whole."""
        ...

    primary_metric: str
    """The metric of goals and gates; it also chooses the adapter."""

    @property
    def constraint(self) -> Constraint: ...

    @property
    def summary(self) -> str:
        """A few words about the task, to follow its kind."""
        ...

    def claim(self, share: str) -> str:
        """The rest of a sentence that says a model has a primary metric of `share`."""
        ...

    @property
    def answers(self) -> list[str]:
        """All possible answers, in the spec's order; empty if they are not a fixed set."""
        ...

    def within(self, tokens: int) -> Self:
        """This task for a model with a context of so many tokens. Tasks that can be done in chunks read longer requests
        chunk by chunk."""
        ...

    def chunks(self, request: str, count: Callable[[str], int]) -> list[str]:
        """The chunks of a request: the request itself, unless it is too long.

        Args:
            count: text -> its number of tokens.
        """
        ...

    def training_examples(self, example: Example, count: Callable[[str], int]) -> list[Example]:
        """The training examples of an example: itself, or one for each chunk of its request."""
        ...

    def prompt(self, request: str, shots: Sequence[Example] = ()) -> list[Message]:
        """The messages before the answer; `shots` are solved examples to show first."""
        ...

    def written(self, answer: str) -> Message:
        """The assistant's message for an answer, as the model is trained to write it."""
        ...

    def answer_in(self, message: Message) -> str:
        """What an assistant's message answers, not yet in canonical form; empty if it answers nothing."""
        ...

    def canonical(self, answer: str) -> str:
        """An answer in canonical form, in which answers are trained and compared.

        Raises:
            Unfit: the text is not an answer of this task.
        """
        ...

    def of_chunk(self, answer: str) -> str:
        """The answer to one chunk of a request in canonical form.

        Raises:
            Unfit: the text is not one.
        """
        ...

    def fitting_part(self, answer: str, *, is_chunk: bool = False) -> str:
        """What is left of an answer that is none of this task: the parts that fit, in canonical form.

        Args:
            is_chunk: whether it is the answer to a chunk of a request; see `of_chunk`.
        """
        ...

    def measures(self, request: str, gold: str, answer: str) -> dict[str, Ratio]:
        """The scores of an answer by the name of the metric, the primary metric first. Both answers are in canonical
        form."""
        ...


def chunked(task: Task, examples: Iterable[Example], count: Callable[[str], int]) -> list[Example]:
    """The training examples made of `examples`: each itself, or its chunks if it is longer than the task reads at once.

    Args:
        count: tokens of a text.
    """
    return [training_example for example in examples for training_example in task.training_examples(example, count)]
