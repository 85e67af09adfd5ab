"""Of several labels a text: how sure of each a bundle is, from which probability on each is given, and what the whole
answer is then worth; all from its own answers to the validation part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

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
    expected_f1,
    sigmoid,
    cross_validated,
)
from tunewright.tasks import Example, MultiLabelTask

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MOST_EXAMPLES = 5000
"""Validation examples that are asked: the threshold of a rare label takes as many as there are."""
_FOLDS = 5
_TOLD = 8
"""Labels that are named."""


def calibrate_sets(
    asked: LabelSetClassifier,
    task: MultiLabelTask,
    examples: Sequence[Example],
    weights: Sequence[float],
    blocks: Sequence[Block],
) -> tuple[Calibration, list[float]]:
    """(the calibration, how sure the model then is of each answer).

    The confidence of an answer is fitted to what answers are worth whose thresholds other examples chose.

    Args:
        asked: the bundle's model, not calibrated.
        weights: what each example counts: those of one block all as one.
        blocks: of examples that are right or wrong together.
    """
    logits, counts = asked.logits([example.request for example in examples]), np.asarray(weights, float)
    gold = held(task, examples)
    if round((counts @ gold).sum()) < MIN_EXAMPLES:
        say(f"  thresholds: 50 % for every label: fewer than {MIN_EXAMPLES} labels hold in independent examples")
        return UNCALIBRATED, [asked.answer(example.request).confidence or 0.0 for example in examples]
    each = fit_answers(
        sigmoid(logits).ravel().tolist(), gold.ravel().tolist(), np.repeat(counts, gold.shape[1]).tolist()
    )
    found = sigmoid(logits / each.temperature + each.bias)
    folds = folds_of(examples, blocks)
    belief = choose_belief(found, gold, counts, folds)
    thresholds, pooled = choose_thresholds(found, gold, counts, belief)
    likely, score = _expected_and_reached(found, gold, cross_validated(found, gold, counts, folds, belief))
    whole = fit_answers(likely.tolist(), score.tolist(), weights)
    _tell(task, thresholds, pooled)
    decisions = Decisions(
        temperature=each.temperature, bias=each.bias, thresholds=tuple(thresholds.tolist()), pooled=tuple(pooled)
    )
    sure = [whole.of_answer(expected_f1(row, given)) for row, given in zip(found, decisions.given(found), strict=True)]
    return whole.model_copy(update={"decisions": decisions}), sure


def folds_of(examples: Sequence[Example], blocks: Sequence[Block]) -> npt.NDArray[np.int64]:
    """Which of a few folds each example is in, whole blocks together, [examples]."""
    of = {example.meta.id: number % _FOLDS for number, block in enumerate(blocks) for example in block}
    return np.array([of[example.meta.id] for example in examples])


def _expected_and_reached(found: Floats, gold: Bools, given: Bools) -> tuple[Floats, Floats]:
    """(the F1 that each answer is expected to have, the one it has), [examples] each."""
    likely = np.array([expected_f1(*row) for row in zip(found, given, strict=True)])
    both, either = (given & gold).sum(1), given.sum(1) + gold.sum(1)
    return likely, np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)


def _tell(task: MultiLabelTask, thresholds: Floats, pooled: Sequence[bool]) -> None:
    rare = [label for label, shared in zip(task.labels, pooled, strict=True) if shared]
    own = thresholds[[not each for each in pooled]]
    if len(rare) == len(pooled):
        say(f"  thresholds: {thresholds[0]:.2f} for every label: none was seen to do better with one of its own")
        return
    said = f"{len(own)} labels have their own, {own.min():.2f} to {own.max():.2f}"
    if rare:
        common = thresholds[list(pooled).index(True)]
        more = f" and {len(rare) - _TOLD} more" if len(rare) > _TOLD else ""
        said += (
            f"; {', '.join(rare[:_TOLD])}{more} have that of all together, {common:.2f}: fewer than {LEAST_POSITIVE} "
            "validation examples each"
        )
    say(f"  thresholds: {said}")
