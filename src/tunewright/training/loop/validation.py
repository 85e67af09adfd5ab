"""How good the adapter is while it is being trained, by its real answers to the validation part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tunewright.config.sections import TrainSpec
from tunewright.core.processes import share
from tunewright.tasks import Example, Task
from tunewright.training.engine.fast_paths import TrainingEngine, evaluating
from tunewright.training.loop.answering import Answering
from tunewright.training.loop.encode import IGNORED, Row
from tunewright.training.loop.together import gathered
from tunewright.training.loop.trainer import row_losses

SCORES = "scores.jsonl"
MOST = 512
"""Validation examples that are answered during training; more would cost more than they tell."""
_AT_ONCE = 256
"""Validation examples in one pass, at most. On a CPU they are read a quarter faster than 64 at once."""


_BEYOND_CHANCE = 1.645
"""One-sided 5 % of the normal distribution."""


@dataclass(frozen=True)
class ValidationScore:
    scores: list[float]
    """What each example's answer, found as in serving, is worth by the task's primary metric, 0 to 1."""
    losses: list[float]
    """Cross-entropy of each example's answer, in nats: the sum over its labelled tokens."""
    tokens: int
    """Labelled tokens of all examples."""

    @property
    def loss(self) -> float:
        """Mean cross-entropy of the labelled tokens."""
        return round(sum(self.losses) / self.tokens, 4)

    @property
    def primary_metric(self) -> float:
        """The mean worth of an answer: of right and wrong ones the accuracy."""
        return round(fmean(self.scores), 4)

    def worse_than(self, other: ValidationScore) -> bool:
        """Whether it answers the same examples worse, beyond chance.

        A paired z-test, one-sided, 5 %; of right and wrong answers that is McNemar's.
        """
        lost = [theirs - own for theirs, own in zip(other.scores, self.scores, strict=True)]
        return sum(lost) > _BEYOND_CHANCE * math.sqrt(sum(each * each for each in lost))


def chosen(scores: Sequence[ValidationScore]) -> int:
    """Which of an adapter's measurements, in order, is that of the one to keep.

    The latest that is not worse, beyond chance, than the best so far: of two that can't be told apart the one that has
    learnt longer, and with a falling learning rate, is the safer choice.
    """
    best = max(scores, key=lambda score: (score.primary_metric, -score.loss))
    return max(place for place, score in enumerate(scores) if not score.worse_than(best))


def kept_score(row: Mapping[str, Any]) -> ValidationScore:
    """The score in a row of `scores.jsonl`."""
    return ValidationScore(row["scores"], row["losses"], row["tokens"])


class ValidationPart:
    """The examples a model in training is measured on.

    Args:
        rows: the examples, encoded.
        prompts: what the model is given of each, where its answer is written behind that.
        answering: how the answers are found then.
        task: tells what an answer is worth.
        settings: of the training that is measured.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        rows: Sequence[Row],
        prompts: Sequence[list[int]],
        answering: Answering | None,
        task: Task,
        settings: TrainSpec,
    ):
        self._examples, self._rows, self._prompts = examples, rows, prompts
        self._answering, self._task = answering, task
        # What a training step holds must be enough: without gradients a pass holds one layer's activations, and of all
        # layers keys and values; a step the activations of all layers, or with checkpointing of one.
        self._at_once = min(_AT_ONCE, settings.batch_size * (1 if settings.gradient_checkpointing else 8))
        self.answers = [example.answer for example in examples]
        """The right answer of each example."""
        self.groups = [example.meta.group or example.meta.id for example in examples]
        """What each example may fail together with: its group, or the other portions of its text."""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def measure(self) -> str:
        """The name of what adapters are compared by."""
        return self._task.primary_metric

    def right(self, score: ValidationScore) -> dict[str, int]:
        """The number of right answers to the examples of each label, sorted as a checkpoint keeps them."""
        counts = dict.fromkeys(sorted(set(self.answers) & set(self._task.answers)), 0)
        for answer, scores in zip(self.answers, score.scores, strict=True):
            if answer in counts:
                counts[answer] += scores == 1
        return counts

    def answer(self, model: Any, engine: TrainingEngine) -> list[str]:
        """The answers of a model that `fit_engine` prepared; it is left as it was."""
        assert self._answering
        with evaluating(model):
            return self._answering(model, engine, self._prompts, self._at_once)

    def score(self, model: Any, engine: Any, *, divided: bool = False) -> ValidationScore:
        """Measure a model that `fit_engine` prepared; it is left as it was.

        Args:
            divided: among the processes that share batches, each of which has to call this.
        """
        number, shares = share() if divided else (0, 1)
        mine = slice(number, None, shares)
        with evaluating(model):
            answers, exact = self._measured(model, engine, mine)
        losses = [round(loss, 4) for loss in exact]
        scores = [self._score_of(*pair) for pair in zip(self._examples[mine], answers, strict=True)]
        parts = [(scores, losses)] if shares == 1 else gathered((scores, losses))
        tokens = sum(label != IGNORED for row in self._rows for label in row["labels"])
        return ValidationScore(_dealt([part[0] for part in parts]), _dealt([part[1] for part in parts]), tokens)

    def _measured(self, model: Any, engine: Any, which: slice) -> tuple[list[str], list[float]]:
        """(the answer to each of some examples, the cross-entropy of each one's right answer in nats)."""
        assert self._answering
        answers = self._answering(model, engine, self._prompts[which], self._at_once)
        return answers, row_losses(model, engine, self._rows[which], self._at_once)

    def _score_of(self, example: Example, answer: str) -> float:
        return round(self._task.measures(example.request, example.answer, answer)[self._task.primary_metric].score, 4)


def _dealt(parts: Sequence[list[float]]) -> list[float]:
    """What each share found of the examples dealt to it, in the examples' order."""
    everything = [0.0] * sum(map(len, parts))
    for number, part in enumerate(parts):
        everything[number :: len(parts)] = part
    return everything
