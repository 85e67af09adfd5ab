"""Long documents: windows that lose nothing, and records that come together again."""

from __future__ import annotations

import json
import unicodedata
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TOKENIZER
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, Meta
from tunewright.tasks.extract import ExtractTask
from tunewright.tasks.record_form import RecordForm
from tunewright.tasks.windows import cut, divided, joined, lacking, places

TOKENS = TextTokenizer(TOKENIZER)
SCHEMA = {
    "type": "object",
    "properties": {
        "vendor": {"type": "string"},
        "total": {"type": "string"},
        "paid": {"type": "boolean"},
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"item": {"type": "string"}, "price": {"type": "string"}},
                "required": ["item", "price"],
            },
        },
    },
    "required": ["vendor", "total"],
}
TASK = ExtractTask("Read this.", SCHEMA, window=128)
LINES = [{"item": f"Article number {n}", "price": f"{n}.50"} for n in range(1, 41)]
TEXT = "Acme Ltd\n" + "".join(f"{line['item']}    {line['price']}\n" for line in LINES) + "Total    820.00\n"
RECORD = {"vendor": "Acme Ltd", "total": "820.00", "paid": True, "lines": LINES}


def count(text: str) -> int:
    return len(TOKENS.encode_verbatim(text))


def without_overlap(windows: list[str]) -> str:
    whole = windows[0]
    for window in windows[1:]:
        shared = next(n for n in range(min(len(whole), len(window)), -1, -1) if whole.endswith(window[:n]))
        whole += window[shared:]
    return whole


def test_a_short_text_is_read_whole() -> None:
    assert cut("two\nlines", 64, count) == ["two\nlines"]
    assert ExtractTask("Read this.", SCHEMA).chunks(TEXT, count) == [TEXT]


def test_the_items_of_a_list_may_be_too_few_in_a_window() -> None:
    """The whole list has enough of them."""
    pair = {"type": "array", "items": {"type": "string"}, "minItems": 2}
    fields = {"names": pair, "places": {"$ref": "#/$defs/pair"}, "days": {"anyOf": [{"type": "null"}, pair]}}
    schema = {
        "type": "object",
        "properties": fields,
        "required": [*fields],
        "minProperties": 3,
        "$defs": {"pair": pair},
    }
    task = ExtractTask("Read this.", schema, window=16)
    text = "alpha\n" + "filler words go on\n" * 10 + "beta\n"
    record = json.dumps({name: ["alpha", "beta"] for name in fields})
    windows = task.training_examples(Example.of(text, record, Meta(id="1")), lambda text: len(text.split()))
    answers = [json.loads(each.answer) for each in windows]
    assert answers[0] == {name: ["alpha"] for name in fields}
    assert answers[-1] == {name: ["beta"] for name in fields}


def test_windows_hold_all_and_overlap() -> None:
    windows = cut(TEXT, 128, count)
    assert len(windows) > 2
    assert without_overlap(windows) == TEXT
    for window, following in pairwise(windows):
        assert count(window) <= 128
        assert window.splitlines()[-1] in following, "a line stands in both"


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=400), st.integers(16, 64))
def test_any_text_is_cut_and_none_of_it_is_lost(text: str, most: int) -> None:
    found = places(text, most, count)
    assert all(start < end for start, end in found)
    assert (found[0][0], found[-1][1]) == (0, len(text))
    assert all(start <= before < end for (_, before), (start, end) in pairwise(found))
    assert cut(text, most, count) == [text[start:end] for start, end in found]


def test_a_line_without_an_end_is_cut_at_spaces() -> None:
    windows = cut("word " * 400, 128, count)
    assert all(count(window) <= 128 for window in windows)
    assert all(window.startswith("word") for window in windows)


