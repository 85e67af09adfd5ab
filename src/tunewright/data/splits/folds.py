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
    """What must not be split: the example's group, or where it has none, its text."""
    return example.meta.group or normal(example.request)


def group_folds(labels: Indices, groups: Sequence[Hashable], folds: int, seed: int) -> Indices:
    """A fold for each of n rows: whole groups, and each label's groups dealt out evenly.

    Args:
        labels: the number of each row's label, shape [n].
        groups: what must not be split, one for each row.
        folds: how many; a label with fewer groups is missing from some.
        seed: of the shuffle; the result also depends on the order in which the groups first occur.

    Returns:
        Numbers from 0 to folds - 1, shape [n].
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    names = list(members)
    np.random.default_rng(seed).shuffle(names)
    # Dealing label after label, without starting anew, keeps the folds of one size.
    names.sort(key=lambda name: Counter(labels[members[name]].tolist()).most_common(1)[0][0])
    dealt = np.empty(len(labels), np.int64)
    for place, name in enumerate(names):
        dealt[members[name]] = place % folds
    return dealt
