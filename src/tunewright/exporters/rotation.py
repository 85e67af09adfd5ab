"""Rotates a decoder's inner axes, which changes none of its results and halves the quantization error.

A few of the numbers between two layers are a hundred times as large as the others, and a scale wide enough for them is
too coarse for the rest. After a rotation by a random orthogonal matrix R all have about the same size. With root mean
square normalisation the model needs no new operation for that (Ashkboos et al. 2024, "SliceGPT" and "QuaRot"): the
weights n of a norm move into the matrices behind it, W -> W diag(n) R for those that read the residual stream,
W -> R^T W for those that write it, and the embedding E -> E R.

Where a model normalises outputs number by number before it adds them to the stream (Gemma 3), the stream can't be
rotated. There the graph itself rotates the output of a norm, and only the matrices behind it are rotated to match. This
takes two products by matrices of about sqrt(hidden) for each norm, under a hundredth of a layer's work.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from tunewright.core.threads import threads
from tunewright.models.architectures import Architecture
from tunewright.models.tensor_files import Weights

Matrix = npt.NDArray[np.floating]

_READS = {
    "q_proj": "input_layernorm",
    "k_proj": "input_layernorm",
    "v_proj": "input_layernorm",
    "gate_proj": "post_attention_layernorm",
    "up_proj": "post_attention_layernorm",
}
"""The norm before each matrix of a layer that reads the residual stream."""
_BEFORE = "pre_feedforward_layernorm"
_WRITES = ("o_proj", "down_proj")
_SEED = 0
_COLUMNS = 256
"""Columns of an output matrix that are rotated at once."""


class Rotation:
    """The rotation of a model, the same whenever it is made.

    R is a diagonal of random signs times the Kronecker product of two matrices of about sqrt(hidden) each. They are
    Hadamard's as far as their sizes are powers of two (as in Ashkboos et al. 2024). All numbers of R are about as small
    as they can be: SmolLM2-135M in int8 loses as much as with a full random rotation, and a quarter less than with two
    random factors. It takes hidden / 2 sqrt(hidden) times fewer products than a full one (32 for 4,096).

    Args:
        weights: the weights of a Hugging Face folder.
        hidden: width of the residual stream.
        kind: the decoder's architecture.
    """

    def __init__(self, weights: Weights, hidden: int, kind: Architecture):
        self._stream = not kind.outer_norms
        self._reads = _READS if self._stream else _READS | dict.fromkeys(("gate_proj", "up_proj"), _BEFORE)
        random = np.random.default_rng(_SEED)
        self._signs = random.choice(np.array([-1, 1], np.float32), hidden)
        first = 1
        while hidden % (2 * first) == 0 and 2 * first <= math.isqrt(hidden):
            first *= 2
        self._first, self._second = _factor(first, random), _factor(hidden // first, random)
        self._norms = {
            name.removesuffix(".weight"): tensor.float32() + np.float32(kind.one_plus)
            for name, tensor in weights.items()
            if name.endswith("norm.weight")
        }

    def inputs(self, name: str, matrix: Matrix) -> Matrix:
        """A matrix [any, in], of a layer's weight or of its adapter, that reads the rotated stream."""
        stem, part = _split(name)
        if name == "lm_head":
            return self._rotated(matrix * self._norms["model.norm"])
        if part not in self._reads:
            return matrix
        return self._rotated(matrix * self._norms[f"{stem}.{self._reads[part]}"])

    def outputs(self, name: str, matrix: Matrix) -> Matrix:
        """A matrix [out, any], of a layer's weight or of its adapter, that writes the rotated stream."""
        if not self.writes(name):
            return matrix
        rotated = np.empty_like(matrix)

        def turn(start: int) -> None:
            columns = slice(start, start + _COLUMNS)
            rotated[:, columns] = self._rotated(np.ascontiguousarray(matrix[:, columns].T)).T

        with ThreadPoolExecutor(threads()) as workers:
            list(workers.map(turn, range(0, matrix.shape[1], _COLUMNS)))
        return rotated

    def weight(self, name: str, weight: Matrix) -> Matrix:
        """A rotated weight by its module's name in Llama.

        Args:
            weight: the weights of a norm, which become ones where a matrix took them over; or some rows of a matrix
                [out, in], all of them for one that `writes`.
        """
        if weight.ndim == 1:
            taken = name == "model.norm" or _split(name)[1] in self._reads.values()
            return np.ones_like(weight) if taken else weight
        if name == "model.embed_tokens":
            return self._rotated(weight) if self._stream else weight
        return self.outputs(name, self.inputs(name, weight))

    def factors(self) -> dict[str, Matrix]:
        """The factors of the graph's rotation: the signs [hidden] and the two matrices; empty where the stream is
        rotated."""
        return {} if self._stream else {"signs": self._signs, "first": self._first, "second": self._second}

    def writes(self, name: str) -> bool:
        """Whether a matrix of a layer writes to a rotated stream."""
        return self._stream and _split(name)[1] in _WRITES

    def _rotated(self, rows: Matrix) -> Matrix:
        """rows [any, hidden] times R."""
        blocks = (rows * self._signs).reshape(-1, len(self._first), len(self._second))
        rotated: Matrix = np.matmul(self._first.T, blocks @ self._second)
        return rotated.reshape(rows.shape)


def _split(name: str) -> tuple[str, str]:
    """model.layers.3.mlp.up_proj -> (model.layers.3, up_proj)."""
    layer, _, part = name.rpartition(".")
    return layer.rpartition(".")[0], part


def _factor(size: int, random: np.random.Generator) -> Matrix:
    """An orthogonal matrix: Hadamard's for the largest power of two in its size, times a random one for the rest."""
    from scipy.linalg import hadamard

    power = size & -size
    return np.kron(hadamard(power) / np.sqrt(power), _orthogonal(size // power, random)).astype(np.float32)


def _orthogonal(size: int, random: np.random.Generator) -> Matrix:
    factor, upper = np.linalg.qr(random.standard_normal((size, size)))
    return (factor * np.sign(np.diag(upper))).astype(np.float32)  # fix the signs, which depend on the library
