"""How decoders of each type differ from Llama: one record a type, and functions of config.json.

Source: transformers 5.24, `models/<type>/modeling_<type>.py` (read 2026-11-27).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SLIDING = "sliding_attention"
_GEMMA_PATTERN = 6
"""Every sixth layer of Gemma 3 has full attention."""


@dataclass(frozen=True)
class Architecture:
    """The differences of a type of decoder."""

    head_norms: bool = False
    """Queries and keys are normalised head by head before the rotary encoding."""
    outer_norms: bool = False
    """The outputs of attention and of the feed-forward network are normalised before they are added to the residual
    stream."""
    one_plus: bool = False
    """Norms multiply by 1 + their weight."""
    scaled_embedding: bool = False
    """Embeddings are multiplied by the square root of their width."""
    rotary_by_kind: bool = False
    """Layers with a window have their own rotary encoding."""


ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture(),
    "mistral": Architecture(),
    "ministral": Architecture(),
    "ministral3": Architecture(),
    "phi3": Architecture(),
    "qwen2": Architecture(),
    "qwen3": Architecture(head_norms=True),
    "gemma3_text": Architecture(
        head_norms=True, outer_norms=True, one_plus=True, scaled_embedding=True, rotary_by_kind=True
    ),
}
"""The types that the OpenVINO graph supports."""
VLLM_ONLY = ("gemma4_text",)
"""Types with parts that neither our OpenVINO graph nor onnxruntime-genai's builder (0.18) has: embeddings of each
layer, keys that layers share, heads of two widths."""
_LLAMA = Architecture()


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The record of a config's type; Llama's if the type is unknown."""
    return ARCHITECTURES.get(config.get("model_type", ""), _LLAMA)


def windows_of(config: Mapping[str, Any]) -> list[int]:
    """For each layer, the number of tokens that a position sees, itself included; 0: all."""
    layers = config["num_hidden_layers"]
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    kinds = config.get("layer_types")
    if kinds is None and architecture_of(config).rotary_by_kind:
        every = config.get("sliding_window_pattern") or _GEMMA_PATTERN
        kinds = [SLIDING if (layer + 1) % every else "full_attention" for layer in range(layers)]
    if kinds is None or config.get("model_type") in ("mistral", "phi3"):  # these types slide in all layers or in none
        return [window or 0] * layers
    return [(window or 0) if kind == SLIDING else 0 for kind in kinds[:layers]]


def attention_scale(config: Mapping[str, Any], width: int) -> float:
    """The factor of the products of queries and keys, for heads of a width."""
    return 1 / math.sqrt(config.get("query_pre_attn_scalar") or width)


def embedding_scale(config: Mapping[str, Any]) -> float:
    return math.sqrt(config["hidden_size"]) if architecture_of(config).scaled_embedding else 1.0


def activation_of(config: Mapping[str, Any]) -> str:
    """The activation of the feed-forward network in transformers' words: "silu" or "gelu_pytorch_tanh"."""
    return str(config.get("hidden_activation") or config.get("hidden_act") or "silu")


def growing_queries(config: Mapping[str, Any]) -> tuple[float, int] | None:
    """(b, n) if queries at position p are multiplied by 1 + b log(1 + floor(p / n)), as in Llama 4; else None."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    beta = rope.get("llama_4_scaling_beta")
    return (float(beta), int(rope["original_max_position_embeddings"])) if beta else None


def longest_exact(config: Mapping[str, Any]) -> int | None:
    """Tokens up to which every runtime encodes positions the same; None: always.

    Beyond that, a long rotary encoding (Phi's) changes with the length of each sequence, and ONNX Runtime doesn't have
    growing queries (`growing_queries`)."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type")) not in ("longrope", "su") and not growing_queries(config):
        return None
    original = config.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
    return int(original) if original else None


def longest_sequence(config: Mapping[str, Any]) -> int:
    """Tokens that a sequence may have: as many as the model has positions, and as every runtime encodes the same."""
    return min(config.get("max_position_embeddings") or sys.maxsize, longest_exact(config) or sys.maxsize)


def unsupported(config: Mapping[str, Any]) -> str | None:
    """The reason why the OpenVINO graph can't run a model, in words; None if it can."""
    if config.get("model_type") not in ARCHITECTURES:
        return f"its graph is built for {', '.join(ARCHITECTURES)}"
    if config.get("attn_logit_softcapping"):
        return "its attention caps its scores (attn_logit_softcapping)"
    if activation_of(config) not in ("silu", "gelu_pytorch_tanh"):
        return f"its activation is {activation_of(config)}"
    if config.get("use_bidirectional_attention"):
        return "it looks ahead (use_bidirectional_attention)"
    return None
