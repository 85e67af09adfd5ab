"""Where an extract task's schema comes from, and which schemas are refused before anything is run."""

from __future__ import annotations

import ast
import datetime
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, spec_data, tunewright
from tunewright.config import load_money, load_spec
from tunewright.config.literal import literal_fields
from tunewright.config.record_schema import record_schema
from tunewright.core.errors import UserError

SCHEMA = {"type": "object", "properties": {"vendor": {"type": "string"}}, "required": ["vendor"]}


def test_a_schema_a_file_and_a_model_are_read_alike(tmp_path: Path) -> None:
    (tmp_path / "invoice.json").write_text(json.dumps(SCHEMA), "utf-8")
    (tmp_path / "invoice_models.py").write_text(
        "from pydantic import BaseModel\nclass Invoice(BaseModel):\n    vendor: str\n", "utf-8"
    )
    assert record_schema(SCHEMA, tmp_path) == SCHEMA
    assert record_schema("invoice.json", tmp_path) == SCHEMA
    found = record_schema("invoice_models:Invoice", tmp_path, allow_code=True)
    assert list(found["properties"]) == found["required"] == ["vendor"]


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("absent.json", "There is no such schema file"),
        ("broken.json", "The schema is not JSON"),
        ("list.json", "The schema is not a JSON object"),
        ("absent_module:Invoice", "can't be imported: ModuleNotFoundError"),
        ("json:loads", "is not a Pydantic model"),
        ({"type": "array", "items": {}}, "does not describe an object with named fields"),
        ({"type": "object"}, "does not describe an object with named fields"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, r"properties\.a\.type: 'text' is not valid"),
    ],
)
def test_what_is_no_schema_is_refused(named: Any, reason: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{", "utf-8")
    (tmp_path / "list.json").write_text("[]", "utf-8")
    with pytest.raises(UserError, match=reason):
        record_schema(named, tmp_path, allow_code=True)


@pytest.mark.slow
def test_a_spec_runs_code_only_where_that_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "their_models.py").write_text(
        "import pathlib\nfrom pydantic import BaseModel\npathlib.Path('ran').touch()\n"
        "class Invoice(BaseModel):\n    vendor: str\n",
        "utf-8",
    )
    task = {"kind": "extract", "instruction": "Read: {fields}", "schema": "their_models:Invoice"}
    (tmp_path / "tunewright.yaml").write_text(json.dumps(spec_data(task=task)), "utf-8")
    for read in (lambda: load_spec(tmp_path), lambda: load_money(tmp_path).job()):
        with pytest.raises(
            UserError, match=r"names code to run: their_models:Invoice\. .*--allow-code.*allow_code=True"
        ):
            read()
    refused = tunewright("spec", "show", str(tmp_path), cwd=tmp_path)
    assert refused.returncode == 2
    assert "--allow-code" in refused.stderr
    assert not (tmp_path / "ran").exists()
    allowed = tunewright("spec", "show", str(tmp_path), "--allow-code", cwd=tmp_path)
    assert json.loads(allowed.stdout)["task"]["schema"]["required"] == ["vendor"], allowed.stderr
    assert load_money(tmp_path, allow_code=True).job().task == load_spec(tmp_path, allow_code=True).task


def test_every_command_that_reads_a_spec_can_allow_code() -> None:
    calls = []
    for file in (REPOSITORY / "src" / "tunewright" / "cli").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("load_spec", "load_money"):
                calls.append(
                    (file.name, [ast.unparse(each.value) for each in node.keywords if each.arg == "allow_code"])
                )
    assert len(calls) > 20
    assert not [each for each in calls if each[1] != ["allow_code"]]


@pytest.mark.parametrize(
    ("part", "feature"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"not": {"const": "x"}}, "not"),
        ({"type": "string", "format": "iban"}, "iban"),
        ({"type": "string", "pattern": r"\ba"}, "lookarounds"),
    ],
)
def test_a_feature_that_no_grammar_can_express_is_named(part: dict[str, Any], feature: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"can't be confined to this schema: .*{feature}"):
        record_schema({"type": "object", "properties": {"a": part}}, tmp_path)


A, B = ({"type": "object", "properties": {name: {"type": "string"}}} for name in "ab")
NEEDS = {"required": ["a"]}


