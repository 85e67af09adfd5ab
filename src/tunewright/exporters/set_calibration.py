"""Calibrates a bundle with several labels a text by its own answers to the validation part: the confidence in each
label, the threshold from which each is given, and the confidence in the whole answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunewright.core.errors import first_of
from tunewright.core.progress import say
from tunewright.data.dedup.blocks import Block
from tunewright.data.label_sets import held
from tunewright.inference.calibration import MIN_EXAMPLES, UNCALIBRATED, Calibration, fit_answers
from tunewright.inference.predictors import LabelSetClassifier
from tunewright.inference.thresholds import (
    LEAST_POSITIVE,
    Decisions,
    choose_belief,
    choose_thresholds,
    cross_validated,
    expected_f1,
    sigmoid,
)
from tunewright.tasks import Example, MultiLabelTask

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MOST_EXAMPLES = 5000
"""The most validation examples to ask: the threshold of a rare label needs as many as there are."""
_FOLDS = 5
_NAMED = 8
"""The most labels that the summary names."""


def calibrate_sets(
    predictor: LabelSetClassifier,
    task: MultiLabelTask,
    examples: Sequence[Example],
    weights: Sequence[float],
    blocks: Sequence[Block],
) -> tuple[Calibration, list[float]]:
    """(the calibration, the calibrated confidence of each answer).

    The confidence of an answer is fitted to the scores of answers whose thresholds were chosen on other examples.

    Args:
        predictor: the bundle's model, not calibrated.
        weights: the weight of each example; those of one block count as one together.
        blocks: blocks of examples that are right or wrong together.
    """
    logits, counts = predictor.logits([example.request for example in examples]), np.asarray(weights, float)
    gold = held(task, examples)
    if round((counts @ gold).sum()) < MIN_EXAMPLES:
        say(f"  thresholds: 50 % for every label: fewer than {MIN_EXAMPLES} labels hold in independent examples")
        return UNCALIBRATED, [predictor.answer(example.request).confidence or 0.0 for example in examples]
    each = fit_answers(
        sigmoid(logits).ravel().tolist(), gold.ravel().tolist(), np.repeat(counts, gold.shape[1]).tolist()
    )
    probabilities = sigmoid(logits / each.temperature + each.bias)
    folds = folds_of(examples, blocks)
    belief = choose_belief(probabilities, gold, counts, folds)
    thresholds, pooled = choose_thresholds(probabilities, gold, counts, belief)
    given = cross_validated(probabilities, gold, counts, folds, belief)
    expected, score = _expected_and_reached(probabilities, gold, given)
    whole = fit_answers(expected.tolist(), score.tolist(), weights)
    _print_thresholds(task, thresholds, pooled)
    decisions = Decisions(
        temperature=each.temperature, bias=each.bias, thresholds=tuple(thresholds.tolist()), pooled=tuple(pooled)
    )
    answers = zip(probabilities, decisions.given(probabilities), strict=True)
    confidences = [whole.of_answer(expected_f1(*answer)) for answer in answers]
    return whole.model_copy(update={"decisions": decisions}), confidences


def folds_of(examples: Sequence[Example], blocks: Sequence[Block]) -> npt.NDArray[np.int64]:
    """The fold of each example, with whole blocks in one fold, shape [examples]."""
    fold = {example.meta.id: number % _FOLDS for number, block in enumerate(blocks) for example in block}
    return np.array([fold[example.meta.id] for example in examples])


def _expected_and_reached(probabilities: Floats, gold: Bools, given: Bools) -> tuple[Floats, Floats]:
    """(the expected F1 of each answer, its F1), shape [examples] each."""
    expected = np.array([expected_f1(*row) for row in zip(probabilities, given, strict=True)])
    both, either = (given & gold).sum(1), given.sum(1) + gold.sum(1)
    return expected, np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)


def _print_thresholds(task: MultiLabelTask, thresholds: Floats, pooled: Sequence[bool]) -> None:
    rare = [label for label, shared in zip(task.labels, pooled, strict=True) if shared]
    own = thresholds[[not each for each in pooled]]
    if len(rare) == len(pooled):
        say(f"  thresholds: {thresholds[0]:.2f} for every label: no label was seen to do better with its own")
        return
    summary = f"{len(own)} labels have their own, {own.min():.2f} to {own.max():.2f}"
    if rare:
        common = thresholds[list(pooled).index(True)]
        summary += (
            f"; {first_of(rare, _NAMED)} share one, {common:.2f}: fewer than {LEAST_POSITIVE} validation examples each"
        )
    say(f"  thresholds: {summary}")
