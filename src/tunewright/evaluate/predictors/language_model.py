"""A language model that answers by scoring the labels; the same for torch and ONNX Runtime, tuned and untuned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunewright.evaluate.predictors.base import Answer
from tunewright.models.chat import ChatTemplate, Tokenizer, answer_tokens
from tunewright.tasks import Example, LabelTrie, NextTokenModel, Task, score_labels


class LabelScorer:
    """Scores every label after the prompt and answers the likeliest.

    Args:
        shots: solved examples to show before each request (few-shot); none for a tuned model.
    """

    def __init__(self, model: NextTokenModel, task: Task, template: ChatTemplate, tokenizer: Tokenizer,
                 shots: Sequence[Example] = ()):  # fmt: skip
        self._model, self._task, self._template, self._tokenizer = model, task, template, tokenizer
        self._shots = shots
        self._labels = task.answers
        sequences = answer_tokens(task, template, tokenizer)
        self._trie = LabelTrie(list(sequences.values()))
        self.token_counts = {label: len(ids) for label, ids in sequences.items()}

    def prompt_ids(self, request: str) -> list[int]:
        return self._template.encode_prompt(self._task.prompt(request, self._shots), self._tokenizer)

    def probabilities(self, prompt: Sequence[int]) -> dict[str, float]:
        """P(label | prompt) of every label; they sum to one."""
        scores = np.exp(score_labels(self._trie, self._model, prompt))
        return dict(zip(self._labels, scores.tolist(), strict=True))

    def answer(self, request: str) -> Answer:
        prompt = self.prompt_ids(request)
        probabilities = self.probabilities(prompt)
        label = max(probabilities, key=probabilities.__getitem__)
        return Answer(label, probabilities[label], len(prompt), self.token_counts[label])


def shots_of(train: Sequence[Example], answers: Sequence[str], count: int) -> list[Example]:
    """`count` training examples, the labels in turn, the shortest text of each label first."""
    by_answer = {
        a: sorted((e for e in train if e.answer == a), key=lambda e: (len(e.request), e.meta.id)) for a in answers
    }
    rounds = max((len(examples) for examples in by_answer.values()), default=0)
    in_turn = [by_answer[a][turn] for turn in range(rounds) for a in answers if turn < len(by_answer[a])]
    return in_turn[:count]
