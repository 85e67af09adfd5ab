"""Small models for our own kernels, and what tests of them share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tunewright.inference.runtimes.openvino.adapter import Adapter
from tunewright.inference.runtimes.openvino.model import PagedNextToken
from tunewright.inference.runtimes.openvino.shape import WEIGHTS, GraphShape, adapted_matrices
from tunewright.inference.runtimes.vnni.network import VnniNetwork
from tunewright.models.tensor_files import TensorFile

WIDE = {"hidden_size": 128, "intermediate_size": 192, "head_dim": 64}
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama3", "LlamaConfig", WIDE),
    "heads of 128 numbers, three layers": (
        "llama3",
        "LlamaConfig",
        {"hidden_size": 256, "head_dim": 128, "num_hidden_layers": 3, "num_key_value_heads": 1},
    ),
    "no window": ("mistral", "MistralConfig", WIDE | {"sliding_window": None, "tie_word_embeddings": True}),
    "biases": ("chatml", "Qwen2Config", {"hidden_size": 256}),
    "norms of heads": ("qwen3", "Qwen3Config", WIDE),
    "a window": ("mistral", "MistralConfig", WIDE | {"sliding_window": 72}),
    "a window, heads of 96 numbers": (
        "phi3",
        "Phi3Config",
        {"hidden_size": 192, "num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": 130},
    ),
    "heads of 32 numbers": ("llama3", "LlamaConfig", {"head_dim": 32}),
}
OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "heads of 16 numbers": ("llama3", "LlamaConfig", {"head_dim": 16}),
    "other activation": ("llama3", "LlamaConfig", WIDE | {"hidden_act": "gelu_pytorch_tanh"}),
}


def model(folder: Path, *, by_kernels: bool = True, **options: Any) -> PagedNextToken:
    found = PagedNextToken(folder, context=512, **options)
    assert all(isinstance(each._network, VnniNetwork) == by_kernels for each in found._schedulers)
    return found


def assert_same(some: list[np.ndarray], others: list[np.ndarray]) -> None:
    assert all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))


def adapter(folder: Path, rank: int, seed: int, only: str = "") -> Adapter:
    """Random matrices that change the logits by some tenths, for a model in a folder."""
    rng, tensors = np.random.default_rng(seed), TensorFile(folder / WEIGHTS)
    down, up = {}, {}
    for name in adapted_matrices(GraphShape.read(folder).layers):
        if only in name:
            outputs, inputs = tensors[f"{name}.weight"].shape
            down[name] = rng.standard_normal((inputs, rank), np.float32) / np.float32(np.sqrt(inputs))
            up[name] = rng.standard_normal((rank, outputs), np.float32) / np.float32(20)
    return Adapter(down, up)
