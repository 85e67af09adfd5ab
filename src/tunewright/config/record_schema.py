"""The JSON Schema of `task.schema`, which may be the schema itself, a file, or a Pydantic model by its import path."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from tunewright.config.checking import schema_fault
from tunewright.config.json_schema import closed, parts, require_bounded, target
from tunewright.config.literal import require_literal
from tunewright.core.errors import UserError, shortened
from tunewright.core.limits import SCHEMA_BYTES
from tunewright.core.regular import read_bytes
from tunewright.core.strict_json import JSON_FAULTS, StrictJson, described

_FIX = "Give task.schema as a mapping, a .json file, or a Pydantic model's place such as my_package.models:Invoice."


def record_schema(named: str | Mapping[str, Any], folder: Path, *, allow_code: bool = False) -> dict[str, Any]:
    """The schema of an `extract` task.

    Args:
        named: the schema; the path of a JSON file, relative to `folder`; or `module:Model`, which may be in `folder`.
        allow_code: import such a module, which runs its code.

    Raises:
        UserError: the schema can't be found or read, does not describe an object with named fields, or needs code
            that is not allowed.
    """
    if isinstance(named, Mapping):
        schema, where = dict(named), "task.schema"
    else:
        schema = _of_model(named, folder, allow_code) if _is_import(named) else _of_file(folder / named)
        where = f"task.schema = {named}"
    _check(schema, where)
    require_one_place(schema, where)
    require_expressible(schema, where)
    return schema


def require_one_place(schema: Mapping[str, Any], where: str) -> None:
    """Refuse a schema that describes the fields of one object in several places, such as the branches of `allOf`.
    Each place would refuse the fields of the others, and none would give their order.

    Args:
        schema: a valid and bounded one (`tunewright.config.json_schema.require_bounded`).

    Raises:
        UserError: names the places.
    """

    if places := _Places(schema).several(schema):
        named = " and ".join(dict.fromkeys(places))
        raise UserError(
            f"The schema describes the fields of one object in several places: {named}.",
            where=where,
            why="Each of them refuses the fields that only the others name.",
            fix="Write all fields of that object into one `properties`, without allOf. If it is one of several "
            "objects, write each branch of anyOf with all of its fields, and none beside them.",
        )


class _Places:
    """Looks for the places of a schema that say which fields an object has, its references put in.

    Args:
        whole: a bounded schema.
    """

    def __init__(self, whole: Mapping[str, Any]):
        self._whole = whole
        self._naming: dict[int, bool] = {}
        self._seen: set[int] = set()

    def several(self, part: Any) -> list[str]:
        """The keywords of the places of the first object in a part that has several; empty if there is none."""
        if not isinstance(part, Mapping) or id(part) in self._seen:
            return []
        self._seen.add(id(part))
        places = list(self._of(part))
        inner = chain(parts(part), self._referred(part))
        return places if len(places) > 1 else next(filter(None, map(self.several, inner)), [])

    def _of(self, part: Mapping[str, Any]) -> Iterator[str]:
        """The keywords of the places in a part that speak of one value and name its fields."""
        own = [key for key in ("properties", "patternProperties") if key in part]
        yield from [*own, *(["additionalProperties"] if part.get("additionalProperties") is False else [])][:1]
        yield from ("$ref" for each in self._referred(part) if self._names(each))
        yield from ("allOf" for each in part.get("allOf", ()) if self._names(each))
        yield from (key for key in ("anyOf", "oneOf") if any(map(self._names, part.get(key, ()))))

    def _names(self, part: Any) -> bool:
        if not isinstance(part, Mapping):
            return False
        if id(part) not in self._naming:
            self._naming[id(part)] = any(self._of(part))
        return self._naming[id(part)]

    def _referred(self, part: Mapping[str, Any]) -> list[Any]:
        return [target(self._whole, part["$ref"])] if "$ref" in part else []


def require_expressible(schema: Mapping[str, Any], where: str) -> None:
    """Refuse a schema that a grammar can't express, because answers could not be confined to it. Its objects refuse
    unknown keys there, as `closed` says.

    Raises:
        UserError: the schema has such features; the error names them.
    """
    from llguidance import LLMatcher

    grammar = LLMatcher.grammar_from_json_schema(json.dumps(closed(schema)))
    refused, warnings = LLMatcher.validate_grammar_with_warnings(grammar, None)
    if refused or warnings:
        raise UserError(
            f"Answers can't be confined to this schema: {'; '.join(' '.join(text.split()) for text in warnings)}.",
            where=where,
            fix="Remove that from the schema, and check the answers for it afterwards.",
        )


def _is_import(named: str) -> bool:
    return ":" in named and not named.endswith(".json")


def json_of_file(file: Path, what: str, fix: str) -> Any:
    """The JSON value in a file that a spec names.

    Args:
        what: names its content in errors.

    Raises:
        UserError: it can't be found or read, or is not JSON.
    """
    try:
        text = read_bytes(file, SCHEMA_BYTES, fix).decode("utf-8-sig")
        value, _ = StrictJson(keys_once=True).read(text)
    except FileNotFoundError:
        raise UserError(f"There is no such {what} file.", where=file, fix=fix) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"The {what} is not JSON: {error}.", where=file, fix=fix) from None
    except JSON_FAULTS as error:
        raise UserError(described(error, f"The {what}", "").reason, where=file, fix=f"Fix the {what}.") from None
    return value


def _of_file(file: Path) -> dict[str, Any]:
    schema = json_of_file(file, "schema", _FIX)
    if not isinstance(schema, dict):
        raise UserError("The schema is not a JSON object.", where=file, fix=_FIX)
    return schema


def _of_model(named: str, folder: Path, allow_code: bool) -> dict[str, Any]:
    from pydantic import BaseModel

    if not allow_code:
        raise UserError(
            f"The spec names code to run: {shortened(named, 100)}.",
            where="task.schema",
            why="Importing the module runs its code with your rights.",
            fix="If you trust it, add --allow-code to the command (in Python: load_spec(…, allow_code=True)). Else "
            "name a .json file with the model's schema: json.dumps(Model.model_json_schema()).",
        )
    module, _, name = named.partition(":")
    sys.path.insert(0, str(folder))
    try:
        model = getattr(importlib.import_module(module), name)
    except Exception as error:  # noqa: BLE001 (whatever the user's module raises)
        raise UserError(
            f"{named} can't be imported: {type(error).__name__}: {error}.", where="task.schema", fix=_FIX
        ) from None
    finally:
        sys.path.remove(str(folder))
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise UserError(f"{named} is not a Pydantic model.", where="task.schema", fix=_FIX)
    return model.model_json_schema()


def _check(schema: Mapping[str, Any], where: str) -> None:
    require_bounded(schema, where)
    if fault := schema_fault(schema):
        place, reason = fault
        raise UserError(f"{place or 'The schema'}: {shortened(reason, 300)}.", where=where, fix="Fix the schema.")
    require_literal(schema, where)
    if schema.get("type") != "object" or not schema.get("properties"):
        raise UserError(
            "The schema does not describe an object with named fields.",
            where=where,
            fix='Begin it with {"type": "object", "properties": {…}}, and put a list into a field.',
        )
