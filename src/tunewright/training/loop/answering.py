"""Answers many examples at once with the model in training: its real answers, not its accuracy under teacher forcing.

If the answers are a fixed set, the answer is the label with the highest probability, as in serving
(`tunewright.tasks.score_labels`). It is found without scoring every label: the search follows the likeliest open branch
first, and stops once a label is likelier than any open branch. Most examples need as many forward passes as their
answer has decisions. Records and texts are decoded greedily, under the constraints of serving.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from tunewright.inference.decoding.protocols import DecodingRules
from tunewright.inference.decoding.writing import max_answer_tokens, rules_of
from tunewright.inference.runtimes.torch_writer import write_all
from tunewright.models.chat import ChatTemplate, answer_tokens, end_token
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Branch, LabelSearch, LabelTrie, Task
from tunewright.tasks.base import FreeText, JsonRecord, OneOf, SomeOf
from tunewright.tasks.label_trie import Floats
from tunewright.training.engine.fast_paths import TrainingEngine, on_device_of
from tunewright.training.engine.packing import numbered, pad
from tunewright.training.engine.prompt_cache import PromptCache
from tunewright.training.loop.encode import IGNORED


class Answering(Protocol):
    def __call__(self, model: Any, engine: TrainingEngine, prompts: Sequence[list[int]], at_once: int) -> list[str]:
        """The answer to each prompt.

        Args:
            model: prepared by `tunewright.training.engine.fast_paths.fit_engine`, which gave `engine`.
            at_once: at most so many prompts in one forward pass.
        """
        ...


def answering_of(task: Task, template: ChatTemplate, tokenizer: TextTokenizer, longest: int) -> Answering:
    """The function that answers a task's prompts.

    Args:
        longest: tokens of the longest known answer.
    """
    match task.constraint:
        case OneOf(answers):
            return _labels(answers, LabelTrie(list(answer_tokens(task, template, tokenizer).values())))
        case SomeOf():
            raise TypeError("several labels are refused earlier: see tunewright.models.encoders.unable")
        case JsonRecord() | FreeText() as constraint:
            rules = rules_of(constraint, tokenizer, end_token(task, template, tokenizer))
            return _written(task, tokenizer, rules, max_answer_tokens(constraint, longest))


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
    """The index of each prompt's likeliest label, and its probability.

    Args:
        model: prepared by `tunewright.training.engine.fast_paths.fit_engine`, which gave `engine`.
        at_once: prompts in one forward pass.
    """
    searches = _finished_searches(model, engine, prompts, trie, at_once, _next_branch)
    return [(search.best, math.exp(search.log_probabilities[search.best])) for search in searches]


def scored_labels(
    model: Any,
    engine: TrainingEngine,
    prompts: Sequence[list[int]],
    trie: LabelTrie,
    at_once: int,
    temperature: float | None,
) -> list[Floats]:
    """log P(label | prompt) of every label for each prompt; the same as `tunewright.tasks.score_labels` gives for one.

    Args:
        model, engine, at_once: as for `likeliest_labels`.
        temperature: as for `tunewright.tasks.score_labels`.
    """

    def due(search: LabelSearch) -> list[Branch]:
        return search.due(temperature)

    return [search.share_out() for search in _finished_searches(model, engine, prompts, trie, at_once, due)]


def _next_branch(search: LabelSearch) -> list[Branch]:
    """The next branch to evaluate; none once no label can overtake the best."""
    return [] if search.settled else [search.pop()]


def _finished_searches(
    model: Any,
    engine: TrainingEngine,
    prompts: Sequence[list[int]],
    trie: LabelTrie,
    at_once: int,
    due: Callable[[LabelSearch], list[Branch]],
) -> list[LabelSearch]:
    """The finished search of each prompt.

    Args:
        due: the branches of a search to evaluate next; none once it has ended.
    """
    import torch

    searches = [LabelSearch(trie) for _ in prompts]
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    ask_model = (
        functools.partial(_CachedPrompts, long_lines=engine.long_lines) if engine.shared_prefix else _RereadPrompts
    )
    with torch.no_grad():
        for start in range(0, len(prompts), at_once):
            numbers = by_length[start : start + at_once]
            _run_searches(
                [searches[i] for i in numbers], ask_model(model, [prompts[i] for i in numbers], trie.stem), due
            )
    return searches


AskModel = Callable[[Mapping[int, Branch]], Iterable[tuple[int, Any]]]
"""Maps prompts' numbers, with a branch of each, to those numbers and the logits of the branch's tokens."""


def _run_searches(searches: Sequence[LabelSearch], ask: AskModel, due: Callable[[LabelSearch], list[Branch]]) -> None:
    while wave := {number: some for number, search in enumerate(searches) if (some := due(search))}:
        for turn in range(max(map(len, wave.values()))):
            branches = {number: some[turn] for number, some in wave.items() if turn < len(some)}
            for number, logits in ask(branches):
                searches[number].take(branches[number], logits)


class _RereadPrompts:
    """Evaluates branches by a full forward pass over prompt and branch."""

    def __init__(self, model: Any, prompts: Sequence[list[int]], stem: tuple[int, ...]):  # noqa: ARG002 (as `_CachedPrompts`)
        self._model = model
        self._prompts = prompts

    def __call__(self, branches: Mapping[int, Branch]) -> Iterable[tuple[int, Any]]:
        rows = [numbered([*self._prompts[number], *branch.path], number) for number, branch in branches.items()]
        return _branch_logits(self._model, pad(rows), branches)


class _CachedPrompts:
    """Evaluates branches behind cached prompts, which were prefilled once with the `stem` that all labels begin
    with."""

    def __init__(self, model: Any, prompts: Sequence[list[int]], stem: tuple[int, ...], *, long_lines: bool):
        self._model = model
        self._stem = len(stem)
        self._cache = PromptCache([[*prompt, *stem] for prompt in prompts], long_lines=long_lines)
        self._prefilled = False

    def __call__(self, branches: Mapping[int, Branch]) -> Iterable[tuple[int, Any]]:
        if self._prefilled:
            batch = self._cache.continuation({number: branch.path[self._stem :] for number, branch in branches.items()})
        else:
            batch = self._cache.batch
        self._prefilled = True
        return _branch_logits(self._model, batch, branches, prompt_cache=self._cache)


def _branch_logits(
    model: Any, batch: dict[str, Any], branches: Mapping[int, Branch], **cache: PromptCache
) -> Iterable[tuple[int, Any]]:
    """The model's logits at branches; the batch's labels are the prompts' numbers."""
    batch = on_device_of(model, batch)
    numbers = batch.pop("labels")
    offered = sorted({token for branch in branches.values() for token in branch.tokens})
    column = {token: place for place, token in enumerate(offered)}
    labelled = numbers != IGNORED
    logits = (
        model(**batch, **cache, positions=labelled, offered=numbers.new_tensor(offered)).logits.double().cpu().numpy()
    )
    for number, row in zip(numbers[labelled].tolist(), logits, strict=True):
        yield number, row[[column[token] for token in branches[number].tokens]]
