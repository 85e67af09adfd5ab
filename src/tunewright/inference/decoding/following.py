"""Answers that a model writes by itself, taken down as they come: it is told beforehand what they may be."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from tunewright.tasks.label_trie import BranchModel


class Written(Protocol):
    """An answer as it is written."""

    ids: list[int]
    """The tokens so far, without the one that ends the turn."""
    log_probabilities: list[float]
    """Of each token."""
    done: bool
    cut: bool
    """Whether it had to be ended, because it grew too long."""


@dataclass(frozen=True)
class WritingConfig:
    """What a model is told of an answer."""

    most: int
    """Tokens after which it stops."""
    end: int
    """The token that ends an assistant's turn."""
    schema: Mapping[str, Any] | None = None
    """JSON Schema to which it is confined."""
    silent: Sequence[int] = ()
    """Tokens that it must not write."""


class Follower(Written, Protocol):
    wanted: WritingConfig

    def take(self, token: int, log_probability: float) -> None:
        """The next token."""
        ...

    def finish(self) -> None:
        """The model stopped before the end, because the answer grew too long."""
        ...


@runtime_checkable
class WritingModel(BranchModel, Protocol):
    """A model that is not asked token by token."""

    def write(self, prompt: Sequence[int], wanted: WritingConfig) -> Generator[tuple[int, float], None, None]:
        """The likeliest answer, token by token with its log-probability, the one that ends it last, unless it grows too
        long. Whoever wants no more closes the generator."""
        ...


def followed(follower: Follower, model: WritingModel, prompt: Sequence[int]) -> Iterator[None]:
    """Take down an answer to its end, pausing after each token."""
    with closing(model.write(prompt, follower.wanted)) as tokens:
        for token, log_probability in tokens:
            follower.take(token, log_probability)
            yield
            if follower.done:
                return
    follower.finish()
