"""How far people who reviewed the same captures agree: Cohen's kappa (1960), and what they differ on."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session, aliased

from tunewright.evaluation.statistics.intervals import Interval, wilson
from tunewright.monitoring.store.tables import EXPERT, Capture, Review
from tunewright.review.history import by_id, recent

Table = Counter[tuple[str, str]]
"""How often two people said (this, that)."""
_RESAMPLES = 1000
_Cell = tuple[int, str, str]
"""Which pair of people, what the one said, what the other said."""
_Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Agreement:
    """Of two people, or of all pairs of them."""

    people: tuple[str, ...]
    both: int
    """Captures that both have reviewed."""
    same: Interval
    """Share of them to which both said the same."""
    kappa: Interval | None
    """Agreement beyond chance; None where it is not defined, because both always said one and the same thing."""


def agreements(session: Session, model: str, *, by_answer: bool) -> list[Agreement]:
    """That of each pair of people who have reviewed the same captures; where there are several pairs, that of all
    together comes first.

    Args:
        by_answer: compare answers; else whether they call the model's right, which is what can be compared where two
            people hardly write the same.
    """
    tables = _tables(session, model, by_answer=by_answer)
    each = [Agreement(people, *_measured([table])) for people, table in tables.items()]
    each.sort(key=lambda agreement: -agreement.both)
    return [Agreement((), *_measured(list(tables.values()))), *each] if len(each) > 1 else each


def _tables(session: Session, model: str, *, by_answer: bool) -> dict[tuple[str, str], Table]:
    sources = EXPERT[:-1]  # who settles has seen what others say
    first, second = aliased(Review, recent(sources)), aliased(Review)
    said = [(func.coalesce(each.answer, "") if by_answer else each.right) for each in (first, second)]
    found = (
        select(first.capture_id, first.reviewer, second.reviewer, *said)
        .join(second, and_(second.capture_id == first.capture_id, second.reviewer > first.reviewer))
        .where(second.undone.is_(None), second.source.in_(sources))
    )
    rows: list[Any] = list(session.execute(found))
    mine = {row[0] for row in by_id(session, select(Capture.id), model, {row[0] for row in rows})}
    tables: defaultdict[tuple[str, str], Table] = defaultdict(Counter)
    for capture_id, one, other, this, that in rows:
        if capture_id in mine:
            tables[one, other][str(this), str(that)] += 1
    return dict(tables)


def _measured(tables: list[Table]) -> tuple[int, Interval, Interval | None]:
    both = sum(table.total() for table in tables)
    same = sum(count for table in tables for (this, that), count in table.items() if this == that)
    return both, wilson(same, both), kappa(tables)


def kappa(tables: list[Table]) -> Interval | None:
    """Cohen's kappa with a bootstrap interval. Of several pairs of people: what each pair would agree on by chance is
    taken for itself, and summed.

    Where all agree, or all differ, no resample does otherwise; then the ends are those of Wilson's interval for the
    agreement.
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
    """The share that would agree if each person said what he says as often as he does, but at random."""
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
    """Captures that reviewers differ on and nobody has settled, the most urgent first."""
    found = select(Capture).where(Capture.model == model, Capture.state == "conflict")
    return list(session.scalars(found.order_by(Capture.priority.desc(), Capture.id.desc()).limit(limit)))
