"""How often any system can agree with these labels, estimated from texts that were labelled more than once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunewright.evaluation.statistics.intervals import Interval, ratio
from tunewright.tasks import Example
from tunewright.tasks.measures import Ratio

LEAST_TEXTS = 30
"""With fewer texts that have several labels there is no estimate."""
UNSEEN = (
    "The estimate sees only texts that occur in the data more than once, often the short and easy ones; where hard "
    "texts carry more wrong labels, the true limit is lower."
)
"""What a ceiling can't see."""


@dataclass(frozen=True)
class Ceiling:
    """The ceiling that the labels of repeated texts imply."""

    texts: int
    """Texts that were labelled more than once."""
    agreement: Interval
    """Share of the pairs of labels of one text that are the same."""
    accuracy: Interval
    """The accuracy that a system which is always right would reach."""


def label_ceiling(examples: Iterable[Example], labels: int) -> Ceiling | None:
    """Estimate the ceiling from how often two labels of one text agree.

    If a label is right with probability a, and else one of the other k - 1 at random, two labels of one text agree with
    probability a^2 + (1 - a)^2 / (k - 1). This equation is solved for a. It does not see mistakes that people make
    again and again, nor noise in hard texts, which seldom occur twice.

    Args:
        labels: the number of different labels.

    Returns: None where fewer than LEAST_TEXTS texts occur in the data more than once.
    """
    given: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        given[" ".join(example.request.casefold().split())].append(example.answer)
    several = [answers for answers in given.values() if len(answers) > 1]
    if len(several) < LEAST_TEXTS:
        return None
    # Each text counts once, however often it occurs.
    agreement = ratio([Ratio(_agreement(answers), 1) for answers in several], None)
    right = Interval(
        right_from_agreement(agreement.value, labels),
        right_from_agreement(agreement.low, labels),
        right_from_agreement(agreement.high, labels),
    )
    return Ceiling(len(several), agreement, right)


def _agreement(answers: Sequence[str]) -> float:
    """Share of the pairs of a text's labels that are the same."""
    same = sum(answers.count(answer) - 1 for answer in answers)
    return same / (len(answers) * (len(answers) - 1))


def right_from_agreement(agreement: float, labels: int) -> float:
    """The probability that a label is right, from the probability that two agree; below chance agreement 1 / k."""
    inside = (labels - 1) * (labels * agreement - 1)
    return (1 + math.sqrt(max(inside, 0.0))) / labels
