"""Extrapolating a learning curve: an ensemble of saturating power laws, each weighted by how well it fits.

    error(n) = level * (rest + (1 - rest) * ((n + onset) / (top + onset)) ** -exponent)

`top` is the largest measured size, `level` the error there, `rest` the share of it that no data removes, and `onset`
the number of rows before the model becomes better than chance. The form is a + b (n + d)^-c. Without d it is the form
that Hestness et al. 2017 (arXiv:1712.00409) found for deep models and Figueroa et al. 2012 (BMC Medical Informatics and
Decision Making 12:8) for classical ones; Viering and Loog 2022 (IEEE TPAMI) review both, and where they fail. Without d
the curve of many labels with few rows each bends the wrong way.

A few noisy points can't tell `rest` from `exponent`, so one best fit would be overconfident. Instead all curves of a
grid count, weighted by their likelihood, and the interval covers all of them. All settings were chosen on BANKING77,
SNIPS and Bitext; `python bench/curve.py` measures how good the forecasts are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DEVIATION = 0.03
"""Standard deviation of a real curve from its law, as a share of the error."""
DRAW_EFFECT = 0.3
"""Effect of the choice of training rows on the error, as a share of the effect that a choice of test rows would
have."""
EXPONENTS = (0.1, 3.0)
GRID = 25
RESTS = np.linspace(0, 1, GRID) ** 3
"""Dense near 0: with even spacing every forecast was too low."""
ONSETS = (0.0, 0.03, 0.1, 0.3, 1.0)
"""As shares of the largest size."""
DRAWS = 4000
NOMINAL = 0.9
"""Share of the intervals that should hold the truth."""


@dataclass(frozen=True)
class Curves:
    """Curves drawn from the ensemble, DRAWS of them."""

    top: float
    """The largest measured size, in rows."""
    group: float
    """Rows in a group, on average."""
    level: Floats
    rest: Floats
    exponent: Floats
    onset: Floats
    """As a share of `top`."""
    normals: Floats
    """Deviation of each curve from its law, in standard deviations: now and later, shape [DRAWS, 2]."""

    def now(self, rows: float) -> Floats:
        """The error of each curve with the present rows, shape [DRAWS]."""
        return self._with_deviation(rows, self.normals[:, 0])

    def later(self, rows: float) -> Floats:
        """The error of each curve with more rows, shape [DRAWS]."""
        return self._with_deviation(rows, self.normals[:, 1])

    def _with_deviation(self, rows: float, normals: Floats) -> Floats:
        error = self.level * _shape(rows / self.top, self.rest, self.exponent, self.onset)
        return np.clip(error + normals * _deviation(error, rows / self.group), 0.0, 1.0)


def fit(sizes: Floats, errors: Floats, covariance: Floats, group: float, seed: int) -> Curves:
    """The ensemble for measured errors.

    Args:
        sizes: numbers of training rows, rising, shape [k].
        errors: shares of wrong answers, 0 to 1, shape [k].
        covariance: of the errors, shape [k, k].
        group: rows in a group, on average, at least 1.
        seed: of the draws.
    """
    top = float(sizes[-1])
    # Half an error more or less, because a count of no errors may be luck.
    noise = covariance + np.diag(_deviation(errors + 0.5 / top, sizes / group) ** 2)
    width = 4 * float(np.sqrt(noise[-1, -1]))
    level = np.linspace(max(errors[-1] - width, 0.0), min(errors[-1] + width, 1.0), GRID)
    axes = np.meshgrid(level, RESTS, np.geomspace(*EXPONENTS, GRID), ONSETS, indexing="ij")
    grid = np.stack([axis.ravel() for axis in axes])
    levels, rests, exponents, onsets = grid[:, :, None]
    gaps = levels * _shape(sizes / top, rests, exponents, onsets) - errors
    loss = 0.5 * (np.linalg.solve(np.linalg.cholesky(noise), gaps.T) ** 2).sum(axis=0)
    weights = np.exp(loss.min() - loss)
    draw = np.random.default_rng(seed)
    chosen = draw.choice(len(weights), DRAWS, p=weights / weights.sum())
    level, rest, exponent, onset = grid[:, chosen]
    return Curves(top, group, level, rest, exponent, onset, draw.standard_normal((DRAWS, 2)))


def _shape(size: Floats | float, rest: Floats, exponent: Floats, onset: Floats) -> Floats:
    """The error at a size, both as multiples of those at the largest measured size."""
    shape: Floats = rest + (1 - rest) * ((size + onset) / (1 + onset)) ** -exponent
    return shape


def _deviation(error: Floats, groups: Floats | float) -> Floats:
    """Standard deviation of the true error around its law, for so many training groups."""
    spread: Floats = np.sqrt((DEVIATION * error) ** 2 + DRAW_EFFECT**2 * np.clip(error * (1 - error), 0, None) / groups)
    return spread
