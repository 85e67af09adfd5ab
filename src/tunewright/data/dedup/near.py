"""Near-duplicate texts, without comparing every text with every other.

A text is the set of its shingles; two texts are near copies when the Jaccard similarity of their sets reaches a
threshold. MinHash proposes pairs (`tunewright.data.dedup.minhash`), and each pair is checked on the shingles
themselves. So the similarities reported are exact. The search misses about 2 % of the pairs just at the threshold at
most, and fewer above it.

Sketching needs each text once and can be done in parts; matching needs the sketches, and the texts of proposed pairs.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tunewright.data.dedup.minhash import (
    Hashes,
    Indices,
    Signs,
    bands_for,
    candidates,
    shingle_hashes,
    sign,
    similarities,
)
from tunewright.tasks.normal import normalised

CHARACTERS = 3
"""Characters in a shingle of a short text. On BANKING77's training part three find twice as many pairs as four or five,
with as few pairs of different labels (3 %). Sets of words find more still, but three times as many such pairs."""
WORDS = 2
"""Words in a shingle of a long text. With two, near copies at 0.8 may differ in a word of twenty, with three hardly."""
THRESHOLD = 0.8
"""Jaccard similarity from which two texts are near copies, unless the caller gives another."""
LONG = 40
"""Words from which a text is long. Texts of up to a quarter more are compared both ways, so that no pair is lost at the
boundary."""
DOUBT = 0.2
"""How far below the threshold a pair's estimated similarity may be for its shingles to be compared: at least four
standard errors, at a threshold of 0.8 more than five."""
_CHUNK = 1 << 20

TextOf = Callable[[int], str]
"""From a text's index to the text."""


@dataclass(frozen=True)
class NearPair:
    """The indices of two near copies and the Jaccard similarity of their shingles."""

    first: int
    second: int
    jaccard: float


@dataclass(frozen=True)
class Sketches:
    """The numbers by which the search finds near copies among n texts; about 290 bytes a text."""

    digests: Hashes
    """Hash of each text's normal form, (n,); 0 where that is empty."""
    words: Indices
    """Words of each normal form, (n,)."""
    keys: tuple[Hashes, Hashes]
    """Band keys by characters for the texts that aren't long, and by words for those that are: (texts, bands) each."""
    signs: tuple[Signs, Signs]
    """Bytes of their signatures: (texts, places) each."""

    def rows(self) -> tuple[Indices, Indices]:
        """The indices of the texts in each of the two sets of keys."""
        return np.flatnonzero((self.words > 0) & (self.words < 1.25 * LONG)), np.flatnonzero(self.words >= LONG)

    @classmethod
    def joined(cls, parts: Sequence[Sketches]) -> Sketches:
        """The sketches of all parts' texts, one part after the other."""
        return cls(
            np.concatenate([part.digests for part in parts]),
            np.concatenate([part.words for part in parts]),
            (np.concatenate([part.keys[0] for part in parts]), np.concatenate([part.keys[1] for part in parts])),
            (np.concatenate([part.signs[0] for part in parts]), np.concatenate([part.signs[1] for part in parts])),
        )


