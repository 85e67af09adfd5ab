"""Azure's own ARM schemas as a strict check: objects are closed, of a union only the branch that was chosen counts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft4Validator

from .bicep import Unknown

SCALAR_RULES = ("type", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength")
EXPRESSION = "/definitions/expression"


class Schemas:
    """Those of what infra/ declares, cut out of the official ones by tools/arm_schemas.py."""

    def __init__(self) -> None:
        packed = Path(__file__).with_name("schemas.json.gz").read_bytes()
        self._files: dict[str, dict[str, Any]] = json.loads(gzip.decompress(packed))

    def covers(self, resource_type: str, api_version: str) -> bool:
        return self._definition(resource_type, api_version) is not None

    def faults(self, resource_type: str, api_version: str, body: dict[str, Any]) -> list[str]:
        definition = self._definition(resource_type, api_version)
        if definition is None:
            return [f"no schema for {resource_type} of {api_version}"]
        whole = {"type": resource_type, "apiVersion": api_version, **body}
        if ".*/" in json.dumps(definition["properties"].get("name", {})):
            whole["name"] = f"parent/{whole['name']}"  # Bicep names a child without its parent, ARM with it
        return list(_faults(self._file(resource_type, api_version), definition, whole, ""))

    def _definition(self, resource_type: str, api_version: str) -> dict[str, Any] | None:
        known: dict[str, Any] = self._file(resource_type, api_version).get("resourceDefinitions", {})
        wanted = [definition for definition in known.values() if resource_type in _enum(definition, "type")]
        return wanted[0] if wanted else None

    def _file(self, resource_type: str, api_version: str) -> dict[str, Any]:
        return self._files.get(f"{resource_type.split('/')[0]}/{api_version}", {})


def _faults(file: dict[str, Any], schema: dict[str, Any], value: Any, where: str) -> Iterator[str]:
    if isinstance(value, Unknown):
        return
    try:
        schema = _chosen(file, schema, value)
    except LookupError as missing:
        yield f"{where or '.'}: {missing.args[0]}"
        return
    rules = {rule: schema[rule] for rule in SCALAR_RULES if rule in schema}
    if "const" in schema:
        rules["enum"] = [schema["const"]]
    wrong = [f"{where or '.'}: {error.message}" for error in Draft4Validator(rules).iter_errors(value)]
    yield from wrong
    if wrong:
        return
    if isinstance(value, dict) and "properties" in schema:
        properties, others = schema["properties"], schema.get("additionalProperties")
        for key in schema.get("required", []):
            # The schemas ask for `properties` even where nothing in them is asked for; Azure does not.
            empty = key == "properties" and not list(_faults(file, properties[key], {}, where))
            if key not in value and not empty:
                yield f"{where}.{key}: required"
        for key, item in value.items():
            if key in properties or isinstance(others, dict):
                yield from _faults(file, properties.get(key, others), item, f"{where}.{key}")
            else:
                yield f"{where}.{key}: unknown property"
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _faults(file, schema["items"], item, f"{where}[{index}]")


def _chosen(file: dict[str, Any], schema: dict[str, Any], value: Any) -> dict[str, Any]:
    """The schema without references and unions: one plain object, array or scalar."""
    if "$ref" in schema:
        return _chosen(file, file["definitions"][schema["$ref"].rsplit("/", 1)[1]], value)
    if "allOf" in schema:
        parts = [_chosen(file, part, value) for part in schema["allOf"]]
        merged: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
        for part in parts:
            merged["properties"] |= part.get("properties", {})
            merged["required"] += part.get("required", [])
        return merged
    if "oneOf" in schema:
        options = [option for option in schema["oneOf"] if not option.get("$ref", "").endswith(EXPRESSION)]
        if len(options) > 1:
            options = [option for option in options if _discriminates(option, value)]
        if len(options) != 1:
            raise LookupError(f"{len(options)} branches of the union fit")
        return _chosen(file, options[0], value)
    return schema


def _discriminates(option: dict[str, Any], value: Any) -> bool:
    """Whether a branch of a union is the one that a value names by its discriminator."""
    constants = [
        (key, rule["const"])
        for part in option.get("allOf", [])
        for key, rule in part.get("properties", {}).items()
        if "const" in rule
    ]
    return bool(constants) and isinstance(value, dict) and all(value.get(key) == const for key, const in constants)


def _enum(definition: dict[str, Any], key: str) -> list[str]:
    values: list[str] = definition["properties"].get(key, {}).get("enum", [])
    return values
