"""A schema guessed from records accepts these records, and describes their common properties."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tunewright.config.record_schema import record_schema
from tunewright.data.guess.schema import described, guess_schema, with_literal_fields
from tunewright.tasks.record_form import RecordForm

RECORDS = [
    {
        "vendor": f"Vendor {n}",
        "date": f"2024-03-{1 + n:02}",
        "total": n + 0.5 if n else 7,
        "currency": "EUR" if n % 2 else "USD",
        "paid": n % 3 == 0,
        "note": "urgent please" if n == 4 else None,
        "lines": [{"item": f"thing {n}", "count": n}],
    }
    for n in range(12)
]


def test_the_schema_describes_the_common_fields() -> None:
    schema = guess_schema(RECORDS)
    assert schema["properties"] == {
        "vendor": {"type": "string"},
        "date": {"type": "string", "format": "date"},
        "total": {"type": "number"},
        "currency": {"enum": ["EUR", "USD"]},
        "paid": {"type": "boolean"},
        "note": {"type": "string"},
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"item": {"type": "string"}, "count": {"type": "integer"}},
                "required": ["item", "count"],
            },
        },
    }
    assert schema["required"] == ["vendor", "date", "total", "currency", "paid", "lines"]
    assert list(described(schema))[:4] == ["vendor (string)", "date (date)", "total (number)", "currency (choice)"]


def test_names_that_repeat_are_no_choice() -> None:
    schema = guess_schema([{"vendor": ("Acme Ltd", "Umbrella Corp")[n % 2]} for n in range(40)])
    assert schema["properties"]["vendor"] == {"type": "string"}


def test_choices_and_dates_have_the_form_that_records_have() -> None:
    odd = ("USD ", "USD", "u\u0308ber", "\u00fcber")
    records = [{"currency": odd[n % 4], "date": f" 2024-03-{1 + n:02}"} for n in range(20)]
    schema = guess_schema(records)
    assert schema["properties"] == {
        "currency": {"enum": ["USD", "\u00fcber"]},
        "date": {"type": "string", "format": "date"},
    }
    assert RecordForm(schema).written(records[0]) == '{"currency":"USD","date":"2024-03-01"}'


def test_an_invalid_date_makes_the_field_a_text() -> None:
    assert guess_schema([{"date": "2024-02-30"}])["properties"]["date"] == {"type": "string"}
    assert guess_schema([{"date": "20240229"}])["properties"]["date"] == {"type": "string"}


def test_fields_of_several_types_keep_them() -> None:
    schema = guess_schema([{"who": "a"}, {"who": ["a", "b"]}])
    assert schema["properties"]["who"] == {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
    }
    assert "required" not in guess_schema([{"a": None}, {"a": 1}])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(-1e6, 1e6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)  # the first one imports the validator
@given(st.lists(st.dictionaries(st.text("xyz", min_size=1, max_size=2), VALUES, max_size=4), min_size=1, max_size=6))
def test_the_records_fit_their_own_schema(records: list[dict[str, Any]]) -> None:
    schema = guess_schema(records)
    assume(schema["properties"])
    form = RecordForm(schema)
    for record in records:
        form.canonical(json.dumps({name: value for name, value in record.items() if name in schema["properties"]}))


def test_a_grammar_can_be_built_from_the_schema(tmp_path: Any) -> None:
    assert record_schema(guess_schema(RECORDS), tmp_path)


def test_fields_whose_values_always_stand_in_the_text_are_literal() -> None:
    records = [{"vendor": f"Acme {n}", "total": n, "who": "me"} for n in range(120)]
    given = [(f"Invoice {n} of Acme {n} Ltd, paid", json.dumps(record)) for n, record in enumerate(records)]
    schema = guess_schema(records) | {"title": "x"}
    schema["properties"]["who"] = {"type": "string"}
    marked = with_literal_fields(schema, given)
    assert marked["properties"]["vendor"] == {"type": "string", "x-literal": True}
    assert [name for name, part in marked["properties"].items() if "x-literal" in part] == ["vendor"]
    assert with_literal_fields(schema, given[:99]) == schema
    assert with_literal_fields(schema, [*given, ("Invoice", '{"vendor": "Acme"}')]) == schema