def test_each_window_has_its_own_values() -> None:
    training_examples = TASK.training_examples(
        Example.of(TEXT, TASK.canonical(json.dumps(RECORD)), Meta(id="1")), count
    )
    records = [json.loads(training_example.answer) for training_example in training_examples]
    assert len(training_examples) > 2
    assert records[0]["vendor"] == "Acme Ltd"
    assert records[0]["paid"] is True, "what stands nowhere belongs to the first"
    assert "total" not in records[0]
    assert records[-1]["total"] == "820.00"
    assert all("vendor" not in record for record in records[1:])
    for training_example, record in zip(training_examples, records, strict=True):
        assert all(line["item"] in training_example.request for line in record.get("lines", ()))
        assert TASK.of_chunk(training_example.answer) == training_example.answer


def test_a_number_that_is_part_of_another_is_not_found_there() -> None:
    assert divided({"party": "5"}, ["call 0155 512", "table for 5"]) == [{}, {"party": "5"}]
    assert divided({"date": "2024-03-18"}, ["nothing", "on 18.03.2024"]) == [{}, {"date": "2024-03-18"}]


@pytest.mark.parametrize(
    ("value", "windows", "holder"),
    [
        (1000, ["Total 1,000.00 EUR", "page 1 of 10, terms"], 0),
        (1, ["Total 1,000.00 EUR", "1 chair"], 1),
        (5.5, ["call 5 55 55", "5,50 each"], 1),
        (7, ["founded in 1789", "row 7"], 1),
    ],
)
def test_a_number_belongs_to_the_window_that_has_it_as_a_number(value: float, windows: list[str], holder: int) -> None:
    expected: list[dict[str, Any]] = [{}, {}]
    expected[holder] = {"total": value}
    assert divided({"total": value}, windows) == expected


def test_a_value_is_found_whole_where_accents_are_signs_of_their_own() -> None:
    windows = [unicodedata.normalize("NFD", text) for text in ("at Lumières Müllerstr.", "by Müller")]
    assert divided({"who": "Müller"}, windows) == [{}, {"who": "Müller"}]
    assert divided({"who": "Lumie"}, ["lumie", windows[0]]) == [{"who": "Lumie"}, {}]


def test_the_records_of_windows_join_to_the_whole() -> None:
    windows = cut(TEXT, 128, count)
    read = [(record, {"vendor": 0.9, "total": 0.8, "lines[].item": 0.7}) for record in divided(RECORD, windows)]
    record, fields = joined(read, TASK.form)
    assert record == RECORD
    assert fields == {"vendor": 0.9, "total": 0.8, "lines[].item": 0.7}


def test_of_two_values_the_surer_one_counts() -> None:
    record, fields = joined([({"total": "1"}, {"total": 0.4}), ({"total": "2"}, {"total": 0.9}), ({}, {})], TASK.form)
    assert (record, fields) == ({"total": "2"}, {"total": 0.9})
    windows = [({"to": {"city": "A"}}, {"to.city": 0.9}), ({"to": {"city": "B"}}, {"to.city": 0.5})]
    assert joined(windows, form_of(to={"type": "object"})) == ({"to": {"city": "A"}}, {"to.city": 0.9})


def form_of(**fields: Any) -> RecordForm:
    return RecordForm({"type": "object", "properties": fields})


