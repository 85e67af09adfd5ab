"""Near-duplicate texts, without comparing every text with every other.

A text is the set of its shingles; two texts are near copies when the Jaccard similarity of their sets reaches a
threshold. MinHash proposes pairs (`tunewright.data.minhash`), and each is checked on the shingles themselves: what is
reported is exact, and what is missed is at most about 2 % of the pairs just at the threshold, fewer above it.
"""

from __future__ import annotations

import hashlib
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from tunewright.data.minhash import Hashes, Indices, band_keys, bands_for, candidates, shingle_hashes

CHARACTERS = 3
"""Characters in a shingle of a short text. On BANKING77's training part three find twice what four or five do, with as
few pairs of different labels (3 %); sets of words find more still, but three times as many such pairs."""
WORDS = 2
"""Words in a shingle of a long text. With two, near copies at 0.8 may differ in a word of twenty, with three hardly."""
LONG = 40
"""Words from which a text is long. A quarter more than that is compared both ways, so that no pair falls between."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class NearPair:
    """The indices of two near copies and the Jaccard similarity of their shingles."""

    first: int
    second: int
    jaccard: float


def near_duplicates(texts: Iterable[str], threshold: float = 0.8) -> list[NearPair]:
    """The texts that nearly repeat another one.

    Case, punctuation and spacing don't count, and a text without anything else is nobody's copy. Memory is about 500
    bytes a text, besides the texts, and 100 bytes a character of the longest. Time is about linear: where more than a
    few texts agree in a band, each is compared with those it most probably resembles only.

    Args:
        threshold: least Jaccard similarity of two near copies, from 0.3 to 1.

    Returns:
        Pairs with `first` < `second`, sorted by `second`, that join all near copies into groups (`near_groups`)
        without a pair too many: m texts in g groups make m - g pairs.

    Raises:
        ValueError: the threshold is out of range.
    """
    bands = bands_for(threshold)
    texts = list(texts)
    firsts, words = _distinct(texts)
    found = [NearPair(first, index, 1.0) for index, first in enumerate(firsts.tolist()) if 0 <= first < index]
    owner: dict[int, int] = {}
    for shingles, rows in _by_length(firsts, words):
        keys = _keys(texts, rows, shingles, bands)
        jaccard = _jaccard_of(texts, shingles)
        for rights, lefts in candidates(keys, keys):
            earlier = lefts < rights
            for first, second in zip(rows[lefts[earlier]].tolist(), rows[rights[earlier]].tolist(), strict=True):
                if _root(owner, first) != _root(owner, second) and (similarity := jaccard(first, second)) >= threshold:
                    owner[_root(owner, second)] = _root(owner, first)
                    found.append(NearPair(first, second, similarity))
    return sorted(found, key=lambda pair: (pair.second, pair.first))


def near_groups(pairs: Iterable[NearPair]) -> list[list[int]]:
    """The groups that pairs join, each of two members or more and sorted, in the order of their first members."""
    owner: dict[int, int] = {}
    pairs = list(pairs)
    for pair in pairs:
        owner[_root(owner, pair.second)] = _root(owner, pair.first)
    groups: dict[int, list[int]] = {}
    for index in sorted({index for pair in pairs for index in (pair.first, pair.second)}):
        groups.setdefault(_root(owner, index), []).append(index)
    return list(groups.values())


def near_copies(left: Iterable[str], right: Iterable[str], threshold: float = 0.8) -> list[NearPair]:
    """For each text of `right` its nearest text in `left`, where one reaches the threshold: what leaks from train.

    Returns:
        Pairs of an index in `left` (`first`) and one in `right` (`second`), sorted by `second`, at most one for each.

    Raises:
        ValueError: the threshold is out of range.
    """
    bands = bands_for(threshold)
    texts = list(left)
    size = len(texts)
    texts += right
    firsts, words = _distinct(texts)
    best: dict[int, tuple[float, int]] = {}
    for shingles, rows in _by_length(firsts, words):
        keys = _keys(texts, rows, shingles, bands)
        jaccard = _jaccard_of(texts, shingles)
        cut = int(np.searchsorted(rows, size))
        for rights, lefts in candidates(keys[:cut], keys[cut:]):
            for first, second in zip(rows[lefts].tolist(), rows[cut + rights].tolist(), strict=True):
                similarity = jaccard(first, second)
                if similarity >= threshold and similarity > best.get(second, (0.0, 0))[0]:
                    best[second] = (similarity, first)
    pairs = []
    for index in range(size, len(texts)):
        equal = int(firsts[index])
        if 0 <= equal < size:
            pairs.append(NearPair(equal, index - size, 1.0))
        elif equal in best:
            similarity, first = best[equal]
            pairs.append(NearPair(first, index - size, similarity))
    return pairs


def similarity(first: str, second: str) -> float:
    """The Jaccard similarity that near copies are judged by: of words' shingles where both texts are long."""
    texts = [first, second]
    return _jaccard_of(texts, WORDS if _distinct(texts)[1].min() >= LONG else 0)(0, 1)


