"""MinHash signatures in bands, and the pairs that agree in one.

MinHash (Broder 1997) gives each set of shingles a signature. The probability that two signatures agree at a place is
the Jaccard similarity of the sets. Banding (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3)
finds the pairs that agree in a band of places without comparing all pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]
Signs = npt.NDArray[np.uint8]

SIGNATURE = 128
WINDOW = 8
"""Neighbours on either side with which a text is compared, where more texts than that agree in a band."""
_CHUNK = 2048
_TAIL = np.uint64((1 << 24) - 1)


def bands_for(threshold: float) -> tuple[int, int]:
    """(bands, rows in each): the longest bands that find 98 % of the pairs just at the threshold."""
    if not 0.3 <= threshold <= 1:
        raise ValueError(f"a threshold of {threshold} is not between 0.3 and 1")
    fit = [r for r in range(1, 17) if 1 - (1 - threshold**r) ** (SIGNATURE // r) >= 0.98]
    return SIGNATURE // fit[-1], fit[-1]


def shingle_hashes(normals: Sequence[str], width: int, *, by_words: bool) -> tuple[Hashes, Indices]:
    """The hashes of all shingles of `width` words or characters, text after text, and the offset of each text's first.

    Texts are not empty, and single spaces separate their words. A text shorter than a shingle is a shingle itself.

    A shingle is a stretch of the text, and prefix sums of the characters times the powers of an odd number give the
    hash of any stretch (Karp and Rabin 1987) modulo 2^64 at once.
    """
    codes = np.frombuffer((" ".join(normals) + " ").encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    base = 0x9E3779B97F4A7C15
    powers, inverses = (
        np.cumprod(np.concatenate([[np.uint64(1)], np.full(len(codes), factor, np.uint64)]))
        for factor in (base, pow(base, -1, 1 << 64))
    )
    prefix = np.concatenate([[np.uint64(0)], np.cumsum(_mixed(codes) * powers[:-1])])
    lengths = np.array([len(normal) for normal in normals])
    begins = np.cumsum(lengths + 1) - lengths - 1
    if by_words:
        stops = np.flatnonzero(codes == ord(" "))
        starts = np.concatenate([[0], stops[:-1] + 1])
        units = np.add.reduceat(codes == ord(" "), begins, dtype=np.int64)
        heads = np.cumsum(units) - units
    else:
        starts = np.arange(len(codes))
        stops = starts + 1
        units, heads = lengths, begins
    counts = np.maximum(units - width + 1, 1)
    offsets = np.cumsum(counts) - counts
    first = np.arange(counts.sum()) + np.repeat(heads - offsets, counts)
    last = np.minimum(first + width, np.repeat(heads + units, counts)) - 1
    hashes = (prefix[stops[last]] - prefix[starts[first]]) * inverses[starts[first]]
    return _mixed(hashes), offsets


def sign(hashes: Hashes, offsets: Indices, bands: tuple[int, int]) -> tuple[Hashes, Signs]:
    """For each text its band keys, (texts, bands), and a byte of each place of its signature, (texts, places).

    A key is 40 bits of its band's hash, then 24 bits of the next band's. So texts that agree in a band are neighbours
    when keys are sorted, and nearest to those that share the next band too. The bytes show how similar two texts are
    (`similarities`).
    """
    count, height = bands
    keys = np.zeros((len(offsets), count), np.uint64)
    signs = np.empty((len(offsets), count * height), np.uint8)
    factors = np.random.default_rng(0).integers(0, 1 << 64, (count, height), np.uint64) | np.uint64(1)
    scratch = np.empty_like(hashes)
    for band in range(count):
        for place, factor in enumerate(factors[band]):
            np.multiply(hashes, factor, out=scratch)
            least = _mixed(np.minimum.reduceat(scratch, offsets))
            signs[:, band * height + place] = least >> np.uint64(56)
            keys[:, band] = _mixed(keys[:, band] ^ least)
    return keys & ~_TAIL | np.roll(keys, -1, axis=1) >> np.uint64(40), signs


def similarities(left: Signs, right: Signs) -> npt.NDArray[np.float64]:
    """Estimated Jaccard similarities of pairs of texts, (pairs,), with a standard error of 0.05 at most.

    b-bit minwise hashing (Li and Koenig 2010) with b = 8: the share of equal bytes, less those equal by chance.
    """
    share = (left == right).mean(axis=1)
    estimated: npt.NDArray[np.float64] = (share - 1 / 256) / (1 - 1 / 256)
    return estimated


def candidates(left: Hashes, right: Hashes) -> Iterator[tuple[Indices, Indices]]:
    """Pairs (rows of right, rows of left) that agree in a band, each once; of many, only those with the nearest
    keys."""
    orders = [np.argsort(column).astype(np.int32) for column in left.T]
    columns = [column[order] for column, order in zip(left.T, orders, strict=True)]
    for start in range(0, len(right), _CHUNK):
        block = right[start : start + _CHUNK]
        pairs = []
        for keys, order, column in zip(block.T, orders, columns, strict=True):
            here = np.searchsorted(column, keys)
            low = np.maximum(np.searchsorted(column, keys & ~_TAIL), here - WINDOW)
            high = np.minimum(np.searchsorted(column, keys | _TAIL, "right"), here + WINDOW + 1)
            counts = high - low
            slots = np.arange(counts.sum()) + np.repeat(low - np.cumsum(counts) + counts, counts)
            pairs.append(np.repeat(np.arange(len(block)), counts) * len(left) + order[slots])
        unique = np.unique(np.concatenate(pairs))
        yield start + unique // max(len(left), 1), unique % max(len(left), 1)


def _mixed(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)
