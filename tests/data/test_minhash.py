from __future__ import annotations

import random

import numpy as np
import pytest

from tests.data.test_near import edited, sentence
from tunewright.data.dedup.minhash import SIGNATURE, WINDOW, bands_for, candidates, shingle_hashes, sign, similarities
from tunewright.data.dedup.near import similarity


@pytest.mark.parametrize("by_words", [False, True])
@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_shingle_has_one_hash_wherever_it_stands(width: int, by_words: bool) -> None:
    texts = ["ab cd ef", "x", "abcdefg hij", "one two three"]
    alone, _ = shingle_hashes(texts, width, by_words=by_words)
    behind, offsets = shingle_hashes(["something else first", *texts], width, by_words=by_words)
    assert np.array_equal(alone, behind[offsets[1] :])


def test_signatures_agree_as_often_as_sets_are_similar() -> None:
    draw = random.Random(4)
    texts = [text for _ in range(200) for first in [sentence(draw, 80)] for text in (first, edited(first, draw, 8))]
    keys = sign(*shingle_hashes(texts, 2, by_words=True), (SIGNATURE, 1))[0] >> np.uint64(24)
    agreeing = (keys[::2] == keys[1::2]).mean(axis=1)
    true = np.array([similarity(a, b) for a, b in zip(texts[::2], texts[1::2], strict=True)])
    assert abs(float(np.mean(agreeing - true))) < 0.01
    assert float(np.std(agreeing - true)) < 1.2 * float(np.sqrt(np.mean(true * (1 - true)) / 128))


def test_shingles_are_counted_text_by_text_and_short_texts_are_one() -> None:
    _, offsets = shingle_hashes(["abcd", "x", "ab cd ef"], 3, by_words=False)
    assert offsets.tolist() == [0, 2, 3]
    hashes, offsets = shingle_hashes(["a b c d", "x", "b c"], 2, by_words=True)
    assert (offsets.tolist(), len(hashes)) == ([0, 3, 4], 5)
    assert hashes[1] == hashes[4]
    assert len(set(hashes.tolist())) == 4


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95, 1.0])
def test_bands_find_nearly_all_pairs_at_the_threshold_and_few_far_below(threshold: float) -> None:
    count, height = bands_for(threshold)
    assert count * height <= SIGNATURE
    assert 1 - (1 - threshold**height) ** count >= 0.98
    assert 1 - (1 - (threshold / 3) ** height) ** count < 0.5


def test_candidates_share_a_band_and_come_once() -> None:
    keys = np.array([[1, 10], [2, 20], [1, 20], [3, 30]], np.uint64) << np.uint64(24)
    ((rights, lefts),) = candidates(keys, keys)
    pairs = list(zip(rights.tolist(), lefts.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    assert {(right, left) for right, left in pairs if left < right} == {(2, 0), (2, 1)}


def test_a_texts_candidates_are_bounded_however_many_agree() -> None:
    keys = np.full((5000, 2), 7 << 24, np.uint64)
    counts = np.zeros(5000, np.int64)
    for rights, _ in candidates(keys, keys):
        np.add.at(counts, rights, 1)
    assert counts.min() >= 1 and counts.max() <= 2 * (2 * WINDOW + 1)


@pytest.mark.slow
def test_the_bytes_of_a_signature_estimate_the_jaccard_similarity() -> None:
    draw = np.random.default_rng(0)
    words = [f"w{n}" for n in range(4000)]
    off = []
    for shared in (0, 40, 100, 160, 200):
        for _ in range(20):
            picked = draw.permutation(words)
            common, left, right = picked[:shared], picked[shared:200], picked[200 : 400 - shared]
            texts = [" ".join([*common, *left]), " ".join([*common, *right])]
            hashes, offsets = shingle_hashes(texts, 1, by_words=True)
            _, signs = sign(hashes, offsets, bands_for(0.8))
            off.append(similarities(signs[:1], signs[1:])[0] - shared / (400 - shared))
    assert abs(float(np.mean(off))) < 0.02
    assert float(np.abs(off).max()) < 0.2
