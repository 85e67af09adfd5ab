from __future__ import annotations

import random
import time
from collections.abc import Callable
from itertools import combinations

import pytest

from tunewright.data.dedup import near
from tunewright.data.dedup.near import NearPair, near_copies, near_duplicates, near_groups, similarity

WORDS = [
    f"{a}{b}"
    for a in ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu")
    for b in ("rt", "st", "nd", "lk", "mp", "ss", "ck", "zz", "ve", "on")
]


def sentence(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def edited(text: str, draw: random.Random, edits: int) -> str:
    parts = text.split()
    for place in draw.sample(range(len(parts)), edits):
        parts[place] = draw.choice(WORDS)
    return " ".join(parts)


def corpus(seed: int, words: int, size: int = 180) -> list[str]:
    """Texts of which a third are edited copies of earlier ones."""
    draw = random.Random(seed)
    texts = [sentence(draw, words) for _ in range(2 * size // 3)]
    return texts + [edited(draw.choice(texts), draw, draw.randint(0, 3)) for _ in range(size - len(texts))]


def all_pairs(texts: list[str], threshold: float) -> dict[tuple[int, int], float]:
    """The near copies among plain lower-case texts that are all short or all long, by comparing every pair."""
    if len(texts[0].split()) < near.LONG:
        sets = [{text[i : i + near.CHARACTERS] for i in range(len(text) - near.CHARACTERS + 1)} for text in texts]
    else:
        sets = [
            {" ".join(w[i : i + near.WORDS]) for i in range(len(w) - near.WORDS + 1)} for w in map(str.split, texts)
        ]
    pairs = {(i, j): len(sets[i] & sets[j]) / len(sets[i] | sets[j]) for i, j in combinations(range(len(texts)), 2)}
    return {pair: value for pair, value in pairs.items() if value >= threshold}


@pytest.mark.parametrize("words", [12, 90], ids=["short", "long"])
@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.95])
def test_groups_equal_those_from_comparing_every_pair(words: int, threshold: float) -> None:
    texts = corpus(words, words)
    true = all_pairs(texts, threshold)
    found = near_duplicates(texts, threshold)
    assert all(true[pair.first, pair.second] == pair.jaccard for pair in found)
    members = {index: number for number, group in enumerate(near_groups(found)) for index in group}
    together = [pair for pair in true if members.get(pair[0], -1) == members.get(pair[1], -2)]
    assert len(together) >= 0.97 * len(true) > 10


def test_pairs_are_a_forest_sorted_by_the_later_text() -> None:
    texts = corpus(5, 12)
    pairs = near_duplicates(texts)
    groups = near_groups(pairs)
    assert len(pairs) == sum(len(group) - 1 for group in groups)
    assert all(pair.first < pair.second for pair in pairs)
    assert [pair.second for pair in pairs] == sorted(pair.second for pair in pairs)


def test_texts_of_mixed_length_meet_across_the_border_between_short_and_long() -> None:
    draw = random.Random(0)
    for words in range(near.LONG - 6, near.LONG + 12):
        text = sentence(draw, words)
        for shorter in (text.rsplit(" ", 1)[0], text.rsplit(" ", 4)[0]):
            (pair,) = near_duplicates([text, shorter])
            assert pair.jaccard >= 0.8


def test_case_punctuation_spacing_and_unicode_forms_do_not_count() -> None:
    texts = ["Where is my café card?", "  WHERE is -- my\tcafe\u0301 card!!", "where\u200b is my ＣＡＦÉ card"]
    assert near_duplicates(texts, 1.0) == [NearPair(0, 1, 1.0), NearPair(0, 2, 1.0)]


def test_scripts_with_combining_marks_keep_their_words_apart() -> None:
    assert near_duplicates(["कि", "की", "का"], 0.9) == []
    assert near_duplicates(["我的卡丢了", "我的卡丢了。", "我的卡找到了"], 0.8) == [NearPair(0, 1, 1.0)]


def test_texts_without_content_are_never_copies() -> None:
    assert near_duplicates(["", " ", "?!", "\n", "…", ""]) == []
    assert near_copies(["", "?"], ["", "?", "a"]) == []


@pytest.mark.parametrize("texts", [[], ["one"], ["one", "two", "three"], ["a", "b", "ab"]])
def test_few_and_short_texts_that_differ(texts: list[str]) -> None:
    assert near_duplicates(texts) == []


def test_one_word_texts_that_agree() -> None:
    assert near_duplicates(iter(["yes", "no", "Yes!", "NO"])) == [NearPair(0, 2, 1.0), NearPair(1, 3, 1.0)]


def test_a_symbol_is_content() -> None:
    assert near_duplicates(["😀", "😡", "😀"]) == [NearPair(0, 2, 1.0)]


def test_lone_surrogates_are_accepted() -> None:
    assert near_duplicates(["\ud800 text", "\ud800 text"]) == [NearPair(0, 1, 1.0)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda _: "the same text again",
        lambda n: f"Dear customer, thank you for your order number {n}, which we have sent to you today.",
        lambda n: " ".join(f"{WORDS[k % 100]}{n if k % 12 == 0 else ''}" for k in range(60)),
    ],
    ids=["equal", "nearly equal", "one template, below the threshold"],
)
def test_very_many_alike_texts_take_no_longer_than_their_number(make: Callable[[int], str]) -> None:
    started = time.perf_counter()
    pairs = near_duplicates([make(n) for n in range(3000)])
    assert time.perf_counter() - started < 20
    assert len(pairs) < 3000


