"""Rows whose label is probably wrong, by confident learning (Northcutt, Jiang and Chuang 2021, JAIR 70).

A classifier that has not seen the row judges it: out-of-fold probabilities from TF-IDF under a linear support vector
machine, calibrated by a temperature (Guo et al. 2017) and a share of labels given by chance. A row is suspect where
another label is as probable as that label usually is for its own rows, or much more probable than the given one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.data.splits.folds import group_folds
from tunewright.data.text import normal

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

FOLDS = 5
CLEAR_MARGIN = 0.6
"""From this margin on a row is suspect in any case. Labels that are easy to tell have thresholds near the highest
possible probability, which wrong rows just below them would escape. On BANKING77's training part with 5 % of the labels
flipped, this margin raises recall from 0.85 to 0.90 and lowers precision from 0.59 to 0.55."""
LEAST_RIGHT = 0.75
"""Share of the rows whose label is not given by chance that a classifier must get right before it judges labels.
Around it, where 5 % of the labels are wrong, a third of the suspects really are, and where all labels are right, an
eighth of the rows become suspects. Below it, the shares are a sixth and a fifth (`python bench/label_noise.py
weak`)."""
LEAST_GROUPS = 3
"""Fewest groups (or different texts) with a label for it to be judged."""


@dataclass(frozen=True)
class Suspect:
    """A row whose label is probably wrong."""

    index: int
    given: str
    suggested: str
    score: float
    """How much more probable the suggested label is than the given one, above 0 and at most 1."""


def unjudged_labels(
    texts: Sequence[str], labels: Sequence[str], groups: Sequence[Hashable] | None = None
) -> dict[str, int]:
    """The labels with too few groups to be judged, and the number of rows of each."""
    groups_of: dict[str, set[Hashable]] = defaultdict(set)
    for label, group, _ in zip(labels, _groups(texts, groups), texts, strict=True):
        groups_of[label].add(group)
    return {label: n for label, n in Counter(labels).items() if len(groups_of[label]) < LEAST_GROUPS}


def likely_mislabelled(
    texts: Sequence[str], labels: Sequence[str], groups: Sequence[Hashable] | None = None, seed: int = 0
) -> list[Suspect] | None:
    """The rows whose label is probably wrong, most probable first; None where the classifier is too weak to judge.

    Args:
        texts: n texts.
        labels: the label of each; rows with a label of `unjudged_labels` are left out.
        groups: the group of each (a customer, a phrasing), which must not be split between learning and judging; by
            default equal texts are a group.
        seed: of the folds. The same seed gives the same suspects.

    Returns:
        At most n suspects; none where fewer than two labels can be judged, or where all texts are empty.

    Raises:
        ValueError: texts, labels and groups differ in number.
    """
    unjudged = unjudged_labels(texts, labels, groups)
    rows = np.array([index for index, label in enumerate(labels) if label not in unjudged], np.int64)
    names = sorted(set(labels) - set(unjudged))
    if len(names) < 2 or not any(texts[row].strip() for row in rows.tolist()):
        return []
    number = {name: index for index, name in enumerate(names)}
    given = np.array([number[labels[row]] for row in rows.tolist()])
    all_groups = _groups(texts, groups)
    folds = group_folds(given, [all_groups[row] for row in rows.tolist()], FOLDS, seed)
    scores, _ = _scores([texts[row] for row in rows.tolist()], given, folds, len(names), seed)
    fitted = _fitted(scores, given)
    if float(np.mean(scores.argmax(axis=1) == given)) < LEAST_RIGHT * (1 - fitted.chance):
        return None
    suggested, margin = _confident(_probabilities(scores, given, fitted), given)
    return [
        Suspect(int(rows[i]), names[given[i]], names[suggested[i]], float(margin[i]))
        for i in np.lexsort((rows, -margin)).tolist()
        if margin[i] > 0
    ]


def _groups(texts: Sequence[str], groups: Sequence[Hashable] | None) -> list[Hashable]:
    return list(groups) if groups is not None else [normal(text) for text in texts]


def doubts(
    known_texts: Sequence[str], known_labels: Sequence[str], texts: Sequence[str], labels: Sequence[str], seed: int = 0
) -> Floats:
    """How far rows contradict known ones: for each row, how much more probable another label is than its own.

    The classifiers learn the known rows alone, so that many similar new rows can't confirm each other.

    Args:
        known_texts: n texts; those with a label of `unjudged_labels` are left out.
        texts: m texts, from which the classifiers don't learn.
        labels: the label of each.

    Returns:
        From -1 to 1, (m,); 0 for a label that the known rows lack, and where they have fewer than two labels.
    """
    unjudged = unjudged_labels(known_texts, known_labels)
    rows = [index for index, label in enumerate(known_labels) if label not in unjudged]
    number = {name: index for index, name in enumerate(sorted({known_labels[row] for row in rows}))}
    if len(number) < 2 or not texts or not any(known_texts[row].strip() for row in rows):
        return np.zeros(len(texts))
    learnt, given = [known_texts[row] for row in rows], np.array([number[known_labels[row]] for row in rows])
    folds = group_folds(given, _groups(learnt, None), FOLDS, seed)
    held_out, scores = _scores(learnt, given, folds, len(number), seed, texts)
    probabilities = _fitted(held_out, given)(scores)
    own = np.array([probabilities[row, number[name]] if name in number else 1.0 for row, name in enumerate(labels)])
    margins: Floats = probabilities.max(axis=1) - own
    return np.where([name in number for name in labels], margins, 0.0)


def _scores(
    texts: Sequence[str], given: Indices, folds: Indices, labels: int, seed: int, others: Sequence[str] = ()
) -> tuple[Floats, Floats]:
    """(out-of-fold decision values, the folds' mean for `others`); minus infinity for a label the fold could not learn.

    Shapes: (rows, labels) and (others, labels).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union
    from sklearn.svm import LinearSVC

    scores = np.full((len(texts), labels), -np.inf)
    by_fold = []
    # The vectoriser sees no labels, so all rows may share it.
    vectoriser: Any = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]"),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True),
    )
    features = vectoriser.fit_transform(texts)
    other_features = vectoriser.transform(others) if len(others) else None
    for fold in range(FOLDS):
        held, learnt = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        classes = np.unique(given[learnt])
        if not len(held) or len(classes) < 2:
            continue
        model = LinearSVC(random_state=seed).fit(features[learnt], given[learnt])
        scores[np.ix_(held, classes)] = _decided(model, features[held])
        if other_features is not None:
            by_fold.append(np.full((len(others), labels), -np.inf))
            by_fold[-1][:, classes] = _decided(model, other_features)
    return scores, np.mean(by_fold, axis=0) if by_fold else np.zeros((len(others), labels))


