"""Quantises weights to eight and four bits without data, and measures the quantization error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.core.threads import threads
from tunewright.exporters.decoder import Matrix

Floats = npt.NDArray[np.float32]
Levels = npt.NDArray[np.uint8]

_SHRUNK = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Shares of a group's range to try in four bits: clipping a few numbers may cost less than a coarser scale for all."""


@dataclass(frozen=True)
class Grid:
    """How a matrix is quantised: each number becomes a level on its group's scale; zero is always a level."""

    bits: int
    group: int | None
    """Inputs that share a scale; None: a whole row."""

    @property
    def most(self) -> int:
        """The highest level."""
        return (1 << self.bits) - 1

    def fits(self, inputs: int) -> bool:
        return self.group is None or inputs % self.group == 0


@dataclass
class Loss:
    """The quantization error of a model: sums of squares over all matrices."""

    error: float = 0.0
    whole: float = 0.0

    @property
    def relative(self) -> float:
        """The error relative to the size of the weights."""
        return math.sqrt(self.error / self.whole) if self.whole else 0.0


@dataclass
class Quantised:
    """A matrix [out, in] that is quantised block by block as it is read."""

    matrix: Matrix
    grid: Grid
    loss: Loss
    scales: list[Floats] = field(default_factory=list)
    """Scales [rows, groups] of each block read so far."""
    zeros: list[Levels] = field(default_factory=list)

    def levels(self) -> Iterator[Levels]:
        """The levels of its rows, block by block; with four bits two in a byte, the first in the lower half."""
        with ThreadPoolExecutor(threads()) as workers:
            blocks = self.matrix.blocks()
            while batch := list(islice(blocks, 2 * threads())):
                for levels, scale, zero, error, whole in workers.map(self._block, batch):
                    self.scales.append(scale)
                    self.zeros.append(zero)
                    self.loss.error += error
                    self.loss.whole += whole
                    yield levels

    def _block(self, rows: tuple[int, int]) -> tuple[Levels, Floats, Levels, float, float]:
        exact = self.matrix.rows(*rows)
        levels, scales, zeros, error = quantise(exact, self.grid)
        stored = levels if self.grid.bits == 8 else packed(levels)
        return stored, scales, zeros, error, float(np.vdot(exact, exact))


def packed(levels: Levels) -> Levels:
    """Four-bit levels [rows, n], two in a byte, the first in the lower half; shape [rows, n / 2, rounded up]."""
    even = np.pad(levels, ((0, 0), (0, levels.shape[1] % 2)))
    return even[:, ::2] | (even[:, 1::2] << np.uint8(4))


def quantise(weight: Floats, grid: Grid) -> tuple[Levels, Floats, Levels, float]:
    """(levels [out, in], scales [out, groups], zeros [out, groups], the sum of squared errors) of a matrix [out, in].

    With four bits it tries several ranges for each group, and takes the one with the least error.
    """
    groups = weight.reshape(len(weight), -1, grid.group or weight.shape[1])
    low, high = np.minimum(groups.min(2), 0), np.maximum(groups.max(2), 0)
    shares = _SHRUNK if grid.bits == 4 else (1.0,)
    tries = [_quantise_in(groups, low * share, high * share, grid.most) for share in shares]
    errors = np.stack([error for *_, error in tries])
    best = errors.argmin(0)
    levels, scales, zeros = (np.stack(kind) for kind in zip(*(each[:3] for each in tries), strict=True))
    index: Any = np.ix_(*map(range, best.shape))
    return (
        levels[(best, *index)].reshape(weight.shape),
        scales[(best, *index)],
        zeros[(best, *index)],
        float(errors.min(0).sum()),
    )


def _quantise_in(groups: Floats, low: Floats, high: Floats, most: int) -> tuple[Levels, Floats, Levels, Floats]:
    """As `quantise`, for one range of each group; errors [out, groups]."""
    scale = np.maximum((high - low) / most, np.finfo(np.float32).tiny).astype(np.float32)
    zero = np.clip(np.round(-low / scale), 0, most)
    exact = groups * (1 / scale)[..., None]
    exact += zero[..., None]
    levels = np.rint(exact)
    np.clip(levels, 0, most, out=levels)
    exact -= levels
    error = np.einsum("rgi,rgi->rg", exact, exact) * np.square(scale)
    return levels.astype(np.uint8), scale, zero.astype(np.uint8), error
