"""What several teachers' labels are worth, from how they agree, and from what people say where they did.

Dawid & Skene 1979: each teacher has a table of how often it calls each label by which name; the tables and the true
labels are estimated in turn. With many labels a table has more cells than there are rows, so each row of it is drawn
towards the teacher's overall accuracy (a Dirichlet prior). Rows that people answered are known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NONE = -1
"""No vote, or no known label."""
_PRIOR_ROWS = 8.0
"""How many rows of a label the prior of a teacher's table counts as, and one more for each label. With less, tables of
77 labels learn the noise of 2,000 rows, and poor teachers outvote a good one (`bench/teachers.py prior`)."""
_FIRST_ACCURACY, _FIRST_ROWS = 0.8, 4.0
"""What is believed of a teacher before the first row, and how many rows that counts as."""
_ROUNDS, _NEAR = 100, 1e-5

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """What the votes say."""

    posterior: Floats
    """The probability of each label, [rows, labels]."""
    accuracy: Floats
    """Of each teacher, as far as the votes and the known labels tell."""


def dawid_skene(votes: Indices, labels: int, known: Indices | None = None) -> Estimate:
    """Estimate the true labels.

    Args:
        votes: the number of the label that each teacher gave, [rows, teachers], or `NONE`. Rows without a vote get the
            share of each label.
        labels: how many there are.
        known: the number of the true label of each row, or `NONE`.
    """
    rows, teachers = votes.shape
    known = np.full(rows, NONE) if known is None else known
    fixed = known != NONE
    posterior = _fix(_majority(votes, labels), known, fixed)
    accuracy = np.full(teachers, _FIRST_ACCURACY)
    for _ in range(_ROUNDS):
        share = (posterior.sum(0) + 1) / (rows + labels)
        logs = np.tile(np.log(share), (rows, 1))
        for teacher in range(teachers):
            said = votes[:, teacher]
            voted = np.flatnonzero(said != NONE)
            counts = np.zeros((labels, labels))
            np.add.at(counts.T, said[voted], posterior[voted])
            hits = counts.trace()
            accuracy[teacher] = (hits + _FIRST_ROWS * _FIRST_ACCURACY) / (len(voted) + _FIRST_ROWS)
            prior = np.full((labels, labels), (1 - accuracy[teacher]) / max(labels - 1, 1))
            np.fill_diagonal(prior, accuracy[teacher])
            table = counts + (_PRIOR_ROWS + labels) * prior
            table /= table.sum(1, keepdims=True)
            logs[voted] += np.log(table.T[said[voted]])
        logs -= logs.max(1, keepdims=True)
        fresh = np.exp(logs)
        fresh = _fix(fresh / fresh.sum(1, keepdims=True), known, fixed)
        moved = np.abs(fresh - posterior).max() if rows else 0.0
        posterior = fresh
        if moved < _NEAR:
            break
    return Estimate(posterior, accuracy)


def _majority(votes: Indices, labels: int) -> Floats:
    """The share of each row's votes that each label has."""
    counts = np.zeros((len(votes), labels))
    for said in votes.T:
        voted = np.flatnonzero(said != NONE)
        counts[voted, said[voted]] += 1
    none = counts.sum(1) == 0
    counts[none] = 1 / labels
    return np.asarray(counts / counts.sum(1, keepdims=True))


def _fix(posterior: Floats, known: Indices, fixed: npt.NDArray[np.bool_]) -> Floats:
    posterior[fixed] = 0
    posterior[fixed, known[fixed]] = 1
    return posterior
