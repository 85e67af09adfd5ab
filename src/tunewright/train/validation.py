"""How good the adapter is while it is being trained, by its real answers to the validation part."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tunewright.processes import share
from tunewright.spec.schema import TrainSpec
from tunewright.tasks import Example
from tunewright.train.answering import Answering
from tunewright.train.encode import Row
from tunewright.train.engine import Engine
from tunewright.train.together import gathered
from tunewright.train.trainer import summed_loss

SCORES = "scores.jsonl"
MOST = 512
"""Validation examples that are answered during training; more would cost more than they tell."""
_AT_ONCE = 64
"""Validation examples in one pass, at most."""


_BEYOND_CHANCE = 1.645
"""One-sided 5 % of the normal distribution."""


@dataclass(frozen=True)
class Score:
    right: str
    """For each example "1" where its answer, found as in serving, was right, else "0"."""
    loss: float
    """Mean cross-entropy of the labelled tokens."""

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1."""
        return round(self.right.count("1") / len(self.right), 4)

    def worse_than(self, other: Score) -> bool:
        """Whether it answers the same examples worse, beyond chance (McNemar's test, one-sided, 5 %)."""
        lost = sum(a > b for a, b in zip(other.right, self.right, strict=True))
        won = sum(a < b for a, b in zip(other.right, self.right, strict=True))
        return lost - won > _BEYOND_CHANCE * math.sqrt(lost + won)


def chosen(scores: Sequence[Score]) -> int:
    """Which of an adapter's measurements, in order, is that of the one to keep.

    The latest that is not worse, beyond chance, than the best so far: of two that can't be told apart the one that has
    learnt longer, and with a falling learning rate, is the safer choice.
    """
    best = max(scores, key=lambda score: (score.accuracy, -score.loss))
    return max(place for place, score in enumerate(scores) if not score.worse_than(best))


class ValidationPart:
    """The examples an adapter is measured on.

    Args:
        rows: the examples, encoded.
        prompts: what the model is given of each.
        labels: the answers there are, where they are a fixed set.
        settings: of the training that is measured.
    """

    def __init__(self, examples: Sequence[Example], rows: Sequence[Row], prompts: Sequence[list[int]],
                 answering: Answering, labels: Sequence[str], settings: TrainSpec):  # fmt: skip
        self._rows, self._prompts, self._answering, self._labels = rows, prompts, answering, labels
        # What a training step holds must be enough: without gradients a pass holds one layer's activations, a step
        # those of all layers, or with checkpointing of one.
        self._at_once = min(_AT_ONCE, settings.batch_size * (1 if settings.gradient_checkpointing else 8))
        self.answers = [example.answer for example in examples]
        """The right answer of each example."""

    def __len__(self) -> int:
        return len(self._rows)

    def right(self, score: Score) -> dict[str, int]:
        """The number of right answers to the examples of each label, sorted as a checkpoint keeps them."""
        counts = dict.fromkeys(sorted(set(self.answers) & set(self._labels)), 0)
        for answer, right in zip(self.answers, score.right, strict=True):
            if answer in counts:
                counts[answer] += right == "1"
        return counts

    def answer(self, model: Any, engine: Engine) -> list[str]:
        """The answers of a model that `fit_engine` prepared; it is left as it was."""
        with _evaluating(model):
            return self._answering(model, engine, self._prompts, self._at_once)

    def score(self, model: Any, engine: Engine, *, divided: bool = False) -> Score:
        """Measure a model that `fit_engine` prepared; it is left as it was.

        Args:
            divided: among the processes that share batches, each of which has to call this.
        """
        number, shares = share() if divided else (0, 1)
        mine = slice(number, None, shares)
        with _evaluating(model):
            answers = self._answering(model, engine, self._prompts[mine], self._at_once)
            summed = summed_loss(model, engine, self._rows[mine], self._at_once)
        right = "".join(str(int(a == wanted)) for a, wanted in zip(answers, self.answers[mine], strict=True))
        return _joined([(right, *summed)] if shares == 1 else gathered((right, *summed)))


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Inside, the model is in evaluation."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _joined(parts: Sequence[tuple[str, float, int]]) -> Score:
    """The score of all from those of the shares: what was right, summed loss, number of labelled tokens."""
    right = [""] * sum(len(right) for right, _, _ in parts)
    for number, (of_part, _, _) in enumerate(parts):
        right[number :: len(parts)] = of_part
    return Score("".join(right), round(sum(loss for _, loss, _ in parts) / sum(tokens for _, _, tokens in parts), 4))
