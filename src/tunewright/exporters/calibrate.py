"""What a bundle's confidence is worth, from its own answers to the validation part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np

from tunewright.core.progress import track
from tunewright.data import evenly
from tunewright.data.dedup.blocks import blocks_of
from tunewright.exporters.calibrate_sets import MOST_EXAMPLES as MOST_OF_SETS
from tunewright.exporters.calibrate_sets import calibrate_sets
from tunewright.inference.bundle import Bundle
from tunewright.inference.calibration import UNCALIBRATED, Calibration, fit_answers, fit_labels, scope
from tunewright.inference.predictors import (
    EncoderPredictor,
    LabelClassifier,
    LabelScorer,
    LabelSetClassifier,
    LanguageModel,
)
from tunewright.tasks import Example, MultiLabelTask, Task

Found = TypeVar("Found")

MOST_EXAMPLES = 500
"""Validation examples that are asked: one or two numbers need no more."""


def calibrate(bundle: Bundle, validation: Sequence[Example]) -> Calibration:
    """Ask a bundle's model, quantised as it is, and fit its calibration."""
    model = bundle.load()
    asked = replace(bundle, calibration=UNCALIBRATED).predictor(model)
    examples = evenly(validation, MOST_OF_SETS if isinstance(asked, LabelSetClassifier) else MOST_EXAMPLES)
    # Copies, near copies and rows of one group count as one.
    blocks = blocks_of(examples)
    share = {example.meta.id: 1 / len(block) for block in blocks for example in block}
    weights = [share[example.meta.id] for example in examples]
    if isinstance(asked, LabelSetClassifier):
        assert isinstance(bundle.task, MultiLabelTask)
        found, sure = calibrate_sets(asked, bundle.task, examples, weights, blocks)
    elif isinstance(asked, (LabelScorer, LabelClassifier)):
        found, sure = _of_labels(asked, bundle.task, examples, weights, model.at_once)
    else:
        found, sure = _of_answers(asked, bundle.task, examples, weights, model.at_once)
    of_example = {example.meta.id: each for example, each in zip(examples, sure, strict=True)}
    return found.model_copy(update={"in_scope": scope([of_example[block[0].meta.id] for block in blocks])})


def _of_labels(
    asked: LabelScorer | LabelClassifier,
    task: Task,
    examples: Sequence[Example],
    weights: Sequence[float],
    at_once: int,
) -> tuple[Calibration, list[float]]:
    """(the calibration, how sure the model then is of each answer)."""
    numbers = {label: number for number, label in enumerate(task.answers)}
    scores = np.array(_of_each(lambda request: asked.log_probabilities(*asked.prompts(request)), examples, at_once))
    found = fit_labels(scores, [numbers[example.answer] for example in examples], weights)
    return found, [float(found.of_labels(each).max()) for each in scores]


def _of_answers(
    asked: LanguageModel | EncoderPredictor,
    task: Task,
    examples: Sequence[Example],
    weights: Sequence[float],
    at_once: int,
) -> tuple[Calibration, list[float]]:
    """As `_of_labels`, of what is written."""
    answers = _of_each(asked.answer, examples, at_once)
    raw = [answer.confidence or 0.0 for answer in answers]
    score = [
        task.measures(example.request, example.answer, answer.text)[task.primary_metric].score
        for example, answer in zip(examples, answers, strict=True)
    ]
    found = fit_answers(raw, score, weights)
    return found, [found.of_answer(each) for each in raw]


def _of_each(ask: Callable[[str], Found], examples: Sequence[Example], at_once: int) -> list[Found]:
    """What is found of each request, as many at a time as the runtime takes: it answers each as if it were alone."""
    found = []
    with track("calibrating", len(examples), "answers") as tracker, ThreadPoolExecutor(at_once) as clients:
        for one in clients.map(ask, [example.request for example in examples]):
            found.append(one)
            tracker.update(len(found))
    return found
