"""The agreement of people who reviewed the same captures (Cohen's kappa, 1960), and their conflicts."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import and_, case, func, select
from sqlalchemy.orm import Session, aliased

from tunewright.evaluation.statistics.intervals import Interval, wilson
from tunewright.monitoring.store.tables import EXPERT, Capture, Review
from tunewright.review.history import recent

Table = Counter[tuple[str, str]]
"""How often two people gave each pair of answers."""
_RESAMPLES = 1000
_Cell = tuple[int, str, str]
"""(the number of the pair of people, the first person's answer, the second person's answer)."""
_Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Agreement:
    """The agreement of two people, or of all pairs."""

    people: tuple[str, ...]
    both: int
    """Captures that both people reviewed."""
    same: Interval
    """The share of these captures to which both gave the same answer."""
    kappa: Interval | None
    """The agreement beyond chance; None if it is undefined, because both always gave one and the same answer."""


def agreements(session: Session, model: str, *, by_answer: bool) -> list[Agreement]:
    """The agreement of each pair of people who reviewed the same captures. With several pairs, the agreement of all
    pairs together comes first.

    Args:
        by_answer: compare answers; else compare whether people call the model's answer right, wrong, or neither,
            because two people hardly ever write the same text.
    """
    tables = _tables(session, model, by_answer=by_answer)
    each = [Agreement(people, *_measured([table])) for people, table in tables.items()]
    each.sort(key=lambda agreement: -agreement.both)
    return [Agreement((), *_measured(list(tables.values()))), *each] if len(each) > 1 else each


def _tables(session: Session, model: str, *, by_answer: bool) -> dict[tuple[str, str], Table]:
    sources = EXPERT[:-1]  # without `settle`, whose reviewer has seen the other reviews
    first, second = aliased(Review, recent(sources, model)), aliased(Review)
    this, that = (func.coalesce(each.answer, "") if by_answer else _verdict(each) for each in (first, second))
    query = (
        select(first.reviewer, second.reviewer, this, that)
        .join(second, and_(second.capture_id == first.capture_id, second.reviewer > first.reviewer))
        .where(second.undone.is_(None), second.source.in_(sources))
    )
    tables: defaultdict[tuple[str, str], Table] = defaultdict(Counter)
    for one, other, *said in session.execute(query):
        tables[one, other][str(said[0]), str(said[1])] += 1
    return dict(tables)


def _verdict(review: Any) -> Any:
    """Whether a review calls the model's answer right or wrong; neither if no answer is right or nobody can tell."""
    return case((review.right, "right"), (review.answer.is_(None), "neither"), else_="wrong")


def _measured(tables: list[Table]) -> tuple[int, Interval, Interval | None]:
    both = sum(table.total() for table in tables)
    same = sum(count for table in tables for (this, that), count in table.items() if this == that)
    return both, wilson(same, both), kappa(tables)


def kappa(tables: list[Table]) -> Interval | None:
    """Cohen's kappa with a bootstrap interval. For several pairs of people, the agreement by chance is computed for
    each pair and summed.

    If all answers agree, or none do, every resample gives the same value. The interval is then derived from Wilson's
    interval of the agreement.
    """
    cells = [(number, this, that) for number, table in enumerate(tables) for this, that in table]
    counts = np.array([count for table in tables for count in table.values()])
    value = float(_kappas(counts[None, :], cells)[0])
    if np.isnan(value):
        return None
    draws = np.random.default_rng(0).multinomial(counts.sum(), counts / counts.sum(), _RESAMPLES)
    low, high = np.nanquantile(_kappas(draws, cells), [0.025, 0.975])
    if low == high:
        chance = float(_by_chance(counts[None, :], cells)[0])
        same = wilson(int(counts[[this == that for _, this, that in cells]].sum()), int(counts.sum()))
        low, high = ((end - chance) / (1 - chance) for end in (same.low, same.high))
    return Interval(value, float(low), float(high))


def _kappas(draws: _Numbers, cells: list[_Cell]) -> _Numbers:
    agreed = draws[:, [this == that for _, this, that in cells]].sum(axis=1) / draws.sum(axis=1)
    chance = _by_chance(draws, cells)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(chance < 1, (agreed - chance) / (1 - chance), np.nan))


def _by_chance(draws: _Numbers, cells: list[_Cell]) -> _Numbers:
    """The share that would agree by chance if each person gave each answer at random, as often as they really do."""
    total = np.zeros(len(draws))
    for pair in {number for number, *_ in cells}:
        mine = [index for index, cell in enumerate(cells) if cell[0] == pair]
        labels = sorted({cells[index][side] for index in mine for side in (1, 2)})
        rows, columns = (
            np.array([[cells[index][side] == label for label in labels] for index in mine]) for side in (1, 2)
        )
        drawn = draws[:, mine]
        of_pair = drawn.sum(axis=1)
        total += ((drawn @ rows) * (drawn @ columns)).sum(axis=1) / np.maximum(of_pair, 1)
    return np.asarray(total / draws.sum(axis=1))


def conflicts(session: Session, model: str, limit: int = 100) -> list[Capture]:
    """Captures with different reviews that nobody has settled, the most urgent first."""
    query = select(Capture).where(Capture.model == model, Capture.state == "conflict")
    return list(session.scalars(query.order_by(Capture.priority.desc(), Capture.id.desc()).limit(limit)))
