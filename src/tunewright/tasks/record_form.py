"""The canonical form of a schema's JSON records, so that a model learns one form and answers can be compared.

Keys are in the schema's order, without spaces between them, and those that it does not name follow in the alphabet's.
Optional fields without a value are left out. Numbers have JSON's shortest form. Texts are in NFC, and a run of white
space in them becomes one space.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import chain, repeat
from typing import Any

from tunewright.config import checking
from tunewright.config.json_schema import closed, require_bounded, target, transformed
from tunewright.config.patterns import is_found
from tunewright.core.errors import shortened
from tunewright.core.limits import RECORD_BYTES
from tunewright.core.strict_json import JSON_FAULTS, StrictJson, described
from tunewright.tasks.base import Unfit
from tunewright.tasks.normal import as_in_records

_BRANCHES = ("anyOf", "oneOf")
_FIELDS = {"type", "title", "description", "properties", "required", "additionalProperties"}
"""The keywords of an object that nothing but its fields describes."""
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_SHOWN = 300
"""Characters of an error that a message shows; the error may hold the whole record."""


class RecordForm:
    """The records of a JSON Schema whose root is an object.

    If the schema names the fields of an object and does not say whether there may be others, there may not, because
    nothing would say what to read into them. An object whose fields it does not name keeps all that an answer has.
    The values that it offers (`enum`, `const`) are in canonical form, too.

    Args:
        schema: a JSON Schema, draft 2020-12, with its references inside.

    Raises:
        UserError: validating records against it would take too long; see `require_bounded`.
    """

    def __init__(self, schema: Mapping[str, Any]):
        require_bounded(schema)
        self.schema: dict[str, Any] = transformed(closed(schema), _in_form)

    def canonical(self, text: str) -> str:
        """A record given as JSON, in canonical form.

        Raises:
            Unfit: it is not JSON, repeats a key, does not fit the schema, or is too large to be checked.
        """
        return self.written(json_value(text))

    def written(self, value: Any) -> str:
        """A record given as plain values, in canonical form.

        Raises:
            Unfit: it does not fit the schema, or is too large to be checked.
        """
        try:
            checking.begin()
            ordered = self._ordered(value, self.schema)
            for error in self._validator.iter_errors(ordered):
                place = ".".join(str(part) for part in error.absolute_path)
                raise Unfit(f"{place[:_SHOWN] or 'the record'}: {shortened(error.message, _SHOWN)}")
            text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            text.encode()
        except Unfit:
            raise
        except checking.TooManySteps as error:
            raise Unfit(str(error)) from None
        except RecursionError:
            raise Unfit("its values are nested too deeply") from None
        except UnicodeEncodeError:
            raise Unfit("it contains a lone surrogate, which is not a character") from None
        except (ValueError, OverflowError):
            raise Unfit("a number in it is too large") from None
        return text

    def fitting_part(self, text: str) -> str:
        """The fields of a JSON record that have a value and fit the schema, in canonical form. Required ones may be
        missing, and of a text that is no JSON object nothing is left."""
        try:
            value = json_value(text)
        except Unfit:
            value = {}
        fields = value if isinstance(value, Mapping) else {}
        parts = [
            written
            for name, part in self.schema["properties"].items()
            if not is_absent(fields.get(name)) and (written := self._field(name, fields[name], part))
        ]
        return f"{{{','.join(parts)}}}"

    def unknown(self, value: Mapping[str, Any]) -> str | None:
        """The first field of an object that no record has; None if there is none.

        Raises:
            Unfit: it is too large to be checked.
        """
        known = self.schema.get("properties", {})
        try:
            checking.begin()
            return next((name for name in value if name not in known and _unnamed(name, self.schema) is False), None)
        except checking.TooManySteps as error:
            raise Unfit(str(error)) from None

    def _field(self, name: str, value: Any, part: Any) -> str:
        """A field and its value in canonical form; empty if the value does not fit the field's part of the schema."""
        ordered = self.ordered(value, part)
        if not self.fits(ordered, part):
            return ""
        try:
            text = json.dumps({name: ordered}, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            text.encode()
        except (ValueError, RecursionError):
            return ""
        return text[1:-1]

    @cached_property
    def shapes(self) -> Counter[tuple[str, str]]:
        """How many forms the schema gives the value at each path, as an "object" of named fields and as an "array".

        Paths are names joined by points. There are none below a list.
        """
        return Counter(self._shapes(self.schema, ""))

    def _shapes(self, schema: Any, path: str) -> Iterator[tuple[str, str]]:
        schema = self._whole(schema)
        if "array" in kinds_of(schema) or "items" in schema:
            yield path, "array"
        if "properties" in schema:
            yield path, "object"
        for branch in chain.from_iterable(schema.get(key, ()) for key in _BRANCHES):
            yield from self._shapes(branch, path)
        for name, part in schema.get("properties", {}).items():
            yield from self._shapes(part, f"{path}.{name}" if path else name)

    @cached_property
    def apart(self) -> frozenset[str]:
        """The paths of the objects whose fields windows of a text may have apart: nothing but fields describes them,
        and they stand in every record or require none, so that a record which lacks some of them can be completed.

        There are none below a list.
        """
        return frozenset(self._apart(self.schema, ""))

    def _apart(self, schema: Mapping[str, Any], above: str) -> Iterator[str]:
        for name, each in schema.get("properties", {}).items():
            part = self.resolved(each)
            can_be_whole = name in schema.get("required", ()) or not part.get("required")
            if "properties" in part and part.get("type") == "object" and not part.keys() - _FIELDS and can_be_whole:
                yield f"{above}{name}"
                yield from self._apart(part, f"{above}{name}.")

    @cached_property
    def _validator(self) -> Any:
        return checking.checker(self.schema)

    def fits(self, value: Any, schema: Any) -> bool:
        """Whether a value fits a part of the schema. A value that takes too many steps to check does not."""
        checking.begin()
        try:
            return bool(self._validator.evolve(schema=schema).is_valid(value))
        except (checking.TooManySteps, RecursionError, OverflowError):
            return False

    def ordered(self, value: Any, schema: Any) -> Any:
        """A value in the canonical form of its part of the schema, as far as it fits."""
        checking.begin()
        try:
            return self._ordered(value, schema)
        except (checking.TooManySteps, RecursionError):
            return value

    def _ordered(self, value: Any, schema: Any) -> Any:
        checking.count()
        schema = self._whole(schema)
        for key in _BRANCHES:
            if key in schema:
                beside = {name: part for name, part in schema.items() if name not in (key, "type")}
                return self._of_branches(value, schema[key], beside)
        if isinstance(value, Mapping):
            return self._object(value, schema)
        if isinstance(value, list):
            first = schema.get("prefixItems", [])
            parts = chain(first, repeat(schema.get("items", {})))
            return [self._ordered(item, part) for item, part in zip(value, parts, strict=False)]
        if isinstance(value, str):
            text = as_in_records(value)
            kinds = kinds_of(schema)
            return _number(text, kinds) if "string" not in kinds and kinds & {"number", "integer"} else text
        if isinstance(value, float) and value.is_integer() and math.isfinite(value):
            return int(value)
        return value

    def _object(self, value: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
        known, required = schema.get("properties", {}), schema.get("required", ())
        ordered = {
            name: self._ordered(value[name], part)
            for name, part in known.items()
            if name in value and (name in required or not is_absent(value[name]))
        }
        # The grammar begins with the required ones.
        for name in dict.fromkeys((*required, *sorted(value))):
            if name in value and name not in known and (part := _unnamed(name, schema)) is not False:
                ordered[name] = self._ordered(value[name], part)
        return ordered

    def _of_branches(self, value: Any, branches: list[Any], beside: Mapping[str, Any]) -> Any:
        """The value in the form of the first branch that it fits; unchanged if it fits none.

        Args:
            beside: the schema without these branches and its type, which theirs narrow. It may describe the fields that
                a branch requires.
        """
        for branch in branches:
            ordered = self._ordered(value, _joined(beside, self._whole(branch)))
            # A branch may require a field that the schema beside it allows only with a value.
            if all(self._validator.evolve(schema=each).is_valid(ordered) for each in (branch, beside)):
                return ordered
        return value

    def _whole(self, schema: Any) -> dict[str, Any]:
        """A part of the schema with its reference and the branches of `allOf` put in, as far as a value's form depends
        on them."""
        whole = self.resolved(schema)
        for branch in whole.pop("allOf", ()):
            whole = _joined(whole, self._whole(branch))
        return whole

    def resolved(self, schema: Any) -> dict[str, Any]:
        """The schema itself, or the target of its reference."""
        if not isinstance(schema, Mapping):
            return {}  # true: anything
        seen = set()
        while "$ref" in schema and schema["$ref"] not in seen:
            seen.add(schema["$ref"])
            referred = target(self.schema, schema["$ref"])
            if not isinstance(referred, Mapping):
                return {}
            schema = referred
        return dict(schema)


def json_value(text: str) -> Any:
    """The JSON value of an answer.

    Raises:
        Unfit: it is not JSON, repeats a key, or is too large to be checked.
    """
    if len(text) > RECORD_BYTES:
        raise Unfit(f"it is longer than {RECORD_BYTES:,} characters")
    try:
        value, _ = StrictJson(keys_once=True).read(text)
    except json.JSONDecodeError as error:
        raise Unfit(f"it is not JSON: {error.msg} at character {error.pos}") from None
    except JSON_FAULTS as error:
        raise Unfit(described(error, "it", "").reason.strip().rstrip(".")) from None
    return value


def left_out(answer: str, canonical: str) -> Iterator[str]:
    """The paths of fields with a value that a record's canonical form lacks, because the schema has no such field.

    Args:
        answer: the record as JSON.
        canonical: the same in canonical form.
    """
    yield from _left_out(json_value(answer), json.loads(canonical), "")


def _left_out(value: Any, kept: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping) and isinstance(kept, Mapping):
        for name, each in value.items():
            if name in kept:
                yield from _left_out(each, kept[name], f"{path}{name}.")
            elif not is_absent(each):
                yield path + name
    elif isinstance(value, list) and isinstance(kept, list):
        for each, item in zip(value, kept, strict=True):
            yield from _left_out(each, item, path)


def is_absent(value: Any) -> bool:
    """Whether a value says that there is none: `null`, an empty list, or a text without a letter or sign."""
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def _in_form(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a schema with the values that it offers in the form of a record's, each once."""
    if isinstance(offered := part.get("enum"), list):
        part["enum"] = list({json.dumps(value): value for value in map(_offered, offered)}.values())
    if "const" in part:
        part["const"] = _offered(part["const"])
    return part


def _offered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _offered(each) for name, each in value.items()}
    if isinstance(value, list):
        return list(map(_offered, value))
    return as_in_records(value) if isinstance(value, str) else value


def _joined(schema: Mapping[str, Any], branch: Mapping[str, Any]) -> dict[str, Any]:
    """What a schema and one of its branches say together about a value's form. At most one of them names fields;
    `tunewright.config.record_schema` checks that."""
    joined = {**branch, **schema}
    if required := [*schema.get("required", ()), *branch.get("required", ())]:
        joined["required"] = required
    if branch.get("additionalProperties") is False:
        joined["additionalProperties"] = False
    return joined


def _unnamed(name: str, schema: Mapping[str, Any]) -> Any:
    """The schema of a key that an object's `properties` do not name; False if there is no such key."""
    for pattern, part in schema.get("patternProperties", {}).items():
        checking.count()
        if is_found(pattern, name):
            return part
    return schema.get("additionalProperties", True)


def kinds_of(schema: Mapping[str, Any]) -> set[str]:
    """The types that a schema names: one, or a list of them."""
    kinds = schema.get("type", ())
    return {kinds} if isinstance(kinds, str) else set(kinds)


def _number(text: str, kinds: set[str]) -> Any:
    """A number given as text, as in tables; the text unchanged if it is not a number of these types."""
    if "_" in text:  # Python reads it, JSON does not
        return text
    try:
        if _WHOLE.fullmatch(text):
            return int(text)  # of a float with so many digits the last ones would be lost
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    return int(number) if number.is_integer() else number if "number" in kinds else text
