"""Baselines for several labels a text: always the same labels, and a linear model for each label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tunewright.data.curve.classical import fit_linear_sets
from tunewright.data.label_sets import held
from tunewright.data.splits.folds import group_of
from tunewright.inference.predictors.base import Answer
from tunewright.inference.thresholds import Floats, choose_belief, choose_thresholds, sigmoid
from tunewright.models.linear_model import LinearModel
from tunewright.tasks import Example, MultiLabelTask
from tunewright.tasks.multi_label import labels_in

_FOLDS = 3


class UsualSet:
    """Always the labels that have the largest micro-F1 on the training examples: the commonest, as many as pay."""

    def __init__(self, train: Sequence[Example], task: MultiLabelTask):
        counts = Counter(label for example in train for label in labels_in(example.answer))
        common = [label for label, _ in counts.most_common()]
        total = counts.total()

        def score(size: int) -> float:
            given = sum(counts[label] for label in common[:size])
            return 2 * given / max(size * len(train) + total, 1)

        kept = set(common[: max(range(len(common) + 1), key=score)])
        self._answer = task.written_out(kept)

    def answer(self, request: str) -> Answer:  # noqa: ARG002 (the protocol)
        return Answer(self._answer)


class LabelSetSvm:
    """A linear model for each label; see `tunewright.data.curve.classical.fit_linear_sets`. Thresholds are chosen as
    for a tuned model, on training examples that it has not seen."""

    def __init__(self, train: Sequence[Example], task: MultiLabelTask):
        self._task, labels = task, list(task.labels)
        texts, gold = [example.request for example in train], held(task, train)
        self._model = fit_linear_sets(texts, gold, labels)
        groups = {group: number for number, group in enumerate(dict.fromkeys(map(group_of, train)))}
        folds = np.array([groups[group_of(example)] % _FOLDS for example in train])
        unseen = np.full(gold.shape, 0.0)
        for fold in np.unique(folds):
            learnt, others = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            if len(learnt):
                model = fit_linear_sets([texts[row] for row in learnt], gold[learnt], labels)
                unseen[others] = _probabilities(model, [texts[row] for row in others])
        counts = np.ones(len(train))
        belief = choose_belief(unseen, gold, counts, folds)
        self._thresholds, _ = choose_thresholds(unseen, gold, counts, belief)

    def answer(self, request: str) -> Answer:
        given = _probabilities(self._model, [request])[0] >= self._thresholds
        return Answer(self._task.written_out(np.array(self._model.labels)[given].tolist()))


def _probabilities(model: LinearModel, texts: Sequence[str]) -> Floats:
    """Logistic of the decision values, [texts, labels]: in their order, if not calibrated."""
    return sigmoid(np.array(model.of_texts(texts), np.float64))
