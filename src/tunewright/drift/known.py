"""The training texts in numbers that reveal no single text, to measure how unlike them another text is.

A text is a bag of hashed words and of the runs of 3 and 4 characters in them, weighted by how few texts have them
(TF-IDF), and projected at random to a vector (Achlioptas 2003), which keeps angles. No model is needed. Such a vector
is no secret: somebody can find its few words again by trying words out. So the file keeps no vector of a single text,
but means of at least five (microaggregation, Domingo-Ferrer & Mateo-Sanz 2002). Of words it keeps only which of the
16,384 hash slots have words that at least three texts use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int64]

SLOTS = 1 << 14
"""Hash slots for words, and as many again for runs of characters."""
SIZE = 256
"""Numbers of a vector: among 64, 128 and 256 the smallest that recognises held-out intents as well as the whole bags.
"""
CENTRES = 256
TOPICS = 16
_TEXTS_A_CENTRE = 8
_FEWEST = 5
"""Least texts behind a centre; a smaller group is dropped."""
_COMMON = 3
"""A word counts as known if at least this many texts use it."""
_MOST = 5000
"""Texts from which centres are computed."""
_ROUNDS = 15
_AT_ONCE = 4096
_READ = 4000
"""Number of characters read from a text."""


@dataclass(frozen=True)
class KnownTexts:
    """The texts that a model was trained on.

    Args:
        known: for each hash slot of words, whether it has a known word.
        weights: the weight of each slot, words first.
        centres: means of the vectors of similar texts, of length 1.
        topics: the topic number of each centre.
    """

    known: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.float32]
    centres: npt.NDArray[np.float32]
    topics: Whole

    @classmethod
    def of(cls, texts: Sequence[str]) -> KnownTexts:
        """The known texts made from at least one text."""
        stride = max(1, len(texts) // _MOST)
        frequencies = np.zeros(2 * SLOTS)
        for start in range(0, len(texts), _AT_ONCE):
            frequencies += np.asarray(_bags(texts[start : start + _AT_ONCE]).sum(axis=0)).ravel()
        # A word of few texts has the same weight as a word of none, so that it can't be recognised.
        frequencies = np.where(frequencies >= _COMMON, frequencies, 0)
        weights = np.log((len(texts) + _COMMON) / np.maximum(frequencies, _COMMON - 1)).astype(np.float32)
        vectors = _vectors(texts[::stride], weights)
        centres, group = _groups(vectors, max(1, min(CENTRES, len(vectors) // _TEXTS_A_CENTRE)))
        enough = np.bincount(group, minlength=len(centres)) >= _FEWEST
        if len(vectors) < _FEWEST:
            centres = np.zeros((1, SIZE), np.float32)  # everything is new
        else:
            centres = centres[enough] if enough.any() else _unit(vectors.mean(axis=0, keepdims=True))
        _, topics = _groups(centres, min(TOPICS, len(centres)))
        centres = centres.astype(np.float16).astype(np.float32)  # as they are stored
        return cls(frequencies[:SLOTS] > 0, weights, centres, topics)

    def place(self, texts: Sequence[str]) -> tuple[Numbers, Whole, Numbers]:
        """(the distance of each text from the nearest centre, 0 to 1; the topic of that centre; the share of its words
        that are not known)."""
        distance, topic, unseen = (
            np.ones(len(texts), np.float32),
            np.zeros(len(texts), np.int64),
            np.zeros(len(texts), np.float32),
        )
        for start in range(0, len(texts), _AT_ONCE):
            batch = slice(start, start + _AT_ONCE)
            bags = _bags(texts[batch])
            similarity = _projected(bags, self.weights) @ self.centres.T
            distance[batch] = np.clip(1 - similarity.max(axis=1), 0, 1)
            topic[batch] = self.topics[similarity.argmax(axis=1)]
            words = bags[:, :SLOTS]
            unseen[batch] = (words @ ~self.known) / np.maximum(np.asarray(words.sum(axis=1)).ravel(), 1)
        return distance, topic, unseen


def _groups(vectors: npt.NDArray[np.float32], count: int) -> tuple[npt.NDArray[np.float32], Whole]:
    """Groups of vectors with similar directions: (the mean of each group, of length 1; the group of each vector).

    Source: spherical k-means, Dhillon & Modha 2001.
    """
    centres = vectors[np.random.default_rng(0).permutation(len(vectors))[:count]]
    for _ in range(_ROUNDS):
        group = (vectors @ centres.T).argmax(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, group, vectors)
        filled = np.bincount(group, minlength=count) > 0
        centres = np.where(filled[:, None], _unit(sums), centres)
    return centres, (vectors @ centres.T).argmax(axis=1)


def _vectors(texts: Sequence[str], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.concatenate(
        [_projected(_bags(texts[start : start + _AT_ONCE]), weights) for start in range(0, len(texts), _AT_ONCE)]
    )


def _projected(bags: Any, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return _unit(bags.multiply(weights).tocsr() @ _projection())


def _unit(vectors: Any) -> npt.NDArray[np.float32]:
    """Vectors scaled to length 1; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), np.float32)


def _bags(texts: Sequence[str]) -> Any:
    """The hash slots of each text's words and runs of characters, as a sparse matrix."""
    from scipy.sparse import hstack

    words, runs = _hashers()
    beginnings = [text[:_READ] for text in texts]
    return hstack([words.transform(beginnings), runs.transform(beginnings)]).tocsr()


@cache
def _hashers() -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import HashingVectorizer

    plain = {"n_features": SLOTS, "alternate_sign": False, "norm": None, "binary": True, "dtype": np.float32}
    return (
        HashingVectorizer(token_pattern=r"\w+", **plain),
        HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), **plain),
    )


@cache
def _projection() -> npt.NDArray[np.float32]:
    drawn = np.random.default_rng(0).standard_normal((2 * SLOTS, SIZE), np.float32)
    return np.asarray(drawn / np.sqrt(SIZE), np.float32)
