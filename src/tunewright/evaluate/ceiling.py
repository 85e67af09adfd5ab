"""How often any system can agree with these labels: told by texts that were labelled more than once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tunewright.evaluate.statistics import Interval, Resamples
from tunewright.tasks import Example

LEAST_TEXTS = 30
"""Texts with several labels below which nothing is told."""


@dataclass(frozen=True)
class Ceiling:
    """What the labels of repeated texts say."""

    texts: int
    """Texts that were labelled more than once."""
    agreement: Interval
    """Share of the pairs of labels of one text that are the same."""
    accuracy: Interval
    """The accuracy that a system which is always right would reach."""


def ceiling(examples: Iterable[Example], labels: int, seed: int) -> Ceiling | None:
    """From how often two labels of one text agree.

    If a label is right with probability a, and else one of the other k - 1 at random, two labels of one text agree with
    probability a^2 + (1 - a)^2 / (k - 1); solved for a. Mistakes that are made again and again are not seen so.

    Args:
        labels: how many there are.

    Returns: None where fewer than LEAST_TEXTS texts stand in the data more than once.
    """
    given: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        given[" ".join(example.request.casefold().split())].append(example.answer)
    several = [answers for answers in given.values() if len(answers) > 1]
    if len(several) < LEAST_TEXTS:
        return None
    # Each text counts once, however often it stands there.
    agreed = np.array([_agreement(answers) for answers in several])
    (sums,) = Resamples(None, len(several), seed).sums(agreed)
    low, high = np.quantile(sums / len(several), [0.025, 0.975])
    found = Interval(float(agreed.mean()), float(low), float(high))
    return Ceiling(len(several), found, Interval(*(_right(share, labels) for share in (found.value, low, high))))


def _agreement(answers: Sequence[str]) -> float:
    """Share of the pairs of a text's labels that are the same."""
    same = sum(answers.count(answer) - 1 for answer in answers)
    return same / (len(answers) * (len(answers) - 1))


def _right(agreement: float, labels: int) -> float:
    """The probability that a label is right, from that two agree; below chance agreement 1 / k."""
    inside = (labels - 1) * (labels * agreement - 1)
    return (1 + math.sqrt(max(inside, 0.0))) / labels
