"""The history of a training that the diagnosis reads: its settings, figures of its data, its curve."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from tunewright.config.sections import EncoderSpec, TrainSpec
from tunewright.core.artifacts import read_jsonl, read_manifest
from tunewright.inference.runtimes.beside import BESIDE
from tunewright.tasks import Task
from tunewright.training.diagnosis.chance import ScoreChange, change
from tunewright.training.loop.encode import IGNORED, Row

CURVE = "curve.jsonl"
ENCODER = "encoder"
"""The folder of a tuned encoder in the output of `train`."""
DIAGNOSIS = "diagnosis.json"
ENOUGH_STEPS = 20
"""Fewer steps say nothing about the learning rate or the data."""


def longest_answer(run: Path) -> int:
    """Tokens of the longest answer that a finished training taught."""
    manifest = read_manifest(run)
    assert manifest
    return int(manifest.result["longest_answer"])


def linear_beside(run: Path) -> bool:
    """Whether a training put a linear model beside its encoder."""
    return (run / ENCODER / BESIDE).is_dir()


def kept_early(run: Path) -> bool:
    """Whether a training kept a model from before its end, because it answered the validation part better."""
    last = {row["seed_number"]: row for row in read_jsonl(run / CURVE) if "kept" in row}
    return not all(row["kept"] for row in last.values())


@dataclass(frozen=True)
class TrainingFacts:
    """Figures of a training's data."""

    labels: dict[str, int]
    """Number of training examples of each label, including labels without any; empty if answers are not a fixed set."""
    held: dict[str, int]
    """Number of validation examples of each label."""
    answer: float
    """Mean number of tokens by which an answer is learnt, if nothing is masked."""
    learnt: list[int]
    """Number of learnt tokens in each training example."""
    lengths: list[int]
    """Number of tokens in each training example."""
    measure: str = "accuracy"
    """The name of the task's primary metric."""
    groups: list[str] = field(default_factory=list)
    """Group of each validation example; examples of one group may fail together."""
    answers: list[str] = field(default_factory=list)
    """Right answer of each validation example, if answers are a fixed set."""

    @classmethod
    def of(
        cls,
        task: Task,
        train: Sequence[str],
        held: Sequence[str],
        rows: Sequence[Row],
        answer: float,
        groups: Sequence[str] = (),
    ) -> TrainingFacts:
        """Count examples, labels and tokens.

        Args:
            train, held: the answer of each training and validation example.
            rows: the training examples, encoded.
            answer: mean number of tokens by which an answer is learnt, if nothing is masked.
            groups: the group of each validation example; examples of one group may fail together.
        """
        counts, others = Counter(train), Counter(held)
        return cls(
            {label: counts[label] for label in task.answers},
            {label: others[label] for label in task.answers},
            answer,
            [sum(label != IGNORED for label in row["labels"]) for row in rows],
            [len(row["input_ids"]) for row in rows],
            task.primary_metric,
            list(groups),
            list(held) if task.answers else [],
        )

    @property
    def majority(self) -> float:
        """Accuracy on the validation part if every answer is the most frequent training label."""
        most = max(self.labels, key=lambda label: self.labels[label])
        return self.held[most] / max(sum(self.held.values()), 1)

    @property
    def guessing(self) -> float:
        """Loss of an answer, in nats, if labels are guessed by their shares in the training part: their entropy.

        0 if answers are not a fixed set, because then it is unknown.
        """
        total = sum(self.labels.values())
        return -sum(n / total * math.log(n / total) for n in self.labels.values() if n)


@dataclass(frozen=True)
class History:
    """One model's training so far. Losses are in nats for a whole answer, so they mean the same for any task."""

    settings: TrainSpec
    facts: TrainingFacts
    precision: str
    """The type that products were computed in: float32, bfloat16 or float16."""
    planned: int
    """Optimizer steps of the whole training."""
    ended: bool
    """Whether it has ended, after the planned steps or before."""
    rows: Sequence[dict[str, Any]] = field(repr=False)
    """Rows of `curve.jsonl`, in order. A step has `loss`, `lr` and `grad_norm`. A measurement has `epoch` (how often
    the training examples had been seen), `validation_loss`, `primary_metric`, `right` (right answers by label), and
    for each example its loss in `losses` and its answer's score in `scores`."""
    encoder: bool = False
    """Whether the model is an encoder; then `settings` are as `train.encoders.settings.for_encoder` gives them."""

    @cached_property
    def steps(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if "loss" in row]

    @cached_property
    def measured(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if "losses" in row]

    @cached_property
    def losses(self) -> list[float]:
        """The loss at each step, before the update: the mean over its batch by the rows' weights."""
        return [row["loss"] * self.facts.answer for row in self.steps]

    @cached_property
    def validation(self) -> list[float]:
        """The validation loss at each measurement."""
        return [fmean(row["losses"]) for row in self.measured]

    @property
    def section(self) -> str:
        """The section of the spec that has this training's learning rate and epochs."""
        return "train.encoder" if self.encoder else "train"

    @property
    def usual_lr(self) -> float:
        """The default learning rate."""
        usual = (EncoderSpec if self.encoder else TrainSpec).model_fields["lr"].default
        return float(usual)

    @property
    def warm(self) -> bool:
        """Whether the training started from an adapter that had learnt before."""
        return self.settings.init_adapter is not None

    def rise(self, before: Mapping[str, Any], after: Mapping[str, Any], of: str = "losses") -> ScoreChange:
        """How the validation examples' `losses`, or their answers' `scores`, changed between two measurements."""
        return change(before[of], after[of], self.facts.groups)

    @property
    def norms(self) -> list[float]:
        """Norm of the gradient at each step that was taken; float16 skips steps with an infinite gradient."""
        return [row["grad_norm"] for row in self.steps if math.isfinite(row["grad_norm"])]

    @property
    def window(self) -> int:
        """Number of steps over which losses are averaged, so that a single batch counts little."""
        return max(3, self.planned // 20)

    @property
    def start(self) -> float:
        """Mean loss of the first two steps, before the learning rate has risen: the base model's loss."""
        return fmean([loss for loss in self.losses[:2] if math.isfinite(loss)] or [math.inf])

    def end(self, step: int | None = None) -> float:
        """Mean loss of the last steps, or of the last ones up to `step`."""
        return fmean(self.losses[:step][-self.window :])

    @property
    def far(self) -> bool:
        """Whether enough of the training is done, in enough steps, that a model that could learn would have begun
        to."""
        done = len(self.steps)
        return done >= ENOUGH_STEPS and (self.ended or (done >= self.planned / 2 and len(self.measured) > 1))

    def json(self) -> dict[str, Any]:
        """Everything except the curve, as plain values."""
        settings = self.settings.model_dump(mode="json")
        return {"settings": settings, "facts": asdict(self.facts), "precision": self.precision, "planned": self.planned}
