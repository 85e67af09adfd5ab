"""Measures the adapter while it is being trained, by its real answers to the validation part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tunewright.config.sections import TrainSpec
from tunewright.core.processes import share
from tunewright.inference.runtimes.prefix import prefix_of_all
from tunewright.tasks import Example, Task
from tunewright.training.engine.fast_paths import TrainingEngine, evaluating
from tunewright.training.loop.answering import Answering
from tunewright.training.loop.distributed import gathered
from tunewright.training.loop.encode import IGNORED, Row, weight_of, weights_of
from tunewright.training.loop.trainer import row_losses

SCORES = "scores.jsonl"
MOST = 512
"""Validation examples that are answered during training; more would cost more time than they are worth."""
_AT_ONCE = 256
"""At most so many validation examples in one forward pass. On a CPU that is a quarter faster than 64 at once."""
_TOKENS = 8192
"""Tokens of one forward pass on a CPU, besides those that all begin with. SmolLM2-135M's keys and values of so many
take 380 MB in float32."""
_BEYOND_CHANCE = 1.645
"""One-sided 5 % of the normal distribution."""


@dataclass(frozen=True)
class ValidationScore:
    scores: list[float]
    """The score of each example's answer by the task's primary metric, 0 to 1. The answer is found as in serving."""
    losses: list[float]
    """Cross-entropy of each example's answer, in nats: the sum over its labelled tokens."""
    tokens: int
    """Labelled tokens of all examples."""
    weights: list[float] | None = None
    """How many rows each example counts as; None: one each."""

    @property
    def loss(self) -> float:
        """Mean cross-entropy of the labelled tokens."""
        return round(sum(self.losses) / self.tokens, 4)

    @property
    def primary_metric(self) -> float:
        """The mean score by weight; the accuracy if answers are right or wrong."""
        return round(fmean(self.scores, self.weights), 4)

    def worse_than(self, other: ValidationScore, groups: Sequence[str]) -> bool:
        """Whether this model's answers to the same examples are worse, beyond chance.

        A one-sided paired z-test at 5 % on the weighted sums over each group; for right and wrong answers to
        independent examples of one weight this is McNemar's.

        Args:
            groups: the group of each example.
        """
        lost = dict.fromkeys(groups, 0.0)
        weights = self.weights or [1.0] * len(self.scores)
        for group, theirs, own, weight in zip(groups, other.scores, self.scores, weights, strict=True):
            lost[group] += weight * (theirs - own)
        return sum(lost.values()) > _BEYOND_CHANCE * math.sqrt(sum(each * each for each in lost.values()))


def chosen(scores: Sequence[ValidationScore], groups: Sequence[str]) -> int:
    """The index of the measurement whose adapter is kept.

    It is the latest one that is not worse, beyond chance, than the best. If two can't be told apart, the one that has
    learnt longer, with a falling learning rate, is the safer choice.

    Args:
        groups: the group of each example.
    """
    best = max(scores, key=lambda score: (score.primary_metric, -score.loss))
    return max(place for place, score in enumerate(scores) if not score.worse_than(best, groups))


def kept_score(row: Mapping[str, Any]) -> ValidationScore:
    """The score in a row of `scores.jsonl`."""
    return ValidationScore(row["scores"], row["losses"], row["tokens"], row.get("weights"))


class ValidationPart:
    """The examples a model in training is measured on.

    Args:
        rows: the examples, encoded.
        prompts: the tokens that the model continues with its answer; empty for encoders.
        answering: finds the answers to the prompts; None for encoders.
        task: scores the answers.
        settings: the training's.
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
        # The memory of a training step must be enough. Without gradients, a forward pass holds one layer's activations,
        # and keys and values of all layers; a step holds the activations of all layers, or with checkpointing of one.
        most = settings.batch_size * (1 if settings.gradient_checkpointing else 8)
        self._at_once = min(_AT_ONCE, most, _fitting(prompts))
        self.answers = [example.answer for example in examples]
        """The right answer of each example."""
        self._weights = weights_of([weight_of(example) for example in examples])
        self.groups = [example.meta.group or example.meta.id for example in examples]
        """Examples that may fail together: each example's group, or the chunks of one text."""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def measure(self) -> str:
        """The name of the primary metric."""
        return self._task.primary_metric

    def right(self, score: ValidationScore) -> dict[str, int]:
        """The number of right answers for each label, in sorted order as in a checkpoint."""
        counts = dict.fromkeys(sorted(set(self.answers) & set(self._task.answers)), 0)
        for answer, scores in zip(self.answers, score.scores, strict=True):
            if answer in counts:
                counts[answer] += scores == 1
        return counts

    def answer(self, model: Any, engine: TrainingEngine) -> list[str]:
        """The answers of a model that `fit_engine` prepared; its training mode is restored."""
        assert self._answering
        with evaluating(model):
            return self._answering(model, engine, self._prompts, self._at_once)

    def score(self, model: Any, engine: Any, *, divided: bool = False) -> ValidationScore:
        """Measure a model that `fit_engine` prepared; its training mode is restored.

        Args:
            divided: divide the examples among the processes that share batches; each has to call this.
        """
        number, shares = share() if divided else (0, 1)
        mine = slice(number, None, shares)
        with evaluating(model):
            answers, exact = self._measured(model, engine, mine)
        losses = [round(loss, 4) for loss in exact]
        scores = [self._score_of(*pair) for pair in zip(self._examples[mine], answers, strict=True)]
        parts = [(scores, losses)] if shares == 1 else gathered((scores, losses))
        tokens = sum(label != IGNORED for row in self._rows for label in row["labels"])
        scores, losses = (_in_order([part[side] for part in parts]) for side in (0, 1))
        return ValidationScore(scores, losses, tokens, self._weights)

    def _measured(self, model: Any, engine: Any, which: slice) -> tuple[list[str], list[float]]:
        """(the answer to each example in `which`, the cross-entropy in nats of its right answer)."""
        assert self._answering
        answers = self._answering(model, engine, self._prompts[which], self._at_once)
        return answers, row_losses(model, engine, self._rows[which], self._at_once)

    def _score_of(self, example: Example, answer: str) -> float:
        return round(self._task.measures(example.request, example.answer, answer)[self._task.primary_metric].score, 4)


def _fitting(prompts: Sequence[list[int]]) -> int:
    """The most prompts that one forward pass should read here."""
    import torch

    if torch.cuda.is_available() or not prompts:
        return _AT_ONCE
    longest = max(map(len, prompts)) - prefix_of_all(prompts)
    return max(1, _TOKENS // max(1, longest))


def _in_order(parts: Sequence[list[float]]) -> list[float]:
    """Merge the results of all shares, in the examples' order."""
    everything = [0.0] * sum(map(len, parts))
    for number, part in enumerate(parts):
        everything[number :: len(parts)] = part
    return everything
