"""The grammar of records whose literal fields are confined to what stands in one text.

A field is literal if its schema says `x-literal: true`. llguidance has the runs of words of a text as a regular
expression, but not within a JSON Schema. So the objects that hold a literal field are written as a Lark grammar, in
the order and spacing of canonical records, and every other part remains a schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunewright.config.json_schema import target
from tunewright.config.literal import LITERAL, literal_fields

_CANONICAL_SPACING = {"x-guidance": {"whitespace_flexible": False}}


def literal_grammar(schema: Mapping[str, Any], pieces: Sequence[str]) -> str:
    """The Lark grammar of a schema that has literal fields.

    Args:
        schema: one that `tunewright.config.record_schema` accepts.
        pieces: of the text in which literal values must stand (`tunewright.tasks.literal.pieces`).
    """
    return "\n".join(_Rules(schema).lines(pieces))


class _Rules:
    def __init__(self, schema: Mapping[str, Any]):
        self._schema, self._rules = schema, list[str]()
        self._shared = {name: schema[name] for name in ("$defs", "definitions") if name in schema}

    def lines(self, pieces: Sequence[str]) -> Iterator[str]:
        escaped = [json.dumps(piece, ensure_ascii=False)[1:-1] for piece in pieces]
        yield f"start: {self._of(self._schema)}"
        yield from self._rules
        yield f'LITERAL: %regex {{"substring_chunks": {json.dumps(escaped)}}}'

    def _of(self, part: Any) -> str:
        """What a rule says for the values of a part of the schema."""
        if next(literal_fields(part, self._schema), None) is None:
            inner = part if isinstance(part, Mapping) else {}
            return f"%json {json.dumps(self._shared | dict(inner) | _CANONICAL_SPACING)}"
        if "$ref" in part:
            return self._of(target(self._schema, part["$ref"]))
        if LITERAL in part:
            return r'"\"" LITERAL "\""'
        if "items" in part:
            item = self._named(self._of(part["items"]))
            return f'"[" ({item} ("," {item})*)? "]"'
        return self._object(part)

    def _object(self, part: Mapping[str, Any]) -> str:
        """An object's fields in order. Behind each field there is one rule for what follows a comma, and one for what
        may stand first."""
        required = part.get("required", ())
        first = behind = ""
        for name, inner in reversed(part["properties"].items()):
            key = json.dumps(json.dumps(name, ensure_ascii=False) + ":", ensure_ascii=False)
            pair = self._named(f"{key} {self._of(inner)}")
            if name in required:
                first, behind = f"{pair} {behind}", self._named(f'"," {pair} {behind}')
            else:
                first = self._named(f"{pair} {behind} | {first}") if first else f"({pair} {behind})?"
                behind = self._named(f'("," {pair})? {behind}')
        return f'"{{" {self._named(first)} "}}"'

    def _named(self, rule: str) -> str:
        name = f"r{len(self._rules)}"
        self._rules.append(f"{name}: {rule}")
        return name
