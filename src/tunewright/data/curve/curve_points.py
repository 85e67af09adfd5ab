"""The measured part of a learning curve: the cheap model's held-out errors at growing sizes of training data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunewright.data.curve.classical import NgramCounts
from tunewright.data.splits.folds import Indices, group_folds, group_of
from tunewright.tasks import Example

Floats = npt.NDArray[np.float64]

FOLDS = 5
REPEATS = 4
"""Times that a small dataset is dealt into new folds; a large one needs only one."""
LEAST_ROUNDS = 3
"""Fewest folds that are held out; before there are fewer, the sizes shrink."""
SIZES = 6
SPAN = 16
"""Ratio of the largest size to the smallest."""
ROWS_A_LABEL = 2
"""Average rows of a label at the smallest size. With fewer, the error is still that of chance, and no power law
holds."""
BUDGET = 650_000_000
"""Work of all fits, in characters times (labels + VECTORISING): about 40 seconds of a Zen 4 core."""
VECTORISING = 40
"""Cost of counting a text's n-grams, in numbers of labels to learn from them."""


@dataclass(frozen=True)
class Points:
    """Errors at k sizes."""

    sizes: Floats
    """Mean number of training rows, rising, shape [k]."""
    wrong: Floats
    """Share of wrong answers to each of m held-out rows, 0 to 1, shape [m, k]."""
    groups: Indices
    """The number of each held-out row's group, shape [m]."""
    macro_f1: float
    """Mean F1 of the labels at the largest size, over all held-out answers."""

    @property
    def errors(self) -> Floats:
        """Shares of wrong answers, shape [k]."""
        mean: Floats = self.wrong.mean(axis=0)
        return mean

    @property
    def covariance(self) -> Floats:
        """Sampling covariance of the errors, shape [k, k]. A held-out group is drawn, and fails, as one.

        Source: the linearised cluster estimator, to which the cluster bootstrap converges (Davison & Hinkley 1997,
        section 3.8).
        """
        sums = np.zeros((int(self.groups.max()) + 1, len(self.sizes)))
        np.add.at(sums, self.groups, self.wrong - self.errors)
        count = len(np.unique(self.groups))
        product: Floats = sums.T @ sums / len(self.wrong) ** 2 * count / max(count - 1, 1)
        return product


def measure(examples: Sequence[Example], seed: int) -> Points:
    """Train the cheap model on nested parts of the data and count its errors on held-out folds.

    Folds and parts are drawn at random, by whole groups, and not by label. This makes the errors unbiased for data that
    came as a sample. Dealt out by label, a held-out row's label would always have its share in training, even where
    only chance brought the row; on CLINC150 with 10 rows a label that hides 2.7 points of a true error of 19.7.

    Args:
        examples: at least two, of at least two groups, in any order.
        seed: of the folds and the parts.
    """
    rows = sorted(examples, key=lambda example: (group_of(example), example.request, example.answer))
    texts, answers = [row.request for row in rows], [row.answer for row in rows]
    unstratified = np.zeros(len(rows), np.int64)
    group_number = {name: index for index, name in enumerate(dict.fromkeys(map(group_of, rows)))}
    groups = np.array([group_number[group_of(row)] for row in rows])
    rounds = [
        (repeat, fold, dealt)
        for repeat in range(REPEATS)
        for dealt in [group_folds(unstratified, groups.tolist(), FOLDS, seed + 1000 * repeat)]
        for fold in range(FOLDS)
        if 0 < (dealt == fold).sum() < len(rows)
    ]
    sizes, affordable = plan(min(int((dealt != fold).sum()) for _, fold, dealt in rounds), len(set(answers)), texts)
    wrong, times_held, trained = np.zeros((len(rows), len(sizes))), np.zeros(len(rows)), np.zeros(len(sizes))
    counts = NgramCounts(texts)
    truth: list[str] = []
    predictions: list[str] = []
    rounds = rounds[:affordable]
    for repeat, fold, dealt in rounds:
        held = np.flatnonzero(dealt == fold)
        order, ends = _shuffled(np.flatnonzero(dealt != fold), groups, seed + 1000 * repeat + fold)
        times_held[held] += 1
        for column, size in enumerate(sizes):
            # Whole groups only, and at least the first.
            learnt = order[: max(ends[0], ends[np.searchsorted(ends, size, side="right") - 1])]
            predicted = counts.predictions(learnt, [answers[row] for row in learnt], held)
            wrong[held, column] += [answers[row] != label for row, label in zip(held, predicted, strict=True)]
            trained[column] += len(learnt)
        truth += [answers[row] for row in held]
        predictions += predicted
    measured = np.flatnonzero(times_held)
    shares = wrong[measured] / times_held[measured, None]
    return Points(trained / len(rounds), shares, groups[measured], _macro_f1(truth, predictions))


def plan(pool: int, labels: int, texts: Sequence[str]) -> tuple[Indices, int]:
    """The training sizes and the number of folds to hold out, within BUDGET.

    Args:
        pool: rows available for training while a fold is held out.
        labels: number of labels.
        texts: all texts; the cost of a fit depends on their lengths.
    """
    work_a_row = sum(map(len, texts)) / len(texts) * (labels + VECTORISING)
    shares = np.geomspace(1 / SPAN, 1, SIZES)
    top = min(pool, int(BUDGET / (work_a_row * shares.sum() * LEAST_ROUNDS)))
    bottom = min(max(top / SPAN, ROWS_A_LABEL * labels), top)
    sizes = np.unique(np.geomspace(bottom, top, SIZES).round().astype(np.int64))
    return sizes, min(FOLDS * REPEATS, max(LEAST_ROUNDS, int(BUDGET / (work_a_row * sizes.sum()))))


def _shuffled(pool: Indices, groups: Indices, seed: int) -> tuple[Indices, Indices]:
    """(the pool's rows, whole groups in random order; the ends of the groups in it)."""
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row in pool.tolist():
        rows_of[int(groups[row])].append(row)
    names = list(rows_of)
    np.random.default_rng(seed).shuffle(names)
    ends = np.cumsum([len(rows_of[name]) for name in names])
    return np.array([row for name in names for row in rows_of[name]], np.int64), ends


def _macro_f1(truth: Sequence[str], predictions: Sequence[str]) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predictions, average="macro", labels=sorted(set(truth)), zero_division=0))
