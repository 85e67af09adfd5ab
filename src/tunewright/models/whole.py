"""Whether a model's folder is whole and its config is its own, found in seconds from the headers of its files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunewright.errors import UserError
from tunewright.models.tensor_files import Tensor, Weights

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_FIX = "Copy config.json and the weights again, from the same place."


def check_whole(folder: Path) -> None:
    """Look at a Hugging Face folder before hours of work rest on it.

    Raises:
        UserError: a file of weights is missing or cut, the index lies, or the config is another model's.
    """
    weights = Weights(folder)
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError("The model's config.json can't be read.", where=folder, why=str(error), fix=_FIX) from None
    for found in _differences(weights, config):
        raise UserError("The model's config.json is not that of its weights.", where=folder, why=found, fix=_FIX)


def _differences(weights: Weights, config: dict[str, Any]) -> Iterator[str]:
    """What the config says otherwise than the weights, as far as both say it."""
    config = config.get("text_config") or config
    decoder = {name: tensor for name, tensor in weights.items() if "vision" not in name and "audio" not in name}
    layers = {int(found[1]) for name in decoder if (found := _LAYER.search(name))}
    wanted = config.get("num_hidden_layers")
    if layers and wanted and layers != set(range(wanted)):
        missing = sorted(set(range(wanted)) - layers)
        yield f"It has {wanted} layers, the weights " + (
            f"lack the layer {missing[0]}." if missing else f"have {max(layers) + 1}."
        )
    hidden, inner, words = (config.get(key) for key in ("hidden_size", "intermediate_size", "vocab_size"))
    yield from _wrong(decoder, "embed_tokens.weight", (words, hidden))
    yield from _wrong(decoder, "layers.0.mlp.down_proj.weight", (hidden, inner))
    yield from _wrong(decoder, "layers.0.input_layernorm.weight", (hidden,))


def _wrong(decoder: dict[str, Tensor], end: str, wanted: tuple[int | None, ...]) -> Iterator[str]:
    """That a tensor has another shape than the config says."""
    for name, tensor in decoder.items():
        if name.endswith(end) and None not in wanted and tensor.shape != wanted:
            yield f"By it {name} has the shape {list(wanted)}; in the files it has {list(tensor.shape)}."
