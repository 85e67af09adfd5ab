"""Records have one way to be written, and what is no record of the schema is refused with its place."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.tasks.base import Unfit
from tunewright.tasks.record_form import RecordForm

INVOICE = {
    "type": "object",
    "properties": {
        "vendor": {"type": "string"},
        "date": {"type": "string", "format": "date"},
        "total": {"type": "number"},
        "currency": {"enum": ["USD", "EUR"]},
        "note": {"type": ["string", "null"]},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
    "required": ["vendor", "total"],
    "additionalProperties": False,
    "$defs": {
        "line": {
            "type": "object",
            "properties": {"what": {"type": "string"}, "count": {"type": "integer"}},
            "required": ["what"],
        }
    },
}
FORM = RecordForm(INVOICE)


def test_keys_stand_in_the_schema_s_order_and_values_in_their_shortest_form() -> None:
    given = '{"lines": [{"count": "3", "what": " a  lamp"}], "total": "12.50", "other": 1, "vendor": "Acme\\n Ltd"}'
    assert FORM.canonical(given) == '{"vendor":"Acme Ltd","total":12.5,"lines":[{"what":"a lamp","count":3}]}'


@pytest.mark.parametrize("empty", [None, "", "  ", []])
def test_an_optional_field_without_a_value_is_left_out(empty: Any) -> None:
    assert (
        FORM.written({"vendor": "Acme", "total": 1.0, "note": empty, "lines": empty}) == '{"vendor":"Acme","total":1}'
    )


def test_a_required_field_stays_without_a_value() -> None:
    form = RecordForm({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
    assert form.canonical('{"a": " "}') == '{"a":""}'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"vendor": "A"}', "the record: 'total' is a required property"),
        ('{"vendor": "A", "total": "much"}', "total: 'much' is not of type 'number'"),
        ('{"vendor": "A", "total": 1, "date": "03/04/2024"}', "date: '03/04/2024' is not a 'date'"),
        ('{"vendor": "A", "total": 1, "currency": "GBP"}', "currency: 'GBP' is not one of"),
        ('{"vendor": "A", "total": 1, "lines": [{"what": "x"}, {"count": 1}]}', r"lines\.1: 'what' is a required"),
        ('{"vendor": "A", "vendor": "B", "total": 1}', "the key 'vendor' stands in it twice"),
        ('{"vendor": "A", "total": NaN}', "NaN is no number"),
        ('{"vendor": "A", "total": 1', "it is not JSON"),
        ("Acme", "it is not JSON"),
        ("[" * 100_000, "nested too deeply|not JSON"),
        ("[]", r"the record: \[\] is not of type 'object'"),
    ],
)
def test_what_is_no_record_is_refused_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(Unfit, match=reason):
        FORM.canonical(text)


def test_a_value_takes_the_form_of_the_branch_it_fits() -> None:
    form = RecordForm(
        {
            "type": "object",
            "properties": {
                "when": {"anyOf": [{"type": "string", "format": "date"}, {"type": "integer"}, {"type": "null"}]}
            },
            "required": ["when"],
        }
    )
    assert form.canonical('{"when": "2024-02-29"}') == '{"when":"2024-02-29"}'
    assert form.canonical('{"when": "2024"}') == '{"when":2024}'
    assert form.canonical('{"when": null}') == '{"when":null}'
    with pytest.raises(Unfit, match="when"):
        form.canonical('{"when": "tomorrow"}')


text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
records = st.fixed_dictionaries(
    {"vendor": text, "total": st.floats(-1e9, 1e9) | st.integers(-(10**9), 10**9)},
    optional={
        "note": text | st.none(),
        "currency": st.sampled_from(["USD", "EUR"]),
        "lines": st.lists(st.fixed_dictionaries({"what": text}, optional={"count": st.integers(0, 99)}), max_size=3),
    },
)


@given(record=records, seed=st.integers(0, 9))
def test_the_form_does_not_depend_on_how_a_record_was_given(record: dict[str, Any], seed: int) -> None:
    written = FORM.written(record)
    assert FORM.canonical(written) == written
    shuffled = dict(random.Random(seed).sample(list(record.items()), len(record)))
    assert FORM.canonical(json.dumps(shuffled, indent=seed)) == written
