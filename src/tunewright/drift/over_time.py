"""Looking every day without crying wolf: how a month's probability of a false alarm is spent.

Each day three windows that end with it are tested: the day, for what breaks; the week and four weeks, for what creeps.
Every test gets its share of the month's probability beforehand (alpha spending, Lan & DeMets 1983; the shares are
Bonferroni's), so that the month's is kept however the tests depend on each other, and they do: windows overlap, and all
are compared with one reference. A sequential chart (CUSUM, Page 1954) would be quicker to see what creeps, but adds up
any small difference between a reference and undrifted traffic, which a sample of a few hundred always has, until it
alarms.
"""

from __future__ import annotations

MONTH = 0.05
"""Probability of a false alarm in a month in which nothing changes."""
CHECKS = 30
"""In a month: one a day."""
DAYS = (1, 7, 28)
"""Lengths of the windows."""
_TESTS = len(DAYS) + 1
"""Each day: the windows, and accuracy where there are reviews."""


def alpha_of_a_test() -> float:
    """The probability that one window, or accuracy, is falsely called drift at one check."""
    return MONTH / CHECKS / _TESTS
