"""The one way to write a JSON record of a schema, so that a model learns one form and two answers can be compared.

Keys stand in the schema's order without spaces between them, optional fields without a value are left out, numbers are
written as JSON's shortest, and a run of white space in a text is one space.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from tunewright.tasks.base import Unfit
from tunewright.tasks.json_schema import closed

_BRANCHES = ("anyOf", "oneOf")


class RecordForm:
    """The records of a JSON Schema whose root is an object.

    Where the schema does not say whether objects may have other keys than theirs, they may not: there would be no way
    to know what to read into them.

    Args:
        schema: a JSON Schema, draft 2020-12, with its references inside.
    """

    def __init__(self, schema: Mapping[str, Any]):
        self.schema = closed(schema)

    def canonical(self, text: str) -> str:
        """A record given as JSON, written in the one way.

        Raises:
            Unfit: it is not JSON, repeats a key, or does not fit the schema.
        """
        try:
            value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
        except RecursionError:
            raise Unfit("its values are nested too deeply") from None
        except json.JSONDecodeError as error:
            raise Unfit(f"it is not JSON: {error.msg} at character {error.pos}") from None
        return self.written(value)

    def written(self, value: Any) -> str:
        """A record given as plain values, written in the one way.

        Raises:
            Unfit: it does not fit the schema.
        """
        ordered = self.ordered(value, self.schema)
        for error in self._validator.iter_errors(ordered):
            place = ".".join(str(part) for part in error.absolute_path)
            raise Unfit(f"{place or 'the record'}: {error.message}")
        return json.dumps(ordered, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    @cached_property
    def _validator(self) -> Any:
        from jsonschema import Draft202012Validator

        return Draft202012Validator(self.schema, format_checker=Draft202012Validator.FORMAT_CHECKER)

    def validator(self, schema: Any) -> Any:
        """What tells whether a value fits a part of the schema, by its `is_valid`."""
        return self._validator.evolve(schema=schema)

    def ordered(self, value: Any, schema: Any) -> Any:
        """A value in the one form of its part of the schema, as far as it fits."""
        schema = self.resolved(schema)
        for key in _BRANCHES:
            if key in schema:
                return self._of_branches(value, schema[key])
        if isinstance(value, Mapping):
            return self._object(value, schema)
        if isinstance(value, list):
            items = schema.get("items", {})
            return [self.ordered(item, items) for item in value]
        if isinstance(value, str):
            text = " ".join(unicodedata.normalize("NFC", value).split())
            return _number(text, schema) if schema.get("type") in ("number", "integer") else text
        if isinstance(value, float) and value.is_integer() and math.isfinite(value):
            return int(value)
        return value

    def _object(self, value: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
        known, required = schema.get("properties", {}), schema.get("required", ())
        ordered = {
            name: self.ordered(value[name], part)
            for name, part in known.items()
            if name in value and (name in required or not _absent(value[name]))
        }
        if others := schema.get("additionalProperties"):
            ordered |= {name: self.ordered(value[name], others) for name in sorted(value) if name not in known}
        return ordered

    def _of_branches(self, value: Any, branches: list[Any]) -> Any:
        """The form of the first branch that the value fits; the value itself where it fits none."""
        for branch in branches:
            ordered = self.ordered(value, branch)
            if self.validator(branch).is_valid(ordered):
                return ordered
        return value

    def resolved(self, schema: Any) -> Mapping[str, Any]:
        """What a reference inside the schema leads to."""
        if not isinstance(schema, Mapping):
            return {}  # true: anything
        seen = set()
        while "$ref" in schema and schema["$ref"] not in seen:
            seen.add(schema["$ref"])
            found: Any = self.schema
            for part in schema["$ref"].removeprefix("#").strip("/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")] if part else found
            schema = found
        return dict(schema)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Unfit(f"the key '{key}' stands in it twice")
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise Unfit(f"{name} is no number of JSON")


def _absent(value: Any) -> bool:
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def _number(text: str, schema: Mapping[str, Any]) -> Any:
    """A number given as text, as tables have it; the text itself where it is none."""
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    return int(number) if number.is_integer() else text if schema["type"] == "integer" else number
