"""The protocol of a predictor, and its answers."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from tunewright.tasks import Task
from tunewright.tasks.base import Unfit
from tunewright.tasks.measures import value_spans


class Token(NamedTuple):
    """A piece of an answer that was decided in one step."""

    text: str
    log_probability: float


@dataclass(frozen=True)
class Answer:
    text: str
    confidence: float | None = None
    """The probability that the predictor gives its answer, 0 to 1; None if it gives none."""
    prompt_tokens: int = 0
    answer_tokens: int = 0
    fields: Mapping[str, float] = field(default_factory=dict)
    """A record's probability of the values at each path; see `tunewright.tasks.measures.leaves`."""
    cut: bool = False
    """Whether the answer grew too long and was ended."""
    uncalibrated: float | None = None
    """The confidence before calibration."""
    tokens: Sequence[Token] = ()
    """The tokens that a language model wrote, or its label as one token; empty for a joined answer."""
    labels: Mapping[str, float] = field(default_factory=dict)
    """The probability of each label in an answer of several labels."""


def settled(
    task: Task, text: str, confidence: float, fields: Mapping[str, float], *, is_chunk: bool = False
) -> tuple[str, float, Mapping[str, float]]:
    """(a record in canonical form, the confidence in it, that in the values at each path).

    A grammar, or the words of a text, can give a record that the canonical form refuses: a required field is missing,
    or it needs a letter and white space is none. The parts that fit are left, and the confidence is 0.

    Args:
        is_chunk: whether it is the record of a chunk, whose form requires nothing.
    """
    try:
        return (task.of_chunk(text) if is_chunk else task.canonical(text)), confidence, fields
    except Unfit:
        kept = task.fitting_part(text, is_chunk=is_chunk)
    left = {path for path, _, _ in value_spans(kept)}
    return kept, 0.0, {path: each for path, each in fields.items() if path in left}


@dataclass(frozen=True)
class GenerationConfig:
    """A request's own limits on a generated answer, on top of the task's."""

    stop: Sequence[str] = ()
    """Texts that end the answer, beside the task's."""
    max_tokens: int | None = None
    """Tokens after which the answer is cut, if that is earlier than usual."""
    schema: Mapping[str, Any] | None = None
    """JSON Schema that a generated answer must fit; None: text."""
    narrowed: Mapping[str, Any] | None = None
    """JSON Schema of some of the task's records, which the answer must be one of; None: any of them."""


Pieces = Generator[str | Answer, None, None]
"""The text of an answer piece by piece, and then the answer."""


class Predictor(Protocol):
    def answer(self, request: str) -> Answer:
        """The answer to one request. Like in production, requests come one at a time."""
        ...
