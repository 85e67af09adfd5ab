"""Groups of examples, and folds for cross-validation that keep them whole."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from tunewright.data.text import normal
from tunewright.tasks import Example

Indices = npt.NDArray[np.int64]


def group_of(example: Example) -> str:
    """The key of the rows that must stay together: the example's group, or its text where it has none."""
    return example.meta.group or normal(example.request)


def group_folds(labels: Indices, groups: Sequence[Hashable], folds: int, seed: int) -> Indices:
    """A fold for each of n rows. Folds hold whole groups and get equal numbers of each label's groups.

    Args:
        labels: the number of each row's label, shape [n].
        groups: the group of each row.
        folds: number of folds; a label with fewer groups is missing from some.
        seed: of the shuffle; the result also depends on the order in which the groups first occur.

    Returns:
        Numbers from 0 to folds - 1, shape [n].
    """
    rows_of: dict[Hashable, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        rows_of[group].append(row)
    names = list(rows_of)
    np.random.default_rng(seed).shuffle(names)
    # Dealing goes on from label to label without a restart, so the folds get equal sizes.
    names.sort(key=lambda name: Counter(labels[rows_of[name]].tolist()).most_common(1)[0][0])
    dealt = np.empty(len(labels), np.int64)
    for number, name in enumerate(names):
        dealt[rows_of[name]] = number % folds
    return dealt