def object_of(*names: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": ["string", "null"]} for name in names}}


def test_each_field_of_a_nested_object_is_joined_by_itself() -> None:
    form = form_of(to={"anyOf": [object_of("city", "zip", "at"), {"type": "null"}]})
    record, fields = joined(
        [
            ({"to": None}, {"to": 0.99}),
            ({"to": {"city": "A", "zip": "2"}}, {"to.city": 0.9, "to.zip": 0.3}),
            ({"to": {"city": None, "zip": "1", "at": {"x": 1}}}, {"to.city": 0.99, "to.zip": 0.95, "to.at.x": 0.8}),
            ({"to": {"at": {"y": 2}}}, {"to.at.y": 0.7}),
        ],
        form,
    )
    assert record == {"to": {"city": "A", "zip": "1", "at": {"x": 1, "y": 2}}}
    assert fields == {"to.city": 0.9, "to.zip": 0.95, "to.at.x": 0.8, "to.at.y": 0.7}


def test_objects_of_several_forms_are_not_mixed() -> None:
    form = form_of(by={"oneOf": [object_of("card"), object_of("iban", "bank")]})
    windows = [
        ({"by": {"iban": "D", "bank": "B"}}, {"by.iban": 0.9, "by.bank": 0.9}),
        ({"by": {"card": "4"}}, {"by.card": 0.5}),
    ]
    assert joined(windows, form) == windows[0]
    assert joined([windows[0], ({"by": {"card": "4"}}, {"by.card": 0.95})], form) == (
        {"by": {"card": "4"}},
        {"by.card": 0.95},
    )


NAME, NAMES = {"type": "string"}, {"type": "array", "items": {"type": "string"}}


@pytest.mark.parametrize("part", [{"anyOf": [NAME, NAMES]}, {**NAMES, "type": ["string", "array"]}])
@pytest.mark.parametrize(
    ("values", "shares", "whole", "sure"),
    [
        (["Acme", ["Bo", "Cy"]], [0.8, 0.9], ["Acme", "Bo", "Cy"], {"who[]": 0.8}),
        ([["Bo", "Cy"], "Acme"], [0.8, 0.9], ["Bo", "Cy", "Acme"], {"who[]": 0.8}),
        ([["Bo", "Cy"], "Cy"], [0.8, 0.7], ["Bo", "Cy"], {"who[]": 0.7}),
        (["Acme", "Bo"], [0.9, 0.8], ["Acme", "Bo"], {"who[]": 0.8}),
        (["Acme", "Acme"], [0.8, 0.9], "Acme", {"who": 0.9}),
        ([[], "Acme", []], [1.0, 0.9, 1.0], "Acme", {"who": 0.9}),
    ],
)
def test_one_value_and_a_list_of_the_same_field_make_a_list(
    part: dict[str, Any], values: list[Any], shares: list[float], whole: Any, sure: dict[str, float]
) -> None:
    windows = [
        ({"who": value}, {("who[]" if isinstance(value, list) else "who"): share} if value else {})
        for value, share in zip(values, shares, strict=True)
    ]
    assert joined(windows, form_of(who=part)) == ({"who": whole}, sure)
    below = [({"a": record}, {f"a.{path}": share for path, share in fields.items()}) for record, fields in windows]
    nested = joined(below, form_of(a={"type": "object", "properties": {"who": part}}))
    assert nested == ({"a": {"who": whole}}, {f"a.{path}": share for path, share in sure.items()})


def test_a_number_and_a_list_of_numbers_make_a_list() -> None:
    form = form_of(n={"type": ["number", "array"]})
    assert joined([({"n": 5}, {"n": 0.9}), ({"n": [6, 7]}, {"n[]": 0.8})], form) == ({"n": [5, 6, 7]}, {"n[]": 0.8})


def required(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields)}


SELLER = required(name=NAME, bank=required(iban=NAME, bic={"type": ["string", "null"]}), tags=NAMES)
BILL = required(seller=SELLER)
OF_ACME = {"name": "Acme", "bank": {"iban": "DE89", "bic": None}, "tags": ["old", "new"]}
FAR_APART = ["from Acme, old", "to be paid, new", "at DE89"]


def test_each_window_has_its_own_fields_of_a_nested_object() -> None:
    task = ExtractTask("Read this.", BILL, window=16)
    text = "from Acme, old\n" + "filler words go on\n" * 10 + "at DE89, new\n"
    examples = task.training_examples(Example.of(text, json.dumps({"seller": OF_ACME}), Meta(id="1")), words)
    first, *others, last = (json.loads(each.answer) for each in examples)
    assert (first, last) == (
        {"seller": {"name": "Acme", "tags": ["old"]}},
        {"seller": {"bank": {"iban": "DE89"}, "tags": ["new"]}},
    )
    assert others
    assert not any(others)


def words(text: str) -> int:
    return len(text.split())


