from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tunewright.tasks import LabelTrie, score_labels

END = 0
LABELS = [[1, 2, END], [1, 3, END], [1, 2, 4, END], [5, END]]


class TableModel:
    """Logits that depend on the whole sequence, as a language model's do; counts its calls."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, ids: Sequence[int]) -> np.ndarray:
        self.asked.append(tuple(ids))
        return np.random.default_rng(list(ids)).normal(0, 3, 10).astype(np.float32)


def by_hand(labels: Sequence[Sequence[int]], label: Sequence[int], prompt: list[int]) -> float:
    """log P(label): at each position, softmax over the tokens with which some label goes on from here."""
    total, model = 0.0, TableModel()
    for position, token in enumerate(label):
        options = sorted({other[position] for other in labels if other[:position] == label[:position]})
        logits = model(prompt + list(label[:position])).astype(float)
        total += logits[token] - np.log(np.exp(logits[options]).sum())
    return total


def test_probabilities_sum_to_one() -> None:
    scores = score_labels(LabelTrie(LABELS), TableModel(), [7, 8])
    assert np.exp(scores).sum() == pytest.approx(1, abs=1e-12)


def test_scores_equal_the_formula_written_out() -> None:
    scores = score_labels(LabelTrie(LABELS), TableModel(), [7, 8])
    assert scores == pytest.approx([by_hand(LABELS, label, [7, 8]) for label in LABELS], abs=1e-5)


def test_the_choices_along_a_label_are_the_trie_s_branches() -> None:
    trie = LabelTrie(LABELS)
    assert trie.choices([1, 2, 4, END]) == [[1, 5], [2, 3], [END, 4], [END]]
    assert trie.choices([5, END]) == [[1, 5], [END]]


def test_one_forward_pass_for_each_branching_node() -> None:
    model = TableModel()
    score_labels(LabelTrie(LABELS), model, [7])
    assert model.asked == [(7,), (7, 1), (7, 1, 2)]


def test_labels_that_part_at_once_need_one_forward_pass() -> None:
    model = TableModel()
    score_labels(LabelTrie([[1, 9, 9, END], [2, 9, END], [3, END]]), model, [7])
    assert len(model.asked) == 1


def test_a_shared_beginning_costs_nothing() -> None:
    model = TableModel()
    score_labels(LabelTrie([[6, 6, 1, END], [6, 6, 2, END]]), model, [7])
    assert model.asked == [(7, 6, 6)]


def test_a_long_label_is_not_punished_for_its_length() -> None:
    scores = score_labels(LabelTrie([[1, END], [2, 3, 4, 5, 6, END]]), lambda _: np.zeros(10, np.float32), [7])
    assert scores[0] == scores[1] == pytest.approx(np.log(0.5))


def test_extreme_logits_do_not_overflow() -> None:
    logits = np.array([0, 3e4, -3e4, 0], np.float32)
    assert np.exp(score_labels(LabelTrie([[1, END], [2, END]]), lambda _: logits, [])).tolist() == [1, 0]


@pytest.mark.parametrize("sequences", [[[1, 2], [1, 2]], [[1], [1, 2]], [[1, 2], [1]], [[], [1]]])
def test_labels_that_cannot_be_told_apart_are_refused(sequences: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="another"):
        LabelTrie(sequences)
