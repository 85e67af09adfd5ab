"""Walk through a JSON Schema, draft 2020-12, and refuse schemas that take too much time or memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from tunewright.config.patterns import Unusable, compiled
from tunewright.core.errors import UserError
from tunewright.core.limits import SCHEMA_BYTES, SCHEMA_NODES, SCHEMA_PATTERNS, SPEC_DEPTH
from tunewright.core.strict_json import depth_of

_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords that hold schemas by name."""
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames")
_BEYOND = ("$dynamicRef", "unevaluatedItems", "unevaluatedProperties")
"""Keywords whose meaning depends on other parts of the schema."""
_SMALLER = "Make it smaller, or split the job into several."


def transformed(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Apply a change to a schema and every schema inside it, inner ones first; `true` and `false` stay as they are."""
    if not isinstance(schema, Mapping):
        return schema
    parts = dict(schema)
    for key in parts.keys() & set(_NAMED):
        if isinstance(parts[key], Mapping):
            parts[key] = {name: transformed(part, change) for name, part in parts[key].items()}
    for key in parts.keys() & set(_LISTED):
        if isinstance(parts[key], list):
            parts[key] = [transformed(part, change) for part in parts[key]]
    for key in parts.keys() & set(_SINGLE):
        parts[key] = transformed(parts[key], change)
    return change(parts)


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema whose objects refuse unknown keys, unless it says otherwise. The result is read as draft 2020-12,
    whatever `$schema` says."""

    def close(part: dict[str, Any]) -> dict[str, Any]:
        part.pop("$schema", None)
        return {"additionalProperties": False, **part} if "properties" in part else part

    whole: dict[str, Any] = transformed(schema, close)
    return whole


def target(schema: Any, reference: str) -> Any:
    """The part of a schema that a reference such as `#/$defs/line` names.

    Raises:
        LookupError: the schema has no such part.
    """
    start, *parts = reference.split("/")
    if start != "#":
        raise LookupError(reference)
    for part in parts:
        name = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list) and name.isdecimal():
            schema = schema[int(name)]
        elif isinstance(schema, Mapping):
            schema = schema[name]
        else:
            raise LookupError(reference)
    return schema


def parts(schema: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas directly below one, without its definitions."""
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, Mapping) and key not in ("$defs", "definitions"):
            yield from value.values()
        elif key in _LISTED and isinstance(value, list):
            yield from value
        elif key in _SINGLE:
            yield value


def require_bounded(schema: Mapping[str, Any], where: str = "task.schema") -> None:
    """Refuse a schema that takes too much time or memory to read or to check records against.

    Raises:
        UserError: the schema is too large, refers to itself or to a missing part, holds a value that JSON does not
            have, or a pattern that RE2 can't run.
    """
    try:
        size = len(json.dumps(schema, allow_nan=False, ensure_ascii=False).encode())
    except RecursionError:
        raise UserError("The schema is nested too deeply.", where=where, fix=_SMALLER) from None
    except (TypeError, ValueError) as error:
        raise UserError(
            f"The schema holds a value that JSON does not have: {error}.", where=where, fix="Write it as text."
        ) from None
    if size > SCHEMA_BYTES:
        raise UserError(f"The schema has {size:,} bytes; the limit is {SCHEMA_BYTES:,}.", where=where, fix=_SMALLER)
    try:
        count, depth = _Extent(schema).of(schema)
    except RecursionError:
        raise UserError("The schema's references are nested too deeply.", where=where, fix=_SMALLER) from None
    except _Unresolvable as error:
        what = f"The schema's reference '{error.reference[:80]}' leads {error.way}."
        fix = "Let each $ref name a part of the same schema, such as #/$defs/line."
        raise UserError(what, where=where, fix=fix) from None
    if count > SCHEMA_NODES:
        what = f"The schema has {count:,} parts with its references resolved; the limit is {SCHEMA_NODES:,}."
        raise UserError(what, where=where, fix=_SMALLER)
    if depth > SPEC_DEPTH or depth_of(schema) > 2 * SPEC_DEPTH:
        what = f"The schema is nested more than {SPEC_DEPTH} levels deep with its references resolved."
        raise UserError(what, where=where, fix=_SMALLER)
    _require_patterns(schema, where)


def _require_patterns(schema: Any, where: str) -> None:
    patterns: set[str] = set()

    def collect(part: dict[str, Any]) -> dict[str, Any]:
        patterns.update([part["pattern"]] if isinstance(part.get("pattern"), str) else [])
        if isinstance(named := part.get("patternProperties"), Mapping):
            patterns.update(named)
        if odd := next((key for key in _BEYOND if key in part), None):
            fix = "Remove it from the schema, and check the answers for it afterwards."
            raise UserError(f"Records can't be checked against '{odd}'.", where=where, fix=fix)
        return part

    transformed(schema, collect)
    if len(patterns) > SCHEMA_PATTERNS:
        raise UserError(f"The schema has more than {SCHEMA_PATTERNS} patterns.", where=where, fix=_SMALLER)
    for pattern in sorted(patterns):
        try:
            compiled(pattern)
        except Unusable as error:
            raise UserError(
                f"The pattern {pattern[:80]!r} can't be used: {error}.",
                where=where,
                why="RE2 runs the patterns in linear time. It has no look-around, no back-references and at most 1,000 "
                "repetitions.",
                fix="Rewrite the pattern, or remove it and check the answers for it afterwards.",
            ) from None


class _Unresolvable(Exception):
    """A reference that leads nowhere, or in a circle."""

    def __init__(self, reference: str, way: str):
        self.reference, self.way = reference, way
        super().__init__(reference)


class _Extent:
    """Counts the schemas and the levels of a schema with its references resolved."""

    def __init__(self, whole: Mapping[str, Any]):
        self._whole = whole
        self._known: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def of(self, schema: Any, reference: str = "") -> tuple[int, int]:
        """(schemas, levels)."""
        if not isinstance(schema, Mapping):
            return 1, 1
        if id(schema) in self._open:
            raise _Unresolvable(reference, "in a circle")
        if id(schema) not in self._known:
            self._open.add(id(schema))
            inner = [*map(self.of, parts(schema)), *self._referred(schema)]
            levels = 1 + max((levels for _, levels in inner), default=0)
            self._known[id(schema)] = 1 + sum(count for count, _ in inner), levels
            self._open.remove(id(schema))
        return self._known[id(schema)]

    def _referred(self, schema: Mapping[str, Any]) -> list[tuple[int, int]]:
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return []
        try:
            return [self.of(target(self._whole, reference), reference)]
        except LookupError:
            raise _Unresolvable(reference, "nowhere") from None
