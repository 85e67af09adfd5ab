"""The scores of a record against the right one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunewright.tasks.extract import ExtractTask
from tunewright.tasks.measures import Ratio, is_in, value_spans

SCHEMA = {
    "type": "object",
    "properties": {
        "vendor": {"type": "string", "description": "who sells"},
        "date": {"type": "string", "format": "date"},
        "total": {"type": "number"},
        "currency": {"anyOf": [{"enum": ["USD", "EUR"]}, {"type": "null"}]},
        "items": {"type": "array", "items": {"type": "string"}},
    },
}
TASK = ExtractTask("Read the invoice.\n{fields}", SCHEMA)
REQUEST = "ACME Ltd.\nInvoice of 03/04/2024\nlamp, cable\nTotal € 1.234,50"


def measured(gold: dict[str, Any], found: dict[str, Any] | str) -> dict[str, Ratio]:
    return TASK.measures(REQUEST, json.dumps(gold), found if isinstance(found, str) else json.dumps(found))


def test_the_prompt_lists_the_fields() -> None:
    system, user = TASK.prompt("text")
    assert system.content == "Read the invoice.\n- vendor: who sells\n- date\n- total\n- currency\n- items"
    assert user.content == "text"


def test_a_right_record() -> None:
    record = {"vendor": "ACME Ltd.", "total": 1234.5, "items": ["lamp", "cable"]}
    found = measured(record, record)
    assert found["records"] == (1, 1)
    assert found["field F1"] == (8, 8)
    assert found["invented"] == (0, 4)
    assert found["field items[]"] == (4, 4)


def test_wrong_missing_and_surplus_values_count_once_each() -> None:
    found = measured({"vendor": "ACME Ltd.", "date": "2024-04-03"}, {"vendor": "ACME", "total": 1234.5})
    assert found["records"] == (0, 1)
    assert found["field F1"] == (0, 4)
    assert found["word F1"] == (2, 3 + 3 + 2)  # acme ltd, 2024 04 03; acme, 1234 5
    assert found["field vendor"] == (0, 2)
    assert found["field date"] == (0, 1)
    assert found["field total"] == (0, 1)


def test_list_items_are_compared_in_any_order() -> None:
    found = measured({"items": ["lamp", "lamp", "cable"]}, {"items": ["cable", "lamp"]})
    assert found["field F1"] == (4, 5)


def test_any_other_text_counts_as_an_empty_record() -> None:
    found = measured({"vendor": "ACME Ltd."}, "I don't know")
    assert (found["records"], found["field F1"], found["invented"]) == ((0, 1), (0, 1), (0, 0))


@pytest.mark.parametrize("text", ["", "I don't know", "null", "[]"])
def test_any_other_text_is_wrong_where_nothing_stands_in_the_record(text: str) -> None:
    found = measured({}, text)
    assert (found["records"], found["field F1"], found["word F1"]) == ((0, 1), (0, 1), (0, 1))
    assert measured({}, {})["field F1"].score == 1


def test_a_value_that_is_not_in_the_text_is_invented_but_for_what_the_schema_offers() -> None:
    found = measured({}, {"vendor": "Umbrella", "currency": "EUR", "total": 1234.5, "date": "2024-04-03"})
    assert found["invented"] == (1, 3)


@pytest.mark.parametrize(
    ("value", "there"),
    [
        ("acme ltd", True),
        ("A.C.M.E. LTD", True),
        ("Acme GmbH", False),
        ("2024-04-03", True),
        ("2024-04-05", False),
        ("2024-05-03", False),
        ("2023-04-03", False),
        ("1234.5", True),
        ("1234.50", True),
        ("1234.6", False),
        ("2024-99-03", False),
    ],
)
def test_numbers_and_dates_are_found_however_they_are_written(value: str, there: bool) -> None:
    assert is_in(value, REQUEST) is there


def test_a_month_may_be_named() -> None:
    assert is_in("2024-03-09", "9 March 2024")
    assert not is_in("2024-03-09", "9 April 2024")


def test_values_are_found_in_their_json() -> None:
    text = '{"a":"x, \\"y\\"","b":[{"c":1.5},{"c":null}],"d":{},"e":[],"f":true}'
    assert [(path, text[first:last]) for path, first, last in value_spans(text)] == [
        ("a", '"x, \\"y\\""'),
        ("b[].c", "1.5"),
        ("b[].c", "null"),
        ("f", "true"),
    ]
