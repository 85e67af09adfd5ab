"""What Azure refuses: the rules in `rules.yaml`, each with its source."""

from __future__ import annotations

import re
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, HttpUrl, model_validator
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
    """The module or function that acts by the rule, or the file below `infra/` that does."""
    enforced_by: list[str] = []
    """The functions of the emulator that enforce the rule, as `module:function`. Each names the rule."""
    not_enforced: str = ""
    """Why the emulator can't enforce it."""

    @model_validator(mode="after")
    def _is_enforced_or_says_why(self) -> Self:
        if bool(self.enforced_by) == bool(self.not_enforced):
            raise ValueError("a rule has either enforced_by or not_enforced")
        return self


class EndpointFamily(BaseModel):
    """Sizes that managed online endpoints take, and the family whose quota they count against."""

    model_config = ConfigDict(extra="forbid")

    family: str
    sizes: list[str]
    """Without "Standard_"."""
    skips_reserve: bool = False
    """Whether an endpoint takes no fifth of the quota in reserve."""


class Role(BaseModel):
    """A built-in role: patterns of the actions that it allows."""

    model_config = ConfigDict(extra="forbid")

    id: str
    """The last part of `roleDefinitionId`, the same in every subscription."""
    actions: list[str]
    not_actions: list[str] = []
    data_actions: list[str] = []


class Rules(BaseModel):
    """`rules.yaml`."""

    model_config = ConfigDict(extra="forbid")

    rules: dict[str, Rule]
    endpoint_sizes: list[EndpointFamily]
    cluster_series: list[str]
    roles: dict[str, Role]


@cache
def rules() -> Rules:
    text = (files("tunewright.backends.azure") / "rules.yaml").read_text("utf-8")
    return Rules.model_validate(YAML(typ="safe").load(text))


def endpoint_family(size: str) -> EndpointFamily | None:
    """The family of a size; None if managed online endpoints don't take it."""
    short = _short(size)
    return next((each for each in rules().endpoint_sizes if short in map(str.casefold, each.sizes)), None)


def endpoint_cores(size: str, instances: int, cores: int) -> int:
    """Cores of quota that a deployment takes (rule endpoint-reserve).

    Args:
        cores: the cores of one machine.
    """
    family = endpoint_family(size)
    upgraded = instances if family and family.skips_reserve else -(-6 * instances // 5)
    return upgraded * cores


def is_of_clusters(size: str) -> bool:
    """Whether clusters take machines of a size, if the region has it."""
    return any(re.fullmatch(pattern, _short(size), re.IGNORECASE) for pattern in rules().cluster_series)


def is_allowed(action: str, permissions: list[dict[str, Any]], *, data: bool = False) -> bool:
    """Whether one of a user's roles allows an action: one of its patterns matches the action, and none of its `not`
    patterns does (rule deny-by-default).

    Args:
        permissions: as Azure lists them: `actions`, `notActions`, `dataActions` and `notDataActions` of each role.
        data: whether it is a data action.
    """

    def matches(patterns: list[str]) -> bool:
        return any(re.fullmatch(_expression(each), action, re.I) for each in patterns)

    allowed, excluded = ("dataActions", "notDataActions") if data else ("actions", "notActions")
    return any(matches(role.get(allowed, [])) and not matches(role.get(excluded, [])) for role in permissions)


def _expression(pattern: str) -> str:
    """A role's pattern as a regular expression: a star between slashes also matches nothing (rule role-wildcards)."""
    return re.escape(pattern).replace(r"/\*/", "/(?:.*/)?").replace(r"\*", ".*")


def _short(size: str) -> str:
    return size.casefold().removeprefix("standard_")