@pytest.mark.parametrize(
    ("part", "places"),
    [
        ({"allOf": [{"$ref": "#/$defs/a"}, B]}, "allOf"),
        ({"type": "object", "allOf": [A, {"anyOf": [B, {"type": "null"}]}]}, "allOf"),
        ({**A, "allOf": [B]}, "properties and allOf"),
        ({**A, "anyOf": [B, NEEDS]}, "properties and anyOf"),
        ({"anyOf": [A, B], "oneOf": [A, B]}, "anyOf and oneOf"),
        ({"$ref": "#/$defs/a", "additionalProperties": False}, "additionalProperties and .ref"),
        ({"$ref": "#/$defs/a", "patternProperties": {"^x-": {}}}, "patternProperties and .ref"),
        ({"type": "array", "items": {**A, "allOf": [{"$ref": "#/$defs/a"}]}}, "properties and allOf"),
    ],
)
def test_an_object_whose_fields_stand_in_several_places_is_refused(part: Any, places: str, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"part": part}, "$defs": {"a": A}}
    with pytest.raises(UserError, match=f"in several places: {places}\\.") as caught:
        record_schema(schema, tmp_path)
    assert "one `properties`" in caught.value.paragraph()


@pytest.mark.parametrize(
    "part",
    [
        {"allOf": [{"$ref": "#/$defs/a"}], "description": "what", "default": {"a": "x"}},
        {"allOf": [{"$ref": "#/$defs/a"}, NEEDS]},
        {"allOf": [{"type": "string"}, {"minLength": 2}]},
        {**A, "anyOf": [NEEDS, {"maxProperties": 3}], "allOf": [NEEDS]},
        {"anyOf": [A, B, {"type": "null"}]},
        {"type": "object", "patternProperties": {"^x-": A}},
        {"type": "object", "additionalProperties": True, "anyOf": [A, B]},
    ],
)
def test_an_object_whose_fields_stand_in_one_place_is_none_of_those(part: Any, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"part": part}, "$defs": {"a": A}}
    assert record_schema(schema, tmp_path) == schema


def test_definitions_that_nothing_refers_to_are_not_looked_at(tmp_path: Path) -> None:
    hostile = {**laughs(40)["$defs"], "circle": {"allOf": [{"$ref": "#/$defs/circle"}]}}
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "$defs": hostile}
    assert record_schema(schema, tmp_path) == schema


def test_what_no_closed_object_can_hold_is_refused(tmp_path: Path) -> None:
    part = {**A, "required": ["a", "b"]}
    with pytest.raises(UserError, match="can't be confined to this schema"):
        record_schema({"type": "object", "properties": {"part": part}, "required": ["part"]}, tmp_path)


LITERAL = {"type": "string", "x-literal": True}


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"type": "number", "x-literal": True}, "goes with `type: string` and a description alone"),
        ({"type": "string", "x-literal": "yes"}, "goes with"),
        ({"type": "string", "pattern": "^a$", "x-literal": True}, "goes with"),
        ({"anyOf": [LITERAL, {"type": "null"}]}, "Around a literal field there is no anyOf"),
        ({"type": "array", "items": LITERAL, "minItems": 1}, "no minItems"),
        ({"type": "object", "properties": {"b": LITERAL}, "additionalProperties": True}, "no additionalProperties"),
        ({"type": "array", "items": {"$ref": "#/$defs/l"}, "maxItems": 3}, "no maxItems"),
        ({"anyOf": [{"$ref": "#/$defs/l"}, {"type": "null"}]}, "no anyOf"),
        ({"$ref": "#/$defs/l", "minProperties": 1}, "no minProperties"),
        ({"type": "object", "properties": {"a\x7f": LITERAL}}, "a name without control characters"),
        ({"type": "object", "properties": {"b": LITERAL, "c": {"$ref": "#/properties/z"}}}, "names a part of .defs"),
    ],
)
def test_a_literal_field_that_can_t_be_confined_is_refused(part: dict[str, Any], reason: str, tmp_path: Path) -> None:
    defined = {"l": {"type": "object", "properties": {"what": LITERAL}}}
    properties = {"a": part, "z": {"type": "string"}}
    with pytest.raises(UserError, match=reason):
        record_schema({"type": "object", "properties": properties, "$defs": defined}, tmp_path)


def test_literal_fields_are_found_behind_lists_and_references(tmp_path: Path) -> None:
    line = {"type": "object", "properties": {"what": LITERAL, "count": {"type": "integer"}}}
    properties = {"name": {**LITERAL, "description": "who"}, "lines": {"type": "array", "items": {"$ref": "#/$defs/l"}}}
    schema = record_schema({"type": "object", "properties": properties, "$defs": {"l": line}}, tmp_path)
    assert list(literal_fields(schema)) == ["name", "lines[].what"]


