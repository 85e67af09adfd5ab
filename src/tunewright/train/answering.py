"""Answering many examples at once with the model in training: its real answers, not what teacher forcing suggests.

Of a fixed set the answer is the label of the highest probability, as in serving (`tunewright.tasks.score_labels`),
found without scoring every label: the likeliest open branch is followed first, and once a label is likelier than any
open branch, no other can overtake it. Most examples are settled after as many passes as their answer has decisions.
Records and texts are written greedily, under the rules of serving.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tunewright.models.chat import ChatTemplate, answer_tokens, end_token
from tunewright.models.tokenizer import TextTokenizer
from tunewright.models.torch_writer import write_all
from tunewright.models.writing import Rules, room_for, rules_of
from tunewright.tasks import LabelSearch, LabelTrie, Task
from tunewright.tasks.base import FreeText, JsonRecord, OneOf
from tunewright.train.encode import IGNORED, Row
from tunewright.train.engine import Engine, on_device_of


class Answering(Protocol):
    def __call__(self, model: Any, engine: Engine, prompts: Sequence[list[int]], at_once: int) -> list[str]:
        """The answer to each prompt.

        Args:
            model: prepared by `tunewright.train.engine.fit_engine`, which gave `engine`.
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
        case JsonRecord() | FreeText() as constraint:
            rules = rules_of(constraint, folder, tokenizer, end_token(task, template, tokenizer))
            return _written(task, tokenizer, rules, room_for(constraint, longest))


def _labels(answers: Sequence[str], trie: LabelTrie) -> Answering:
    def answer(model: Any, engine: Engine, prompts: Sequence[list[int]], at_once: int) -> list[str]:
        return [answers[place] for place, _ in likeliest_labels(model, engine.collate, prompts, trie, at_once)]

    return answer


def _written(task: Task, tokenizer: TextTokenizer, rules: Rules, most: int) -> Answering:
    def answer(model: Any, engine: Engine, prompts: Sequence[list[int]], at_once: int) -> list[str]:  # noqa: ARG001 (the protocol)
        return [
            task.of_portion(tokenizer.decode(writer.ids)) for writer in write_all(model, rules, prompts, most, at_once)
        ]

    return answer


def likeliest_labels(model: Any, collate: Callable[[Sequence[Row]], dict[str, Any]], prompts: Sequence[list[int]],
                     trie: LabelTrie, at_once: int) -> list[tuple[int, float]]:  # fmt: skip
    """For each prompt the index of its likeliest label, and its probability.

    Args:
        model: prepared by `tunewright.train.engine.fit_engine`, whose `collate` this is.
        at_once: prompts in one pass.
    """
    import torch

    found: list[tuple[int, float]] = [(-1, 0.0)] * len(prompts)
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    with torch.no_grad():
        for start in range(0, len(prompts), at_once):
            numbers = by_length[start : start + at_once]
            for number, search in zip(
                numbers, _search(model, collate, [prompts[i] for i in numbers], trie), strict=True
            ):
                found[number] = search.best, math.exp(search.log_probabilities[search.best])
    return found


def _search(model: Any, collate: Any, prompts: Sequence[list[int]], trie: LabelTrie) -> list[LabelSearch]:
    searches = [LabelSearch(trie) for _ in prompts]
    while unsettled := [(search, prompt) for search, prompt in zip(searches, prompts, strict=True)
                        if not search.settled]:  # fmt: skip
        asked = [search.pop() for search, _ in unsettled]
        # A row's number stands where its labelled token would, so that each is found again in the batch.
        rows = [_row([*prompt, *branch.path], number)
                for number, ((_, prompt), branch) in enumerate(zip(unsettled, asked, strict=True))]  # fmt: skip
        batch = on_device_of(model, collate(rows))
        numbers = batch.pop("labels")
        offered = sorted({token for branch in asked for token in branch.tokens})
        column = {token: place for place, token in enumerate(offered)}
        logits = model(**batch, asked=numbers != IGNORED, offered=numbers.new_tensor(offered)).logits.double().cpu()
        for row, number in zip(logits.numpy(), numbers[numbers != IGNORED].tolist(), strict=True):
            branch = asked[number]
            unsettled[number][0].take(branch, row[[column[token] for token in branch.tokens]])
    return searches


def _row(ids: list[int], number: int) -> Row:
    return {"input_ids": [*ids, 0], "labels": [IGNORED] * len(ids) + [number]}
