"""The fields of a record that an encoder can fill: pieces of the text, or one of a few values that the schema
offers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.core.errors import UserError
from tunewright.tasks.record_form import RecordForm

_BRANCHES = ("anyOf", "oneOf")
_FIX = "Choose a model that writes: tunewright models ls"
_WORDS = ("word", "Word", "WORD", "two words", "Two Words", "TWO WORDS")
_UNKNOWN = ("allOf", "not", "if", "patternProperties", "prefixItems")


@dataclass(frozen=True)
class Field:
    """A field of a record: one value, or a list of values.

    A value is a piece of the text, unless the schema offers `choices`.
    """

    path: str
    """Names joined by points, as in `tunewright.tasks.measures.leaves`."""
    form: RecordForm
    schemas: tuple[Mapping[str, Any], ...]
    """The possible schemas of one value."""
    single: bool
    """Whether it may be one value."""
    listed: bool
    """Whether it may be a list of values. If it may be both, several values make a list."""
    required: bool
    """Whether every record has it, if only as null where it is `nullable`."""
    nullable: bool = False
    choices: tuple[Any, ...] = ()
    """The values of an enum or a boolean, in the schema's order."""

    @property
    def leaf(self) -> str:
        """The path of its values if it holds a list."""
        return f"{self.path}[]"

    @property
    def holds_words(self) -> bool:
        """Whether words may be its value, and not only numbers, dates or codes."""
        return any(self.fit(words) is not None for words in _WORDS)

    def fit(self, text: str) -> Any:
        """The value that a text stands for; None if it is not a value of this field."""
        return next((value for value in self._fitting(text) if value not in ("", None)), None)

    def _fitting(self, text: str) -> Iterator[Any]:
        for schema in self.schemas:
            value = self.form.ordered(text, schema)
            if self.form.fits(value, schema):
                yield value

    def among(self, record: Mapping[str, Any]) -> list[Any]:
        """Its values in a record."""
        content = self._content(record)
        values = content if isinstance(content, list) else [content]
        return [value for value in values if value is not None and value != ""]

    def exchange(self, record: dict[str, Any], value: Any, other: Any) -> None:
        """Put another value in the place of a value that a record has; of equal ones in a list the first."""
        content = self._content(record)
        if isinstance(content, list):
            content[content.index(value)] = other
        else:
            self.put(record, other)

    def _content(self, record: Mapping[str, Any]) -> Any:
        content: Any = record
        for name in self.path.split("."):
            content = content.get(name) if isinstance(content, Mapping) else None
        return content

    def put(self, record: dict[str, Any], value: Any) -> None:
        """Put a value into a record, creating the objects around it."""
        *above, name = self.path.split(".")
        for part in above:
            record = record.setdefault(part, {})
        record[name] = value


def fields_of(form: RecordForm) -> list[Field]:
    """The fields of a schema, in its order.

    Raises:
        UserError: an encoder can't fill some field.
    """
    return list(_fields(form, form.schema, "", required=True))


def _fields(form: RecordForm, schema: Mapping[str, Any], path: str, *, required: bool) -> Iterator[Field]:
    needed = schema.get("required", ())
    for name, part in schema.get("properties", {}).items():
        if "." in name:
            raise _refused(name, "its name has a point in it, which separates the names of nested fields")
        yield from _field(form, part, f"{path}.{name}" if path else name, required=required and name in needed)


def _field(form: RecordForm, schema: Any, path: str, *, required: bool) -> Iterator[Field]:
    parts = list(_alternatives(form, schema, path))
    nullable = any(_is(part, "null") or None in (_offered(part) or ()) for part in parts)
    parts = [part for part in parts if not _is(part, "null")]
    if len(parts) == 1 and "properties" in parts[0]:
        yield from _fields(form, parts[0], path, required=required and not nullable)
        return
    lists = [part for part in parts if _is(part, "array") or "items" in part]
    single = [part for part in parts if part not in lists]
    items = [inner for part in lists for inner in _alternatives(form, part.get("items", {}), path)]
    for part in (*single, *items):
        if _is(part, "object") or "properties" in part:
            raise _refused(
                path,
                "it is a list of objects, and tags don't say which values belong together"
                if part in items
                else "it is an object or something else",
            )
        if _is(part, "array") or "items" in part:
            raise _refused(path, "it is a list of lists")
    choices = _choices(single)
    if choices is None and lists and any(_offered(part) is not None for part in (*single, *items)):
        raise _refused(path, "it is a list of values that the schema offers")
    if choices is not None and (lists or len(choices) == 0):
        raise _refused(path, "it is one of the values that the schema offers, or something else")
    unique = tuple({repr(part): part for part in (*single, *items)}.values())
    yield Field(path, form, unique, bool(single), bool(lists), required, nullable, choices or ())


def _alternatives(form: RecordForm, schema: Any, path: str) -> Iterator[Mapping[str, Any]]:
    schema = form.resolved(schema)
    if odd := next((key for key in _UNKNOWN if key in schema), None):
        raise _refused(path, f"its schema has '{odd}'")
    for key in _BRANCHES:
        if key in schema:
            for branch in schema[key]:
                yield from _alternatives(form, branch, path)
            return
    if isinstance(schema.get("type"), list):
        for kind in schema["type"]:
            yield {**schema, "type": kind}
        return
    yield schema


def _is(schema: Mapping[str, Any], kind: str) -> bool:
    return schema.get("type") == kind


def _offered(schema: Mapping[str, Any]) -> list[Any] | None:
    """The values that a schema offers; None if it offers none."""
    if "const" in schema:
        return [schema["const"]]
    if "enum" in schema:
        return list(schema["enum"])
    return [False, True] if _is(schema, "boolean") else None


def _choices(parts: list[Mapping[str, Any]]) -> tuple[Any, ...] | None:
    """All values of a field whose schema offers them; None if the values come from the text."""
    offered = [_offered(part) for part in parts]
    if not offered or any(values is None for values in offered):
        return None
    return tuple(value for values in offered for value in values or () if value is not None)


def _refused(path: str, why: str) -> UserError:
    return UserError(
        f"An encoder can't fill in the field {path}: {why}.",
        where="task.schema",
        why="An encoder marks pieces of the text, or chooses among values that the schema offers.",
        fix=_FIX,
    )
