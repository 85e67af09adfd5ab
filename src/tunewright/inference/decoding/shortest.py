"""Checks a JSON Schema before decoding: whether some answer to it comes to an end, and how long the shortest is.

The schema may come from a request's `response_format`, so it may not be a schema at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from tunewright.config.json_schema import target
from tunewright.core.limits import DEEPEST_SCHEMA, MOST_FORCED_LETTERS, SCHEMA_BYTES


class Unbounded(ValueError):
    """A schema, or its shortest answer, is too large."""


def require_bounded(schema: Any) -> None:
    """Refuse a schema that is too large to read, or that has no short answer. The value may not be a schema at all.

    Raises:
        Unbounded: names the limit in `tunewright.core.limits` that the schema breaks.
    """
    level, depth, size = [schema], 0, 0
    while level:
        if depth > DEEPEST_SCHEMA:
            raise Unbounded(f"the schema is nested more than {DEEPEST_SCHEMA} levels deep")
        inner: list[Any] = []
        for part in level:
            if isinstance(part, Mapping):
                size += sum(len(str(key)) + 4 for key in part)
                inner += part.values()
            elif isinstance(part, list | tuple):
                size += len(part)
                inner += part
            else:
                size += len(part) if isinstance(part, str) else 1
        if size > SCHEMA_BYTES:
            raise Unbounded(f"the schema has more than {SCHEMA_BYTES >> 10} KiB")
        level, depth = inner, depth + 1
    try:
        least = least_letters(schema)
    except RecursionError:
        raise Unbounded("the schema has too many references that lead to each other") from None
    if math.isinf(least):
        raise Unbounded("no answer to the schema comes to an end: a part of it requires itself")
    if least > MOST_FORCED_LETTERS:
        raise Unbounded(f"the shortest answer has {least:,.0f} characters; the limit is {MOST_FORCED_LETTERS:,}")


_ROUNDS = 8
"""Rounds to find the shortest values of parts that refer to each other. Unusual schemas may need more."""


def least_letters(schema: Any) -> float:
    """Characters of the shortest JSON value that a schema allows, or fewer; infinity if no value ends."""
    known: dict[str, float] = {}
    for _ in range(_ROUNDS):
        sizes = _Sizes(schema, known)
        least = sizes.of(schema)
        if sizes.found == known:
            return least
        known = sizes.found
    return 0.0


class _Sizes:
    """The minimum characters of a schema's parts.

    Args:
        known: the minimum of each reference's target from the last round; infinity for one that is not in it.
    """

    def __init__(self, schema: Any, known: Mapping[str, float]):
        self._schema, self._known = schema, known
        self.found: dict[str, float] = {}
        self._open: set[str] = set()

    def of(self, part: Any) -> float:
        if part is False:
            return math.inf
        if not isinstance(part, Mapping):
            return 1
        least = self._of_type(part)
        if "const" in part:
            least = max(least, _written(part["const"]))
        if isinstance(part.get("enum"), list) and part["enum"]:
            least = max(least, min(map(_written, part["enum"])))
        for name in ("anyOf", "oneOf"):
            if isinstance(part.get(name), list) and part[name]:
                least = max(least, min(map(self.of, part[name])))
        if isinstance(part.get("allOf"), list):
            least = max(least, *map(self.of, part["allOf"]), 0)
        if isinstance(part.get("$ref"), str):
            least = max(least, self._of_reference(part["$ref"]))
        return least

    def _of_type(self, part: Mapping[str, Any]) -> float:
        kind = part.get("type")
        kinds = kind if isinstance(kind, list) and kind else [kind]
        return min(self._of_kind(part, each) for each in kinds)

    def _of_kind(self, part: Mapping[str, Any], kind: Any) -> float:
        match kind:
            case "string":
                return 2 + _count(part, "minLength")
            case "array":
                first = part.get("prefixItems")
                first = first if isinstance(first, list) else []
                count = _count(part, "minItems")
                rest = self.of(part.get("items", True)) if count > len(first) else 0
                left = count - len(first)
                return 2 + sum(map(self.of, first[:count])) + (left * rest if left > 0 else 0) + max(count - 1, 0)
            case "object":
                required, named = part.get("required"), part.get("properties")
                required = required if isinstance(required, list) else []
                named = named if isinstance(named, Mapping) else {}
                names = set(filter(_is_text, required))
                commas = max(len(names) - 1, 0)
                return 2 + commas + sum(3 + len(name) + self.of(named.get(name, True)) for name in names)
            case "boolean" | "null":
                return 4
            case _:
                return 1

    def _of_reference(self, name: str) -> float:
        if name in self.found:
            return self.found[name]
        if name in self._open:
            return self._known.get(name, math.inf)
        self._open.add(name)
        self.found[name] = least = self.of(_referred(self._schema, name))
        self._open.discard(name)
        return least


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _count(part: Mapping[str, Any], key: str) -> int:
    value = part.get(key)
    return min(value, 10**18) if isinstance(value, int) and value > 0 else 0


def _written(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _referred(schema: Any, name: str) -> Any:
    """The target of a reference within a schema; `True`, which allows anything, if there is none."""
    try:
        return target(schema, name)
    except (LookupError, ValueError):
        return True