class Sketcher:
    """Sketches texts as they come, a million characters at a time.

    Args:
        threshold: smallest Jaccard similarity of two near copies, from 0.3 to 1.

    Raises:
        ValueError: the threshold is out of range.
    """

    def __init__(self, threshold: float):
        self._bands = bands_for(threshold)
        self._digests = bytearray()
        self._words: list[int] = []
        self._waiting: tuple[list[str], list[str]] = ([], [])
        self._sizes = [0, 0]
        self._keys: tuple[list[Hashes], list[Hashes]] = ([], [])
        self._signs: tuple[list[Signs], list[Signs]] = ([], [])

    def add(self, text: str) -> None:
        normal = comparable(text)
        words = normal.count(" ") + 1 if normal else 0
        self._digests += (
            hashlib.blake2b(normal.encode("utf-8", "surrogatepass"), digest_size=8).digest() if words else bytes(8)
        )
        self._words.append(words)
        for kind, belongs in enumerate((0 < words < 1.25 * LONG, words >= LONG)):
            if belongs:
                self._waiting[kind].append(normal)
                self._sizes[kind] += len(normal)
                if self._sizes[kind] >= _CHUNK:
                    self._flush(kind)

    def sketches(self) -> Sketches:
        """The sketches of all texts added so far."""
        for kind in (0, 1):
            self._flush(kind)
        empty = np.empty((0, self._bands[0]), np.uint64)
        none = np.empty((0, self._bands[0] * self._bands[1]), np.uint8)
        return Sketches(
            np.frombuffer(bytes(self._digests), np.uint64),
            np.array(self._words, np.int64),
            (np.concatenate([empty, *self._keys[0]]), np.concatenate([empty, *self._keys[1]])),
            (np.concatenate([none, *self._signs[0]]), np.concatenate([none, *self._signs[1]])),
        )

    def _flush(self, kind: int) -> None:
        if self._waiting[kind]:
            width = WORDS if kind else CHARACTERS
            hashes, offsets = shingle_hashes(self._waiting[kind], width, by_words=kind == 1)
            keys, signs = sign(hashes, offsets, self._bands)
            self._keys[kind].append(keys)
            self._signs[kind].append(signs)
            self._waiting[kind].clear()
            self._sizes[kind] = 0


def near_duplicates(texts: Iterable[str], threshold: float = THRESHOLD) -> list[NearPair]:
    """The texts that nearly repeat another one.

    Case, punctuation and spacing don't count, and a text without anything else is never a copy. Memory is about 500
    bytes a text, besides the texts, and 100 bytes a character of the longest. Time is about linear: where more than a
    few texts agree in a band, each is compared only with those that it most probably resembles.

    Args:
        threshold: smallest Jaccard similarity of two near copies, from 0.3 to 1.

    Returns:
        Pairs with `first` < `second`, sorted by `second`, that join all near copies into groups (`near_groups`)
        without a redundant pair: m texts in g groups make m - g pairs.

    Raises:
        ValueError: the threshold is out of range.
    """
    texts = list(texts)
    return pairs_within(_sketched(texts, threshold), texts.__getitem__, threshold)


def pairs_within(sketches: Sketches, text_of: TextOf, threshold: float) -> list[NearPair]:
    """`near_duplicates` of texts that were sketched before, with the same threshold."""
    from scipy.cluster.hierarchy import DisjointSet

    firsts = first_rows(sketches.digests)
    repeats = np.flatnonzero((firsts != np.arange(len(firsts))) & (sketches.words > 0))
    pairs = [NearPair(int(firsts[index]), index, 1.0) for index in repeats.tolist()]
    sets = DisjointSet()
    for width, rows, keys, signs in zip((0, WORDS), sketches.rows(), sketches.keys, sketches.signs, strict=True):
        distinct = firsts[rows] == rows
        rows, keys, signs = rows[distinct], keys[distinct], signs[distinct]
        jaccard = _jaccard_of(text_of, width)
        for rights, lefts in candidates(keys, keys):
            earlier = lefts < rights
            earlier[earlier] = similarities(signs[lefts[earlier]], signs[rights[earlier]]) >= threshold - DOUBT
            for first, second in zip(rows[lefts[earlier]].tolist(), rows[rights[earlier]].tolist(), strict=True):
                sets.add(first)
                sets.add(second)
                if not sets.connected(first, second) and (similarity := jaccard(first, second)) >= threshold:
                    sets.merge(first, second)
                    pairs.append(NearPair(first, second, similarity))
    return sorted(pairs, key=lambda pair: (pair.second, pair.first))


def near_groups(pairs: Iterable[NearPair]) -> list[list[int]]:
    """The groups that pairs join, each of two members or more and sorted, in the order of their smallest members."""
    from scipy.cluster.hierarchy import DisjointSet

    sets = DisjointSet()
    for pair in pairs:
        sets.add(pair.first)
        sets.add(pair.second)
        sets.merge(pair.first, pair.second)
    return sorted(sorted(group) for group in sets.subsets())


