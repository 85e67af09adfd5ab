"""Greedy generation, under a grammar or in free text; the same code for all runtimes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing

from tunewright.inference.decoding.free_text import TextRules
from tunewright.inference.decoding.grammar import RecordGrammar
from tunewright.inference.decoding.protocols import (
    AnyModel,
    DecodingRules,
    Follower,
    IncrementalModel,
    NextLogits,
    Writer,
    WritingModel,
    Written,
)
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks.base import Constraint, FreeText, JsonRecord, OneOf
from tunewright.tasks.label_trie import NextTokenModel

_SPARE = 32
"""Tokens that an answer may have beyond twice the longest known one."""


def rules_of(constraint: JsonRecord | FreeText, tokenizer: TextTokenizer, end: int) -> RecordGrammar | TextRules:
    """The rules of a task's answers to one chunk of a request.

    Args:
        end: the token that ends an assistant's turn.
    """
    match constraint:
        case JsonRecord(_, chunk):
            return RecordGrammar(tokenizer, chunk, end, literal=True)
        case FreeText(_, stop):
            return TextRules(tokenizer, end, stop)


def max_answer_tokens(constraint: Constraint, longest: int) -> int:
    """Tokens that an answer may have.

    Args:
        longest: tokens of the longest known answer.
    """
    match constraint:
        case OneOf():
            return longest
        case FreeText(int(max_tokens), _):
            return max_tokens
        case _:
            return 2 * longest + _SPARE


def generate(rules: DecodingRules, model: AnyModel, prompt: Sequence[int], max_tokens: int) -> Written:
    """The greedy answer: the likeliest allowed token at each place."""
    answer, steps = begin_generation(rules, model, prompt, max_tokens)
    for _ in steps:
        pass
    return answer


def begin_generation(
    rules: DecodingRules, model: AnyModel, prompt: Sequence[int], max_tokens: int
) -> tuple[Written, Generator[None, None, None]]:
    """An empty answer, and a generator that writes it and pauses after each token that the model decided. Close it to
    end the answer there."""
    if isinstance(model, WritingModel):
        follower = rules.follow(max_tokens)
        return follower, _record(follower, model, prompt)
    writer = rules.begin(max_tokens, prompt)
    return writer, decode(writer, model, prompt)


def _record(follower: Follower, model: WritingModel, prompt: Sequence[int]) -> Generator[None, None, None]:
    """Record an answer to its end, pausing after each token."""
    with closing(model.write(prompt, follower.config)) as tokens:
        for token, log_probability in tokens:
            follower.take(token, log_probability)
            yield
            if follower.done:
                return
    follower.finish()


def decode(writer: Writer, model: NextTokenModel, prompt: Sequence[int]) -> Generator[None, None, None]:
    """Decode an answer to its end, pausing after each forward pass."""
    logits_after = next_logits(model, prompt)
    while not writer.done:
        writer.choose(logits_after(writer.ids))
        yield


def next_logits(model: NextTokenModel, prompt: Sequence[int]) -> NextLogits:
    """The function that returns the logits after an answer that grows behind a prompt."""
    if isinstance(model, IncrementalModel):
        return model.begin(prompt)
    return lambda answer: model([*prompt, *answer])