def _decided(model: Any, features: Any) -> Floats:
    decided: Floats = model.decision_function(features)
    return np.stack([-decided, decided], axis=1) if decided.ndim == 1 else decided


def _probabilities(scores: Floats, given: Indices, fitted: _Fitted) -> Floats:
    """Probabilities from out-of-fold decision values."""
    # Where a fold could not learn a row's label, that is no evidence against the label: all probabilities stay 0.
    learnt = np.isfinite(scores[np.arange(len(given)), given])
    probabilities = np.zeros_like(scores)
    probabilities[learnt] = fitted(scores[learnt])
    return probabilities


@dataclass(frozen=True)
class _Fitted:
    """Turns decision values into probabilities.

    A temperature alone would have to flatten all of them because of the few wrong labels.
    """

    temperature: float
    chance: float
    """Share of the labels that were given by chance."""
    prior: Floats

    def __call__(self, scores: Floats) -> Floats:
        from scipy.special import softmax

        blend: Floats = (1 - self.chance) * softmax(scores / self.temperature, axis=1) + self.chance * self.prior
        return blend


def _fitted(scores: Floats, given: Indices) -> _Fitted:
    """The parameters under which the given labels are most likely, by out-of-fold values."""
    from scipy.optimize import minimize
    from scipy.special import expit

    rows = np.flatnonzero(np.isfinite(scores[np.arange(len(given)), given]))
    prior = np.bincount(given, minlength=scores.shape[1]) / len(given)

    def at(parameters: Floats) -> _Fitted:
        return _Fitted(float(np.exp(parameters[0])), float(expit(parameters[1])), prior)

    def loss(parameters: Floats) -> float:
        return -float(np.mean(np.log(at(parameters)(scores[rows])[np.arange(len(rows)), given[rows]])))

    best = minimize(loss, [-1.5, -3.0], method="Nelder-Mead", options={"maxiter": 80, "xatol": 0.01, "fatol": 1e-6})
    return at(best.x)


def _confident(probabilities: Floats, given: Indices) -> tuple[Indices, Floats]:
    """The label suggested for each row and its margin over the given one; a margin of 0 or less suggests nothing.

    A label's threshold is its mean probability over the rows that have it. The suggestion for a row is the most
    probable of the labels that reach their thresholds.
    """
    rows = np.arange(len(given))
    own = probabilities[rows, given]
    sizes = np.bincount(given, minlength=probabilities.shape[1])
    thresholds = np.bincount(given, own, len(sizes)) / np.maximum(sizes, 1)
    clear = probabilities - own[:, None] >= CLEAR_MARGIN
    counted = ((probabilities >= thresholds) | clear) & (probabilities > 0)
    suggested = np.where(counted.any(axis=1), np.where(counted, probabilities, -1.0).argmax(axis=1), given)
    return suggested, probabilities[rows, suggested] - own
