"""The weight of a linear model beside an encoder."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.training.encoders.beside import weight_beside

TEXTS, LABELS = 400, 5


def logits(seed: int, gold: np.ndarray, signal: float) -> np.ndarray:
    """Noise, with `signal` added to the right label."""
    noise = np.random.default_rng(seed).normal(size=(TEXTS, LABELS))
    noise[np.arange(TEXTS), gold] += signal
    return noise


@pytest.fixture
def gold() -> np.ndarray:
    return np.random.default_rng(0).integers(0, LABELS, TEXTS)


def test_two_models_with_different_errors_are_better_together(gold: np.ndarray) -> None:
    one, other = logits(1, gold, 2.0), logits(2, gold, 1.0)
    weight, before, after = weight_beside(one, other, gold, range(TEXTS))
    assert after < before
    right = [(each.argmax(1) == gold).mean() for each in (one, other, one + weight * other)]
    assert right[2] > max(right[:2])
    # The best combination of two independent normal signals weights them by signal over variance.
    assert weight == pytest.approx(0.5, abs=0.15)


def test_scales_do_not_matter(gold: np.ndarray) -> None:
    one, other = logits(1, gold, 2.0), logits(2, gold, 1.0)
    weight, before, after = weight_beside(one, other, gold, range(TEXTS))
    scaled = weight_beside(3 * one, other / 2, gold, range(TEXTS))
    assert scaled == (
        pytest.approx(6 * weight, rel=0.02),
        pytest.approx(before, abs=1e-3),
        pytest.approx(after, abs=1e-3),
    )


def test_a_model_that_knows_nothing_gets_no_weight(gold: np.ndarray) -> None:
    for seed in range(20):
        weight, before, after = weight_beside(
            logits(seed, gold, 2.0), logits(seed + 100, gold, 0.0), gold, range(TEXTS)
        )
        assert weight == 0 and before == after


def test_few_texts_prove_nothing(gold: np.ndarray) -> None:
    """Four hundred texts in ninety groups count as ninety."""
    one, other = logits(1, gold, 2.0), logits(2, gold, 1.0)
    assert weight_beside(one, other, gold, [number % 90 for number in range(TEXTS)])[0] == 0
    assert weight_beside(one, other, gold, [number % 110 for number in range(TEXTS)])[0] > 0
