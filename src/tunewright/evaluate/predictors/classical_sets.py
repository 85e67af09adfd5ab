"""Control arms for several labels a text: always the same labels, and a linear model for each label."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tunewright.data.folds import group_of
from tunewright.evaluate.predictors.base import Answer
from tunewright.evaluate.thresholds import Floats, choose_belief, choose_thresholds, sigmoid
from tunewright.tasks import Example
from tunewright.tasks.multi_label import labels_in

_FOLDS = 3
_WORD = re.compile(r"\b\w\w+\b")
"""What the word features count; scikit-learn refuses texts without any."""


class UsualSet:
    """Always the labels that have the largest micro-F1 on the training examples: the commonest, as many as pay."""

    def __init__(self, train: Sequence[Example], labels: Sequence[str]):
        counts = Counter(label for example in train for label in labels_in(example.answer))
        common = [label for label, _ in counts.most_common()]
        total = counts.total()

        def worth(size: int) -> float:
            given = sum(counts[label] for label in common[:size])
            return 2 * given / max(size * len(train) + total, 1)

        kept = set(common[: max(range(len(common) + 1), key=worth)])
        self._answer = _written(labels, [label in kept for label in labels])

    def answer(self, request: str) -> Answer:  # noqa: ARG002 (the protocol)
        return Answer(self._answer)


class LabelSetSvm:
    """TF-IDF of words (1-2) and characters (2-4) under a linear support vector machine for each label, with thresholds
    that are chosen on training examples which the model has not seen, as those of a tuned encoder are."""

    def __init__(self, train: Sequence[Example], labels: Sequence[str]):
        self._labels = list(labels)
        texts = [example.request for example in train]
        sets = [set(labels_in(example.answer)) for example in train]
        gold = np.array([[label in each for label in labels] for each in sets])
        self._model = _fitted(texts, gold)
        groups = {group: number for number, group in enumerate(dict.fromkeys(map(group_of, train)))}
        folds = np.array([groups[group_of(example)] % _FOLDS for example in train])
        held_out = np.full(gold.shape, -np.inf)
        for fold in np.unique(folds):
            learnt, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            if len(learnt):
                held_out[held] = _fitted([texts[row] for row in learnt], gold[learnt])([texts[row] for row in held])
        found, counts = sigmoid(held_out), np.ones(len(train))
        self._thresholds, _ = choose_thresholds(found, gold, counts, choose_belief(found, gold, counts, folds))

    def answer(self, request: str) -> Answer:
        held = sigmoid(self._model([request])[0]) >= self._thresholds
        return Answer(_written(self._labels, held.tolist()))


def _written(labels: Sequence[str], held: Sequence[bool]) -> str:
    kept = [label for label, each in zip(labels, held, strict=True) if each]
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def _fitted(texts: Sequence[str], gold: Any) -> Any:
    """Texts -> decision values [texts, labels]; of a label that all or none of the examples have, that it does or not,
    for certain."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union
    from sklearn.svm import LinearSVC

    certain = np.where(gold.all(0), np.inf, -np.inf)
    if not any(_WORD.search(text) for text in texts):
        return lambda asked: np.tile(certain, (len(asked), 1))
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True),
    )
    known = features.fit_transform(texts)
    models = {
        number: LinearSVC(random_state=0).fit(known, gold[:, number])
        for number in range(gold.shape[1])
        if gold[:, number].any() and not gold[:, number].all()
    }

    def decided(asked: Sequence[str]) -> Floats:
        found, values = features.transform(asked), np.tile(certain, (len(asked), 1))
        for number, model in models.items():
            values[:, number] = model.decision_function(found)
        return values

    return decided
