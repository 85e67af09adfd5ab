"""What Azure refuses: the rules in `rules.yaml`, each with where it was found."""

from __future__ import annotations

import re
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, HttpUrl
from ruamel.yaml import YAML


class Rule(BaseModel):
    """One rule of Azure that Tunewright relies on."""

    model_config = ConfigDict(extra="forbid")

    says: str
    evidence: Literal["documented", "reported", "probed"]
    source: HttpUrl
    read: date
    """The day on which the source was read."""
    kept_in: str
    """The module, or the function of one, in which the rule decides something."""


class EndpointFamily(BaseModel):
    """Sizes that managed online endpoints take, and the family that their quota is counted by."""

    model_config = ConfigDict(extra="forbid")

    family: str
    sizes: list[str]
    """Without "Standard_"."""
    skips_reserve: bool = False
    """Whether an endpoint takes no fifth of the quota in reserve."""


class Rules(BaseModel):
    """`rules.yaml`."""

    model_config = ConfigDict(extra="forbid")

    rules: dict[str, Rule]
    endpoint_sizes: list[EndpointFamily]
    cluster_series: list[str]


@cache
def rules() -> Rules:
    text = (files("tunewright.places.azure") / "rules.yaml").read_text("utf-8")
    return Rules.model_validate(YAML(typ="safe").load(text))


def endpoint_family(size: str) -> EndpointFamily | None:
    """The family of a size that managed online endpoints take; None of one that they don't."""
    short = _short(size)
    return next((each for each in rules().endpoint_sizes if short in map(str.casefold, each.sizes)), None)


def endpoint_cores(size: str, instances: int, cores: int) -> int:
    """Cores of quota that a deployment takes (rule endpoint-reserve).

    Args:
        cores: of one machine.
    """
    family = endpoint_family(size)
    upgraded = instances if family and family.skips_reserve else -(-6 * instances // 5)
    return upgraded * cores


def is_of_clusters(size: str) -> bool:
    """Whether clusters take machines of a size, where a region has it."""
    return any(re.fullmatch(pattern, _short(size), re.IGNORECASE) for pattern in rules().cluster_series)


def _short(size: str) -> str:
    return size.casefold().removeprefix("standard_")
