"""Control arms that cost next to nothing: if one of them does the job, no language model is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tunewright.evaluate.predictors.base import Answer
from tunewright.tasks import Example


class Majority:
    """Always the most frequent training label."""

    def __init__(self, train: Sequence[Example]):
        ((self._label, count),) = Counter(example.answer for example in train).most_common(1)
        self._share = count / len(train)

    def answer(self, request: str) -> Answer:  # noqa: ARG002 (the protocol)
        return Answer(self._label, self._share)


class LinearSvm:
    """TF-IDF of words (1-2) and characters (2-4) under a linear support vector machine."""

    def __init__(self, train: Sequence[Example]):
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline, make_union
        from sklearn.svm import LinearSVC

        features = make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True),
        )
        self._model = make_pipeline(features, LinearSVC())
        self._model.fit([example.request for example in train], [example.answer for example in train])

    def answer(self, request: str) -> Answer:
        return Answer(str(self._model.predict([request])[0]))
