"""Encoders: models that read a text in both directions and write nothing. A head on top chooses a label.

A base is a folder written by transformers or sentence-transformers. The latter's `1_Pooling` says how a text's tokens
become one vector. Where a folder has none, the catalogue says it for the encoders that it names; the default is the
mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError
from tunewright.models.catalogue import Pooling
from tunewright.models.files import loading, read_object
from tunewright.models.tokenizer import TextTokenizer

ENCODERS = frozenset(
    (
        "bert",
        "camembert",
        "deberta-v2",
        "distilbert",
        "electra",
        "modernbert",
        "mpnet",
        "roberta",
        "xlm-roberta",
    )
)
"""transformers' names of the architectures. DeBERTa-v3 has the name of the second version."""
_ENCODERS_DO = ("classify", "multi_label", "extract")
"""Kinds of tasks for encoders."""
POOLING = Path("1_Pooling", "config.json")
_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The keys of older versions of sentence-transformers, and the newer ones' values of `pooling_mode`, one or a list
(sentence_transformers/sentence_transformer/modules/pooling.py of 6.0.0, read 2026-12-01)."""
_PADDED = 2
"""Positions that RoBERTa and its successors skip before the first token."""
_SHAPE = (
    ("hidden_size", "dim"),
    ("num_hidden_layers", "n_layers"),
    ("num_attention_heads", "n_heads"),
    ("intermediate_size", "hidden_dim"),
    ("vocab_size",),
)
"""The names of the fields of `EncoderShape` in config.json; DistilBERT uses the second ones."""
_OFFSET = ("camembert", "mpnet", "roberta", "xlm-roberta")


@dataclass(frozen=True)
class LocalEncoder:
    """An encoder on this machine: safetensors weights, config and tokenizer."""

    name: str
    folder: Path
    window: int
    """Tokens of the longest text that it reads, its frame included."""
    pooling: Pooling
    line_ends: bool = False
    """Whether the end of a line is a token of its own, also where its tokenizer says white space."""

    def tokenizer(self) -> TextTokenizer:
        return TextTokenizer(self.folder, line_ends=self.line_ends)


@dataclass(frozen=True)
class EncoderShape:
    """The part of an encoder's architecture that determines its size."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    """Tokens."""

    @property
    def embeddings(self) -> int:
        """Parameters of the token embedding."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """Parameters of all matrices. Biases and norms are one percent more."""
        layer = 4 * self.hidden**2 + 2 * self.hidden * self.intermediate
        return self.embeddings + self.layers * layer


def unable(kind: str, name: str, *, encoder: bool) -> UserError | None:
    """The reason why a base model can't do a kind of task; None if it can.

    Args:
        name: the name of the base model.
        encoder: whether it is an encoder.
    """
    if encoder and kind not in _ENCODERS_DO:
        return UserError(
            f"{name} is an encoder, and this task is {kind}: an encoder chooses a label, and can't write.",
            where="model",
            fix="Choose a model that writes: tunewright models ls",
        )
    if not encoder and kind == "multi_label":
        return UserError(
            f"{name} is a model that writes, and this task is {kind}, which encoders and linear models do.",
            where="model",
            why="A written list of labels gives no confidence for each label.",
            fix="Type: tunewright … model=all-minilm  (or another encoder: tunewright models ls)",
        )
    return None


def encoder_shape(config: Mapping[str, Any]) -> EncoderShape | None:
    """The shape in a config.json; None for any other kind of model."""
    if config.get("model_type") not in ENCODERS:
        return None
    named = (next((name for name in names if name in config), "") for names in _SHAPE)
    known = [config[name] for name in named if isinstance(config.get(name), int)]
    return EncoderShape(*known) if len(known) == len(_SHAPE) else None


def read_encoder(name: str, folder: Path, pooling: Pooling | None = None) -> LocalEncoder:
    """Read an encoder's folder.

    Args:
        pooling: that of a known encoder; None: of any other, whose folder alone can say it.

    Raises:
        UserError: its tokenizer or its pooling is another model's, or one of its files can't be read.
    """
    config = read_object(folder / "config.json")
    with loading(folder / "config.json", "The encoder's config.json"):
        window, tokens = window_of(config), int(config["vocab_size"])
    _check_tokenizer(tokens, config.get("pad_token_id"), folder)
    return LocalEncoder(name, folder, window, _pooling(folder, pooling))


def window_of(config: dict[str, Any]) -> int:
    """Tokens of the longest text that an encoder reads."""
    positions = int(config.get("max_position_embeddings") or 512)
    return positions - _PADDED if config["model_type"] in _OFFSET else positions


def write_pooling(pooling: Pooling, folder: Path) -> None:
    """Write the file in which sentence-transformers keeps the pooling."""
    (folder / POOLING).parent.mkdir(exist_ok=True)
    modes = {f"pooling_mode_{name}": name.startswith(pooling) for name in ("cls_token", "mean_tokens")}
    (folder / POOLING).write_text(json.dumps(modes), "utf-8")


def _pooling(folder: Path, known: Pooling | None) -> Pooling:
    try:
        config = read_object(folder / POOLING)
    except FileNotFoundError:
        return known or "mean"
    found = _pooling_of(_modes(config), folder)
    if known and found != known:
        raise UserError(
            f"This folder pools by {found}, and the encoder of this name by {known}.",
            where=folder / POOLING,
            fix="Fetch the encoder again; or give the folder itself as `model:` if it is another encoder.",
        )
    return found


def _modes(config: Mapping[str, Any]) -> list[str]:
    """The poolings that a config of sentence-transformers names; several are put side by side."""
    said = config.get("pooling_mode")
    modes = said if isinstance(said, list) else [said]
    return [str(each)[:40] for each in modes if each] or [mode for key, mode in _MODES.items() if config.get(key)]


def _pooling_of(modes: Sequence[str], folder: Path) -> Pooling:
    if modes == ["cls"]:
        return "cls"
    if modes in ([], ["mean"], ["mean_sqrt_len_tokens"]):  # the last has the direction of the mean: only that counts
        return "mean"
    raise UserError(
        f"This encoder pools by {' and '.join(modes)}, and Tunewright by the mean or the first token.",
        where=folder / POOLING,
        fix="Choose another encoder: tunewright models ls. Or copy its folder, delete this file, and give the copy as "
        "`model:`; then the head is trained on the mean.",
    )


def _check_tokenizer(vocabulary: int, padding: Any, folder: Path) -> None:
    """Refuse another model's tokenizer, as far as the config can show it.

    Args:
        vocabulary: tokens that the model knows.
        padding: the model's padding token; None: the config has none.
    """
    tokenizer = TextTokenizer(folder)
    why = ""
    if tokenizer.size > vocabulary:
        why = f"It has {tokenizer.size:,} tokens, the model {vocabulary:,}."
    elif padding is not None and (type(padding) is not int or not 0 <= padding < vocabulary):
        why = f"The model pads with token {str(padding)[:40]}, and has {vocabulary:,} tokens."
    elif padding is not None and "pad" not in (word := tokenizer.decode([padding])).lower():
        why = f"The model pads with token {padding}, which is {word!r} here."
    elif tokenizer.encode_framed("") == []:
        why = "It puts no frame, such as [CLS] and [SEP], around a text."
    if why:
        raise UserError(
            "The tokenizer is another model's.",
            where=folder / "tokenizer.json",
            why=why,
            fix="Copy the model again, with its own tokenizer.json.",
        )
