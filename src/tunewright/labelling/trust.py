"""How likely a label is right: the teachers' agreement and a cheap model's opinion, weighed by what people say.

A cheap model that has learnt from the teachers' labels does not repeat their single mistakes, so where it contradicts
a label, that label is more often wrong (Northcutt et al. 2021). How much more often, only people's answers tell: a
logistic regression on the sample that they answered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEAST_ANSWERED, LEAST_OF_EACH = 50, 5
"""With fewer answers of people, or fewer right or wrong labels among them, nothing is learnt from them."""
LEAST_TRUST = 0.05
"""The least weight of a label that is kept."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trust:
    """From what is known of a label to the probability that it is right.

    Args:
        coefficients: of the agreement's logit, and of the opinion; None: the agreement itself is the probability.
    """

    coefficients: Floats | None = None
    intercept: float = 0.0

    def of(self, agreements: Floats, opinions: Floats) -> Floats:
        """The probabilities, [rows], from `LEAST_TRUST` to 1.

        Args:
            agreements: of the teachers, from 0 to 1.
            opinions: the cheap model's: how far the label lies before the best other one; negative where it chooses
                another.
        """
        if self.coefficients is None:
            return np.clip(agreements, LEAST_TRUST, 1.0)
        logits = _features(agreements, opinions) @ self.coefficients + self.intercept
        return np.clip(1 / (1 + np.exp(-logits)), LEAST_TRUST, 1.0)


def learn_trust(agreements: Floats, opinions: Floats, right: Sequence[bool]) -> Trust:
    """Learn from labels that people answered too.

    Args:
        right: whether each label is people's.
    """
    counted = len(right), sum(right), len(right) - sum(right)
    if counted[0] < LEAST_ANSWERED or min(counted[1:]) < LEAST_OF_EACH:
        return Trust()
    return _fitted(_features(agreements, opinions), list(right))


def _fitted(features: Floats, right: list[bool]) -> Trust:
    """A logistic regression without the features that would count against a label, which are none: agreement and a good
    opinion speak for it. It is fitted without them, because the intercept belongs to the features that are used: only
    then the mean probability is the share of right labels."""
    from sklearn.linear_model import LogisticRegression

    coefficients, used = np.zeros(features.shape[1]), list(range(features.shape[1]))
    while used:
        fitted = LogisticRegression().fit(features[:, used], right)
        if fitted.coef_.min() >= 0:
            coefficients[used] = fitted.coef_[0]
            return Trust(coefficients, float(fitted.intercept_[0]))
        del used[int(fitted.coef_[0].argmin())]
    return Trust(coefficients, math.log(sum(right) / (len(right) - sum(right))))


def _features(agreements: Floats, opinions: Floats) -> Floats:
    held = np.clip(agreements, 0.02, 0.98)
    return np.stack([np.log(held / (1 - held)), np.clip(opinions, -2.0, 2.0)], axis=1)
