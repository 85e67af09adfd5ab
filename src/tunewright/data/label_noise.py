"""Rows whose label is probably wrong, by confident learning (Northcutt, Jiang and Chuang 2021, JAIR 70).

Each row is judged by a classifier that has not seen it: out-of-fold probabilities from TF-IDF under a linear support
vector machine, calibrated by a temperature (Guo et al. 2017) and a share of labels given by chance. A row is suspect
where another label is as probable as it usually is for its own rows, or much more probable than the given one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.data.folds import group_folds
from tunewright.data.text import normal

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

FOLDS = 5
CLEAR_MARGIN = 0.6
"""From this margin on a row is suspect in any case. Labels that are easy to tell have thresholds near the highest
probability there is, and miss wrong rows just below them: on BANKING77's training part with 5 % of the labels flipped,
this raises recall from 0.85 to 0.90 and lowers precision from 0.59 to 0.55."""
MOST_WRONG = 0.2
"""Share of suspected labels above which it is the classifier that is weak, and says nothing about the labels."""
LEAST_GROUPS = 3
"""A label needs rows in that many groups (or different texts) to be judged."""


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
    """The labels with too few rows to judge any of them, and how many rows each has."""
    members: dict[str, set[Hashable]] = defaultdict(set)
    for label, group, _ in zip(labels, _groups(texts, groups), texts, strict=True):
        members[label].add(group)
    return {label: n for label, n in Counter(labels).items() if len(members[label]) < LEAST_GROUPS}


def likely_mislabelled(
    texts: Sequence[str], labels: Sequence[str], groups: Sequence[Hashable] | None = None, seed: int = 0
) -> list[Suspect]:
    """The rows whose label is probably wrong, most probable first.

    Args:
        texts: n texts.
        labels: the label of each; those `unjudged_labels` names are left out, with their rows.
        groups: what must not be split between learning and judging (a customer, a phrasing); without it, equal texts.
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
    scores = _scores([texts[row] for row in rows.tolist()], given, folds, len(names), seed)
    probabilities = _probabilities(scores, given)
    suggested, margin = _confident(probabilities, given)
    return [
        Suspect(int(rows[i]), names[given[i]], names[suggested[i]], float(margin[i]))
        for i in np.lexsort((rows, -margin)).tolist()
        if margin[i] > 0
    ]


def _groups(texts: Sequence[str], groups: Sequence[Hashable] | None) -> list[Hashable]:
    return list(groups) if groups is not None else [normal(text) for text in texts]


def _scores(texts: Sequence[str], given: Indices, folds: Indices, labels: int, seed: int) -> Floats:
    """Out-of-fold decision values, (rows, labels); minus infinity for a label its fold could not learn."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union
    from sklearn.svm import LinearSVC

    scores = np.full((len(texts), labels), -np.inf)
    # The vectoriser sees no labels, so all rows may share it.
    features: Any = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]"),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True),
    ).fit_transform(texts)
    for fold in range(FOLDS):
        held, learnt = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        classes = np.unique(given[learnt])
        if not len(held) or len(classes) < 2:
            continue
        model = LinearSVC(random_state=seed).fit(features[learnt], given[learnt])
        decided = model.decision_function(features[held])
        if decided.ndim == 1:
            decided = np.stack([-decided, decided], axis=1)
        scores[np.ix_(held, classes)] = decided
    return scores


def _probabilities(scores: Floats, given: Indices) -> Floats:
    """Probabilities whose temperature, and whose share of labels given by chance, make the given labels most likely.

    A temperature alone would have to stretch all probabilities for the sake of the few wrong labels.
    """
    from scipy.optimize import minimize
    from scipy.special import expit, softmax

    rows = np.flatnonzero(np.isfinite(scores[np.arange(len(given)), given]))
    prior = np.bincount(given, minlength=scores.shape[1]) / len(given)

    def mixed(values: Floats, parameters: Floats) -> Floats:
        chance = expit(parameters[1])
        blend: Floats = (1 - chance) * softmax(values / np.exp(parameters[0]), axis=1) + chance * prior
        return blend

    def loss(parameters: Floats) -> float:
        return -float(np.mean(np.log(mixed(scores[rows], parameters)[np.arange(len(rows)), given[rows]])))

    best = minimize(loss, [-1.5, -3.0], method="Nelder-Mead", options={"maxiter": 80, "xatol": 0.01, "fatol": 1e-6})
    # A row whose own label could not be learnt without it says nothing against that label, and has no probabilities.
    probabilities = np.zeros_like(scores)
    probabilities[rows] = mixed(scores[rows], best.x)
    return probabilities


def _confident(probabilities: Floats, given: Indices) -> tuple[Indices, Floats]:
    """The label suggested for each row and its margin over the given one; where that isn't above 0, none is suggested.

    A label's threshold is its mean probability over the rows that have it. A row counts under the most probable of
    the labels that reach theirs.
    """
    rows = np.arange(len(given))
    own = probabilities[rows, given]
    sizes = np.bincount(given, minlength=probabilities.shape[1])
    thresholds = np.bincount(given, own, len(sizes)) / np.maximum(sizes, 1)
    clear = probabilities - own[:, None] >= CLEAR_MARGIN
    counted = ((probabilities >= thresholds) | clear) & (probabilities > 0)
    suggested = np.where(counted.any(axis=1), np.where(counted, probabilities, -1.0).argmax(axis=1), given)
    return suggested, probabilities[rows, suggested] - own
