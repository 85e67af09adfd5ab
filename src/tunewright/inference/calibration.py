"""Confidence that means what it says: of the answers it is 90 % sure of, nine in ten are right.

A model tuned on little data is surer than it should be. A temperature, fitted on the validation part, mends that. It
does not change an answer. Sources: Guo et al. 2017 (temperature scaling, the expected calibration error), Platt 1999
(the same for a single probability, with a bias).
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
"""With fewer independent validation examples confidence stays as the model gives it."""
BINS = 15
"""Of the expected calibration error, as in Guo et al."""
FALSE_ALARMS = 0.05
"""Share of the requests in scope that may be taken for others."""
_LEAST = 1e-9
"""Probabilities are kept this far from 0 and 1, where log-odds have no value."""

Floats = npt.NDArray[np.float64]


class Calibration(BaseModel):
    """How a model's probabilities become its confidence. By default they are left as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(1.0, gt=0)
    """Log-probabilities of labels, or the log-odds of an answer that was written, are divided by it."""
    bias: float = 0.0
    """Added to the log-odds of an answer that was written."""
    in_scope: float | None = None
    """Confidence below which few requests like the validation part's are; see `scope`. None: too few are known."""

    decisions: Decisions | None = None
    """Of several labels a text, how each is decided; None of other tasks, and where nothing was chosen."""

    def of_labels(self, log_probabilities: Floats) -> Floats:
        """Probabilities of the labels, shape [..., labels], which sum to one."""
        scaled = log_probabilities / self.temperature
        return np.asarray(np.exp(scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)))

    def of_answer(self, probability: float) -> float:
        """Confidence in an answer that was written."""
        if (self.temperature, self.bias) == (1, 0):
            return probability
        return float(_logistic(_log_odds(probability) / self.temperature + self.bias))


UNCALIBRATED = Calibration()


def save_calibration(calibration: Calibration, bundle: Path) -> None:
    write_json(bundle / CALIBRATION, calibration.model_dump(mode="json"))


def load_calibration(bundle: Path) -> Calibration:
    """That of a bundle; one that says nothing of it is not calibrated.

    Raises:
        ValueError: the file says something else.
        UserError: it is no plain file.
    """
    file = bundle / CALIBRATION
    if not file.exists():
        return UNCALIBRATED
    require_file(file)
    return Calibration.model_validate_json(file.read_bytes())


def fit_labels(log_probabilities: Floats, gold: Sequence[int], weights: Sequence[float] | None = None) -> Calibration:
    """The temperature that makes the right labels likeliest.

    Args:
        log_probabilities: shape [examples, labels].
        gold: the right label's number, shape [examples].
        weights: what each example counts, shape [examples]; of those that are right or wrong together, copies or rows
            of one group, all count as one. One each by default.
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
    """The temperature and bias that make the probability of a written answer what it is worth on average.

    Args:
        probabilities: the model's, of each answer.
        worth: of each answer, 0 to 1.
        weights: as in `fit_labels`.
    """
    from scipy.optimize import minimize

    counts = np.ones(len(score)) if weights is None else np.asarray(weights, float)
    if round(counts.sum()) < MIN_EXAMPLES:
        return UNCALIBRATED
    odds, aim = _log_odds(probabilities), np.asarray(score, float)

    def loss(at: Floats) -> float:
        scaled = odds / np.exp(at[0]) + at[1]
        cross_entropy = np.logaddexp(0, scaled) - aim * scaled
        return float(np.average(cross_entropy, weights=counts) + _prior(counts.sum(), at[0], at[1] / 2))

    found = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-3.0, 3.0), (-10.0, 10.0)])
    return Calibration(temperature=float(np.exp(found.x[0])), bias=float(found.x[1]))


def scope(confidence: Sequence[float]) -> float | None:
    """A confidence below which at most `FALSE_ALARMS` of the requests like some are, on average over such requests:
    what is below it is likely to be something else. Source: split conformal prediction (Vovk et al. 2005).

    Args:
        confidence: in the answers to these requests, of which there must be 19 at least.
    """
    rank = int(FALSE_ALARMS * (len(confidence) + 1))
    return sorted(confidence)[rank - 1] if rank else None


def _prior(examples: float, *standardised: float) -> float:
    """Minus the log of a normal prior, an example's share: a few answers that are all right must not make a model sure
    of everything."""
    return sum(value**2 for value in standardised) / 2 / examples


@dataclass(frozen=True)
class Bin:
    """Answers of about equal confidence."""

    count: int
    confidence: float
    """Their mean."""
    score: float
    """What they are worth on average: of labels, the share that is right."""


def bins(confidence: Sequence[float], score: Sequence[float]) -> list[Bin]:
    """The bins of equal width that hold an answer, the least sure first."""
    sure, values = np.asarray(confidence, float), np.asarray(score, float)
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    return [
        Bin(int(here.sum()), float(sure[here].mean()), float(values[here].mean()))
        for number in range(BINS)
        if (here := place == number).any()
    ]


def expected_calibration_error(confidence: Sequence[float], score: Sequence[float]) -> float:
    """How far confidence is from what answers are worth: the mean over the answers of |confidence - worth| of a bin.

    Of few answers it is too high: chance alone parts the two, by `calibration_noise`.
    """
    found = bins(confidence, score)
    return sum(each.count * abs(each.confidence - each.score) for each in found) / len(score)


def calibration_noise(confidence: Sequence[float]) -> float:
    """The expected calibration error that so many answers show on average if their confidence is exactly right.

    The mean absolute deviation of a binomial share in each bin, taken at the bin's mean confidence (De Moivre's
    formula; Diaconis & Zabell 1991). For right and wrong answers that are independent: of graded answers it is too
    high, of answers in groups too low.

    Args:
        confidence: of each answer, shape [n].
    """
    from scipy.stats import binom

    total = 0.0
    for each in bins(confidence, confidence):
        next_up = int(each.count * each.confidence) + 1
        total += 2 * next_up * (1 - each.confidence) * float(binom.pmf(next_up, each.count, each.confidence))
    return total / len(confidence)


def _log_odds(probability: Any) -> Floats:
    kept = np.clip(probability, _LEAST, 1 - _LEAST)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def _logistic(log_odds: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -log_odds)))