def test_the_fields_of_a_nested_object_come_together_again() -> None:
    task, form = ExtractTask("Read this.", BILL, window=16), RecordForm(BILL)
    parts = divided({"seller": OF_ACME}, FAR_APART, form.apart)
    assert [[*part["seller"]] for part in parts] == [["name", "tags"], ["tags"], ["bank"]]
    written = [json.loads(task.of_chunk(json.dumps(part))) for part in parts]
    record, _ = joined([(part, {}) for part in written], form)
    assert record == {"seller": {"name": "Acme", "bank": {"iban": "DE89"}, "tags": ["old", "new"]}}
    absent = lacking(record, {"seller": OF_ACME | {"name": "Bo"}}, form.apart)
    assert absent == {"seller": {"bank": {"bic": None}}}


def test_what_stands_nowhere_goes_with_the_rest_of_its_object() -> None:
    form = RecordForm(required(seller=required(name=NAME, city=NAME, country=NAME)))
    record = {"seller": {"name": "Acme", "city": "Bern", "country": "CH"}}
    assert divided(record, ["page 1", "Acme, Bern"], form.apart) == [{}, record]
    assert divided(record, ["page 1", "Acme", "Bern"], form.apart) == [
        {"seller": {"country": "CH"}},
        {"seller": {"name": "Acme"}},
        {"seller": {"city": "Bern"}},
    ]


@pytest.mark.parametrize(
    ("schema", "apart"),
    [
        (BILL, {"seller", "seller.bank"}),
        ({"type": "object", "properties": {"seller": SELLER}}, set()),
        ({"type": "object", "properties": {"to": object_of("city")}}, {"to"}),
        (required(to={"anyOf": [object_of("city"), {"type": "null"}]}), set()),
        (required(to={**object_of("city"), "minProperties": 1}), set()),
        ({**required(to={"$ref": "#/$defs/to"}), "$defs": {"to": required(city=NAME)}}, {"to"}),
        (required(lines={"type": "array", "items": SELLER}), set()),
    ],
    ids=["required", "optional with required fields", "optional", "nullable", "bounded", "referred to", "in a list"],
)
def test_windows_divide_an_object_only_where_the_whole_record_can_be_completed(
    schema: dict[str, Any], apart: set[str]
) -> None:
    assert RecordForm(schema).apart == apart
    chunk = ExtractTask("Read this.", schema, window=16)
    for path in apart - {"seller.bank"}:
        assert chunk.of_chunk(json.dumps({path: {}})) == f'{{"{path}":{{}}}}'


def test_a_combination_of_fields_is_required_of_the_whole_record_alone() -> None:
    schema = {
        "type": "object",
        "properties": {"iban": NAME, "card": NAME, "total": NAME},
        "anyOf": [{"required": ["iban"]}, {"required": ["card"]}],
        "allOf": [{"required": ["total"]}],
    }
    task = ExtractTask("Read this.", schema, window=16)
    text = "total 5\n" + "filler words go on\n" * 10 + "by card 4711\n"
    record = task.canonical('{"card": "4711", "total": "5"}')
    examples = task.training_examples(Example.of(text, record, Meta(id="1")), words)
    answers = [json.loads(each.answer) for each in examples]
    assert (answers[0], answers[1], answers[-1]) == ({"total": "5"}, {}, {"card": "4711"})
    with pytest.raises(ValueError, match="not valid under any of the given schemas"):
        task.canonical('{"total": "5"}')
    whole, _ = joined([(each, {}) for each in answers], task.form)
    assert task.canonical(json.dumps(whole)) == record


@pytest.mark.parametrize("window", [None, 64])
def test_a_whole_record_has_its_required_fields(window: int | None) -> None:
    task = ExtractTask("Read this.", SCHEMA, window=window)
    with pytest.raises(ValueError, match="required"):
        task.canonical('{"vendor":"Acme"}')
    if window:
        assert task.of_chunk('{"vendor":"Acme"}') == '{"vendor":"Acme"}'
