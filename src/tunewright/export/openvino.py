"""Weights for OpenVINO, quantised, and adapters beside them: what `tunewright.models.paged_graph` is built from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.errors import UserError
from tunewright.export.rotation import Rotation
from tunewright.models.adapter import Adapter, save_adapter
from tunewright.models.paged_graph import CONFIG, GROUP, MODEL_TYPES, WEIGHTS

_LEVELS = 255
_GROUP_LEVELS = 15
_SHRUNK = (1.0, 0.95, 0.9, 0.85, 0.8)
"""What is tried of a group's spread: a few numbers that are cut off may cost less than a coarser scale for all."""


def build_openvino(source: Path, target: Path, precision: str) -> None:
    """Write the weights of a Hugging Face folder.

    Args:
        precision: "int8", a scale and a zero point for each output of a matrix; "int4", for each group of inputs, the
            output layer, the embedding and the touchiest matrices in int8; or "fp32".

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
    target.mkdir(parents=True)
    turned = None if precision == "fp32" else Rotation(source)
    tensors: dict[str, Any] = {}
    for name, weight in _tensors(model, shared=turned is None):
        module, kind = name.rsplit(".", 1)
        exact = turned.weight(module, weight) if turned and kind == "weight" else weight
        if precision == "fp32" or exact.ndim == 1:
            tensors[name] = exact
        elif (
            precision == "int4" and exact.shape[1] % GROUP == 0 and not _touchy(module, model.config.num_hidden_layers)
        ):
            tensors |= _in_groups(module, exact)
        else:
            tensors |= _quantised(module, exact)
    save_file(tensors, target / WEIGHTS)
    shutil.copy(source / CONFIG, target / CONFIG)


def export_adapter(source: Path, base: Path, target: Path, precision: str) -> None:
    """Write a peft adapter as it is served beside its base.

    Args:
        source: peft's folder.
        base: Hugging Face's folder of its base.
        precision: of the base's weights, as `build_openvino` wrote them.
    """
    from safetensors.numpy import load_file
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base)
    settings = json.loads((source / "adapter_config.json").read_text("utf-8"))
    scale = settings["lora_alpha"] / settings["r"]
    turned = None if precision == "fp32" else Rotation(base)
    down: dict[str, Any] = {}
    up: dict[str, Any] = {}
    for key, tensor in load_file(source / "adapter_model.safetensors").items():
        name, part = key.removeprefix("base_model.model.").rsplit(".lora_", 1)
        matrix = tensor.astype(np.float32)
        if part == "A.weight":
            for each in _parts(name, config):
                down[each] = np.ascontiguousarray((turned.inputs(each, matrix) if turned else matrix).T)
        else:
            for each, rows in _rows(name, matrix, config):
                up[each] = np.ascontiguousarray((turned.outputs(each, rows) if turned else rows).T) * scale
    save_adapter(Adapter(down, up), target)


def _tensors(model: Any, *, shared: bool) -> Iterator[tuple[str, Any]]:
    """Every tensor by its name in Llama, in float32.

    Args:
        shared: whether an output layer that is the embedding is left out.
    """
    for name, tensor in model.state_dict().items():
        weight = np.ascontiguousarray(tensor.float().numpy())
        if name == "lm_head.weight" and shared and model.config.tie_word_embeddings:
            continue
        module, kind = name.rsplit(".", 1)
        yield from ((f"{part}.{kind}", rows) for part, rows in _rows(module, weight, model.config))
    rotary = model.model.rotary_emb
    yield "rotary.inv_freq", rotary.inv_freq.float().numpy()
    yield "rotary.scale", np.array([rotary.attention_scaling], np.float32)


def _parts(name: str, config: Any) -> dict[str, int]:
    """The matrices that one holds, as Phi-3 joins them, with their share of its outputs; else itself."""
    if name.endswith("qkv_proj"):
        stem, heads, key_heads = name.removesuffix("qkv_proj"), config.num_attention_heads, config.num_key_value_heads
        return {f"{stem}q_proj": heads, f"{stem}k_proj": key_heads, f"{stem}v_proj": key_heads}
    if name.endswith("gate_up_proj"):
        stem = name.removesuffix("gate_up_proj")
        return {f"{stem}gate_proj": 1, f"{stem}up_proj": 1}
    return {name: 1}


def _rows(name: str, matrix: Any, config: Any) -> Iterator[tuple[str, Any]]:
    """A matrix [out, in], or those that it holds."""
    shares = _parts(name, config)
    unit = len(matrix) // sum(shares.values())
    start = 0
    for part, share in shares.items():
        yield part, np.ascontiguousarray(matrix[start : start + unit * share])
        start += unit * share


def _quantised(name: str, weight: Any) -> dict[str, Any]:
    """Levels 0 to 255 of each row between its least and its largest value, of which zero is one."""
    low, high = np.minimum(weight.min(1, keepdims=True), 0), np.maximum(weight.max(1, keepdims=True), 0)
    scale = np.maximum((high - low) / _LEVELS, np.finfo(np.float32).tiny).astype(np.float32)
    zero = np.round(-low / scale).astype(np.uint8)
    levels = np.clip(np.round(weight / scale) + zero, 0, _LEVELS).astype(np.uint8)
    return {f"{name}.weight": levels, f"{name}.zero": zero, f"{name}.scale": scale}


def _touchy(name: str, layers: int) -> bool:
    """Whether four bits would cost much: where the vocabulary is, and the values and outputs of the first and the last
    eighth of the layers and of each third between them (the mixture of llama.cpp's Q4_K_M)."""
    if not name.startswith("model.layers."):
        return True
    number, part = int(name.split(".")[2]), name.rpartition(".")[2]
    eighth = layers // 8
    return part in ("v_proj", "down_proj") and (
        number < eighth or number >= layers - eighth or (number - eighth) % 3 == 2
    )


def _in_groups(name: str, weight: Any) -> dict[str, Any]:
    """Levels 0 to 15 of each group of inputs, of which zero is one, two in a byte, the first in its lower half; scales
    and zeros [out, groups, 1]. Of several spreads the one whose squares of errors are least."""
    groups = weight.reshape(len(weight), -1, GROUP)
    low, high = np.minimum(groups.min(2, keepdims=True), 0), np.maximum(groups.max(2, keepdims=True), 0)
    least = np.full(low.shape, np.inf, np.float32)
    levels, scales, zeros = np.zeros(groups.shape, np.uint8), np.zeros_like(low), np.zeros(low.shape, np.uint8)
    for share in _SHRUNK:
        scale = np.maximum(share * (high - low) / _GROUP_LEVELS, np.finfo(np.float32).tiny).astype(np.float32)
        zero = np.clip(np.round(-share * low / scale), 0, _GROUP_LEVELS)
        tried = np.clip(np.round(groups / scale) + zero, 0, _GROUP_LEVELS)
        error = np.square((tried - zero) * scale - groups).sum(2, keepdims=True)
        better = error < least
        least = np.where(better, error, least)
        levels = np.where(better, tried, levels).astype(np.uint8)
        scales, zeros = np.where(better, scale, scales), np.where(better, zero, zeros).astype(np.uint8)
    flat = levels.reshape(len(weight), -1)
    return {f"{name}.weight": flat[:, ::2] | (flat[:, 1::2] << 4), f"{name}.zero": zeros, f"{name}.scale": scales}
