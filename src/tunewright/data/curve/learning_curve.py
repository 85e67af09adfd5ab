"""A learning curve of the cheap model, extrapolated with an interval: how much more data would help.

The cheap model is the linear support vector machine of `tunewright.data.curve.classical`. A tuned language model starts
with more knowledge and usually gains less from more rows, so the answer is rather an upper bound for it, not a
forecast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tunewright.config import Spec
from tunewright.config.sections import MultiLabelSpec
from tunewright.core.errors import UserError
from tunewright.data.curve.curve_points import Points, measure
from tunewright.data.curve.power_law import NOMINAL, Curves, Floats, fit
from tunewright.data.splits.folds import group_of
from tunewright.tasks import Example

FACTORS = (2, 5)
"""Multiples of the data to which the curve is extrapolated."""
LEAST_ROWS = 100
LEAST_ROWS_A_LABEL = 10
"""With fewer, the smallest and the largest usable size are too close together to show a slope."""
LEAST_GROUPS_A_LABEL = 4
NORMAL_90 = 1.645
"""Half the width of a 90 % interval, in standard deviations."""
FLAT = 0.005
"""Largest gain from doubling the data at which the curve counts as flat: half a point."""


@dataclass(frozen=True)
class CurveRange:
    """An estimate with the ends of its 90 % interval, as a share of right answers (or a difference of such)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CurvePoint:
    """The measurement at one size."""

    rows: int
    accuracy: CurveRange


@dataclass(frozen=True)
class CurveForecast:
    """The forecast for more data."""

    factor: int
    rows: int
    accuracy: CurveRange
    gain: CurveRange
    """Difference from the accuracy with the present rows."""


@dataclass(frozen=True)
class LearningCurve:
    rows: int
    labels: int
    groups: int
    """Number of groups: rows that may fail for one reason are one, and so are equal texts."""
    shape: Literal["rising", "flat", "unclear", "too few rows"]
    sentence: str
    """The answer, for a manager."""
    points: tuple[CurvePoint, ...] = ()
    now: CurveRange | None = None
    """Accuracy with all present rows; None where there are too few rows."""
    macro_f1: float | None = None
    """Mean F1 of the labels, measured at the largest size."""
    forecasts: tuple[CurveForecast, ...] = ()
    """One for each of FACTORS; empty where there are too few rows."""
    rows_needed: int | None = None
    """Number of rows that would be enough; only where these are too few."""


def require_one_label(spec: Spec) -> None:
    """Refuse a task with several labels a row, before reading any data.

    Raises:
        UserError: the task has several labels a row.
    """
    if isinstance(spec.task, MultiLabelSpec):
        raise UserError(
            f"This forecast does not support tasks with several labels a row, and {spec.name} is one.",
            where="task.kind",
            why="It uses a model that gives each row one of a few answers.",
            fix="Train it, which takes minutes: tunewright run …",
        )


def learning_curve(examples: Sequence[Example], seed: int) -> LearningCurve:
    """Measure the cheap model's learning curve and extrapolate it.

    Takes about a minute at most: with very many rows the measured sizes shrink.

    Args:
        examples: of a classification, in any order; every cut keeps a group on one side.
        seed: of folds, subsets and draws.

    Raises:
        UserError: the answers are no fixed set of labels, or there is only one label.
    """
    labels = len({example.answer for example in examples})
    groups = len({group_of(example) for example in examples})
    _require_labels(len(examples), labels)
    needed = _rows_needed(len(examples), labels, groups)
    if needed:
        sentence = (
            f"{len(examples):,} rows are too few to say what more would bring; about {needed:,} would be enough for "
            f"{labels} labels."
        )
        return LearningCurve(len(examples), labels, groups, "too few rows", sentence, rows_needed=needed)
    points = measure(examples, seed)
    curves = fit(points.sizes, points.errors, points.covariance, len(examples) / groups, seed)
    forecasts = tuple(_forecast(curves, len(examples), factor) for factor in FACTORS)
    shape = _shape(forecasts[0].gain)
    return LearningCurve(
        rows=len(examples),
        labels=labels,
        groups=groups,
        shape=shape,
        sentence=_sentence(shape, forecasts),
        points=_measured(points),
        now=range_of(1 - curves.now(len(examples))),
        macro_f1=points.macro_f1,
        forecasts=forecasts,
    )


def is_classification(rows: int, labels: int) -> bool:
    """Whether so many different answers in so many rows can be labels of a fixed set; in a handful of rows any can."""
    return labels <= max(rows / 2, 10)


def _require_labels(rows: int, labels: int) -> None:
    if labels < 2:
        raise UserError(
            f"There {'is one label' if labels else 'are no rows'}; a learning curve needs two labels or more.",
            fix="Add rows of other labels.",
        )
    if not is_classification(rows, labels):
        raise UserError(
            f"{rows:,} rows have {labels:,} different answers.",
            why="The cheap model works only for classification, where each answer is one of a few labels.",
            fix="For free text and extraction there is no shortcut: train on half of the data and on all of it, and "
            "compare.",
        )


def _rows_needed(rows: int, labels: int, groups: int) -> int | None:
    """The number of rows needed for a forecast, or None where these are enough."""
    enough = max(LEAST_ROWS, LEAST_ROWS_A_LABEL * labels)
    if rows < enough:
        return enough
    if groups < LEAST_GROUPS_A_LABEL * labels:
        return math.ceil(rows * LEAST_GROUPS_A_LABEL * labels / groups)
    return None


def _measured(points: Points) -> tuple[CurvePoint, ...]:
    width = NORMAL_90 * np.sqrt(np.diag(points.covariance))
    return tuple(
        CurvePoint(round(size), CurveRange(1 - error, max(0.0, 1 - error - half), min(1.0, 1 - error + half)))
        for size, error, half in zip(points.sizes.tolist(), points.errors.tolist(), width.tolist(), strict=True)
    )


def _forecast(curves: Curves, rows: int, factor: int) -> CurveForecast:
    now, then = curves.now(rows), curves.later(factor * rows)
    return CurveForecast(factor, factor * rows, range_of(1 - then), range_of(now - then))


def range_of(draws: Floats) -> CurveRange:
    """The median of draws, and the interval that holds a share NOMINAL of them."""
    low, value, high = np.quantile(draws, [(1 - NOMINAL) / 2, 0.5, (1 + NOMINAL) / 2])
    return CurveRange(float(value), float(low), float(high))


def _shape(doubled: CurveRange) -> Literal["rising", "flat", "unclear"]:
    if doubled.high < FLAT:
        return "flat"
    return "rising" if doubled.low > 0.0005 else "unclear"


def _sentence(shape: str, forecasts: Sequence[CurveForecast]) -> str:
    twice, more = forecasts[0].gain, forecasts[-1]
    if shape == "flat":
        return (
            f"The curve is flat: twice the data would gain {_points(max(twice.high, 0.0))} points at most with this "
            "cheap model; better labels or a better model would help more."
        )
    if shape == "unclear":
        return (
            f"Twice the data would change this cheap model by {_points(twice.low)} to {_points(twice.high)} points: "
            "too wide a range to promise a gain."
        )
    return (
        f"Twice the data would gain about {_points(twice.value)} points ({_points(twice.low)} to "
        f"{_points(twice.high)}) with this cheap model; {more.factor} times the data about "
        f"{_points(more.gain.value)} ({_points(more.gain.low)} to {_points(more.gain.high)})."
    )


def _points(share: float) -> str:
    return f"{100 * share:.1f}"
