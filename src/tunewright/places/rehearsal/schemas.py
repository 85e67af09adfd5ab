"""The official ARM schemas as a strict check of what is sent: no key they don't know, each union's own branch."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

_OURS = "Microsoft.MachineLearningServices"
_TOLERATED = re.compile(r"hash_version|egressPublicNetworkAccess|frequency")
"""Where Azure itself is less strict than its schemas."""
_LIMIT = 3
"""Complaints about one body, at most."""


def checker(folder: Path) -> Callable[[str, str, dict[str, Any]], list[str]]:
    """A check of bodies that are put: (path, api-version, body) -> complaints. Types without a schema pass."""

    def complaints(path: str, version: str, body: dict[str, Any]) -> list[str]:
        after = path.split("/providers/")[-1].split("/")
        validator = _validator(folder, after[0], version, "_".join(after[1::2]))
        if validator is None:
            return []
        sent = {"name": after[-1], "type": "/".join([after[0], *after[1::2]]), "apiVersion": version} | _without_nulls(
            body
        )
        found = [
            error
            for error in validator.iter_errors(sent)
            if not _TOLERATED.search(f"{error.json_path} {error.message}")
        ]
        return [f"{after[-2]}/{after[-1]} ({version}) {error.json_path}: {_said(error)}" for error in found[:_LIMIT]]

    return complaints


def _said(error: Any) -> str:
    deepest = error
    while deepest.context:
        deepest = max(deepest.context, key=lambda each: len(each.absolute_path))
    return f"{deepest.json_path}: {deepest.message[:200]}"


@cache
def _validator(folder: Path, provider: str, version: str, kind: str) -> Any:
    from jsonschema import Draft7Validator

    file = folder / f"{'App-' if provider == 'Microsoft.App' else ''}{version}.json.gz"
    if not file.is_file():
        return None
    schema = json.loads(gzip.decompress(file.read_bytes()))
    resource = {name.lower(): each for name, each in schema.get("resourceDefinitions", {}).items()}.get(kind.lower())
    if resource is None:
        return None
    definitions = {name: _closed(each, schema["definitions"]) for name, each in schema["definitions"].items()}
    return Draft7Validator(_closed(resource, schema["definitions"]) | {"definitions": definitions})


def _closed(node: Any, definitions: dict[str, Any]) -> Any:
    """A schema whose objects allow no keys but their own, without the template expressions that may stand anywhere."""
    if isinstance(node, list):
        return [_closed(each, definitions) for each in node if not _is_expression(each)]
    if not isinstance(node, dict):
        return node
    if _is_union(node):
        return _flattened(node["allOf"], definitions)
    made = {key: _closed(value, definitions) for key, value in node.items() if key not in ("$schema", "id")}
    if made.get("properties") and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


def _is_expression(node: Any) -> bool:
    return isinstance(node, dict) and str(node.get("$ref", "")).endswith(
        "common/definitions.json#/definitions/expression"
    )


def _is_union(node: dict[str, Any]) -> bool:
    """Whether it is common properties and a branch for each value of one of them."""
    parts = node.get("allOf")
    return isinstance(parts, list) and len(parts) == 2 and "oneOf" in parts[1] and "allOf" in parts[1]["oneOf"][0]


def _flattened(parts: list[dict[str, Any]], definitions: dict[str, Any]) -> dict[str, Any]:
    """A union as a choice by the value that tells its branches apart, each with the common properties and closed."""
    common, branches = parts[0], parts[1]["oneOf"]
    made: dict[str, Any] = {"type": "object", "required": common.get("required", []), "allOf": []}
    for branch in branches:
        own = definitions[branch["allOf"][0]["$ref"].rpartition("/")[2]]
        key, mark = next(iter(branch["allOf"][1]["properties"].items()))
        whole = {
            "type": "object",
            "properties": common["properties"] | own.get("properties", {}) | {key: mark},
            "required": sorted({*common.get("required", []), *own.get("required", [])}),
            "additionalProperties": False,
        }
        made["allOf"].append(
            {"if": {"properties": {key: mark}, "required": [key]}, "then": _closed(whole, definitions)}
        )
        made["properties"] = {key: common["properties"][key]}
    return made


def _without_nulls(value: Any) -> Any:
    """A body without its nulls, which ARM takes for absent."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
