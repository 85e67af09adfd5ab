"""Turning a decoder's inner axes, so that what it computes stays the same and is quantised with half the loss.

Some few of the numbers between two layers are a hundred times as large as the others, and a scale that has room for
them leaves little for the rest. Turned by a random orthogonal matrix R they are all alike. With root mean square
normalisation nothing need be added to a model for that (Ashkboos et al. 2024, "SliceGPT" and "QuaRot"): the weights n
of a norm go into the matrices behind it, W -> W diag(n) R for those that read the stream between the layers,
W -> R^T W for those that write it, and the embedding E -> E R.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.floating]

_READS = {
    "q_proj": "input_layernorm", "k_proj": "input_layernorm", "v_proj": "input_layernorm",
    "gate_proj": "post_attention_layernorm", "up_proj": "post_attention_layernorm",
}  # fmt: skip
"""The norm before each matrix of a layer that reads the stream."""
_WRITES = ("o_proj", "down_proj")
_SEED = 0


class Rotation:
    """That of a model, the same whenever it is made.

    Args:
        folder: Hugging Face's, with safetensors.
    """

    def __init__(self, folder: Path):
        config = json.loads((folder / "config.json").read_text("utf-8"))
        self._turn = _orthogonal(config["hidden_size"])
        self._norms = _norms(folder)

    def inputs(self, name: str, matrix: Matrix) -> Matrix:
        """A matrix [any, in] of a layer's weight, or of what an adapter adds to it, as it reads what is turned."""
        stem, part = _place(name)
        if name == "lm_head":
            return (matrix * self._norms["model.norm"]) @ self._turn
        if part not in _READS:
            return matrix
        return (matrix * self._norms[f"{stem}.{_READS[part]}"]) @ self._turn

    def outputs(self, name: str, matrix: Matrix) -> Matrix:
        """A matrix [out, any] of a layer's weight, or of what an adapter adds to it, as it writes what is turned."""
        return np.ascontiguousarray(self._turn.T @ matrix) if _place(name)[1] in _WRITES else matrix

    def weight(self, name: str, weight: Matrix) -> Matrix:
        """A weight, by its module's name in Llama: a matrix [out, in], or a norm's, which others have taken over."""
        if weight.ndim == 1:
            return np.ones_like(weight) if name.endswith("norm") else weight
        if name == "model.embed_tokens":
            return weight @ self._turn
        return self.outputs(name, self.inputs(name, weight))


def _place(name: str) -> tuple[str, str]:
    """model.layers.3.mlp.up_proj -> its layer and its own name."""
    layer, _, part = name.rpartition(".")
    return layer.rpartition(".")[0], part


def _orthogonal(size: int) -> Matrix:
    factor, upper = np.linalg.qr(np.random.default_rng(_SEED).standard_normal((size, size)))
    return (factor * np.sign(np.diag(upper))).astype(np.float32)  # the signs are not the library's to choose


def _norms(folder: Path) -> dict[str, Matrix]:
    """The weights of all norms, by their modules' names."""
    from safetensors import safe_open

    found: dict[str, Matrix] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping)
                if name.endswith("norm.weight"):
                    found[name.removesuffix(".weight")] = tensors.get_tensor(name).float().numpy()
    return found