def test_a_near_copy_is_found_among_very_many_texts_of_one_template() -> None:
    draw = random.Random(3)
    frame = sentence(draw, 40)
    texts = [frame + " " + sentence(draw, 16) for _ in range(1500)]
    copies = {n: texts[n] + " " + WORDS[0] for n in range(0, 1500, 100)}
    pairs = {(pair.first, pair.second): pair.jaccard for pair in near_duplicates([*texts, *copies.values()], 0.9)}
    assert {(n, 1500 + k) for k, n in enumerate(copies)} <= set(pairs)


@pytest.mark.parametrize("words", [12, 90], ids=["short", "long"])
def test_each_leak_names_the_nearest_training_text(words: int) -> None:
    draw = random.Random(words)
    left = corpus(1, words, 150)
    right = [edited(draw.choice(left), draw, draw.randint(0, 4)) for _ in range(80)]
    right += [sentence(draw, words) for _ in range(20)] + right[:10]
    leaking: dict[int, float] = {}
    for (i, j), value in all_pairs([*left, *right], 0.8).items():
        if i < len(left) <= j:
            leaking[j - len(left)] = max(value, leaking.get(j - len(left), 0))
    found = near_copies(left, right)
    assert all(similarity(left[pair.first], right[pair.second]) == pair.jaccard for pair in found)
    assert len({pair.second for pair in found}) == len(found) >= 0.97 * len(leaking)
    assert {pair.second for pair in found} <= set(leaking)
    assert sum(pair.jaccard == leaking[pair.second] for pair in found) >= 0.97 * len(found)


def test_an_equal_text_is_the_nearest_and_the_first_of_its_kind() -> None:
    assert near_copies(["x y z", "My card is lost", "my card is lost!"], ["MY card, is lost", "new"]) == [
        NearPair(1, 0, 1.0)
    ]


def test_repeats_on_the_right_all_leak_and_do_not_count_as_left() -> None:
    right = ["I have lost my credit card", "I have lost my credit cards", "I have lost my credit cards"]
    assert [(p.first, p.second) for p in near_copies([right[0]], right)] == [(0, 0), (0, 1), (0, 2)]
    assert near_copies([], right) == [] == near_copies(right, [])


def test_the_same_texts_give_the_same_pairs() -> None:
    texts = corpus(9, 90)
    assert near_duplicates(texts) == near_duplicates(iter(texts))


@pytest.mark.parametrize("threshold", [0.0, 0.29, 1.01, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        near_duplicates(["a"], threshold)
    with pytest.raises(ValueError, match="threshold"):
        near_copies(["a"], ["a"], threshold)
