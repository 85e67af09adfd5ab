"""Where an extract task's schema comes from, and which schemas are refused before anything is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import spec_data
from tunewright.errors import UserError
from tunewright.spec import load_spec
from tunewright.spec.record_schema import record_schema

SCHEMA = {"type": "object", "properties": {"vendor": {"type": "string"}}, "required": ["vendor"]}


def test_a_schema_a_file_and_a_model_are_read_alike(tmp_path: Path) -> None:
    (tmp_path / "invoice.json").write_text(json.dumps(SCHEMA), "utf-8")
    (tmp_path / "invoice_models.py").write_text(
        "from pydantic import BaseModel\nclass Invoice(BaseModel):\n    vendor: str\n", "utf-8"
    )
    assert record_schema(SCHEMA, tmp_path) == SCHEMA
    assert record_schema("invoice.json", tmp_path) == SCHEMA
    found = record_schema("invoice_models:Invoice", tmp_path)
    assert list(found["properties"]) == found["required"] == ["vendor"]


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("absent.json", "This schema is not there"),
        ("broken.json", "The schema is not JSON"),
        ("list.json", "The schema is not a JSON object"),
        ("absent_module:Invoice", "can't be imported: ModuleNotFoundError"),
        ("json:loads", "is no Pydantic model"),
        ({"type": "array", "items": {}}, "not one of an object with named fields"),
        ({"type": "object"}, "not one of an object with named fields"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, r"properties\.a\.type: 'text' is not valid"),
    ],
)
def test_what_is_no_schema_is_refused(named: Any, reason: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{", "utf-8")
    (tmp_path / "list.json").write_text("[]", "utf-8")
    with pytest.raises(UserError, match=reason):
        record_schema(named, tmp_path)


@pytest.mark.parametrize(
    ("part", "feature"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"not": {"const": "x"}}, "not"),
        ({"type": "string", "format": "iban"}, "iban"),
        ({"type": "string", "pattern": "^(?=a)"}, "look-ahead"),
    ],
)
def test_a_feature_that_no_grammar_can_express_is_named(part: dict[str, Any], feature: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"can't be confined to this schema: .*{feature}"):
        record_schema({"type": "object", "properties": {"a": part}}, tmp_path)


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
        UserError, match=r"'task.kind' is one of: classify, multi_label, extract, generate \(it is 'extrct'\)"
    ):
        load_spec(tmp_path)
