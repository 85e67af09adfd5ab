"""Answering many examples at once with the model in training: its real answers, not what teacher forcing suggests.

Of a fixed set the answer is the label of the highest probability, as in serving (`tunewright.tasks.score_labels`),
found without scoring every label: the likeliest open branch is followed first, and once a label is likelier than any
open branch, no other can overtake it. Most examples are settled after as many passes as their answer has decisions.
Records and texts are written greedily, under the rules of serving.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tunewright.models.chat import ChatTemplate, answer_tokens, end_token
from tunewright.models.tokenizer import TextTokenizer
from tunewright.models.torch_writer import write_all
from tunewright.models.writing import Rules, room_for, rules_of
from tunewright.tasks import LabelTrie, Task
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


@dataclass
class _Search:
    prompt: list[int]
    open: list[tuple[float, tuple[int, ...], Any]] = field(default_factory=list)
    """Branches not yet asked: log-probability, the tokens that lead there, the trie's node."""
    best: tuple[float, int] = (-math.inf, -1)

    @property
    def settled(self) -> bool:
        return not self.open or self.best[0] >= max(self.open, key=lambda branch: branch[0])[0]

    def reach(self, log_probability: float, path: tuple[int, ...], node: Any) -> None:
        """Go on to the next decision or to the end of a label."""
        while len(node.children) == 1:
            ((token, node),) = node.children.items()
            path = (*path, token)
        if node.children:
            self.open.append((log_probability, path, node))
        elif log_probability > self.best[0]:
            self.best = (log_probability, node.labels[0])


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
                found[number] = search.best[1], math.exp(search.best[0])
    return found


def _search(model: Any, collate: Any, prompts: Sequence[list[int]], trie: LabelTrie) -> list[_Search]:
    searches = [_Search(prompt) for prompt in prompts]
    for search in searches:
        search.reach(0.0, (), trie.root)
    while unsettled := [search for search in searches if not search.settled]:
        asked = []
        for search in unsettled:
            likeliest = max(search.open, key=lambda branch: branch[0])
            search.open.remove(likeliest)
            asked.append(likeliest)
        # A row's number stands where its labelled token would, so that each is found again in the batch.
        rows = [_row([*search.prompt, *path], number)
                for number, (search, (_, path, _)) in enumerate(zip(unsettled, asked, strict=True))]  # fmt: skip
        batch = on_device_of(model, collate(rows))
        numbers = batch.pop("labels")
        offered = sorted({token for _, _, node in asked for token in node.children})
        column = {token: place for place, token in enumerate(offered)}
        logits = model(**batch, asked=numbers != IGNORED, offered=numbers.new_tensor(offered)).logits.double()
        for row, number in zip(logits, numbers[numbers != IGNORED].tolist(), strict=True):
            log_probability, path, node = asked[number]
            tokens = list(node.children)
            steps = row[[column[token] for token in tokens]].log_softmax(0).tolist()
            for token, step in zip(tokens, steps, strict=True):
                unsettled[number].reach(log_probability + step, (*path, token), node.children[token])
    return searches


def _row(ids: list[int], number: int) -> Row:
    return {"input_ids": [*ids, 0], "labels": [IGNORED] * len(ids) + [number]}