def laughs(levels: int) -> dict[str, Any]:
    """A schema that doubles at each of its levels."""
    named: dict[str, Any] = {"a0": {"type": "string"}}
    for level in range(levels):
        named[f"a{level + 1}"] = {"anyOf": [{"$ref": f"#/$defs/a{level}"}] * 2}
    return {"type": "object", "properties": {"a": {"$ref": f"#/$defs/a{levels}"}}, "$defs": named}


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def with_part(part: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": part}}


HOSTILE: list[tuple[dict[str, Any], str]] = [
    (with_part({"pattern": "(?=a)b"}), r"The pattern '\(\?=a\)b' can't be used: .*RE2.*Rewrite the pattern"),
    (with_part({"pattern": r"(a)\1"}), "can't be used: invalid escape"),
    (with_part({"pattern": "a" * 3000}), "longer than 2,000 characters"),
    (with_part({"pattern": "("}), "can't be used: missing"),
    (with_part({"patternProperties": {"(?!a)": {}}}), "can't be used"),
    ({"type": "object", "properties": {f"a{n}": {"pattern": f"a{n}"} for n in range(200)}}, "more than 100 patterns"),
    (with_part({"$ref": "#/$defs/none"}), "reference '#/.defs/none' leads nowhere"),
    (with_part({"$ref": "http://example.com/a"}), "leads nowhere"),
    (with_part({"$ref": "file:///etc/passwd"}), "leads nowhere"),
    (with_part({"$ref": "#/properties/a"}), "leads in a circle"),
    (with_part({"items": {"$ref": "#"}}), "leads in a circle"),
    (with_part({"default": datetime.date(2026, 1, 1)}), "holds a value that JSON does not have"),
    (with_part({"default": math.nan}), "holds a value that JSON does not have"),
    (with_part({"default": "\ud800"}), "holds a value that JSON does not have"),
    (with_part({"const": "x" * 300_000}), "the limit is 262,144"),
    (with_part({"unevaluatedProperties": False}), "can't be checked against 'unevaluatedProperties'"),
    (laughs(40), "parts with its references resolved"),
    (deep(400), "nested more than 64 levels"),
]


@pytest.mark.parametrize(("schema", "reason"), HOSTILE)
def test_a_schema_that_would_take_long_is_refused_at_once(schema: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        record_schema(schema, tmp_path)
    assert len(caught.value.paragraph()) < 1000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 100_000, "nested more than 100 levels"),
        ('{"a": ' + "9" * 5000 + "}", "an integer of thousands of digits"),
        ('{"a": NaN}', "The schema contains NaN"),
        ('{"a": "\\ud800"}', "a lone surrogate"),
        ('{"a": 1, "a": 2}', "has the key 'a' in an object twice"),
        (" " * 300_000, "has more than 262,144 bytes"),
    ],
)
def test_a_hostile_schema_file_is_refused(content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(content, "utf-8")
    with pytest.raises(UserError, match=reason):
        record_schema("schema.json", tmp_path)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "loop.json").symlink_to("loop.json")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for name, what in (("pipe", "a pipe"), ("zero", "a device"), ("folder", "a folder"), ("loop", "symbolic links")):
        with pytest.raises(UserError, match=what):
            record_schema(f"{name}.json", tmp_path)
    with pytest.raises(UserError, match="can't be read"):
        record_schema("a\0b.json", tmp_path)


def test_a_saved_spec_holds_the_schema_itself(tmp_path: Path) -> None:
    (tmp_path / "invoice.json").write_text(json.dumps(SCHEMA), "utf-8")
    task = {"kind": "extract", "instruction": "Read: {fields}", "schema": "invoice.json"}
    (tmp_path / "tunewright.yaml").write_text(json.dumps(spec_data(task=task)), "utf-8")
    spec = load_spec(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    spec.save(tmp_path / "elsewhere")
    assert load_spec(tmp_path / "elsewhere").task == spec.task
    assert json.loads((tmp_path / "elsewhere" / "tunewright.yaml").read_text("utf-8"))["task"]["schema"] == SCHEMA


def test_the_loss_on_labels_needs_labels(tmp_path: Path) -> None:
    task = {"kind": "extract", "instruction": "Read.", "schema": SCHEMA}
    (tmp_path / "tunewright.yaml").write_text(json.dumps(spec_data(task=task, train={"loss": "labels"})), "utf-8")
    with pytest.raises(UserError, match=r"'train': the loss 'labels' is for classify only; this task is extract"):
        load_spec(tmp_path)


def test_a_wrong_key_of_a_task_is_named_with_those_of_its_kind(tmp_path: Path) -> None:
    task = {"kind": "extract", "instruction": "Read.", "scheme": SCHEMA}
    (tmp_path / "tunewright.yaml").write_text(json.dumps(spec_data(task=task)), "utf-8")
    with pytest.raises(UserError, match=r"unknown key 'task.scheme', did you mean 'schema'\?"):
        load_spec(tmp_path)
    task["kind"] = "extrct"
    (tmp_path / "tunewright.yaml").write_text(json.dumps(spec_data(task=task)), "utf-8")
    with pytest.raises(
        UserError, match=r"'task.kind' is one of: classify, multi_label, extract, generate, tools \(it is 'extrct'\)"
    ):
        load_spec(tmp_path)
