"""How often any system can agree with these labels: told by texts that were labelled more than once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunewright.evaluation.statistics.intervals import Interval, ratio
from tunewright.tasks import Example
from tunewright.tasks.measures import Ratio

LEAST_TEXTS = 30
"""Texts with several labels below which nothing is told."""
UNSEEN = (
    "Only texts that stand in the data more than once are seen, and these are often the short and easy ones; where "
    "hard texts carry more wrong labels, the true limit is lower."
)
"""What a ceiling can't see."""


@dataclass(frozen=True)
class Ceiling:
    """What the labels of repeated texts say."""

    texts: int
    """Texts that were labelled more than once."""
    agreement: Interval
    """Share of the pairs of labels of one text that are the same."""
    accuracy: Interval
    """The accuracy that a system which is always right would reach."""


def ceiling(examples: Iterable[Example], labels: int) -> Ceiling | None:
    """From how often two labels of one text agree.

    If a label is right with probability a, and else one of the other k - 1 at random, two labels of one text agree with
    probability a^2 + (1 - a)^2 / (k - 1); solved for a. Mistakes that are made again and again are not seen so,
    nor is noise that sits in hard texts, which seldom stand there twice.

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
    found = ratio([Ratio(_agreement(answers), 1) for answers in several], None)
    right = Interval(_right(found.value, labels), _right(found.low, labels), _right(found.high, labels))
    return Ceiling(len(several), found, right)


def _agreement(answers: Sequence[str]) -> float:
    """Share of the pairs of a text's labels that are the same."""
    same = sum(answers.count(answer) - 1 for answer in answers)
    return same / (len(answers) * (len(answers) - 1))


def _right(agreement: float, labels: int) -> float:
    """The probability that a label is right, from that two agree; below chance agreement 1 / k."""
    inside = (labels - 1) * (labels * agreement - 1)
    return (1 + math.sqrt(max(inside, 0.0))) / labels
