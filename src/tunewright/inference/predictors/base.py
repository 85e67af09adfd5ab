"""The protocol of a predictor."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol


class Token(NamedTuple):
    """A piece of an answer that was decided at once."""

    text: str
    log_probability: float


@dataclass(frozen=True)
class Answer:
    text: str
    confidence: float | None = None
    """Probability the predictor gives its own answer, 0 to 1; None where it has none."""
    prompt_tokens: int = 0
    answer_tokens: int = 0
    fields: Mapping[str, float] = field(default_factory=dict)
    """Of a record, the probability of the values at each path; see `tunewright.tasks.measures.leaves`."""
    cut: bool = False
    """Whether it had to be ended, because it grew too long."""
    uncalibrated: float | None = None
    """What a language model's confidence was before calibration."""
    tokens: Sequence[Token] = ()
    """Of what a language model wrote, its pieces as it wrote them, or the label as one; none where the answer was put
    together."""
    labels: Mapping[str, float] = field(default_factory=dict)
    """Of several labels, the probability of each that is given."""


@dataclass(frozen=True)
class GenerationConfig:
    """What a request wants of an answer that is written, beside what the task says."""

    stop: Sequence[str] = ()
    """Texts that end it, beside the model's own."""
    most: int | None = None
    """Tokens after which it is cut, if that is earlier than usual."""
    schema: Mapping[str, Any] | None = None
    """JSON Schema of which the answer is to be; None: text."""


Pieces = Generator[str | Answer, None, None]
"""The text of an answer piece by piece, and then the answer."""


class Predictor(Protocol):
    def answer(self, request: str) -> Answer:
        """The answer to one request, as it would be given in production: one at a time."""
        ...
