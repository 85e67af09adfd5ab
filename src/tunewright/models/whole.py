"""Checks in seconds, from the headers of its files, that a model's folder is complete and its config fits its
weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError
from tunewright.models.files import read_object
from tunewright.models.tensor_files import Tensor, Weights

_LAYER = re.compile(r"(?:^|\.)layers?\.(\d{1,6})\.")
_WHOLE = ("num_hidden_layers", "hidden_size", "vocab_size")
_WHOLE_OR_BY_LAYER = (
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)
_FIX = "Copy config.json and the weights again, from the same place."


def check_whole(folder: Path) -> None:
    """Check a Hugging Face folder before hours of work depend on it.

    Raises:
        UserError: a file of weights is missing or cut off, the index is wrong, or the config is another model's.
    """
    weights = Weights(folder)
    config = read_object(folder / "config.json")
    for difference in _differences(weights, config):
        raise UserError("The model's config.json is not that of its weights.", where=folder, why=difference, fix=_FIX)


def _differences(weights: Weights, config: dict[str, Any]) -> Iterator[str]:
    """The differences between the config and the weights."""
    config = config.get("text_config") or config
    if not isinstance(config, dict):
        yield "Its text_config is not a JSON object."
        return
    wrong = [name for name in _WHOLE if not isinstance(config.get(name), int | None)]
    if wrong := wrong + [name for name in _WHOLE_OR_BY_LAYER if not isinstance(config.get(name), int | list | None)]:
        yield f"Its {wrong[0]} is {str(config[wrong[0]])[:40]!r}, which is not a whole number."
        return
    decoder = {name: tensor for name, tensor in weights.items() if "vision" not in name and "audio" not in name}
    layers = {int(match[1]) for name in decoder if (match := _LAYER.search(name))}
    expected = config.get("num_hidden_layers")
    if layers and expected and (len(layers) != expected or max(layers) != expected - 1):
        missing = next(number for number in count() if number not in layers)
        yield f"It has {expected} layers, the weights " + (
            f"lack the layer {missing}." if missing < expected else f"have {max(layers) + 1}."
        )
    hidden, inner, words = (config.get(key) for key in ("hidden_size", "intermediate_size", "vocab_size"))
    yield from _wrong_shapes(decoder, "embed_tokens.weight", (words, hidden))
    yield from _wrong_shapes(decoder, "layers.0.mlp.down_proj.weight", (hidden, inner))
    yield from _wrong_shapes(decoder, "layers.0.input_layernorm.weight", (hidden,))


def _wrong_shapes(decoder: dict[str, Tensor], end: str, expected: tuple[int | None, ...]) -> Iterator[str]:
    for name, tensor in decoder.items():
        if name.endswith(end) and all(isinstance(side, int) for side in expected) and tensor.shape != expected:
            yield f"By it {name} has the shape {list(expected)}; in the files it has {list(tensor.shape)}."
