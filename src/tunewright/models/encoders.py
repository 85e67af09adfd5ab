"""Encoders: models that read a text from both sides and write nothing. A head on them chooses a label.

A base is a folder as transformers or sentence-transformers write it. The latter says in `1_Pooling` how a text's tokens
become one vector; without it, that is their mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunewright.core.errors import UserError
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
"""transformers' names of the architectures; DeBERTa-v3 has that of the second version."""
Pooling = Literal["mean", "cls"]
_ENCODERS_DO = ("classify", "multi_label", "extract")
"""Kinds of tasks."""
_POOLING = Path("1_Pooling", "config.json")
_PADDED = 2
"""Positions that RoBERTa and what follows it leave out before the first token."""
_SHAPE = (
    ("hidden_size", "dim"),
    ("num_hidden_layers", "n_layers"),
    ("num_attention_heads", "n_heads"),
    ("intermediate_size", "hidden_dim"),
    ("vocab_size",),
)
"""What the fields of `EncoderShape` are called in config.json; DistilBERT has names of its own."""
_OFFSET = ("camembert", "mpnet", "roberta", "xlm-roberta")


@dataclass(frozen=True)
class LocalEncoder:
    """An encoder that lies on this machine: weights as safetensors, config and tokenizer."""

    name: str
    folder: Path
    window: int
    """Tokens of the longest text that it reads, its own frame included."""
    pooling: Pooling
    """mean: of all tokens; cls: the first one, which stands for the text."""


@dataclass(frozen=True)
class EncoderShape:
    """An encoder's architecture, as far as its size hangs on it."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    """Tokens."""

    @property
    def embeddings(self) -> int:
        """Numbers that hold one vector for each token."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """Numbers of all matrices, without biases and norms: a hundredth more."""
        layer = 4 * self.hidden**2 + 2 * self.hidden * self.intermediate
        return self.embeddings + self.layers * layer


def unable(kind: str, name: str, *, encoder: bool) -> UserError | None:
    """Why a base model can't do a kind of task; None where it can.

    Args:
        name: of the base model.
        encoder: whether it is one.
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
            why="How sure it is of each label can't be told from a list that was written.",
            fix="Type: tunewright … model=all-minilm  (or another encoder: tunewright models ls)",
        )
    return None


def encoder_shape(config: Mapping[str, Any]) -> EncoderShape | None:
    """The shape that a config.json tells; None of another kind of model."""
    if config.get("model_type") not in ENCODERS:
        return None
    named = (next((name for name in names if name in config), "") for names in _SHAPE)
    known = [config[name] for name in named if isinstance(config.get(name), int)]
    return EncoderShape(*known) if len(known) == len(_SHAPE) else None


def read_encoder(name: str, folder: Path) -> LocalEncoder:
    """What a folder of an encoder says.

    Raises:
        UserError: its tokenizer is another model's, or one of its files can't be read.
    """
    config = read_object(folder / "config.json")
    with loading(folder / "config.json", "The encoder's config.json"):
        window, tokens = window_of(config), int(config["vocab_size"])
    _check_tokenizer(tokens, config.get("pad_token_id"), folder)
    return LocalEncoder(name, folder, window, _pooling(folder))


def window_of(config: dict[str, Any]) -> int:
    """Tokens of the longest text that an encoder reads."""
    positions = int(config.get("max_position_embeddings") or 512)
    return positions - _PADDED if config["model_type"] in _OFFSET else positions


def _pooling(folder: Path) -> Pooling:
    try:
        said = read_object(folder / _POOLING)
    except FileNotFoundError:
        return "mean"
    return "cls" if said.get("pooling_mode_cls_token") else "mean"


def _check_tokenizer(known: int, padding: Any, folder: Path) -> None:
    """Refuse a tokenizer that the weights were not made for, as far as the config tells it.

    Args:
        known: tokens that the model knows.
        padding: the token that it fills up with; None: it does not say.
    """
    tokenizer = TextTokenizer(folder)
    why = ""
    if tokenizer.size > known:
        why = f"It has {tokenizer.size:,} tokens, the model {known:,}."
    elif padding is not None and (type(padding) is not int or not 0 <= padding < known):
        why = f"The model fills up with token {str(padding)[:40]}, and knows {known:,}."
    elif padding is not None and "pad" not in (word := tokenizer.decode([padding])).lower():
        why = f"The model fills up with token {padding}, which is {word!r} here."
    elif tokenizer.encode_framed("") == []:
        why = "It puts no frame around a text, as [CLS] and [SEP] are."
    if why:
        raise UserError(
            "The tokenizer is another model's.",
            where=folder / "tokenizer.json",
            why=why,
            fix="Copy the model again, with its own tokenizer.json.",
        )
