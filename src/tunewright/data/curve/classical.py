"""Fitting a linear model: TF-IDF under a linear support vector machine. Seconds of one core, no base model, no
download."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.models.linear_model import LinearModel, Ngrams, document_frequency, weighed

_UNSEEN = -1.0
"""Logit of a label that no row has: a support vector machine gives it to rows without the label."""


def fit_linear(texts: Sequence[str], labels: Sequence[str], among: Sequence[str] | None = None) -> LinearModel:
    """Fit one support vector machine for each label against the rest (Fan et al. 2008, LIBLINEAR).

    With one label, or without a letter in any text, the model always gives the most frequent label.

    Args:
        texts: n training texts, at least one.
        labels: the label of each.
        among: all labels in their order, including those without a text; by default the labels of the texts.
    """
    from sklearn.svm import LinearSVC

    counts = Counter(labels)
    every = tuple(among if among is not None else sorted(counts))
    place = {label: number for number, label in enumerate(every)}
    known, frequency, features = _counted(texts)
    weight = np.zeros((len(known), len(every)), np.float32)
    bias = np.full(len(every), _UNSEEN, np.float32)
    if len(counts) == 1 or not known.words:
        usual = min(counts, key=lambda label: (-counts[label], label))
        bias[place[usual]] = -_UNSEEN
        return LinearModel(known, frequency, weight, bias, every)
    machine = LinearSVC(random_state=0)
    with warnings.catch_warnings():
        # scikit-learn warns that labels with one or two rows look like a regression.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        machine.fit(features, list(labels))
    coefficients, intercepts = machine.coef_, machine.intercept_
    if len(machine.classes_) == 2:
        coefficients, intercepts = np.vstack([-coefficients, coefficients]), np.hstack([-intercepts, intercepts])
    for label, of_ngrams, at in zip(machine.classes_, coefficients, intercepts, strict=True):
        weight[:, place[str(label)]], bias[place[str(label)]] = of_ngrams, at
    return LinearModel(known, frequency, weight, bias, every)


def fit_linear_sets(texts: Sequence[str], held: npt.NDArray[np.bool_], labels: Sequence[str]) -> LinearModel:
    """Fit one support vector machine for each label; a text may have any number of labels.

    Where all of the texts have a label, or none has it, the model gives it always or never.

    Args:
        texts: n training texts, at least one.
        held: whether each text has each label, [n, labels].
    """
    from sklearn.svm import LinearSVC

    known, frequency, features = _counted(texts)
    weight = np.zeros((len(known), len(labels)), np.float32)
    bias = np.where(held.all(0), -_UNSEEN, _UNSEEN).astype(np.float32)
    for number in np.flatnonzero(held.any(0) & ~held.all(0)) if known.words else ():
        machine = LinearSVC(random_state=0).fit(features, held[:, number])
        weight[:, number], bias[number] = machine.coef_[0], machine.intercept_[0]
    return LinearModel(known, frequency, weight, bias, tuple(labels))


def _counted(texts: Sequence[str]) -> tuple[Ngrams, npt.NDArray[np.float32], Any]:
    """(the n-grams of texts, the inverse document frequency of each, their weights in each text as a sparse matrix)."""
    from scipy.sparse import csr_matrix

    known = Ngrams.of(texts)
    sequences = [known.encode_framed(text) for text in texts]
    frequency = document_frequency(sequences, len(known))
    rows = [weighed(sequence, len(known.words), frequency) for sequence in sequences]
    ends = np.cumsum([0, *(len(numbers) for numbers, _ in rows)])
    numbers, values = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return known, frequency, csr_matrix((values.astype(np.float64), numbers, ends), shape=(len(rows), len(known)))


class LinearSvmClassifier:
    """A linear model fitted to some rows, which predicts labels.

    Args:
        texts: n training texts, at least one.
        labels: the label of each.
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[str]):
        self._model = fit_linear(texts, labels)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The label of each text."""
        return [self._model.labels[int(logits.argmax())] for logits in self._model.of_texts(texts)]
