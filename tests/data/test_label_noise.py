from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tunewright.core.artifacts import read_jsonl
from tunewright.data.checks.label_noise import (
    FOLDS,
    Suspect,
    _fitted,
    _groups,
    _probabilities,
    _scores,
    likely_mislabelled,
    unjudged_labels,
)
from tunewright.data.splits.folds import group_folds

THEMES = {
    "refund": ["refund", "money", "back", "return", "paid", "charge", "cancel", "order", "amount", "invoice"],
    "login": ["password", "account", "sign", "reset", "locked", "code", "phone", "access", "login", "user"],
    "delivery": ["parcel", "late", "courier", "address", "street", "door", "tracking", "shipped", "week", "box"],
    "defect": ["broken", "screen", "cracked", "battery", "noise", "button", "dead", "repair", "warranty", "hot"],
}
COMMON = ["please", "my", "the", "is", "i", "a", "can", "you", "help", "with", "today", "and", "it", "was"]


def tickets(seed: int, per_label: int = 60, labels: int = 4) -> tuple[list[str], list[str]]:
    draw = random.Random(seed)
    rows = [
        (" ".join(draw.choices(THEMES[label], k=4) + draw.choices(COMMON, k=4)), label)
        for label in list(THEMES)[:labels]
        for _ in range(per_label)
    ]
    draw.shuffle(rows)
    return [text for text, _ in rows], [label for _, label in rows]


def flipped(labels: list[str], seed: int, share: float = 0.05) -> tuple[list[str], dict[int, str]]:
    """(labels of which a share is wrong, the right labels of those)."""
    draw, noisy = random.Random(seed), list(labels)
    rows = draw.sample(range(len(labels)), int(share * len(labels)))
    for row in rows:
        noisy[row] = draw.choice(sorted(set(labels) - {labels[row]}))
    return noisy, {row: labels[row] for row in rows}


def suspects_of(*args: Any, **settings: Any) -> list[Suspect]:
    found = likely_mislabelled(*args, **settings)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(3))
def test_planted_wrong_labels_are_found_with_the_right_label(seed: int) -> None:
    texts, labels = tickets(seed)
    noisy, wrong = flipped(labels, seed)
    suspects = suspects_of(texts, noisy, seed=seed)
    found = {s.index: s.suggested for s in suspects}
    assert len(wrong.keys() & found.keys()) >= 0.9 * len(wrong)
    assert len(wrong.keys() & found.keys()) >= 0.8 * len(found)
    assert sum(found.get(row) == label for row, label in wrong.items()) >= 0.9 * len(wrong)
    assert {s.index for s in suspects[: len(wrong)]} & wrong.keys()


def test_clean_labels_give_few_suspects() -> None:
    texts, labels = tickets(7)
    assert len(suspects_of(texts, labels)) <= 0.02 * len(texts)


def test_suspects_have_both_labels_and_come_most_probable_first() -> None:
    texts, labels = tickets(1)
    noisy, _ = flipped(labels, 1)
    suspects = suspects_of(texts, noisy)
    assert suspects
    assert all(noisy[s.index] == s.given != s.suggested and 0 < s.score <= 1 for s in suspects)
    assert [s.score for s in suspects] == sorted((s.score for s in suspects), reverse=True)


def test_two_labels_are_enough() -> None:
    texts, labels = tickets(2, labels=2)
    noisy, wrong = flipped(labels, 2)
    assert {s.index for s in suspects_of(texts, noisy)} >= set(wrong)


def test_the_same_seed_gives_the_same_suspects() -> None:
    texts, labels = tickets(3)
    noisy, _ = flipped(labels, 3, 0.1)
    assert suspects_of(texts, noisy, seed=5) == suspects_of(texts, noisy, seed=5)


