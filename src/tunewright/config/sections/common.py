"""What the sections share: their base class, and the types of their values."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


def _split_name(name: str) -> str:
    if name in ("train", "validation") or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}", name):
        raise ValueError("a name has at most 60 letters, digits, '_', '-' and '.', and is not train or validation")
    return name


def _variable(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,59}", name):
        raise ValueError("give the name of an environment variable that holds the key, never the key itself")
    return name


HIDDEN = "may hold a secret"
"""Marks a type whose values no error shows, because people write a secret where its name or an address belongs."""
Secret = Annotated[str | None, AfterValidator(_variable), HIDDEN]
SplitName = Annotated[str, AfterValidator(_split_name)]


class Section(BaseModel):
    """A section of the spec. It refuses unknown keys. The docstring of a field is its description in the JSON Schema
    (`tunewright.config.descriptions`)."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)
