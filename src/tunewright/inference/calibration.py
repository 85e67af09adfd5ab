"""Calibrated confidence: nine in ten of the answers with a confidence of 90 % are right.

A model tuned on little data is overconfident. A temperature, fitted on the validation part, corrects that without
changing an answer. Sources: Guo et al. 2017 (temperature scaling, the expected calibration error), Platt 1999 (the same
for a single probability, with a bias).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from tunewright.core.artifacts import write_json
from tunewright.inference.thresholds import Decisions
from tunewright.models.files import require_file

CALIBRATION = "calibration.json"
MIN_EXAMPLES = 20
"""With fewer independent validation examples, confidence stays uncalibrated."""
BINS = 15
"""Bins of the expected calibration error, as in Guo et al."""
FALSE_ALARMS = 0.05
"""Share of the in-scope requests that may be flagged as out of scope."""
_LEAST = 1e-9
"""Probabilities are clipped this far from 0 and 1, where log-odds are infinite."""

Floats = npt.NDArray[np.float64]


class Calibration(BaseModel):
    """How a model's probabilities become its confidence. By default they stay as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(1.0, gt=0)
    """Divisor of the labels' log-probabilities, or of a written answer's log-odds."""
    bias: float = 0.0
    """Added to the log-odds of a written answer."""
    in_scope: float | None = None
    """Few requests like those of the validation part have a confidence below this; see `scope`. None: there were too
    few examples."""

    decisions: Decisions | None = None
    """How each label is decided in a task with several labels a text; None in other tasks, and by default."""

    def of_labels(self, log_probabilities: Floats) -> Floats:
        """Probabilities of the labels, shape [..., labels], which sum to one."""
        scaled = log_probabilities / self.temperature
        return np.asarray(np.exp(scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)))

    def of_answer(self, probability: float) -> float:
        """Confidence in a written answer. It stays 0 for an answer of which only parts fit the task."""
        if not probability or (self.temperature, self.bias) == (1, 0):
            return probability
        return float(_logistic(_log_odds(probability) / self.temperature + self.bias))


UNCALIBRATED = Calibration()


def save_calibration(calibration: Calibration, bundle: Path) -> None:
    write_json(bundle / CALIBRATION, calibration.model_dump(mode="json"))


def load_calibration(bundle: Path) -> Calibration:
    """Read a bundle's calibration. A bundle without one is not calibrated.

    Raises:
        ValueError: the file has other content.
        UserError: it is not a plain file.
    """
    file = bundle / CALIBRATION
    if not file.exists():
        return UNCALIBRATED
    require_file(file)
    return Calibration.model_validate_json(file.read_bytes())


def fit_labels(log_probabilities: Floats, gold: Sequence[int], weights: Sequence[float] | None = None) -> Calibration:
    """Fit the temperature that makes the right labels likeliest.

    Args:
        log_probabilities: shape [examples, labels].
        gold: the right label's number, shape [examples].
        weights: the weight of each example, shape [examples]. Copies, or rows of one group, are right or wrong
            together, so all of them count as one. One each by default.
    """
    from scipy.optimize import minimize_scalar

    counts = np.ones(len(gold)) if weights is None else np.asarray(weights, float)
    if round(counts.sum()) < MIN_EXAMPLES:
        return UNCALIBRATED
    rows = np.arange(len(gold))

    def loss(log_temperature: float) -> float:
        scaled = log_probabilities / np.exp(log_temperature)
        likely = scaled[rows, gold] - np.logaddexp.reduce(scaled, axis=1)
        return float(-np.average(likely, weights=counts) + _prior(counts.sum(), log_temperature))

    found = minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded")
    return Calibration(temperature=float(np.exp(found.x)))


def fit_answers(
    probabilities: Sequence[float], score: Sequence[float], weights: Sequence[float] | None = None
) -> Calibration:
    """Fit the temperature and bias that make the probability of a written answer its score on average.

    Args:
        probabilities: the model's probability of each answer. Those of 0 stay 0, so they have no part in it.
        score: the score of each answer, 0 to 1.
        weights: see `fit_labels`.
    """
    from scipy.optimize import minimize

    counts = np.ones(len(score)) if weights is None else np.asarray(weights, float)
    kept = np.asarray(probabilities, float) > 0
    counts = counts[kept]
    if round(counts.sum()) < MIN_EXAMPLES:
        return UNCALIBRATED
    odds, target = _log_odds(probabilities)[kept], np.asarray(score, float)[kept]

    def loss(at: Floats) -> float:
        scaled = odds / np.exp(at[0]) + at[1]
        cross_entropy = np.logaddexp(0, scaled) - target * scaled
        return float(np.average(cross_entropy, weights=counts) + _prior(counts.sum(), at[0], at[1] / 2))

    found = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-3.0, 3.0), (-10.0, 10.0)])
    return Calibration(temperature=float(np.exp(found.x[0])), bias=float(found.x[1]))


