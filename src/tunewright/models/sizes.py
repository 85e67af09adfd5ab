"""How many numbers a model has, and in which of its matrices, from its shape alone: no torch, no download."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError
from tunewright.models.catalogue import CatalogueEntry, Shape, catalogue
from tunewright.models.encoders import encoder_shape
from tunewright.models.files import read_object
from tunewright.models.linear_model import LINEAR
from tunewright.models.naming import Kind, cached_folder

_WITH_BIASES = ("qwen2",)
"""Types whose queries, keys and values have biases."""
_MORE = 1.03
"""Share of what its shape tells from which a model has parts that a shape does not know, such as embeddings of each
layer."""
_CONFIG = "config.json"


@dataclass(frozen=True)
class Sizes:
    """Counts of numbers, not bytes; of tied matrices one."""

    parameters: int
    vocabulary: int
    """In the embedding, and in the head where that is a matrix of its own."""
    embedding: int
    written: int
    """In the largest matrix that writes to the stream between the layers, which is turned as a whole."""
    layer: int
    """In one layer."""
    layers: int
    rows: int
    """Outputs of all matrices together: in int8 each has a scale."""
    sides: int
    """Inputs and outputs of all matrices of the layers: an adapter of rank r has r times as many numbers."""
    cache: int
    """Keys and values of one token."""
    type: str
    """transformers' name of the architecture; empty where only the number of parameters is known, and of an encoder."""
    kind: Kind = "decoder"

    @classmethod
    def of(cls, shape: Shape) -> Sizes:
        """Those of a decoder of this shape."""
        hidden, inner = shape.hidden, shape.intermediate
        width = shape.head_width or hidden // shape.heads
        queries, keys = shape.heads * width, shape.kv_heads * width
        pairs = [
            (hidden, queries),
            (hidden, keys),
            (hidden, keys),
            (queries, hidden),
            (hidden, inner),
            (hidden, inner),
            (inner, hidden),
        ]
        matrices = sum(inputs * outputs for inputs, outputs in pairs)
        biases = queries + 2 * keys if shape.type in _WITH_BIASES else 0
        layer = matrices + 2 * hidden + biases
        embedding = shape.vocabulary * hidden
        vocabulary = embedding * (1 if shape.tied else 2)
        return cls(
            parameters=shape.layers * layer + vocabulary + hidden,
            vocabulary=vocabulary,
            embedding=embedding,
            written=hidden * max(inner, queries),
            layer=layer,
            layers=shape.layers,
            rows=shape.layers * sum(outputs for _, outputs in pairs) + vocabulary // hidden,
            sides=shape.layers * sum(inputs + outputs for inputs, outputs in pairs),
            cache=2 * shape.layers * keys,
            type=shape.type,
        )

    @classmethod
    def of_encoder(cls, parameters: float, embeddings: float) -> Sizes:
        """Those of an encoder.

        Args:
            embeddings: parameters that hold one vector for each token.
        """
        return replace(cls.roughly(parameters), vocabulary=int(embeddings), embedding=int(embeddings), kind="encoder")

    @classmethod
    def roughly(cls, parameters: float) -> Sizes:
        """Where nothing but the number of parameters is known."""
        count = int(parameters)
        return cls(count, 0, 0, 0, 0, 1, 0, 0, 0, "")


def sizes_of(model: str, anchor: Path) -> Sizes | None:
    """The sizes of a base model: of the catalogue, or of a folder that is on this machine; None where its shape can't
    be told without fetching it.

    Args:
        anchor: where relative paths start.
    """
    if model == LINEAR:
        return replace(Sizes.roughly(0), kind=LINEAR)
    if entry := catalogue().get(model):
        return sizes_in(entry)
    config = _config_of(model, anchor)
    if encoder := encoder_shape(config):
        return Sizes.of_encoder(encoder.parameters, encoder.embeddings)
    shape = shape_in(config)
    return Sizes.of(shape) if shape else None


def sizes_in(entry: CatalogueEntry) -> Sizes:
    """Those of a model of the catalogue. Where it has clearly more parameters than its shape tells, they count."""
    if entry.kind == "encoder":
        return Sizes.of_encoder(1e9 * entry.parameters, 1e9 * entry.embeddings)
    named = int(1e9 * entry.parameters)
    if entry.shape is None:
        return Sizes.roughly(named)
    sizes = Sizes.of(entry.shape)
    return replace(sizes, parameters=named) if named > _MORE * sizes.parameters else sizes


def shape_of(model: str, anchor: Path) -> Shape | None:
    """The shape of a decoder in a folder on this machine; None where there is no config.json that tells it."""
    return shape_in(_config_of(model, anchor))


def _config_of(model: str, anchor: Path) -> dict[str, Any]:
    """What the config.json of a model on this machine holds; nothing where there is none."""
    folder = cached_folder(model) or (anchor / Path(model).expanduser()).resolve()
    try:
        return read_object(folder / _CONFIG)
    except (OSError, UserError):
        return {}


def shape_in(config: Any) -> Shape | None:
    """The shape that a config.json tells; None of another kind of model."""
    try:
        return None if encoder_shape(config) else _shape(config.get("text_config") or config)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _shape(config: dict[str, Any]) -> Shape:
    return Shape(
        type=config["model_type"],
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
        intermediate=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        head_width=config.get("head_dim"),
        # Gemma's files leave it out, because it is that family's default.
        tied=config.get("tie_word_embeddings", config["model_type"].startswith("gemma")),
    )
