"""Fitting a linear model: TF-IDF under a linear support vector machine. Seconds of one core, no base model, no
download."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tunewright.models.linear_model import LinearModel, Ngrams, document_frequency, weighed

_UNSEEN = -1.0
"""Logit of a label that no row has: where its support vector machine would put all that is none of it."""


def fit_linear(texts: Sequence[str], labels: Sequence[str], among: Sequence[str] | None = None) -> LinearModel:
    """One support vector machine for each label against the rest (Fan et al. 2008, LIBLINEAR).

    Where there is nothing to tell apart (one label) or by (no letter in any text), it gives the most frequent label.

    Args:
        texts: n training texts, at least one.
        labels: the label of each.
        among: all labels in their order, those without a text among them; by default those of the texts.
    """
    from scipy.sparse import csr_matrix
    from sklearn.svm import LinearSVC

    counts = Counter(labels)
    every = tuple(among if among is not None else sorted(counts))
    place = {label: number for number, label in enumerate(every)}
    known = Ngrams.of(texts)
    sequences = [known.encode_framed(text) for text in texts]
    frequency = document_frequency(sequences, len(known))
    weight = np.zeros((len(known), len(every)), np.float32)
    bias = np.full(len(every), _UNSEEN, np.float32)
    if len(counts) == 1 or not known.words:
        usual = min(counts, key=lambda label: (-counts[label], label))
        bias[place[usual]] = -_UNSEEN
        return LinearModel(known, frequency, weight, bias, every)
    rows = [weighed(sequence, len(known.words), frequency) for sequence in sequences]
    ends = np.cumsum([0, *(len(numbers) for numbers, _ in rows)])
    numbers, values = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    machine = LinearSVC(random_state=0)
    with warnings.catch_warnings():
        # Labels of one or two rows are no sign of a regression.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        machine.fit(csr_matrix((values.astype(np.float64), numbers, ends), shape=(len(rows), len(known))), list(labels))
    coefficients, intercepts = machine.coef_, machine.intercept_
    if len(machine.classes_) == 2:
        coefficients, intercepts = np.vstack([-coefficients, coefficients]), np.hstack([-intercepts, intercepts])
    for label, of_ngrams, at in zip(machine.classes_, coefficients, intercepts, strict=True):
        weight[:, place[str(label)]], bias[place[str(label)]] = of_ngrams, at
    return LinearModel(known, frequency, weight, bias, every)


class LinearSvmClassifier:
    """A linear model that was fitted to some rows, and tells labels.

    Args:
        texts: n training texts, at least one.
        labels: the label of each.
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[str]):
        self._model = fit_linear(texts, labels)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The label of each text."""
        encoded = [self._model.ngrams.encode_framed(text) for text in texts]
        return [self._model.labels[int(logits.argmax())] for logits in self._model.logits(encoded)]