def scope(confidence: Sequence[float]) -> float | None:
    """The confidence below which at most `FALSE_ALARMS` of the in-scope requests are, on average. A request below it is
    likely to be out of scope. Source: split conformal prediction (Vovk et al. 2005).

    Args:
        confidence: the confidence in the answers to at least 19 in-scope requests. With fewer the result is None.
    """
    rank = int(FALSE_ALARMS * (len(confidence) + 1))
    return sorted(confidence)[rank - 1] if rank else None


def _prior(examples: float, *standardised: float) -> float:
    """Minus the log of a normal prior, per example. Without it, a few answers that are all right would make a model
    sure of everything."""
    return sum(value**2 for value in standardised) / 2 / examples


def scale_of(weights: Floats) -> float:
    """What weights are multiplied with, so that their sum is the number of examples of equal weight that would vary as
    much (Kish 1965). A fit takes the sum for a number of examples."""
    return float(weights.sum() / np.square(weights).sum()) if len(weights) else 1.0


@dataclass(frozen=True)
class Bin:
    """Answers of about equal confidence."""

    count: int
    confidence: float
    """Their mean confidence."""
    score: float
    """Their mean score; for labels, the share that is right."""
    weight: float
    """The sum of their weights."""
    effective: float
    """The number of answers of equal weight that would vary as much (Kish 1965)."""


def bins(confidence: Sequence[float], score: Sequence[float], weights: Sequence[float] | None = None) -> list[Bin]:
    """The bins of equal width that hold an answer, in rising confidence.

    Args:
        weights: how many answers each counts as; None: one.
    """
    x, y = np.asarray(confidence, float), np.asarray(score, float)
    counts = np.ones(len(x)) if weights is None else np.asarray(weights, float)
    place = np.minimum((x * BINS).astype(int), BINS - 1)

    def bin_of(here: npt.NDArray[np.bool_]) -> Bin:
        weight = counts[here]
        sure, right = (float(np.average(values[here], weights=weight)) for values in (x, y))
        total = float(weight.sum())
        return Bin(int(here.sum()), sure, right, total, total**2 / float(np.square(weight).sum()))

    return [bin_of(here) for number in range(BINS) if (here := place == number).any()]


def expected_calibration_error(
    confidence: Sequence[float], score: Sequence[float], weights: Sequence[float] | None = None
) -> float:
    """How far confidence is from the score: |confidence - score| of each bin, averaged over the answers.

    With few answers it is too high, because chance alone separates the two by `calibration_noise`.

    Args:
        weights: as for `bins`.
    """
    found = bins(confidence, score, weights)
    total = sum(each.weight for each in found)
    return sum(each.weight * abs(each.confidence - each.score) for each in found) / total


def calibration_noise(confidence: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """The expected calibration error that so many answers have on average if their confidence is exactly right.

    It is the mean absolute deviation of a binomial share in each bin, at the bin's mean confidence (De Moivre's
    formula; Diaconis & Zabell 1991). This holds for independent answers that are right or wrong. It is too high for
    graded answers, and too low for answers in groups.

    Args:
        confidence: the confidence of each answer, shape [n].
        weights: as for `bins`. An answer of weight k is one answer, not k, so a bin has its effective number.
    """
    from scipy.stats import binom

    found, total = bins(confidence, confidence, weights), 0.0
    for each in found:
        answers = round(each.effective)
        next_up = int(answers * each.confidence) + 1
        deviation = 2 * next_up * (1 - each.confidence) * float(binom.pmf(next_up, answers, each.confidence)) / answers
        total += each.weight * deviation
    return total / sum(each.weight for each in found)


def _log_odds(probability: Any) -> Floats:
    kept = np.clip(probability, _LEAST, 1 - _LEAST)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def _logistic(log_odds: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -log_odds)))