def _root(owner: dict[int, int], index: int) -> int:
    """The head of a group in a union-find forest; who isn't in it is alone."""
    while (above := owner.get(index, index)) != index:
        owner[index] = owner.get(above, above)
        index = above
    return index


@cache
def _dropped() -> dict[int, str]:
    """What happens to the characters that don't count: punctuation parts words, invisible ones (Cf) vanish."""
    kinds = ((code, unicodedata.category(chr(code))) for code in range(sys.maxunicode + 1))
    return {code: "" if kind == "Cf" else " " for code, kind in kinds if kind[0] == "P" or kind == "Cf"}


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text.casefold()).translate(_dropped()).split())


def _distinct(texts: Sequence[str]) -> tuple[Indices, Indices]:
    """For each text the index of the first one with its normal form (-1 where that is empty), and its words."""
    digests = bytearray()
    words = np.zeros(len(texts), np.int64)
    for index, text in enumerate(texts):
        normal = _normal(text)
        words[index] = normal.count(" ") + 1 if normal else 0
        digests += hashlib.blake2b(normal.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    _, first, inverse = np.unique(np.frombuffer(digests, "V16"), return_index=True, return_inverse=True)
    return np.where(words > 0, first[inverse], -1), words


def _by_length(firsts: Indices, words: Indices) -> list[tuple[int, Indices]]:
    """(words in a shingle, 0 for characters; the distinct texts to compare by such shingles), short texts first."""
    distinct = firsts == np.arange(len(firsts))
    short, long = distinct & (words < 1.25 * LONG), distinct & (words >= LONG)
    return [(shingles, np.flatnonzero(rows)) for shingles, rows in ((0, short), (WORDS, long)) if rows.any()]


def _jaccard_of(texts: Sequence[str], words: int) -> Callable[[int, int], float]:
    @lru_cache(maxsize=4096)
    def shingles(index: int) -> frozenset[str]:
        normal = _normal(texts[index])
        if not words:
            return frozenset(normal[i : i + CHARACTERS] for i in range(max(len(normal) - CHARACTERS + 1, 1)))
        parts = normal.split()
        return frozenset(" ".join(parts[i : i + words]) for i in range(max(len(parts) - words + 1, 1)))

    def jaccard(first: int, second: int) -> float:
        a, b = shingles(first), shingles(second)
        both = len(a & b)
        return both / (len(a) + len(b) - both)

    return jaccard


def _keys(texts: Sequence[str], rows: Indices, words: int, bands: tuple[int, int]) -> Hashes:
    """The band keys of rows, (rows, bands), computed for about a million characters at a time."""
    keys = np.empty((len(rows), bands[0]), np.uint64)
    normals: list[str] = []
    characters = 0
    for number, row in enumerate(rows.tolist(), 1):
        normals.append(_normal(texts[row]))
        characters += len(normals[-1])
        if characters >= _CHUNK or number == len(rows):
            hashes, offsets = shingle_hashes(normals, words or CHARACTERS, by_words=words > 0)
            keys[number - len(normals) : number] = band_keys(hashes, offsets, bands)
            normals, characters = [], 0
    return keys
