"""How far a judge's marks agree with people's marks of the same answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.evaluation.api.judge import rows_of_people
from tunewright.evaluation.marks.marking import MARKS, MarkedText
from tunewright.evaluation.statistics.intervals import RESAMPLES, Interval, Z, wilson

MARGIN = 0.1
"""The margin of a share for which `enough` is told."""
_TO_TELL, _A_SIDE = 30, 5
"""From so many marks, with so many on either side of the least mark, an agreement beyond chance should show."""
_CHANCE = 0.025
"""One-sided error of the test for it."""


@dataclass(frozen=True)
class PeoplesMark:
    """A mark that people gave an answer."""

    text: MarkedText
    mark: int


@dataclass(frozen=True)
class MarkAgreement:
    """People's marks against the judge's."""

    rows: int
    unread: int
    """Further answers to which the judge gave no mark."""
    same: Interval
    """Share of answers to which both give the same mark."""
    within_one: Interval
    kappa: Interval
    """Cohen's kappa with quadratic weights: 1 is full agreement, 0 is chance. The interval is a bootstrap's. Source:
    Cohen 1968."""
    least: int
    missed: Interval | None
    """Of the answers that people put below the least mark, the share that the judge does not; None: there are none."""
    lost: Interval | None
    """Of the answers that people do not put below it, the share that the judge does; None: there are none."""
    right: Interval | None
    """Of the answers that the judge puts below it, the share that people do too; None: there are none."""
    below: int
    """Answers that people put below the least mark."""
    p_value: float
    """Of Fisher's exact test, one-sided, that the judge puts more of what people put below the least mark there than of
    the rest. Source: Fisher 1935."""

    @property
    def beyond_chance(self) -> bool:
        return self.p_value < _CHANCE

    @property
    def by_chance(self) -> bool:
        """Whether the marks are enough to show an agreement, and show none; fewer marks prove nothing either way."""
        enough = self.rows >= _TO_TELL and min(self.below, self.rows - self.below) >= _A_SIDE
        return enough and not self.beyond_chance

    @property
    def sentences(self) -> list[str]:
        told = [
            f"Of {self.rows:,} answers that people marked, the judge gives {_share(self.same)} the same mark and "
            f"{_share(self.within_one)} one within one mark; kappa with quadratic weights is {self.kappa.value:.2f} "
            f"({self.kappa.low:.2f} to {self.kappa.high:.2f})."
        ]
        if self.missed:
            told.append(
                f"Of {self.below:,} answers that people put below {self.least}, the judge keeps {_share(self.missed)}."
            )
        if self.lost:
            told.append(f"Of {self.rows - self.below:,} that people keep, the judge leaves out {_share(self.lost)}.")
        if self.right:
            told.append(f"People would leave out {_share(self.right)} of what the judge leaves out.")
        if self.missed and (self.missed.high - self.missed.low) / 2 > MARGIN:
            told.append(
                f"To tell the share that it keeps to within {100 * MARGIN:.0f} points (95 %) takes about "
                f"{self.rows * enough(MARGIN) / self.below:,.0f} marks of rows drawn at random."
            )
        if self.unread:
            told.append(f"It gave no mark to {self.unread:,} further answers that people marked.")
        if not self.beyond_chance and not self.by_chance:
            told.append(
                "These marks are too few to show that the judge agrees with people more than by chance: that takes at "
                f"least {_TO_TELL}, of them {_A_SIDE} below {self.least} and {_A_SIDE} not below it."
            )
        return told


def _share(interval: Interval) -> str:
    return f"{interval.value:.0%} ({interval.low:.0%} to {interval.high:.0%})"


def enough(margin: float) -> int:
    """Marks after which no share's interval (95 %) is wider than `margin` to either side.

    Source: Wilson's interval at a share of one half, where it is widest, solved for the number of trials.
    """
    return max(1, math.ceil((Z / (2 * margin)) ** 2 - Z**2))


def agreement_of(people: Sequence[int], judge: Sequence[int | None], least: int, seed: int) -> MarkAgreement | None:
    """Compare marks of the same answers; None where the judge marked none of them."""
    from scipy.stats import fisher_exact

    pairs = [(theirs, its) for theirs, its in zip(people, judge, strict=True) if its is not None]
    if not pairs:
        return None
    theirs, its = np.array(pairs).T
    out, below = its < least, theirs < least
    table = [
        [int((out & below).sum()), int((~out & below).sum())],
        [int((out & ~below).sum()), int((~out & ~below).sum())],
    ]
    (found, missed), (lost, kept) = table
    return MarkAgreement(
        len(pairs),
        len(people) - len(pairs),
        wilson(int((theirs == its).sum()), len(pairs)),
        wilson(int((abs(theirs - its) <= 1).sum()), len(pairs)),
        _kappa(theirs, its, seed),
        least,
        wilson(missed, found + missed) if found + missed else None,
        wilson(lost, lost + kept) if lost + kept else None,
        wilson(found, found + lost) if found + lost else None,
        found + missed,
        float(fisher_exact(table, alternative="greater").pvalue),
    )


def _kappa(first: Any, second: Any, seed: int) -> Interval:
    rows = np.random.default_rng(seed).integers(0, len(first), (RESAMPLES, len(first)))
    low, high = np.quantile(_weighted(first[rows], second[rows]), [0.025, 0.975])
    value = float(_weighted(first, second))
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _weighted(first: Any, second: Any) -> Any:
    """Kappa with quadratic weights: one minus the mean squared difference over that of independent marks with the same
    distributions, which is the sum of both variances and the squared difference of both means. Where nothing varies at
    all, both always say the same, and kappa counts as 1 only there.
    """
    apart = ((first - second) ** 2).mean(-1)
    by_chance = first.var(-1) + second.var(-1) + (first.mean(-1) - second.mean(-1)) ** 2
    return np.where(by_chance > 0, 1 - apart / np.where(by_chance > 0, by_chance, 1), 1.0)


def peoples_marks(spec: Spec) -> list[PeoplesMark]:
    """The marks of `judge.human_marks`, without rows that wait for one; empty if the spec names no file.

    Raises:
        UserError: the file can't be read, or a row is none of the form, or no row has a mark.
    """
    if spec.judge is None or spec.judge.human_marks is None:
        return []
    file, marked = spec.path(spec.judge.human_marks), []
    form = 'Each row is {"text": …, "answer": …, "mark": 1 to 5}; a row whose mark is null waits for one.'
    for number, row in rows_of_people(file, "judge.human_marks", form):
        request, answer, mark = (row.get(name) for name in ("text", "answer", "mark"))
        if not isinstance(request, str) or not isinstance(answer, str) or "mark" not in row:
            raise UserError("This row is no marked answer.", where=f"{file}:{number}", fix=form)
        if mark is None or mark == "":
            continue
        if str(mark) not in map(str, MARKS):
            raise UserError("This mark is none of 1 to 5.", where=f"{file}:{number}", fix=form)
        marked.append(PeoplesMark(MarkedText(request, answer), int(mark)))
    if not marked:
        raise UserError("No row of this file has a mark yet.", where=file, fix=form)
    return marked
