"""Literal fields of a record's schema: text fields whose value stands in the request word for word."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tunewright.config.json_schema import target
from tunewright.core.errors import UserError

LITERAL = "x-literal"
"""Says of a text field that its value stands in the request word for word."""


def literal_fields(schema: Any, root: Mapping[str, Any] | None = None, path: str = "") -> Iterator[str]:
    """The paths of a record's literal fields, as `tunewright.tasks.measures.leaves` writes paths.

    Args:
        schema: one that `tunewright.config.record_schema` accepts, or a part of it.
        root: the whole schema, whose parts references name.
    """
    root = schema if root is None else root
    if not isinstance(schema, Mapping):
        return
    if "$ref" in schema:
        yield from literal_fields(target(root, schema["$ref"]), root, path)
    elif schema.get(LITERAL) is True:
        yield path
    for name, part in schema.get("properties", {}).items():
        yield from literal_fields(part, root, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from literal_fields(schema["items"], root, f"{path}[]")


_DEFINED = ("$defs", "definitions")
_OF_A_LITERAL = {LITERAL, "type", "title", "description", "examples", "default"}
_AROUND_A_LITERAL = {
    *("type", "title", "description", "properties", "required", "additionalProperties", "items"),
    *("$defs", "definitions", "$schema", "$id"),
}
"""Keywords of the objects and lists around a literal field that `inference/decoding/literal.py` writes as a grammar."""
_REFERRED = ("#/$defs/", "#/definitions/")


def require_literal(schema: Mapping[str, Any], where: str) -> None:
    """Refuse `x-literal` where answers could not be confined to it.

    Args:
        schema: a bounded one (`tunewright.config.json_schema.require_bounded`).

    Raises:
        UserError: says where and why.
    """
    walk = _LiteralWalk(schema)
    if not walk.holds_one(schema):
        return
    if reference := next((each for each in walk.references(schema) if not each.startswith(_REFERRED)), None):
        raise _unfit_literal(f"beside literal fields a $ref names a part of $defs, and not '{reference[:80]}'", where)
    if reason := walk.fault(schema):
        raise _unfit_literal(reason, where)


class _LiteralWalk:
    """Looks for literal fields in a schema, its references put in.

    Args:
        schema: a bounded one.
    """

    def __init__(self, schema: Mapping[str, Any]):
        self._schema = schema

    def holds_one(self, part: Any) -> bool:
        if isinstance(part, list):
            return any(map(self.holds_one, part))
        if not isinstance(part, Mapping):
            return False
        reference = part.get("$ref")
        if isinstance(reference, str) and self.holds_one(target(self._schema, reference)):
            return True
        return LITERAL in part or any(self.holds_one(each) for key, each in part.items() if key not in _DEFINED)

    def references(self, part: Any) -> Iterator[str]:
        if isinstance(part, list):
            for each in part:
                yield from self.references(each)
        elif isinstance(part, Mapping):
            if isinstance(part.get("$ref"), str):
                yield part["$ref"]
            for each in part.values():
                yield from self.references(each)

    def fault(self, part: Mapping[str, Any]) -> str:
        """Why a part that holds a literal field can't be a grammar; empty if it can."""
        if LITERAL in part:
            is_plain = part[LITERAL] is True and part.get("type") == "string" and not part.keys() - _OF_A_LITERAL
            return "" if is_plain else f"'{LITERAL}: true' goes with `type: string` and a description alone"
        if "$ref" in part:
            odd = part.keys() - {"$ref", "title", "description", *_DEFINED}
            return self._odd(odd) or self.fault(target(self._schema, part["$ref"]))
        odd = part.keys() - _AROUND_A_LITERAL
        odd |= {"additionalProperties"} if part.get("additionalProperties") else set()
        fields = part.get("properties", {})
        if any(not name or "\x7f" in name for name in fields):
            return "around a literal field every field has a name without control characters"
        inner = [each for each in (*fields.values(), part.get("items")) if self.holds_one(each)]
        return self._odd(odd) or next(filter(None, map(self.fault, inner)), "")

    def _odd(self, keywords: Collection[str]) -> str:
        return f"around a literal field there is no {', '.join(sorted(keywords))}" if keywords else ""


def _unfit_literal(why: str, where: str) -> UserError:
    return UserError(
        "A literal field can't be confined here.",
        where=where,
        why=f"{why[:1].upper()}{why[1:]}.",
        fix=f"Remove '{LITERAL}' there, or the rest.",
    )
