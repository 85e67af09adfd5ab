"""Walking through a JSON Schema, draft 2020-12."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords that hold schemas by name."""
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames")


def transformed(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """A schema with every schema in it changed, the inner ones first; `true` and `false` are schemas too, and stay."""
    if not isinstance(schema, Mapping):
        return schema
    parts = dict(schema)
    for key in parts.keys() & set(_NAMED):
        parts[key] = {name: transformed(part, change) for name, part in parts[key].items()}
    for key in parts.keys() & set(_LISTED):
        parts[key] = [transformed(part, change) for part in parts[key]]
    for key in parts.keys() & set(_SINGLE):
        parts[key] = transformed(parts[key], change)
    return change(parts)


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema whose objects have no other keys than theirs, where it does not say whether they may."""

    def close(part: dict[str, Any]) -> dict[str, Any]:
        return {"additionalProperties": False, **part} if "properties" in part else part

    whole: dict[str, Any] = transformed(schema, close)
    return whole
