"""What a large model is asked, and how its reply is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_spec
from tunewright.config import Spec
from tunewright.evaluation.api.questions import asked_task, question, read
from tunewright.tasks import Example, Meta, Task

SCHEMA = {
    "type": "object",
    "properties": {
        "vendor": {"type": "string"},
        "total": {"type": "number"},
        "date": {"type": "string", "format": "date"},
    },
    "required": ["vendor"],
}


def task_asked(spec: Spec) -> Task:
    return asked_task(spec, spec.api)


RECORDS = {"kind": "extract", "instruction": "Read the invoice.", "schema": SCHEMA}


@pytest.mark.parametrize(
    ("labels", "reply", "label"),
    [
        ([".NET", "Java"], '{"label": ".NET"}', ".NET"),
        (["U.S.", "EU"], "u.s.", "U.S."),
        (["US", "us"], "US", "US"),
        (["US", "us"], "Us", None),
        (["3.1", "3.10"], "3.10", "3.10"),
        (["none", "some"], "null", None),
        (["yes", "no"], '"Yes."', "yes"),
        (["yes", "no"], '{"label": 5}', None),
        (["yes", "no"], "[1]", None),
    ],
)
def test_a_label_is_read_as_it_is_spelt(labels: list[str], reply: str, label: str | None) -> None:
    task = {"kind": "classify", "instruction": "Which?", "labels": labels}
    assert read(task_asked(make_spec(task=task)), reply) == label


def test_a_required_field_may_be_null() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": ["string", "null"]}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    }
    task = task_asked(make_spec(task={**RECORDS, "schema": schema}))
    assert read(task, '{"a": null, "b": 1}') == '{"a":null,"b":1}'


def test_the_labels_are_listed_unless_the_users_prompt_is_given() -> None:
    task = {"kind": "classify", "instruction": "Route it.", "labels": {"a": "about apples", "b": ""}}
    listed = task_asked(make_spec(task=task)).prompt("x")[0].content
    assert listed == "Route it.\n\nThe labels:\n- a: about apples\n- b"
    own = task_asked(make_spec(task=task, api={"prompt": "Which of {labels}?"})).prompt("x")[0].content
    assert own == "Which of - a: about apples\n- b?"


def test_a_record_is_asked_for_in_strict_form_and_read_without_nulls(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, task=RECORDS)
    task = task_asked(spec)
    asks = question(task, "Acme 12.50", [], spec.api).options["response_format"]["json_schema"]
    assert asks["strict"] is True
    assert asks["schema"]["required"] == ["vendor", "total", "date"]
    assert asks["schema"]["additionalProperties"] is False
    assert asks["schema"]["properties"]["total"] == {"anyOf": [{"type": "number"}, {"type": "null"}]}
    assert read(task, '{"vendor": "Acme", "total": null, "date": "2026-01-02"}') == (
        '{"vendor":"Acme","date":"2026-01-02"}'
    )
    assert read(task, '```json\n{"vendor": "Acme"}\n```') == '{"vendor":"Acme"}'
    assert read(task, '{"vendor": "Ac') is None
    assert read(task, '{"total": 3}') is None


@pytest.mark.parametrize(
    "tags",
    [
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object"},
        {"type": ["object", "null"]},
        {"type": "object", "patternProperties": {"^x": {"type": "string"}}},
        {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}}]},
    ],
)
def test_a_schema_with_open_objects_is_not_strict(tags: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"tags": tags}}
    spec = make_spec(task={**RECORDS, "schema": schema})
    asks = question(task_asked(spec), "x", [], spec.api).options["response_format"]["json_schema"]
    assert asks["strict"] is False


SEVERAL = {"kind": "multi_label", "instruction": "Which hold?", "labels": ["late", "wrong item", "refund"]}


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ('{"labels": ["refund", "late"]}', '["late","refund"]'),
        ('["Wrong Item"]', '["wrong item"]'),
        ("[]", "[]"),
        ('```json\n["late", "late"]\n```', '["late"]'),
        ('{"labels": []}', "[]"),
        ("late", None),
        ('["cancel"]', None),
        ('{"labels": "late"}', None),
        ("[1]", None),
        ("null", None),
    ],
)
def test_several_labels_are_read_from_a_list(reply: str, answer: str | None) -> None:
    assert read(task_asked(make_spec(task=SEVERAL)), reply) == answer


def test_several_labels_are_asked_for_as_a_list_and_shown_so() -> None:
    spec = make_spec(task=SEVERAL)
    task = task_asked(spec)
    shot = Example.of("Where is it?", '["late"]', Meta(id="1"))
    asked = question(task, "It never came.", [shot], spec.api)
    schema = asked.options["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["labels"]["items"]["enum"] == ["late", "wrong item", "refund"]
    assert [each["content"] for each in asked.messages if each["role"] == "assistant"] == ['{"labels": ["late"]}']
    assert "The labels:\n- late\n- wrong item\n- refund" in asked.messages[0]["content"]
    plainly = question(task, "It never came.", [shot], spec.api.model_copy(update={"structured": False}))
    assert "Reply with a JSON list of the labels that hold" in plainly.messages[0]["content"]
    assert [each["content"] for each in plainly.messages if each["role"] == "assistant"] == ['["late"]']


def test_an_api_is_asked_with_all_of_an_instruction_that_the_own_model_does_without() -> None:
    task = {"kind": "classify", "instruction": "Route it:\n{labels}", "labels": {"a": "the first", "b": ""}}
    whole, pruned = (make_spec(task=task | {"leave_out": way}) for way in ("nothing", "instruction"))
    asked = [question(task_asked(spec), "hello", [], spec.api).messages for spec in (whole, pruned)]
    assert asked[0] == asked[1]
    assert "the first" in asked[1][0]["content"]
