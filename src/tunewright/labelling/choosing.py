"""Which requests teach most: those of which a cheap model is unsure, and which are unlike the others.

The choice is k-means++'s (Arthur & Vassilvitskii 2007): each next request is drawn with a probability that grows with
its squared distance to the nearest one that is chosen already, here times the cheap model's doubt. Without a cheap
model it is cover alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.data.curve.classical import fit_linear

_FEATURES = 1 << 16
_READ = 2_000
"""Letters of a text that count."""
_LEAST_DOUBT = 0.05

Floats = npt.NDArray[np.float64]


def doubts_about(texts: Sequence[str], learnt: Sequence[tuple[str, str]]) -> Floats | None:
    """How unsure a linear model is of each text, from 0 to 1; None: there is nothing to learn from yet.

    Args:
        learnt: texts with their labels.
    """
    if len({label for _, label in learnt}) < 2:
        return None
    model = fit_linear([text for text, _ in learnt], [label for _, label in learnt])
    best = np.array([np.sort(logits)[-2:] for logits in model.of_texts(texts)])
    return np.asarray(np.clip(1 - (best[:, 1] - best[:, 0]), 0.0, 1.0), float)


class Cover:
    """Texts, and how far each is from the nearest chosen one.

    Args:
        texts: n texts, at least one.
        seed: of the draws.
    """

    def __init__(self, texts: Sequence[str], seed: int):
        from sklearn.feature_extraction.text import HashingVectorizer

        reader = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), n_features=_FEATURES, alternate_sign=False)
        self._rows: Any = reader.transform([text[:_READ] for text in texts])
        self._distance = np.ones(len(texts))
        self._random = np.random.default_rng(seed)

    def add(self, numbers: Sequence[int]) -> None:
        """Count texts as chosen."""
        for number in numbers:
            likeness = (self._rows @ self._rows[number].T).toarray().ravel()
            np.minimum(self._distance, np.maximum(0.0, 1.0 - likeness), out=self._distance)
            self._distance[number] = 0.0

    def choose(self, count: int, doubts: Floats | None = None, *, among: npt.NDArray[np.bool_]) -> list[int]:
        """Choose texts that are not chosen yet, one after the other.

        Args:
            doubts: of each text, from 0 to 1; None: all alike.
            among: the texts that may be chosen.
        """
        chosen: list[int] = []
        weights = np.ones(len(self._distance)) if doubts is None else np.clip(doubts, _LEAST_DOUBT, 1.0)
        free = among.copy()
        for _ in range(min(count, int(free.sum()))):
            chances = np.where(free, weights * self._distance**2, 0.0)
            if not chances.sum():  # only repetitions of chosen texts are left
                chances = free.astype(float)
            number = int(self._random.choice(len(chances), p=chances / chances.sum()))
            free[number] = False
            chosen.append(number)
            self.add([number])
        return chosen
