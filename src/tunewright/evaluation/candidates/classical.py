"""Baselines that cost next to nothing: if one of them does the job, no language model is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tunewright.data.curve.classical import LinearSvmClassifier
from tunewright.inference.predictors.base import Answer
from tunewright.tasks import Example


class Majority:
    """Always the most frequent training label."""

    def __init__(self, train: Sequence[Example]):
        ((self._label, count),) = Counter(example.answer for example in train).most_common(1)
        self._share = count / len(train)

    def answer(self, request: str) -> Answer:  # noqa: ARG002 (the protocol)
        return Answer(self._label, self._share)


class LinearSvm:
    """TF-IDF under a linear support vector machine; see `tunewright.data.curve.classical`."""

    def __init__(self, train: Sequence[Example]):
        self._model = LinearSvmClassifier([example.request for example in train], [example.answer for example in train])

    def answer(self, request: str) -> Answer:
        return Answer(self._model.predict([request])[0])
