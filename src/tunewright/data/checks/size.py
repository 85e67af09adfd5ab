"""Whether a test can tell what it is for."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tunewright.data.checks.kinds import KINDS, Finding
from tunewright.data.checks.survey import Survey

_LEAST_MARGIN = 1e-4
_Z95 = 1.959964
"""The normal distribution's 97.5 % quantile."""


def needed(accuracy: float, margin: float) -> int:
    """Independent test examples for a 95 % interval of ± `margin` around `accuracy` (normal approximation)."""
    return math.ceil(accuracy * (1 - accuracy) * (_Z95 / margin) ** 2)


def small_tests(survey: Survey) -> Iterator[Finding]:
    """D023."""
    goal = survey.job.goal
    if goal.margin < _LEAST_MARGIN or goal.accuracy >= 1:
        return
    least = needed(goal.accuracy, goal.margin)
    if survey.tests:
        sizes = {name: len(split.table) for name, split in survey.tests.items()}
    else:
        sizes = {"test": int(survey.job.data.test_fraction * len(survey.train.table))}
    for name, size in sizes.items():
        if size < least:
            width = _Z95 * math.sqrt(goal.accuracy * (1 - goal.accuracy) / max(size, 1))
            groups = len(np.unique(survey.tests[name].table.group)) if name in survey.tests else size
            alike = f", and more as these come from {groups} groups" if 1 < groups < size else ""
            what = (
                f"{name}: {size} examples tell an accuracy of {100 * goal.accuracy:g} % to ± {100 * width:.1f} points; "
                f"± {100 * goal.margin:g} take {least}{alike}"
            )
            yield Finding("D023", "note", what, KINDS["D023"].fix, (), least - size, 1 - size / least, name)
