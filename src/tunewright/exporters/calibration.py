"""Calibrates a bundle's confidence by its own answers to the validation part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from tunewright.core.progress import track
from tunewright.data import evenly
from tunewright.data.dedup.blocks import Block, blocks_of
from tunewright.exporters.set_calibration import MOST_EXAMPLES as MOST_OF_SETS
from tunewright.exporters.set_calibration import calibrate_sets
from tunewright.inference.bundle import Bundle
from tunewright.inference.calibration import UNCALIBRATED, Calibration, fit_answers, fit_labels, scale_of, scope
from tunewright.inference.predictors import (
    EncoderPredictor,
    LabelClassifier,
    LabelScorer,
    LabelSetClassifier,
    LanguageModel,
)
from tunewright.inference.runtimes.base import Runtime
from tunewright.tasks import Example, MultiLabelTask, Task

Result = TypeVar("Result")

MOST_EXAMPLES = 500
"""The most validation examples to ask: one or two parameters need no more."""


def calibrate(bundle: Bundle, model: Runtime, validation: Sequence[Example]) -> Calibration:
    """Fit the calibration of a bundle's model as quantised.

    Args:
        model: its loaded weights.
    """
    predictor = replace(bundle, calibration=UNCALIBRATED).predictor(model)
    examples = evenly(validation, MOST_OF_SETS if isinstance(predictor, LabelSetClassifier) else MOST_EXAMPLES)
    blocks = blocks_of(examples)
    weights = weights_of(examples, blocks)
    if isinstance(predictor, LabelSetClassifier):
        assert isinstance(bundle.task, MultiLabelTask)
        calibration, confidences = calibrate_sets(predictor, bundle.task, examples, weights, blocks)
    elif isinstance(predictor, (LabelScorer, LabelClassifier)):
        calibration, confidences = _of_labels(predictor, bundle.task, examples, weights, model.at_once)
    else:
        calibration, confidences = _of_answers(predictor, bundle.task, examples, weights, model.at_once)
    of_example = {example.meta.id: each for example, each in zip(examples, confidences, strict=True)}
    return calibration.model_copy(update={"in_scope": scope([of_example[block[0].meta.id] for block in blocks])})


def weights_of(examples: Sequence[Example], blocks: Sequence[Block]) -> list[float]:
    """The weight of each example in a fit.

    Copies, near copies and rows of one group count as one, by the mean of their rows' weights. The sum is the number of
    blocks of equal weight that would vary as much.
    """
    of_block = np.array([sum(example.importance for example in block) / len(block) for block in blocks])
    scale = scale_of(of_block)
    share = {example.meta.id: scale * example.importance / len(block) for block in blocks for example in block}
    return [share[example.meta.id] for example in examples]


def _of_labels(
    predictor: LabelScorer | LabelClassifier,
    task: Task,
    examples: Sequence[Example],
    weights: Sequence[float],
    at_once: int,
) -> tuple[Calibration, list[float]]:
    """(the calibration, the calibrated confidence of each answer)."""
    numbers = {label: number for number, label in enumerate(task.answers)}

    def scores_of(request: str) -> Any:
        return predictor.log_probabilities(*predictor.prompts(request))

    scores = np.array(_of_each(scores_of, examples, at_once))
    calibration = fit_labels(scores, [numbers[example.answer] for example in examples], weights)
    return calibration, [float(calibration.of_labels(each).max()) for each in scores]


def _of_answers(
    predictor: LanguageModel | EncoderPredictor,
    task: Task,
    examples: Sequence[Example],
    weights: Sequence[float],
    at_once: int,
) -> tuple[Calibration, list[float]]:
    """As `_of_labels`, for written answers."""
    answers = _of_each(predictor.answer, examples, at_once)
    raw = [answer.confidence or 0.0 for answer in answers]
    score = [
        task.measures(example.request, example.answer, answer.text)[task.primary_metric].score
        for example, answer in zip(examples, answers, strict=True)
    ]
    calibration = fit_answers(raw, score, weights)
    return calibration, [calibration.of_answer(each) for each in raw]


def _of_each(ask: Callable[[str], Result], examples: Sequence[Example], at_once: int) -> list[Result]:
    """The result of each request, asking as many at a time as the runtime takes; it answers each as if it were
    alone."""
    results = []
    with track("calibrating", len(examples), "answers") as tracker, ThreadPoolExecutor(at_once) as clients:
        for result in clients.map(ask, [example.request for example in examples]):
            results.append(result)
            tracker.update(len(results))
    return results
