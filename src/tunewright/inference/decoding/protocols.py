"""The protocols between decoding and models.

There are two kinds of models. A next-token model returns logits, and our code chooses each token. A writing model
generates the whole answer itself, under limits that it gets beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tunewright.tasks.label_trie import BranchModel, NextTokenModel


class Written(Protocol):
    """An answer under generation."""

    ids: list[int]
    """The tokens so far, without the one that ends the turn."""
    log_probabilities: list[float]
    """One for each token."""
    done: bool
    cut: bool
    """Whether the answer grew too long and was ended."""


class Writer(Written, Protocol):
    """An answer whose tokens we choose from a model's logits; see `RecordWriter` and `TextWriter`."""

    def choose(self, logits: npt.NDArray[np.float32]) -> None: ...


@dataclass(frozen=True)
class WritingConfig:
    """The limits that a writing model gets for an answer."""

    max_tokens: int
    end: int
    """The token that ends an assistant's turn."""
    schema: Mapping[str, Any] | None = None
    """JSON Schema that the answer must fit."""
    suppress_tokens: Sequence[int] = ()
    """Tokens that the model must not write."""


class Follower(Written, Protocol):
    """An answer that a writing model generates, recorded token by token."""

    config: WritingConfig

    def take(self, token: int, log_probability: float) -> None:
        """Record the next token."""
        ...

    def finish(self) -> None:
        """End the answer here. The model stopped before the end because the answer grew too long."""
        ...


class DecodingRules(Protocol):
    """The rules that an answer must follow; see `RecordGrammar` and `TextRules`."""

    def begin(self, max_tokens: int, prompt: Sequence[int] = ()) -> Writer: ...

    def follow(self, max_tokens: int) -> Follower: ...


NextLogits = Callable[[Sequence[int]], npt.NDArray[np.float32]]
"""All tokens of an answer so far -> the logits after them."""


@runtime_checkable
class IncrementalModel(Protocol):
    """A `NextTokenModel` that is faster when it knows that an answer grows token by token."""

    def begin(self, prompt: Sequence[int]) -> NextLogits: ...


@runtime_checkable
class WritingModel(BranchModel, Protocol):
    """A model that generates whole answers."""

    def write(self, prompt: Sequence[int], config: WritingConfig) -> Generator[tuple[int, float], None, None]:
        """Generate the greedy answer: each token with its log-probability. The last one ends the turn, unless the
        answer grows too long. A caller that needs no more closes the generator."""
        ...


AnyModel = NextTokenModel | WritingModel
