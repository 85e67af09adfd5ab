"""The shape of an OpenVINO decoder, read from the config beside its weights, and the names of the graph's
inputs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tunewright.models.architectures import (
    activation_of,
    architecture_of,
    attention_scale,
    embedding_scale,
    growing_queries,
    longest_exact,
    windows_of,
)

WEIGHTS = "model.safetensors"
GROUP = 64
"""Inputs of a matrix that share a scale if weights have four bits."""
CONFIG = "config.json"
KEPT_PROMPT = "prompt.cache"
"""The file of a `tunewright.inference.runtimes.vnni.kept_prompt.KeptPrompt` beside the weights."""

KEY_CACHE, VALUE_CACHE = "key_cache.{}", "value_cache.{}"
DOWN, UP, SHARE = "down.{}", "up.{}", "share"
_GROUPS = (192, 128, 96, 64, 32)
ADAPTED = (
    *(f"self_attn.{part}_proj" for part in "qkvo"),
    *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
)
"""The matrices of a layer that can have adapters."""


@dataclass(frozen=True)
class GraphShape:
    """The sizes and variations of a decoder that its graph needs."""

    layers: int
    heads: int
    key_heads: int
    width: int
    """Of a head."""
    epsilon: float
    windows: tuple[int, ...]
    """For each layer, the number of tokens that a position sees, itself included; 0: all."""
    group: int
    """Activations that are quantised together."""
    scale: float
    """Factor of the products of queries and keys."""
    embedded: float
    """Factor of the embeddings."""
    activation: str
    head_norms: bool
    outer_norms: bool
    rotary_by_kind: bool
    """These three are explained in `tunewright.models.architectures.Architecture`."""
    growing: tuple[float, int] | None
    """See `tunewright.models.architectures.growing_queries`."""
    capped: float
    """Soft cap: logits are squashed to lie between minus and plus this; 0: no cap."""
    longest: int | None
    """Tokens up to which the graph computes what the model does; see `longest_exact` there."""

    @classmethod
    def read(cls, folder: Path) -> GraphShape:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        heads = config["num_attention_heads"]
        width = config["hidden_size"]
        head = config.get("head_dim") or width // heads
        kind = architecture_of(config)
        return cls(
            layers=config["num_hidden_layers"],
            heads=heads,
            key_heads=config.get("num_key_value_heads") or heads,
            width=head,
            epsilon=config["rms_norm_eps"],
            windows=tuple(windows_of(config)),
            group=_group(width, heads * head, config["intermediate_size"]),
            scale=attention_scale(config, head),
            embedded=embedding_scale(config),
            activation=activation_of(config),
            head_norms=kind.head_norms,
            outer_norms=kind.outer_norms,
            rotary_by_kind=kind.rotary_by_kind,
            growing=growing_queries(config),
            capped=config.get("final_logit_softcapping") or 0.0,
            longest=longest_exact(config),
        )


def _group(*inputs: int) -> int:
    """The largest group size that divides the inputs of all matrices. Larger groups are faster."""
    return next((size for size in _GROUPS if all(count % size == 0 for count in inputs)), _GROUPS[-1])


def adapted_matrices(layers: int) -> list[str]:
    return [f"model.layers.{layer}.{part}" for layer in range(layers) for part in ADAPTED]
