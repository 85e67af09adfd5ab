"""Answers that are written token by token: under a grammar, or in free text; by the same code for all runtimes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tunewright.inference.decoding.following import Follower, WritingModel, Written, followed
from tunewright.inference.decoding.free_text import TextRules
from tunewright.inference.decoding.grammar import RecordGrammar
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks.base import Constraint, FreeText, JsonRecord, OneOf
from tunewright.tasks.label_trie import NextTokenModel

_SPARE = 32
"""Tokens that an answer may have beyond twice the longest known."""


class Writer(Written, Protocol):
    """An answer for which a model is asked token by token; see `RecordWriter` and `TextWriter`."""

    def choose(self, logits: npt.NDArray[np.float32]) -> None: ...


Growing = Callable[[Sequence[int]], npt.NDArray[np.float32]]
"""All tokens of an answer so far -> the logits behind it."""


@runtime_checkable
class GrowingModel(Protocol):
    """A `NextTokenModel` that is quicker if it knows that an answer grows."""

    def begin(self, prompt: Sequence[int]) -> Growing: ...


AnyModel = NextTokenModel | WritingModel


class DecodingRules(Protocol):
    """What an answer may be; see `RecordGrammar` and `TextRules`."""

    def begin(self, most: int) -> Writer: ...

    def follow(self, most: int) -> Follower: ...


def rules_of(
    constraint: JsonRecord | FreeText, folder: Path, tokenizer: TextTokenizer, end: int
) -> RecordGrammar | TextRules:
    """The rules of a task's answers to one portion of a request.

    Args:
        folder: of the tokenizer.
        end: the token that ends an assistant's turn.
    """
    match constraint:
        case JsonRecord(_, chunk):
            return RecordGrammar(folder, chunk, end)
        case FreeText(_, stop):
            return TextRules(tokenizer, end, stop)


def room_for(constraint: Constraint, longest: int) -> int:
    """Tokens that an answer may have.

    Args:
        longest: those of the longest one known.
    """
    match constraint:
        case OneOf():
            return longest
        case FreeText(int(most), _):
            return most
        case _:
            return 2 * longest + _SPARE


def written(rules: DecodingRules, model: AnyModel, prompt: Sequence[int], most: int) -> Written:
    """The greedy answer: at each place the likeliest token that is allowed."""
    answer, pauses = begun(rules, model, prompt, most)
    for _ in pauses:
        pass
    return answer


def begun(rules: DecodingRules, model: AnyModel, prompt: Sequence[int], most: int) -> tuple[Written, Iterator[None]]:
    """An answer, and what writes it on as it is iterated, pausing after each token that the model decided."""
    if isinstance(model, WritingModel):
        follower = rules.follow(most)
        return follower, followed(follower, model, prompt)
    writer = rules.begin(most)
    return writer, steps(writer, model, prompt)


def steps(writer: Writer, model: NextTokenModel, prompt: Sequence[int]) -> Iterator[None]:
    """Write an answer to its end, pausing after each token that the model was asked for."""
    behind = growing(model, prompt)
    while not writer.done:
        writer.choose(behind(writer.ids))
        yield


def growing(model: NextTokenModel, prompt: Sequence[int]) -> Growing:
    """What is asked for an answer as it is written behind a prompt."""
    if isinstance(model, GrowingModel):
        return model.begin(prompt)
    return lambda written: model([*prompt, *written])
