from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tunewright.tasks import LabelSearch, LabelTrie, score_labels
from tunewright.tasks.label_trie import REST

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
    assert sorted(model.asked) == [(7,), (7, 1), (7, 1, 2)]


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
def test_labels_with_the_same_tokens_are_refused(sequences: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="another"):
        LabelTrie(sequences)


def many_labels(count: int, seed: int) -> list[list[int]]:
    """Labels of two to five tokens from eight, none of which begins another."""
    random = np.random.default_rng(seed)
    drawn = {tuple(random.integers(1, 9, random.integers(2, 6)).tolist()) for _ in range(count)}
    return [[*label, END] for label in sorted(drawn)]


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("seed", range(5))
def test_skipped_branches_hardly_change_the_confidence_and_never_the_answer(seed: int, temperature: float) -> None:
    trie = LabelTrie(many_labels(120, seed))
    whole, part = TableModel(), TableModel()
    for prompt in ([7, n] for n in range(20)):
        exact = score_labels(trie, whole, prompt)
        found = score_labels(trie, part, prompt, temperature)
        assert np.exp(found).sum() == pytest.approx(1, abs=1e-12)
        best = int(exact.argmax())
        assert found.argmax() == best
        assert found[best] == exact[best]
        right, near = (np.exp(s / temperature) / np.exp(s / temperature).sum() for s in (exact, found))
        assert right[best] * (1 - REST) <= near[best] <= right[best] * (1 + REST)
    if temperature <= 1:
        assert len(part.asked) < 0.6 * len(whole.asked)


def test_a_confident_model_runs_once_for_each_decision() -> None:
    trie = LabelTrie(many_labels(120, 0))
    asked = []

    def sure(ids: Sequence[int]) -> np.ndarray:
        asked.append(tuple(ids))
        logits = np.zeros(10, np.float32)
        logits[sorted({label[len(ids) - 1] for label in many_labels(120, 0) if len(label) >= len(ids)})[-1]] = 40
        return logits

    score_labels(trie, sure, [7], 1.0)
    assert len(asked) <= 5


class BatchTable(TableModel):
    def __init__(self) -> None:
        super().__init__()
        self.rounds = 0

    def of_tokens(self, queries: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[np.ndarray]:
        self.rounds += 1
        return [self(ids)[tokens] for ids, tokens in queries]


@pytest.mark.parametrize("temperature", [None, 0.7, 1.5])
def test_open_branches_run_together(temperature: float | None) -> None:
    trie = LabelTrie(many_labels(120, 3))
    for number in range(20):
        alone, together = TableModel(), BatchTable()
        wanted = score_labels(trie, alone, [7, number], temperature)
        assert (score_labels(trie, together, [7, number], temperature) == wanted).all()
        assert together.asked == alone.asked
        assert together.rounds <= max(map(len, many_labels(120, 3)))
        assert together.rounds < len(alone.asked)


def test_a_search_is_settled_once_no_open_branch_is_likelier() -> None:
    search = LabelSearch(LabelTrie(LABELS))
    assert not search.settled
    branch = search.pop()
    assert branch.tokens == [1, 5]
    search.take(branch, np.array([0.0, 3.0]))
    assert search.settled
    assert search.best == 3
    assert search.due(None), "a branch is open"
    assert not search.due(None)
