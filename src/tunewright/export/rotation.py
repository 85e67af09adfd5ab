"""Turning a decoder's inner axes, so that what it computes stays the same and is quantised with half the loss.

Some few of the numbers between two layers are a hundred times as large as the others, and a scale that has room for
them leaves little for the rest. Turned by a random orthogonal matrix R they are all alike. With root mean square
normalisation nothing need be added to a model for that (Ashkboos et al. 2024, "SliceGPT" and "QuaRot"): the weights n
of a norm go into the matrices behind it, W -> W diag(n) R for those that read the stream between the layers,
W -> R^T W for those that write it, and the embedding E -> E R.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from tunewright.models.tensor_files import Weights
from tunewright.processes import threads

Matrix = npt.NDArray[np.floating]

_READS = {
    "q_proj": "input_layernorm", "k_proj": "input_layernorm", "v_proj": "input_layernorm",
    "gate_proj": "post_attention_layernorm", "up_proj": "post_attention_layernorm",
}  # fmt: skip
"""The norm before each matrix of a layer that reads the stream."""
_STREAM = ("input_layernorm", "post_attention_layernorm", "norm")
"""The norms of the stream; Qwen 3's of queries and keys stay what they are."""
_WRITES = ("o_proj", "down_proj")
_SEED = 0
_COLUMNS = 256
"""Of a matrix that are turned at once where it writes what is turned."""


class Rotation:
    """That of a model, the same whenever it is made.

    R is a diagonal of random signs times the Kronecker product of two random orthogonal matrices, about sqrt(hidden)
    each: all of its numbers are small, as those of a full random one are, and it takes hidden / 2 sqrt(hidden) times
    fewer products (32 for 4,096).

    Args:
        weights: of a Hugging Face folder.
        hidden: numbers of the stream between the layers.
    """

    def __init__(self, weights: Weights, hidden: int):
        random = np.random.default_rng(_SEED)
        self._signs = random.choice(np.array([-1, 1], np.float32), hidden)
        first = next(size for size in range(math.isqrt(hidden), 0, -1) if hidden % size == 0)
        self._first, self._second = _orthogonal(first, random), _orthogonal(hidden // first, random)
        self._norms = {
            name.removesuffix(".weight"): tensor.float32()
            for name, tensor in weights.items()
            if name.endswith("norm.weight")
        }

    def inputs(self, name: str, matrix: Matrix) -> Matrix:
        """A matrix [any, in] of a layer's weight, or of what an adapter adds to it, as it reads what is turned."""
        stem, part = _place(name)
        if name == "lm_head":
            return self._turned(matrix * self._norms["model.norm"])
        if part not in _READS:
            return matrix
        return self._turned(matrix * self._norms[f"{stem}.{_READS[part]}"])

    def outputs(self, name: str, matrix: Matrix) -> Matrix:
        """A matrix [out, any] of a layer's weight, or of what an adapter adds to it, as it writes what is turned."""
        if not writes(name):
            return matrix
        turned = np.empty_like(matrix)

        def turn(start: int) -> None:
            columns = slice(start, start + _COLUMNS)
            turned[:, columns] = self._turned(np.ascontiguousarray(matrix[:, columns].T)).T

        with ThreadPoolExecutor(threads()) as workers:
            list(workers.map(turn, range(0, matrix.shape[1], _COLUMNS)))
        return turned

    def weight(self, name: str, weight: Matrix) -> Matrix:
        """A weight by its module's name in Llama: a norm's, which others have taken over, or of a matrix [out, in] some
        rows; all rows of one that `writes`."""
        if weight.ndim == 1:
            return np.ones_like(weight) if _place(name)[1] in _STREAM or name == "model.norm" else weight
        if name == "model.embed_tokens":
            return self._turned(weight)
        return self.outputs(name, self.inputs(name, weight))

    def _turned(self, rows: Matrix) -> Matrix:
        """rows [any, hidden] times R."""
        blocks = (rows * self._signs).reshape(-1, len(self._first), len(self._second))
        turned: Matrix = np.matmul(self._first.T, blocks @ self._second)
        return turned.reshape(rows.shape)


def writes(name: str) -> bool:
    """Whether a matrix of a layer adds to the stream between the layers."""
    return _place(name)[1] in _WRITES


def _place(name: str) -> tuple[str, str]:
    """model.layers.3.mlp.up_proj -> its layer and its own name."""
    layer, _, part = name.rpartition(".")
    return layer.rpartition(".")[0], part


def _orthogonal(size: int, random: np.random.Generator) -> Matrix:
    factor, upper = np.linalg.qr(random.standard_normal((size, size)))
    return (factor * np.sign(np.diag(upper))).astype(np.float32)  # the signs are not the library's to choose
