"""Fitting a linear model: TF-IDF under a linear support vector machine. Seconds of one core, no base model, no
download."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.data.splits.folds import Indices
from tunewright.models.linear_model import Floats, LinearModel, Ngrams, document_frequency, weighed

_UNSEEN = -1.0
"""Logit of a label that no row has: a support vector machine gives it to rows without the label."""


def fit_linear(
    texts: Sequence[str],
    labels: Sequence[str],
    among: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
) -> LinearModel:
    """Fit one support vector machine for each label against the rest (Fan et al. 2008, LIBLINEAR).

    With one label, or without a letter in any text, the model always gives the most frequent label, by weight.

    Args:
        texts: n training texts, at least one.
        labels: the label of each.
        among: all labels in their order, including those without a text; by default the labels of the texts.
        weights: by which each text's loss is multiplied; None: all count once.
    """
    counts = Counter(labels)
    every = tuple(among if among is not None else sorted(counts))
    place = {label: number for number, label in enumerate(every)}
    known, frequency, features = _counted(texts)
    weight = np.zeros((len(known), len(every)), np.float32)
    bias = np.full(len(every), _UNSEEN, np.float32)
    if len(counts) == 1 or not known.words:
        bias[place[_most_frequent(labels, weights)]] = -_UNSEEN
        return LinearModel(known, frequency, weight, bias, every)
    machine = _machine(features, labels, weights)
    coefficients, intercepts = machine.coef_, machine.intercept_
    if len(machine.classes_) == 2:
        coefficients, intercepts = np.vstack([-coefficients, coefficients]), np.hstack([-intercepts, intercepts])
    for label, of_ngrams, at in zip(machine.classes_, coefficients, intercepts, strict=True):
        weight[:, place[str(label)]], bias[place[str(label)]] = of_ngrams, at
    return LinearModel(known, frequency, weight, bias, every)


def fit_linear_sets(
    texts: Sequence[str],
    held: npt.NDArray[np.bool_],
    labels: Sequence[str],
    weights: Sequence[float] | None = None,
) -> LinearModel:
    """Fit one support vector machine for each label; a text may have any number of labels.

    Where all of the texts have a label, or none has it, the model gives it always or never.

    Args:
        texts: n training texts, at least one.
        held: whether each text has each label, [n, labels].
        weights: as of `fit_linear`.
    """
    from sklearn.svm import LinearSVC

    known, frequency, features = _counted(texts)
    weight = np.zeros((len(known), len(labels)), np.float32)
    bias = np.where(held.all(0), -_UNSEEN, _UNSEEN).astype(np.float32)
    for number in np.flatnonzero(held.any(0) & ~held.all(0)) if known.words else ():
        machine = LinearSVC(random_state=0).fit(features, held[:, number], sample_weight=weights)
        weight[:, number], bias[number] = machine.coef_[0], machine.intercept_[0]
    return LinearModel(known, frequency, weight, bias, tuple(labels))


def _counted(texts: Sequence[str]) -> tuple[Ngrams, npt.NDArray[np.float32], Any]:
    """(the n-grams of texts, the inverse document frequency of each, their weights in each text as a sparse matrix)."""
    known = Ngrams.of(texts)
    sequences = [known.encode_framed(text) for text in texts]
    frequency = document_frequency(sequences, len(known))
    rows = [weighed(sequence, len(known.words), frequency) for sequence in sequences]
    ends = np.cumsum([0, *(len(numbers) for numbers, _ in rows)])
    numbers, values = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return known, frequency, _sparse(values.astype(np.float64), numbers, ends, (len(rows), len(known)))


def _sparse(values: Any, columns: Any, ends: Any, shape: tuple[int, int]) -> Any:
    from scipy.sparse import csr_matrix

    return csr_matrix((values, columns, ends), shape=shape)


def _machine(features: Any, labels: Sequence[str], weights: Sequence[float] | None = None) -> Any:
    """The support vector machines of at least two labels."""
    from sklearn.svm import LinearSVC

    with warnings.catch_warnings():
        # scikit-learn warns that labels with one or two rows look like a regression.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        return LinearSVC(random_state=0).fit(features, list(labels), sample_weight=weights)


def _most_frequent(labels: Sequence[str], weights: Sequence[float] | None = None) -> str:
    counts: dict[str, float] = defaultdict(float)
    for label, weight in zip(labels, weights or [1.0] * len(labels), strict=True):
        counts[label] += weight
    return min(counts, key=lambda label: (-counts[label], label))


class NgramCounts:
    """The n-grams of some texts, counted once, so that models can be fitted to many parts of the texts.

    Args:
        texts: n texts, at least one.
    """

    def __init__(self, texts: Sequence[str]):
        known = Ngrams.of(texts)
        sequences = [np.unique(known.encode_framed(text), return_counts=True) for text in texts]
        ends = np.cumsum([0, *(len(numbers) for numbers, _ in sequences)])
        numbers, counts = (np.concatenate(parts) for parts in zip(*sequences, strict=True))
        self._words = len(known.words)
        shape = len(texts), len(known)
        self._logs = _sparse((1 + np.log(counts)).astype(np.float32), numbers.astype(np.int64), ends, shape)

    def predictions(self, learnt: Indices, labels: Sequence[str], asked: Indices) -> list[str]:
        """The labels that a model fitted to some of the texts gives to others; the same as `LinearSvmClassifier`'s.

        Args:
            learnt: the rows of the training texts, at least one.
            labels: the label of each of them.
            asked: the rows of the others.
        """
        part = self._logs[learnt]
        with_it = np.bincount(part.indices, minlength=part.shape[1])
        known = np.flatnonzero(with_it)
        words = int(np.searchsorted(known, self._words))
        if len(set(labels)) == 1 or not words:
            return [_most_frequent(labels)] * len(asked)
        frequency = np.zeros(part.shape[1], np.float32)
        frequency[known] = 1 + np.log((1 + len(learnt)) / (1 + with_it[known]))
        place = np.zeros(part.shape[1], np.int64)
        place[known] = np.arange(len(known))
        machine = _machine(self._weighed(part, frequency, place, len(known)), labels)
        return [str(label) for label in machine.predict(self._weighed(self._logs[asked], frequency, place, len(known)))]

    def _weighed(self, logs: Any, frequency: Floats, place: npt.NDArray[np.int64], known: int) -> Any:
        """TF-IDF values, the words and the parts of words of each text of length 1; n-grams without a frequency count
        nothing."""
        values = logs.data * frequency[logs.indices]
        of_row = np.repeat(np.arange(logs.shape[0]), np.diff(logs.indptr))
        block = 2 * of_row + (logs.indices >= self._words)
        lengths = np.sqrt(np.bincount(block, values.astype(np.float64) ** 2, 2 * logs.shape[0]))
        scaled = values / np.maximum(lengths, np.finfo(np.float64).tiny)[block]
        return _sparse(scaled, place[logs.indices], logs.indptr, (logs.shape[0], known))


class LinearSvmClassifier:
    """A linear model fitted to some rows, which predicts labels.

    Args:
        texts: n training texts, at least one.
        labels: the label of each.
        weights: as of `fit_linear`.
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[str], weights: Sequence[float] | None = None):
        self._model = fit_linear(texts, labels, weights=weights)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The label of each text."""
        return [self._model.labels[int(logits.argmax())] for logits in self._model.of_texts(texts)]
