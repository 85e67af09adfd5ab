"""Guessing a JSON Schema from records."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from tunewright.config.literal import LITERAL
from tunewright.tasks.literal import not_literal
from tunewright.tasks.normal import as_in_records
from tunewright.tasks.record_form import is_absent

MOST_CHOICES = 12
"""Different values that a text field may have to count as a choice among them. Each value must be one word: where names
repeat, other names may follow, and a choice would rule those out."""
_REPEATS = 5
"""Times that each value must occur, on average."""
_LEAST_LITERAL = 100
"""Values that must all stand in their texts before a field is taken for literal."""


def guess_schema(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The schema that a user would start from.

    It gives each field's type, whether all records have it, the choices of a text that repeats few values, and the
    format of a date.

    Args:
        records: at least one record.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    values = {name: [record[name] for record in records if not is_absent(record.get(name))] for name in names}
    schema = {
        "type": "object",
        "properties": {name: _of(values[name]) for name in names if values[name]},
        "required": [name for name in names if len(values[name]) == len(records)],
    }
    return schema if schema["required"] else {key: value for key, value in schema.items() if key != "required"}


def _of(values: Sequence[Any]) -> dict[str, Any]:
    """The schema of a field with these values."""
    kinds = list(dict.fromkeys(map(_kind, values)))
    if set(kinds) == {"integer", "number"}:
        return {"type": "number"}
    branches = [_of_kind(kind, [value for value in values if _kind(value) == kind]) for kind in kinds]
    return branches[0] if len(branches) == 1 else {"anyOf": branches}


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case Mapping():
            return "object"
        case list():
            return "array"
        case _:
            return "string"


def _of_kind(kind: str, values: Sequence[Any]) -> dict[str, Any]:
    match kind:
        case "object":
            return guess_schema(values)
        case "array":
            return {"type": "array", "items": _of([item for value in values for item in value])}
        case "string":
            return _of_texts([as_in_records(str(value)) for value in values])
        case _:
            return {"type": kind}


def _of_texts(texts: Sequence[str]) -> dict[str, Any]:
    if all(map(_is_date, texts)):
        return {"type": "string", "format": "date"}
    choices = dict.fromkeys(texts)
    one_word = all(len(text.split()) == 1 for text in choices)
    if one_word and len(choices) <= MOST_CHOICES and len(texts) >= _REPEATS * len(choices):
        return {"enum": sorted(choices)}
    return {"type": "string"}


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return re.fullmatch(r"\d{4}-\d\d-\d\d", text) is not None


def with_literal_fields(schema: Mapping[str, Any], rows: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The schema in which text fields are literal whose value stands in the text in every row.

    Args:
        rows: (text, record as JSON) of each.
    """
    able = {name: {**part, LITERAL: True} for name, part in schema["properties"].items() if part == {"type": "string"}}
    values: Counter[str] = Counter()
    for text, answer in rows:
        values.update(able.keys() & json.loads(answer).keys())
        for name in set(not_literal(answer, text, list(able))):
            del able[name]
    literal = {name: part for name, part in able.items() if values[name] >= _LEAST_LITERAL}
    return {**schema, "properties": {**schema["properties"], **literal}}


def schema_of_marks(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of records whose values are marked in the text: of each kind any number, none included, and each a
    piece of the text."""
    values = {"type": "array", "items": {"type": "string", LITERAL: True}}
    return {"type": "object", "properties": dict.fromkeys(schema["properties"], values)}


def described(schema: Mapping[str, Any]) -> Iterator[str]:
    """The fields of a schema in words: `total (number)`."""
    for name, part in schema["properties"].items():
        yield f"{name} ({part.get('format') or part.get('type') or ('choice' if 'enum' in part else 'several types')})"
