"""What decoders of each type have besides Llama's parts: one record a type, read from config.json.

Source: transformers 5.24, `models/<type>/modeling_<type>.py` (read 2026-11-27).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SLIDING = "sliding_attention"
_GEMMA_PATTERN = 6
"""Of so many layers of Gemma 3 the last sees everything."""


@dataclass(frozen=True)
class Architecture:
    """A type of decoder."""

    head_norms: bool = False
    """Queries and keys are normalised head by head, before positions turn them."""
    outer_norms: bool = False
    """What attention and the feed-forward network write is normalised before it is added to the stream."""
    one_plus: bool = False
    """Norms multiply by 1 + their weight."""
    scaled_embedding: bool = False
    """Embeddings are multiplied by the root of their width."""
    rotary_by_kind: bool = False
    """Layers with a window have a rotary encoding of their own."""


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
"""Those that the OpenVINO graph is built for."""
VLLM_ONLY = ("gemma4_text",)
"""Those that neither OpenVINO's graph nor onnxruntime-genai's builder (0.18) has the parts for: embeddings of each
layer, keys that layers share, heads of two widths."""
_LLAMA = Architecture()


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The record of a config's type; Llama's where the type is not known."""
    return ARCHITECTURES.get(config.get("model_type", ""), _LLAMA)


def windows_of(config: Mapping[str, Any]) -> list[int]:
    """For each layer, how many tokens a position sees, itself included; 0: all."""
    layers = config["num_hidden_layers"]
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    kinds = config.get("layer_types")
    if kinds is None and architecture_of(config).rotary_by_kind:
        every = config.get("sliding_window_pattern") or _GEMMA_PATTERN
        kinds = [SLIDING if (layer + 1) % every else "full_attention" for layer in range(layers)]
    if kinds is None or config.get("model_type") in ("mistral", "phi3"):  # these slide in all layers or in none
        return [window or 0] * layers
    return [(window or 0) if kind == SLIDING else 0 for kind in kinds[:layers]]


def attention_scale(config: Mapping[str, Any], width: int) -> float:
    """What products of queries and keys are multiplied by, for heads of a width."""
    return 1 / math.sqrt(config.get("query_pre_attn_scalar") or width)


def embedding_scale(config: Mapping[str, Any]) -> float:
    return math.sqrt(config["hidden_size"]) if architecture_of(config).scaled_embedding else 1.0


def activation_of(config: Mapping[str, Any]) -> str:
    """The feed-forward network's, by transformers' name: "silu" or "gelu_pytorch_tanh"."""
    return str(config.get("hidden_activation") or config.get("hidden_act") or "silu")


def growing_queries(config: Mapping[str, Any]) -> tuple[float, int] | None:
    """(b, n) where queries at position p are multiplied by 1 + b log(1 + floor(p / n)), as in Llama 4."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    beta = rope.get("llama_4_scaling_beta")
    return (float(beta), int(rope["original_max_position_embeddings"])) if beta else None


def longest_exact(config: Mapping[str, Any]) -> int | None:
    """Tokens up to which a position is encoded the same in every runtime; None where it always is.

    Beyond, a long rotary encoding (Phi's) changes with the length of each sequence, and ONNX Runtime has no queries
    that grow (`growing_queries`)."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type")) not in ("longrope", "su") and not growing_queries(config):
        return None
    found = config.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
    return int(found) if found else None


def unsupported(config: Mapping[str, Any]) -> str | None:
    """What of a config the graph has no part for, in words; None where it has all."""
    if config.get("model_type") not in ARCHITECTURES:
        return f"its graph is built for {', '.join(ARCHITECTURES)}"
    if config.get("attn_logit_softcapping"):
        return "its attention bends its scores (attn_logit_softcapping)"
    if activation_of(config) not in ("silu", "gelu_pytorch_tanh"):
        return f"its activation is {activation_of(config)}"
    if config.get("use_bidirectional_attention"):
        return "it looks ahead (use_bidirectional_attention)"
    return None
