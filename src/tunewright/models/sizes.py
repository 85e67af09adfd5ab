"""The parameter counts of a model and of its matrices, from its shape alone: without torch, without a download."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError
from tunewright.models.catalogue import CatalogueEntry, Shape, catalogue
from tunewright.models.encoders import encoder_shape, window_of
from tunewright.models.files import loading, read_object
from tunewright.models.linear_model import LINEAR
from tunewright.models.naming import Kind, cached_folder, local_path
from tunewright.models.tensor_files import ALONE, Weights
from tunewright.models.text_decoder import HEAD, decoder_name, is_composite

_WITH_BIASES = ("qwen2",)
"""Types whose queries, keys and values have biases."""
_MORE = 1.03
"""A model with more parameters than this times its shape's has parts that a shape does not cover, such as embeddings of
each layer, or several experts in a layer."""
_CONFIG = "config.json"


@dataclass(frozen=True)
class Sizes:
    """Counts of numbers, not bytes. Tied matrices count once."""

    parameters: int
    vocabulary: int
    """Parameters of the embedding, and of the head if it is a separate matrix."""
    embedding: int
    written: int
    """Parameters of the largest matrix that writes to the residual stream. It is rotated as a whole."""
    layer: int
    """Parameters of one layer."""
    layers: int
    rows: int
    """Outputs of all matrices together. In int8, each has a scale."""
    sides: int
    """Inputs and outputs of all matrices of the layers. An adapter of rank r has r times as many parameters."""
    cache: int
    """Keys and values of one token."""
    type: str
    """transformers' name of the architecture; empty for an encoder, or if only the parameter count is known."""
    kind: Kind = "decoder"

    @classmethod
    def of(cls, shape: Shape) -> Sizes:
        """The sizes of a decoder with this shape."""
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
        """The sizes of an encoder.

        Args:
            embeddings: parameters of the token embedding.
        """
        return replace(cls.roughly(parameters), vocabulary=int(embeddings), embedding=int(embeddings), kind="encoder")

    @classmethod
    def roughly(cls, parameters: float) -> Sizes:
        """The sizes if only the parameter count is known."""
        count = int(parameters)
        return cls(count, 0, 0, 0, 0, 1, 0, 0, 0, "")

    def counted(self, parameters: int) -> Sizes:
        """These sizes with a parameter count that is known, if it is clearly more than the shape's."""
        return replace(self, parameters=parameters) if parameters > _MORE * self.parameters else self


def sizes_of(model: str, anchor: Path) -> Sizes | None:
    """The sizes of a base model in the catalogue or in a folder on this machine; None if its shape is unknown before
    fetching it.

    Args:
        anchor: the folder where relative paths start.
    """
    if model == LINEAR:
        return replace(Sizes.roughly(0), kind=LINEAR)
    if entry := catalogue().get(model):
        return sizes_in(entry)
    config = _config_of(model, anchor)
    if encoder := encoder_shape(config):
        return Sizes.of_encoder(encoder.parameters, encoder.embeddings)
    shape = shape_in(config)
    return Sizes.of(shape).counted(_stored_numbers(local_path(model, anchor), shape)) if shape else None


def sizes_in(entry: CatalogueEntry) -> Sizes:
    """The sizes of a catalogue model. If the catalogue gives clearly more parameters than the shape, they count."""
    if entry.kind == "encoder":
        return Sizes.of_encoder(1e9 * entry.parameters, 1e9 * entry.embeddings)
    named = int(1e9 * entry.parameters)
    if entry.shape is None:
        return Sizes.roughly(named)
    return Sizes.of(entry.shape).counted(named)


def entry_of(model: str, anchor: Path) -> CatalogueEntry | None:
    """The catalogue's entry of a base model, or one for a folder on this machine; None if its size is unknown before
    fetching it.

    Raises:
        UserError: the folder's config.json gives no size of its window.
    """
    if entry := catalogue().get(model):
        return entry
    sizes, config = sizes_of(model, anchor), _config_of(model, anchor)
    if sizes is None or sizes.kind == LINEAR:
        return None
    with loading(local_path(model, anchor) / _CONFIG, "The model's config.json"):
        context = window_of(config.get("text_config") or config)
    return CatalogueEntry(
        hub=model,
        parameters=sizes.parameters / 1e9,
        embeddings=sizes.embedding / 1e9 if sizes.kind == "encoder" else 0.0,
        context=context,
        licence="",
        kind=sizes.kind,
        shape=shape_in(config),
    )


def shape_of(model: str, anchor: Path) -> Shape | None:
    """The shape of a decoder in a folder on this machine; None if no config.json gives it."""
    return shape_in(_config_of(model, anchor))


def _config_of(model: str, anchor: Path) -> dict[str, Any]:
    """The config.json of a model on this machine; empty if there is none."""
    try:
        return read_object((cached_folder(model) or local_path(model, anchor)) / _CONFIG)
    except (OSError, UserError):
        return {}


def _stored_numbers(folder: Path, shape: Shape) -> int:
    """The numbers of a decoder's weights, by the headers of its files; 0 if they can't be read."""
    try:
        files = Weights(folder).files
        is_alone = not is_composite(folder)
    except (OSError, UserError):
        return 0
    # transformers reads no other file beside this one, such as a second copy of the weights.
    read = [file for file in files if file.path.name == ALONE] or files
    names = {name: name if is_alone else decoder_name(name) for file in read for name in file}
    kept = {name for name, inner in names.items() if inner and not (shape.tied and inner == HEAD)}
    return sum(file[name].raw.size for file in read for name in file if name in kept)


def shape_in(config: Any) -> Shape | None:
    """The shape of a decoder in a config.json; None for any other kind of model."""
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
        # Gemma's files leave it out, because True is that family's default.
        tied=config.get("tie_word_embeddings", config["model_type"].startswith("gemma")),
    )
