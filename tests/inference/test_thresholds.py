"""Thresholds of labels: their micro-F1, the common threshold, and the expected F1."""

from __future__ import annotations

from itertools import product
from math import inf

import numpy as np
import pytest

from tunewright.inference.thresholds import (
    LEAST_POSITIVE,
    Decisions,
    Floats,
    choose_belief,
    choose_thresholds,
    cross_validated,
    even,
    expected_f1,
    sigmoid,
)


def micro_f1(given: Floats, gold: Floats, weights: Floats) -> float:
    both, either = (given & gold) * weights[:, None], (given.astype(float) + gold) * weights[:, None]
    return float(2 * both.sum() / max(either.sum(), 1e-12))


def drawn(seed: int, examples: int, labels: int, rare: float = 0.2) -> tuple[Floats, Floats]:
    draw = np.random.default_rng(seed)
    probabilities = sigmoid(draw.normal(np.log(rare / (1 - rare)), 2, (examples, labels)))
    return probabilities, draw.random((examples, labels)) < probabilities


@pytest.mark.parametrize("seed", range(20))
def test_no_other_thresholds_reach_more(seed: int) -> None:
    probabilities, gold = drawn(seed, 8 * LEAST_POSITIVE, 2, 0.4)
    probabilities = probabilities.round(1)  # ties, and few to try
    weights = np.random.default_rng(seed).choice([1.0, 0.5], len(gold))
    found, pooled = choose_thresholds(probabilities, gold, weights, 0.0)
    assert pooled == [False, False]
    tried = np.linspace(-0.05, 1.05, 12)
    best = max(micro_f1(probabilities >= np.array(each), gold, weights) for each in product(tried, tried))
    assert micro_f1(probabilities >= found, gold, weights) == pytest.approx(best)


def test_rare_labels_have_the_threshold_of_all_together() -> None:
    probabilities, gold = drawn(1, 400, 4)
    gold[:, 2] = False
    gold[: LEAST_POSITIVE - 1, 2] = True
    found, pooled = choose_thresholds(probabilities, gold, np.ones(400), 0.0)
    assert pooled == [False, False, True, False]
    assert len(set(found.tolist())) == 4
    everything, _ = choose_thresholds(probabilities.reshape(-1, 1), gold.reshape(-1, 1), np.ones(1600), 0.0)
    assert found[2] == everything[0]
    alone, pooled = choose_thresholds(probabilities[:50], gold[:50], np.full(50, 0.1), 0.0)
    assert pooled == [True] * 4, "copies count as one"
    assert len(set(alone.tolist())) == 1


def test_a_well_calibrated_model_has_half_the_f1_as_threshold() -> None:
    probabilities, gold = drawn(0, 40_000, 1)
    found, _ = choose_thresholds(probabilities, gold, np.ones(len(gold)), 0.0)
    reached = micro_f1(probabilities >= found, gold, np.ones(len(gold)))
    assert found[0] == pytest.approx(reached / 2, abs=0.02)


def test_belief_leads_from_a_labels_own_threshold_to_that_of_all() -> None:
    probabilities, gold = drawn(5, 300, 4)
    counts = np.ones(300)
    own, *between, common = (choose_thresholds(probabilities, gold, counts, belief)[0] for belief in (0, 10, 1e9, inf))
    assert len(set(common.tolist())) == 1
    assert np.abs(between[1] - common).max() < np.abs(own - common).max(), "what probabilities say of themselves"
    assert choose_thresholds(probabilities, gold, counts, inf)[1] == [True] * 4


def test_labels_whose_probabilities_are_wrong_get_their_own_thresholds_and_exact_ones_do_not() -> None:
    folds = np.arange(2000) % 5
    probabilities, gold = drawn(6, 2000, 6)
    wrong = np.array([0.2, 3.0, 0.3, 2.0, 0.5, 1.0])
    counts = np.ones(2000)
    assert choose_belief(probabilities**wrong, gold, counts, folds) < inf
    held = cross_validated(probabilities**wrong, gold, counts, folds, 10.0)
    together = cross_validated(probabilities**wrong, gold, counts, folds, inf)
    assert micro_f1(held, gold, counts) > micro_f1(together, gold, counts) + 0.02
    few, truth = drawn(7, 150, 6)
    assert choose_belief(few, truth, np.ones(150), folds[:150]) >= 10


def test_cross_validation_leaves_out_the_own_fold() -> None:
    probabilities, gold = drawn(8, 200, 3)
    folds = np.arange(200) % 4
    before = cross_validated(probabilities, gold, np.ones(200), folds, 0.0)
    changed = gold.copy()
    changed[folds == 2] = ~changed[folds == 2]
    after = cross_validated(probabilities, changed, np.ones(200), folds, 0.0)
    assert np.array_equal(before[folds == 2], after[folds == 2])
    assert not np.array_equal(before, after)


def test_where_nothing_holds_nothing_is_given() -> None:
    found, pooled = choose_thresholds(np.full((30, 2), 0.3), np.zeros((30, 2), bool), np.ones(30), 0.0)
    assert pooled == [True, True]
    assert np.isfinite(found).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_f1_to_be_expected_is_the_mean_over_all_that_may_hold(seed: int) -> None:
    draw = np.random.default_rng(seed)
    probabilities, given = draw.random(5), draw.random(5) < 0.5
    total = 0.0
    for outcome in product((False, True), repeat=5):
        holds = np.array(outcome)
        chance = float(np.prod(np.where(holds, probabilities, 1 - probabilities)))
        size = int(given.sum() + holds.sum())
        total += chance * (2 * int((given & holds).sum()) / size if size else 1.0)
    assert expected_f1(probabilities, given) == pytest.approx(total)


def test_the_f1_to_be_expected_at_its_ends() -> None:
    nothing, all_of_it = np.zeros(3, bool), np.ones(3, bool)
    assert expected_f1(np.zeros(3), nothing) == 1
    assert expected_f1(np.ones(3), all_of_it) == 1
    assert expected_f1(np.ones(3), nothing) == 0
    assert expected_f1(np.full(3, 0.5), nothing) == pytest.approx(0.125)


def test_decisions_turn_logits_into_labels_and_survive_json() -> None:
    made = Decisions(temperature=2.0, bias=0.5, thresholds=(0.3, 0.9), pooled=(False, True))
    again = Decisions.model_validate_json(made.model_dump_json())
    assert again == made
    found = again.probabilities(np.array([[-3.0, 3.0], [0.0, 5.0]]))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-(np.array([[-3.0, 3.0], [0.0, 5.0]]) / 2 + 0.5))))
    assert again.given(found).tolist() == [[False, False], [True, True]]
    assert even(2).given(np.array([0.5, 0.49])).tolist() == [True, False]
