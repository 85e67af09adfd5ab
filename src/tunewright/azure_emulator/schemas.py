"""Checks request bodies strictly against the official ARM schemas: no unknown key, and the right branch of each union.

`arm_schemas/` has the schemas of what Tunewright sends. tools/arm_schemas.py cuts them out of
Azure/azure-resource-manager-schemas.
"""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

_TOLERATED = re.compile(r"hash_version|egressPublicNetworkAccess|frequency")
"""Matches errors about which Azure itself is less strict than its schemas."""
_LIMIT = 3
"""The most violations that are reported of one body."""


def complaints(path: str, version: str, body: dict[str, Any]) -> list[str]:
    """The violations of the schemas in a body that is put. Kinds and api-versions without a schema pass."""
    provider, kind = _kind(path)
    validator = _validator(provider, version, kind)
    if validator is None:
        return []
    after = path.split("/providers/")[-1].split("/")
    sent = {"name": after[-1], "type": "/".join([after[0], *after[1::2]]), "apiVersion": version} | _without_nulls(body)
    errors = [
        error for error in validator.iter_errors(sent) if not _TOLERATED.search(f"{error.json_path} {error.message}")
    ]
    return [f"{after[-2]}/{after[-1]} ({version}) {error.json_path}: {_cause(error)}" for error in errors[:_LIMIT]]


def is_covered(path: str, version: str) -> bool:
    """Whether there is a schema for the resource at a path."""
    provider, kind = _kind(path)
    return _resource(provider, version, kind) is not None


@cache
def official() -> dict[str, dict[str, Any]]:
    """The schemas by `<provider>/<api-version>`, as published, except for the parts that were cut."""
    packed = (files("tunewright.azure_emulator") / "arm_schemas" / "schemas.json.gz").read_bytes()
    return dict(json.loads(gzip.decompress(packed)))


def _kind(path: str) -> tuple[str, str]:
    """(the provider, the kind of resource as the schemas name it) of a path in Resource Manager."""
    after = path.split("/providers/")[-1].split("/")
    return after[0], "_".join(after[1::2])


def _resource(provider: str, version: str, kind: str) -> dict[str, Any] | None:
    known: dict[str, Any] = official().get(f"{provider}/{version}", {}).get("resourceDefinitions", {})
    return {name.lower(): each for name, each in known.items()}.get(kind.lower())


def _cause(error: Any) -> str:
    """The innermost cause of a validation error, in words."""
    deepest = error
    while deepest.context:
        deepest = max(deepest.context, key=lambda each: len(each.absolute_path))
    return f"{deepest.json_path}: {deepest.message[:200]}"


@cache
def _validator(provider: str, version: str, kind: str) -> Any:
    from jsonschema import Draft7Validator

    resource = _resource(provider, version, kind)
    if resource is None:
        return None
    published = official()[f"{provider}/{version}"]["definitions"]
    definitions = {name: _closed(each, published) for name, each in published.items()}
    return Draft7Validator(_closed(resource, published) | {"definitions": definitions})


def _closed(node: Any, definitions: dict[str, Any]) -> Any:
    """A schema whose objects allow only their own keys, and no template expressions, which ARM allows everywhere."""
    if isinstance(node, list):
        return [_closed(each, definitions) for each in node if not _is_expression(each)]
    if not isinstance(node, dict):
        return node
    if _is_union(node):
        return _flattened(node["allOf"], definitions)
    closed = {key: _closed(value, definitions) for key, value in node.items() if key not in ("$schema", "id")}
    if closed.get("properties") and closed.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def _is_expression(node: Any) -> bool:
    return isinstance(node, dict) and str(node.get("$ref", "")).endswith(
        "common/definitions.json#/definitions/expression"
    )


def _is_union(node: dict[str, Any]) -> bool:
    """Whether a schema has common properties, and a branch for each value of one of them."""
    parts = node.get("allOf")
    return isinstance(parts, list) and len(parts) == 2 and "oneOf" in parts[1] and "allOf" in parts[1]["oneOf"][0]


def _flattened(parts: list[dict[str, Any]], definitions: dict[str, Any]) -> dict[str, Any]:
    """A union as a choice by the value that distinguishes its branches, each closed and with the common properties."""
    common, branches = parts[0], parts[1]["oneOf"]
    choice: dict[str, Any] = {"type": "object", "required": common.get("required", []), "allOf": []}
    for branch in branches:
        own = definitions[branch["allOf"][0]["$ref"].rpartition("/")[2]]
        key, mark = next(iter(branch["allOf"][1]["properties"].items()))
        whole = {
            "type": "object",
            "properties": common["properties"] | own.get("properties", {}) | {key: mark},
            "required": sorted({*common.get("required", []), *own.get("required", [])}),
            "additionalProperties": False,
        }
        choice["allOf"].append(
            {"if": {"properties": {key: mark}, "required": [key]}, "then": _closed(whole, definitions)}
        )
        choice["properties"] = {key: common["properties"][key]}
    return choice


def _without_nulls(value: Any) -> Any:
    """A body without its nulls, which ARM treats as absent."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
