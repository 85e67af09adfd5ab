"""Turning a decoder's inner axes, so that what it computes stays the same and is quantised with half the loss.

Some few of the numbers between two layers are a hundred times as large as the others, and a scale that has room for
them leaves little for the rest. Turned by a random orthogonal matrix R they are all alike. With root mean square
normalisation nothing need be added to a model for that (Ashkboos et al. 2024, "SliceGPT" and "QuaRot"): the weights n
of a norm go into the matrices behind it, W -> W diag(n) R for those that read the stream between the layers,
W -> R^T W for those that write it, and the embedding E -> E R.

Where what is written is normalised number by number before it is added to the stream (Gemma 3), the stream can't be
turned. There the graph itself turns what a norm gives to the matrices behind it, and only these are turned to match. It
takes two products by matrices of about sqrt(hidden) a norm, under a hundredth of a layer's work.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from tunewright.core.processes import threads
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
"""The norm before each matrix of a layer that reads the stream."""
_BEFORE = "pre_feedforward_layernorm"
_WRITES = ("o_proj", "down_proj")
_SEED = 0
_COLUMNS = 256
"""Of a matrix that are turned at once where it writes what is turned."""


class Rotation:
    """That of a model, the same whenever it is made.

    R is a diagonal of random signs times the Kronecker product of two matrices of about sqrt(hidden) each, Hadamard's
    as far as their sizes are powers of two (Ashkboos et al. 2024 turn so too). Its numbers are all about as small as
    they can be: SmolLM2-135M in int8 loses what it loses with a full random one, and a quarter less than with two
    random factors. It takes hidden / 2 sqrt(hidden) times fewer products than a full one (32 for 4,096).

    Args:
        weights: of a Hugging Face folder.
        hidden: numbers of the stream between the layers.
        kind: the decoder's.
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
        """A matrix [any, in] of a layer's weight, or of what an adapter adds to it, as it reads what is turned."""
        stem, part = _place(name)
        if name == "lm_head":
            return self._turned(matrix * self._norms["model.norm"])
        if part not in self._reads:
            return matrix
        return self._turned(matrix * self._norms[f"{stem}.{self._reads[part]}"])

    def outputs(self, name: str, matrix: Matrix) -> Matrix:
        """A matrix [out, any] of a layer's weight, or of what an adapter adds to it, as it writes what is turned."""
        if not self.writes(name):
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
            taken = name == "model.norm" or _place(name)[1] in self._reads.values()
            return np.ones_like(weight) if taken else weight
        if name == "model.embed_tokens":
            return self._turned(weight) if self._stream else weight
        return self.outputs(name, self.inputs(name, weight))

    def factors(self) -> dict[str, Matrix]:
        """What the graph turns with: the signs [hidden] and the two matrices; nothing where the stream is turned."""
        return {} if self._stream else {"signs": self._signs, "first": self._first, "second": self._second}

    def writes(self, name: str) -> bool:
        """Whether a matrix of a layer adds to a stream that is turned."""
        return self._stream and _place(name)[1] in _WRITES

    def _turned(self, rows: Matrix) -> Matrix:
        """rows [any, hidden] times R."""
        blocks = (rows * self._signs).reshape(-1, len(self._first), len(self._second))
        turned: Matrix = np.matmul(self._first.T, blocks @ self._second)
        return turned.reshape(rows.shape)


def _place(name: str) -> tuple[str, str]:
    """model.layers.3.mlp.up_proj -> its layer and its own name."""
    layer, _, part = name.rpartition(".")
    return layer.rpartition(".")[0], part


def _factor(size: int, random: np.random.Generator) -> Matrix:
    """An orthogonal matrix: Hadamard's of the largest power of two in its size, times a random one of the rest."""
    from scipy.linalg import hadamard

    power = size & -size
    return np.kron(hadamard(power) / np.sqrt(power), _orthogonal(size // power, random)).astype(np.float32)


def _orthogonal(size: int, random: np.random.Generator) -> Matrix:
    factor, upper = np.linalg.qr(random.standard_normal((size, size)))
    return (factor * np.sign(np.diag(upper))).astype(np.float32)  # the signs are not the library's to choose
