"""Answering many examples at once with the model in training: its real answers, not what teacher forcing suggests.

Of a fixed set the answer is the label of the highest probability, as in serving (`tunewright.tasks.score_labels`),
found without scoring every label: the likeliest open branch is followed first, and once a label is likelier than any
open branch, no other can overtake it. Most examples are settled after as many passes as their answer has decisions.
Records and texts are written greedily, under the rules of serving.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tunewright.inference.decoding.writing import DecodingRules, room_for, rules_of
from tunewright.inference.runtimes.torch_writer import write_all
from tunewright.models.chat import ChatTemplate, answer_tokens, end_token
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Branch, LabelSearch, LabelTrie, Task
from tunewright.tasks.base import FreeText, JsonRecord, OneOf, SomeOf
from tunewright.tasks.label_trie import Floats
from tunewright.training.engine.fast_paths import TrainingEngine, on_device_of
from tunewright.training.engine.kept import KeptPrompts
from tunewright.training.engine.packing import numbered, pad
from tunewright.training.loop.encode import IGNORED


class Answering(Protocol):
    def __call__(self, model: Any, engine: TrainingEngine, prompts: Sequence[list[int]], at_once: int) -> list[str]:
        """The answer to each prompt.

        Args:
            model: prepared by `tunewright.training.engine.fast_paths.fit_engine`, which gave `engine`.
            at_once: prompts in one pass, at most.
        """
        ...


def answering_of(task: Task, template: ChatTemplate, tokenizer: TextTokenizer, folder: Path, longest: int) -> Answering:
    """How the task's answers are found.

    Args:
        folder: of the tokenizer.
        longest: tokens of the longest answer known.
    """
    match task.constraint:
        case OneOf(answers):
            return _labels(answers, LabelTrie(list(answer_tokens(task, template, tokenizer).values())))
        case SomeOf():
            raise TypeError("models that write are refused before: see tunewright.models.encoders.unable")
        case JsonRecord() | FreeText() as constraint:
            rules = rules_of(constraint, folder, tokenizer, end_token(task, template, tokenizer))
            return _written(task, tokenizer, rules, room_for(constraint, longest))


def _labels(answers: Sequence[str], trie: LabelTrie) -> Answering:
    def answer(model: Any, engine: TrainingEngine, prompts: Sequence[list[int]], at_once: int) -> list[str]:
        return [answers[place] for place, _ in likeliest_labels(model, engine, prompts, trie, at_once)]

    return answer


def _written(task: Task, tokenizer: TextTokenizer, rules: DecodingRules, most: int) -> Answering:
    def answer(model: Any, engine: TrainingEngine, prompts: Sequence[list[int]], at_once: int) -> list[str]:  # noqa: ARG001 (the protocol)
        return [
            task.of_chunk(tokenizer.decode(writer.ids)) for writer in write_all(model, rules, prompts, most, at_once)
        ]

    return answer


def likeliest_labels(
    model: Any, engine: TrainingEngine, prompts: Sequence[list[int]], trie: LabelTrie, at_once: int
) -> list[tuple[int, float]]:
    """For each prompt the index of its likeliest label, and its probability.

    Args:
        model: prepared by `tunewright.training.engine.fast_paths.fit_engine`, which gave `engine`.
        at_once: prompts in one pass.
    """
    searches = _searched(model, engine, prompts, trie, at_once, _likeliest)
    return [(search.best, math.exp(search.log_probabilities[search.best])) for search in searches]


def scored_labels(
    model: Any,
    engine: TrainingEngine,
    prompts: Sequence[list[int]],
    trie: LabelTrie,
    at_once: int,
    temperature: float | None,
) -> list[Floats]:
    """log P(label | prompt) of every label for each prompt, as `tunewright.tasks.score_labels` finds it one by one.

    Args:
        model, engine, at_once: as for `likeliest_labels`.
        temperature: as for `tunewright.tasks.score_labels`.
    """

    def due(search: LabelSearch) -> list[Branch]:
        return search.due(temperature)

    return [search.share_out() for search in _searched(model, engine, prompts, trie, at_once, due)]


def _likeliest(search: LabelSearch) -> list[Branch]:
    """The next branch, until no label can overtake the best."""
    return [] if search.settled else [search.pop()]


def _searched(
    model: Any,
    engine: TrainingEngine,
    prompts: Sequence[list[int]],
    trie: LabelTrie,
    at_once: int,
    due: Callable[[LabelSearch], list[Branch]],
) -> list[LabelSearch]:
    """The search behind each prompt, at its end.

    Args:
        due: which branches of a search are asked next; none where it has ended.
    """
    import torch

    searches = [LabelSearch(trie) for _ in prompts]
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    ask_model = functools.partial(_Behind, long_lines=engine.long_lines) if engine.shared_prefix else _Again
    with torch.no_grad():
        for start in range(0, len(prompts), at_once):
            numbers = by_length[start : start + at_once]
            _search([searches[i] for i in numbers], ask_model(model, [prompts[i] for i in numbers], trie.stem), due)
    return searches


AskModel = Callable[[Mapping[int, Branch]], Iterable[tuple[int, Any]]]
"""From prompts' numbers and a branch of each to those numbers and the logits of the branch's tokens."""


def _search(searches: Sequence[LabelSearch], ask: AskModel, due: Callable[[LabelSearch], list[Branch]]) -> None:
    while wave := {number: some for number, search in enumerate(searches) if (some := due(search))}:
        for turn in range(max(map(len, wave.values()))):
            branches = {number: some[turn] for number, some in wave.items() if turn < len(some)}
            for number, logits in ask(branches):
                searches[number].take(branches[number], logits)


class _Again:
    """Asks a model to read a prompt again whenever something is asked behind it."""

    def __init__(self, model: Any, prompts: Sequence[list[int]], stem: tuple[int, ...]):  # noqa: ARG002 (as `_Behind`)
        self._model = model
        self._prompts = prompts

    def __call__(self, branches: Mapping[int, Branch]) -> Iterable[tuple[int, Any]]:
        rows = [numbered([*self._prompts[number], *branch.path], number) for number, branch in branches.items()]
        return _answers(self._model, pad(rows), branches)


class _Behind:
    """Asks behind prompts that were read once, with the `stem` that all labels begin with."""

    def __init__(self, model: Any, prompts: Sequence[list[int]], stem: tuple[int, ...], *, long_lines: bool):
        self._model = model
        self._stem = len(stem)
        self._kept = KeptPrompts([[*prompt, *stem] for prompt in prompts], long_lines=long_lines)
        self._read = False

    def __call__(self, branches: Mapping[int, Branch]) -> Iterable[tuple[int, Any]]:
        if self._read:
            batch = self._kept.behind({number: branch.path[self._stem :] for number, branch in branches.items()})
        else:
            batch = self._kept.batch
        self._read = True
        return _answers(self._model, batch, branches, kept=self._kept)


def _answers(
    model: Any, batch: dict[str, Any], branches: Mapping[int, Branch], **kept: KeptPrompts
) -> Iterable[tuple[int, Any]]:
    """What a model says at branches; the batch's labels are their numbers."""
    batch = on_device_of(model, batch)
    numbers = batch.pop("labels")
    offered = sorted({token for branch in branches.values() for token in branch.tokens})
    column = {token: place for place, token in enumerate(offered)}
    asked = numbers != IGNORED
    logits = model(**batch, **kept, asked=asked, offered=numbers.new_tensor(offered)).logits.double().cpu().numpy()
    for number, row in zip(numbers[asked].tolist(), logits, strict=True):
        yield number, row[[column[token] for token in branches[number].tokens]]
