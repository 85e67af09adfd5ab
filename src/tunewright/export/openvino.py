"""Weights for OpenVINO, quantised: what `tunewright.models.paged_graph` builds its graph from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.errors import UserError
from tunewright.models.paged_graph import CONFIG, MODEL_TYPES, WEIGHTS

_LEVELS = 255


def build_openvino(source: Path, target: Path, precision: str) -> None:
    """Write the weights of a Hugging Face folder.

    Args:
        precision: "int8", a scale and a zero point for each output of a matrix; or "fp32".

    Raises:
        UserError: the architecture or the precision is not one of those that are built.
    """
    from safetensors.numpy import save_file

    from tunewright.models.torch_model import load_torch_model

    model = load_torch_model(source)
    if model.config.model_type not in MODEL_TYPES:
        raise UserError(
            f"OpenVINO can't serve a model of the type {model.config.model_type}.", where=source,
            why=f"Its graph is built for {', '.join(MODEL_TYPES)}.", fix="Set export.runtime=onnxruntime.",
        )  # fmt: skip
    if precision not in ("int8", "fp32"):
        raise UserError(f"OpenVINO can't serve {precision}.", fix="Set export.precision=int8, or another runtime.")
    target.mkdir(parents=True)
    tensors: dict[str, Any] = {}
    for name, weight in _tensors(model):
        if precision == "int8" and weight.ndim == 2:
            tensors |= _quantised(name.removesuffix(".weight"), weight)
        else:
            tensors[name] = weight
    save_file(tensors, target / WEIGHTS)
    shutil.copy(source / CONFIG, target / CONFIG)


def _tensors(model: Any) -> Iterator[tuple[str, Any]]:
    """Every tensor by its name in Llama, in float32."""
    shared = model.config.tie_word_embeddings
    for name, tensor in model.state_dict().items():
        weight = np.ascontiguousarray(tensor.float().numpy())
        if name == "lm_head.weight" and shared:
            continue
        if name.endswith("self_attn.qkv_proj.weight"):
            yield from _split(name, weight, "qkv_proj", _heads(model.config))
        elif name.endswith("mlp.gate_up_proj.weight"):
            yield from _split(name, weight, "gate_up_proj", {"gate_proj": 1, "up_proj": 1})
        else:
            yield name, weight
    rotary = model.model.rotary_emb
    yield "rotary.inv_freq", rotary.inv_freq.float().numpy()
    yield "rotary.scale", np.array([rotary.attention_scaling], np.float32)


def _heads(config: Any) -> dict[str, int]:
    return {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads,
            "v_proj": config.num_key_value_heads}  # fmt: skip


def _split(name: str, weight: Any, joint: str, shares: dict[str, int]) -> Iterator[tuple[str, Any]]:
    """A matrix that holds several, as Phi-3 has them."""
    unit = len(weight) // sum(shares.values())
    start = 0
    for part, share in shares.items():
        yield name.replace(joint, part), np.ascontiguousarray(weight[start : start + unit * share])
        start += unit * share


def _quantised(name: str, weight: Any) -> dict[str, Any]:
    """Levels 0 to 255 of each row between its least and its largest value, of which zero is one."""
    low, high = np.minimum(weight.min(1, keepdims=True), 0), np.maximum(weight.max(1, keepdims=True), 0)
    scale = np.maximum((high - low) / _LEVELS, np.finfo(np.float32).tiny).astype(np.float32)
    zero = np.round(-low / scale).astype(np.uint8)
    levels = np.clip(np.round(weight / scale) + zero, 0, _LEVELS).astype(np.uint8)
    return {f"{name}.weight": levels, f"{name}.zero": zero, f"{name}.scale": scale}
