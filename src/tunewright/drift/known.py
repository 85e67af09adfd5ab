"""What a model was taught, in numbers from which no single text can be told: how unlike it another text is.

A text is a bag of hashed words and of the runs of 3 and 4 characters in them, weighed by how few texts have them
(TF-IDF), and projected at random to a vector (Achlioptas 2003), which keeps angles. No model is needed. Such a vector
is no secret: its few words can be found again by trying words out. So no vector of a text is kept, but means of at
least five (microaggregation, Domingo-Ferrer & Mateo-Sanz 2002), and of words only in which of 16,384 places those fall
that at least three texts use.
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

PLACES = 1 << 14
"""That words fall into, and as many again for runs of characters."""
SIZE = 256
"""Numbers of a vector: of 64, 128 and 256 the first to tell held-out intents as well as the whole bags do."""
CENTRES = 256
TOPICS = 16
_TEXTS_A_CENTRE = 8
_FEWEST = 5
"""Texts behind a centre; a smaller group is dropped."""
_COMMON = 3
"""Texts that use a word that counts as known."""
_MOST = 5000
"""Texts that centres are found from."""
_ROUNDS = 15
_AT_ONCE = 4096
_READ = 4000
"""Characters of a text that are read."""


@dataclass(frozen=True)
class KnownTexts:
    """What a model was taught.

    Args:
        known: for each place of words whether a known word falls there.
        weights: of each place, words first.
        centres: means of the vectors of groups of texts that are alike, of length 1.
        topics: of each centre the number of its topic.
    """

    known: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.float32]
    centres: npt.NDArray[np.float32]
    topics: Whole

    @classmethod
    def of(cls, texts: Sequence[str]) -> KnownTexts:
        """What texts make known; at least one."""
        stride = max(1, len(texts) // _MOST)
        frequencies = np.zeros(2 * PLACES)
        for start in range(0, len(texts), _AT_ONCE):
            frequencies += np.asarray(_bags(texts[start : start + _AT_ONCE]).sum(axis=0)).ravel()
        # What few texts use weighs the same as what none does, so that it can't be told.
        frequencies = np.where(frequencies >= _COMMON, frequencies, 0)
        weights = np.log((len(texts) + _COMMON) / np.maximum(frequencies, _COMMON - 1)).astype(np.float32)
        vectors = _vectors(texts[::stride], weights)
        centres, group = _groups(vectors, max(1, min(CENTRES, len(vectors) // _TEXTS_A_CENTRE)))
        enough = np.bincount(group, minlength=len(centres)) >= _FEWEST
        if len(vectors) < _FEWEST:
            centres = np.zeros((1, SIZE), np.float32)  # all is new
        else:
            centres = centres[enough] if enough.any() else _unit(vectors.mean(axis=0, keepdims=True))
        _, topics = _groups(centres, min(TOPICS, len(centres)))
        centres = centres.astype(np.float16).astype(np.float32)  # as they are stored
        return cls(frequencies[:PLACES] > 0, weights, centres, topics)

    def place(self, texts: Sequence[str]) -> tuple[Numbers, Whole, Numbers]:
        """Where texts lie: of each how far it is from the nearest centre (0 to 1), the topic of that, and the share of
        its words that are not known."""
        distance, topic, unseen = (
            np.ones(len(texts), np.float32),
            np.zeros(len(texts), np.int64),
            np.zeros(len(texts), np.float32),
        )
        for start in range(0, len(texts), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            bags = _bags(texts[some])
            likeness = _projected(bags, self.weights) @ self.centres.T
            distance[some] = np.clip(1 - likeness.max(axis=1), 0, 1)
            topic[some] = self.topics[likeness.argmax(axis=1)]
            words = bags[:, :PLACES]
            unseen[some] = (words @ ~self.known) / np.maximum(np.asarray(words.sum(axis=1)).ravel(), 1)
        return distance, topic, unseen


def _groups(vectors: npt.NDArray[np.float32], count: int) -> tuple[npt.NDArray[np.float32], Whole]:
    """Groups of vectors that point the same way: the mean of each, of length 1, and the number of each vector's group.

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
    """Vectors of length 1; one of nothing stays nothing."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), np.float32)


def _bags(texts: Sequence[str]) -> Any:
    """For each text which places its words and their runs of characters fall into, as a sparse matrix."""
    from scipy.sparse import hstack

    words, runs = _hashers()
    beginnings = [text[:_READ] for text in texts]
    return hstack([words.transform(beginnings), runs.transform(beginnings)]).tocsr()


@cache
def _hashers() -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import HashingVectorizer

    plain = {"n_features": PLACES, "alternate_sign": False, "norm": None, "binary": True, "dtype": np.float32}
    return (
        HashingVectorizer(token_pattern=r"\w+", **plain),
        HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), **plain),
    )


@cache
def _projection() -> npt.NDArray[np.float32]:
    drawn = np.random.default_rng(0).standard_normal((2 * PLACES, SIZE), np.float32)
    return np.asarray(drawn / np.sqrt(SIZE), np.float32)
