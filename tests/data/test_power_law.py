from __future__ import annotations

import numpy as np
import pytest

from tunewright.data.curve.power_law import NOMINAL, Curves, fit

SIZES = np.geomspace(100, 1600, 6)
LAWS = [(0.05, 2.0, 0.5, 0), (0.0, 1.0, 0.25, 0), (0.1, 8.0, 0.8, 0), (0.02, 5.0, 0.6, 200)]
"""a, b, c, d of error(n) = a + b (n + d)^-c."""


def law(parameters: tuple[float, float, float, float], rows: float | np.ndarray) -> np.ndarray:
    a, b, c, d = parameters
    return np.asarray(a + b * (rows + d) ** -c)


def measured(truth: np.ndarray, held: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(errors on `held` rows, each answered independently at each size; their covariance)."""
    errors = np.random.default_rng(seed).binomial(held, truth) / held
    return errors, np.diag(errors * (1 - errors) / held)


def ends(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - NOMINAL) / 2, (1 + NOMINAL) / 2])
    return float(low), float(high)


def gain(curves: Curves, factor: float) -> np.ndarray:
    return np.asarray(curves.now(2000) - curves.later(factor * 2000))


@pytest.mark.parametrize("parameters", LAWS)
def test_a_known_law_is_continued(parameters: tuple[float, float, float, float]) -> None:
    errors, covariance = law(parameters, SIZES), np.eye(len(SIZES)) * 1e-8
    curves = fit(SIZES, errors, covariance, 1.0, 0)
    for rows in (2000, 4000, 10_000):
        assert np.median(curves.later(rows)) == pytest.approx(law(parameters, rows), abs=0.015)


@pytest.mark.slow
def test_the_interval_holds_the_truth_at_its_nominal_rate() -> None:
    inside = []
    for seed in range(24):
        parameters = LAWS[seed % len(LAWS)]
        curves = fit(SIZES, *measured(law(parameters, SIZES), 2000, seed), 1.0, seed)
        for factor in (2, 5):
            low, high = ends(gain(curves, factor))
            inside.append(low <= law(parameters, 2000) - law(parameters, factor * 2000) <= high)
    assert np.mean(inside) >= NOMINAL - 0.05


def test_the_interval_is_not_wide_for_nothing() -> None:
    low, high = ends(gain(fit(SIZES, *measured(law(LAWS[0], SIZES), 2000, 0), 1.0, 0), 2))
    assert high - low < 0.04


def test_a_flat_curve_gains_nothing() -> None:
    errors = np.full(len(SIZES), 0.1)
    low, high = ends(gain(fit(SIZES, errors, np.eye(len(SIZES)) * 1e-8, 1.0, 0), 2))
    assert low < 0 < high < 0.02


def test_errors_of_zero_are_accepted() -> None:
    curves = fit(SIZES, np.zeros(len(SIZES)), np.zeros((len(SIZES), len(SIZES))), 1.0, 0)
    assert ends(1 - curves.later(3200))[0] > 0.99


def test_farther_forecasts_are_less_certain() -> None:
    curves = fit(SIZES, *measured(law(LAWS[0], SIZES), 2000, 3), 1.0, 0)
    widths = [high - low for low, high in (ends(gain(curves, factor)) for factor in (2, 5, 20))]
    assert widths == sorted(widths)


def test_rows_in_groups_carry_less_information_than_single_rows() -> None:
    errors, covariance = measured(law(LAWS[0], SIZES), 2000, 1)
    alone, grouped = (ends(gain(fit(SIZES, errors, covariance, group, 0), 2)) for group in (1.0, 20.0))
    assert grouped[1] - grouped[0] > 1.2 * (alone[1] - alone[0])


def test_the_same_seed_draws_the_same_curves() -> None:
    errors, covariance = measured(law(LAWS[0], SIZES), 2000, 1)
    first, again, other = (fit(SIZES, errors, covariance, 1.0, seed).later(4000) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