def near_copies(left: Iterable[str], right: Iterable[str], threshold: float = THRESHOLD) -> list[NearPair]:
    """For each text of `right` its nearest text in `left`, where one reaches the threshold: tests' texts that train
    has.

    Returns:
        Pairs of an index in `left` (`first`) and one in `right` (`second`), sorted by `second`, at most one for each.

    Raises:
        ValueError: the threshold is out of range.
    """
    lefts, rights = list(left), list(right)
    sketched = _sketched(lefts, threshold), _sketched(rights, threshold)
    return pairs_between(*sketched, lefts.__getitem__, rights.__getitem__, threshold)


def pairs_between(
    left: Sketches, right: Sketches, left_text: TextOf, right_text: TextOf, threshold: float
) -> list[NearPair]:
    """`near_copies` of texts that were sketched before, with the same threshold."""
    size = len(left.words)
    equal = first_rows(np.concatenate([left.digests, right.digests]))[size:]
    equal[right.words == 0] = size
    best = {index: (1.0, first) for index, first in enumerate(equal.tolist()) if first < size}
    firsts = first_rows(left.digests)
    for width, rows, keys, signs, other_rows, other_keys, other_signs in zip(
        (0, WORDS), left.rows(), left.keys, left.signs, right.rows(), right.keys, right.signs, strict=True
    ):
        distinct = firsts[rows] == rows
        rows, keys, signs = rows[distinct], keys[distinct], signs[distinct]
        jaccard = _jaccard_of(lambda index: left_text(index) if index < size else right_text(index - size), width)
        for rights, lefts in candidates(keys, other_keys):
            likely = similarities(signs[lefts], other_signs[rights]) >= threshold - DOUBT
            lefts, rights = lefts[likely], rights[likely]
            for first, second in zip(rows[lefts].tolist(), other_rows[rights].tolist(), strict=True):
                known = best.get(second, (0.0, 0))[0]
                if known < 1 and (similarity := jaccard(first, size + second)) >= threshold and similarity > known:
                    best[second] = (similarity, first)
    return [NearPair(first, second, similarity) for second, (similarity, first) in sorted(best.items())]


def similarity(first: str, second: str) -> float:
    """The Jaccard similarity by which near copies are judged: of shingles of words where both texts are long."""
    texts = [first, second]
    long = all(len(comparable(text).split()) >= LONG for text in texts)
    return _jaccard_of(texts.__getitem__, WORDS if long else 0)(0, 1)


def _sketched(texts: Sequence[str], threshold: float) -> Sketches:
    sketcher = Sketcher(threshold)
    for text in texts:
        sketcher.add(text)
    return sketcher.sketches()


def first_rows(digests: Hashes) -> Indices:
    """For each hash the index of the first equal one."""
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    return first[inverse]


class _CharacterMap(dict[int, int | str]):
    """A table for `str.translate`: punctuation becomes a space, invisible characters (Cf) vanish, the others stay."""

    def __missing__(self, code: int) -> int | str:
        kind = unicodedata.category(chr(code))
        self[code] = "" if kind == "Cf" else " " if kind[0] == "P" else code
        return self[code]


_CHARACTER_MAP = _CharacterMap()


def comparable(text: str) -> str:
    """The form in which texts are compared: without differences of case, punctuation and spacing."""
    return " ".join(normalised("NFKC", text.casefold()).translate(_CHARACTER_MAP).split())


def _jaccard_of(text_of: TextOf, words: int) -> Callable[[int, int], float]:
    """A function that gives two texts' similarity: by shingles of `words` words, or of characters where that is 0."""

    @lru_cache(maxsize=4096)
    def shingles(index: int) -> frozenset[object]:
        normal = comparable(text_of(index))
        if not words:
            return frozenset(normal[i : i + CHARACTERS] for i in range(max(len(normal) - CHARACTERS + 1, 1)))
        parts = normal.split()
        return frozenset(zip(*(parts[i:] for i in range(words)), strict=False)) or frozenset([normal])

    def jaccard(first: int, second: int) -> float:
        a, b = shingles(first), shingles(second)
        both = len(a & b)
        return both / (len(a) + len(b) - both)

    return jaccard
