"""The cheap model: TF-IDF under a linear support vector machine. Seconds of one core, no base model, no download."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

_WORD = re.compile(r"\b\w\w+\b")
"""What the word features count; scikit-learn refuses texts without any."""


class LinearSvmClassifier:
    """TF-IDF of words (1-2) and characters (2-4) under a linear support vector machine, one label against the rest.

    Where there is nothing to tell apart (one label) or by (no word in any text), it gives the most frequent label.

    Args:
        texts: n training texts, at least one.
        labels: the label of each.
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[str]):
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline, make_union
        from sklearn.svm import LinearSVC

        counts = Counter(labels)
        self._usual = min(counts, key=lambda label: (-counts[label], label))
        self._model: Any = None
        if len(counts) > 1 and any(_WORD.search(text) for text in texts):
            features = make_union(
                TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
                TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True),
            )
            self._model = make_pipeline(features, LinearSVC(random_state=0))
            with warnings.catch_warnings():
                # Labels of one or two rows are no sign of a regression.
                warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
                self._model.fit(list(texts), list(labels))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The label of each text."""
        if self._model is None or not texts:
            return [self._usual] * len(texts)
        return [str(label) for label in self._model.predict(list(texts))]