def test_labels_of_one_or_two_rows_are_left_out_and_named() -> None:
    texts, labels = tickets(4)
    texts += ["something rare", "a strange thing", "a stranger thing", "money refund", "Money  refund", "MONEY refund"]
    labels += ["rare", "odd", "odd", "repeated", "repeated", "repeated"]
    assert unjudged_labels(texts, labels) == {"rare": 1, "odd": 2, "repeated": 3}
    suspects = suspects_of(texts, labels)
    assert not {"rare", "odd", "repeated"} & {name for s in suspects for name in (s.given, s.suggested)}


@pytest.mark.parametrize("rows", [[], [("a", "x")], [("a", "x"), ("b", "x"), ("c", "x")], [("a", "x"), ("b", "y")]])
def test_nothing_to_compare_gives_no_suspects(rows: list[tuple[str, str]]) -> None:
    assert suspects_of([text for text, _ in rows], [label for _, label in rows]) == []


def test_texts_without_letters_can_be_judged() -> None:
    texts, labels = tickets(5)
    assert isinstance(suspects_of(["", "?", "😀", *texts], ["refund", "login", "defect", *labels]), list)


def test_a_repeated_wrong_label_does_not_confirm_itself() -> None:
    texts, labels = tickets(6)
    repeated = "refund money back please return it"
    suspects = suspects_of([*texts, *[repeated] * 6], [*labels, *["login"] * 6])
    assert {s.index for s in suspects} >= set(range(len(texts), len(texts) + 6))


def test_a_group_is_in_one_fold_and_each_labels_groups_are_dealt_evenly() -> None:
    given = np.array([label for label in range(4) for _ in range(50)])
    groups = [f"{label}/{n // 5}" for label in range(4) for n in range(50)]
    folds = group_folds(given, groups, FOLDS, 0)
    assert all(len({fold for fold, g in zip(folds, groups, strict=True) if g == group}) == 1 for group in groups)
    assert all(Counter(folds[given == label].tolist()) == Counter(dict.fromkeys(range(5), 10)) for label in range(4))
    assert not np.array_equal(folds, group_folds(given, groups, FOLDS, 1))


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError):
        suspects_of(["a", "b"], ["x"])
    with pytest.raises(ValueError):
        suspects_of(["a"], ["x"], groups=["g", "h"])
    with pytest.raises(ValueError):
        suspects_of(["a", "b"], ["x"], groups=["g"])


@pytest.mark.parametrize("texts", [["?", "!", "…", "😀", "😡", "."], [""] * 6, [" "] * 6])
def test_texts_without_any_word_are_accepted(texts: list[str]) -> None:
    assert not likely_mislabelled(texts, ["x", "x", "x", "y", "y", "y"], groups=list(range(6)))


def test_probabilities_are_calibrated() -> None:
    texts, labels = tickets(8, per_label=200)
    noisy, _ = flipped(labels, 8, 0.1)
    given = np.array([sorted(THEMES).index(label) for label in noisy])
    folds = group_folds(given, _groups(texts, None), FOLDS, 0)
    scores, _ = _scores(texts, given, folds, 4, 0)
    probabilities = _probabilities(scores, given, _fitted(scores, given))
    assert np.allclose(probabilities.sum(axis=1), 1)
    right, sure = probabilities.argmax(axis=1) == given, probabilities.max(axis=1)
    assert abs(right.mean() - sure.mean()) < 0.02
    assert abs(right[sure > 0.85].mean() - sure[sure > 0.85].mean()) < 0.03


@pytest.mark.slow
def test_a_weak_classifier_judges_nothing() -> None:
    """The shipped tickets' labels are right. A linear classifier got two of three right and suspected 194 of 1,024."""
    rows = read_jsonl(REPOSITORY / "examples" / "tickets" / "data" / "train.jsonl")
    columns = [[row[name] for row in rows] for name in ("text", "label", "phrasing")]
    assert likely_mislabelled(*columns) is None


def test_many_wrong_labels_do_not_make_a_classifier_weak() -> None:
    texts, labels = tickets(9, per_label=200)
    noisy, wrong = flipped(labels, 9, 0.3)
    found = {suspect.index for suspect in suspects_of(texts, noisy)}
    assert len(found & wrong.keys()) >= 0.8 * max(len(wrong), len(found))
