"""Records have one canonical form, and an invalid record is refused with the place of the error."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher

from tests.conftest import TOKENIZER
from tests.core.test_linear_time import ends_in_time
from tunewright.core.limits import RECORD_BYTES
from tunewright.inference.decoding.grammar import RecordGrammar
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks.base import Unfit
from tunewright.tasks.record_form import RecordForm, left_out

TOKENS = TextTokenizer(TOKENIZER)
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
        ('{"vendor": "A", "vendor": "B", "total": 1}', "it has the key 'vendor' in an object twice"),
        ('{"vendor": "A", "total": NaN}', "it contains NaN"),
        ('{"vendor": "A", "total": 1', "it is not JSON"),
        ("Acme", "it is not JSON"),
        ("[" * 100_000, "nested more than 100 levels"),
        ('{"vendor": "A", "total": 1e999}', "it contains the number 1e999, which is too large"),
        ('{"vendor": "A", "total": ' + "9" * 5000 + "}", "an integer of thousands of digits"),
        ('{"vendor": "\\ud800", "total": 1}', "a lone surrogate"),
        ('{"vendor": "' + "a" * RECORD_BYTES + '"}', "it is longer than 1,048,576 characters"),
        ("[]", r"the record: \[\] is not of type 'object'"),
    ],
)
def test_an_invalid_record_is_refused_with_the_place(text: str, reason: str) -> None:
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


def test_the_values_that_a_schema_offers_have_the_form_of_records() -> None:
    offered = ["USD ", "USD", "u\u0308ber", 1, True, None, ["a  b"]]
    form = object_of(a={"enum": offered}, b={"anyOf": [{"const": " x  y"}, {"type": "null"}]}, enum={"const": " z"})
    assert form.schema["properties"]["a"] == {"enum": ["USD", "\u00fcber", 1, True, None, ["a b"]]}
    for value in offered:
        form.written({"a": value})
    assert form.written({"a": "USD ", "b": " x y", "enum": "z"}) == '{"a":"USD","b":"x y","enum":"z"}'


def object_of(**fields: Any) -> RecordForm:
    return RecordForm({"type": "object", "properties": fields})


@pytest.mark.parametrize("kind", ["integer", "number"])
def test_a_whole_number_as_text_keeps_all_its_digits(kind: str) -> None:
    form = object_of(a={"type": kind})
    for digits in ("1234567890123456789", "-9007199254740993", "9" * 400):
        assert form.written({"a": digits}) == form.canonical(f'{{"a": {digits}}}') == f'{{"a":{digits}}}'
    assert form.written({"a": "+007"}) == '{"a":7}'
    assert form.written({"a": "-0"}) == '{"a":0}'
    assert form.written({"a": "1e3"}) == '{"a":1000}'


@pytest.mark.parametrize(
    ("kinds", "written", "value"),
    [
        (["integer", "null"], "42", 42),
        (["null", "number"], "1.5", 1.5),
        (["integer", "number"], "1.5", 1.5),
        (["string", "integer"], "42", "42"),
    ],
)
def test_a_number_as_text_is_one_also_where_a_field_has_several_types(
    kinds: list[str], written: str, value: object
) -> None:
    assert json.loads(object_of(a={"type": kinds}).written({"a": written})) == {"a": value}


@pytest.mark.parametrize("text", ["1_000", "1_000.5", "9" * 5000])
def test_what_no_json_has_is_no_number(text: str) -> None:
    with pytest.raises(Unfit, match="is not of type 'number'"):
        object_of(a={"type": "number"}).written({"a": text})


EVIL = "x" * 100_000
HOSTILE = {
    "a pattern that repeats what repeats": ({"pattern": "^(x+x+)+y$"}, EVIL),
    "a name that such a pattern must match": (
        {"type": "object", "properties": {"b": {}}, "patternProperties": {"^(x+x+)+y$": {}}},
        {EVIL: 1},
    ),
    "unique values": ({"uniqueItems": True}, [[number] for number in range(20_000)] + [{}]),
    "a string that is no expression": ({"format": "regex"}, "(" * 100_000),
    "a number that is divided": ({"multipleOf": 0.01}, 10**400),
    "forms of forms": ({"anyOf": [{"$ref": "#/properties/b"}] * 3}, "x"),
    "values nested too deeply": ({}, json.loads("[" * 500 + "]" * 500)),
    "many marks": ({"type": "string"}, "a" + "\u0301\u0323" * 100_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_no_schema_and_no_record_takes_long(name: str) -> None:
    part, value = HOSTILE[name]

    def check() -> None:
        deep: Any = {"type": "integer"}
        for _ in range(9):
            deep = {"anyOf": [deep, deep]}
        with suppress(Unfit):
            object_of(a=part, b=deep).written({"a": value})

    assert ends_in_time(check)


@pytest.mark.slow
def test_a_record_that_takes_too_many_steps_is_refused() -> None:
    form = object_of(a={"type": "array", "items": {"anyOf": [{"const": number} for number in range(200)]}})
    assert form.canonical(json.dumps({"a": list(range(200))}))
    with pytest.raises(Unfit, match="the check takes more than 200,000 steps"):
        form.canonical(json.dumps({"a": list(range(199, 200)) * 1000}))


@pytest.mark.parametrize(("value", "fits"), [("Müller", True), ("a b", False), ("a\n", False)])
def test_patterns_know_the_letters_of_every_script(value: str, fits: bool) -> None:
    form = object_of(a={"type": "string", "pattern": r"^\w+$"})
    assert form.fits(value, form.schema["properties"]["a"]) is fits


def test_a_pattern_is_found_anywhere_and_says_which_names_there_may_be() -> None:
    form = RecordForm(
        {
            "type": "object",
            "properties": {"a": {"pattern": "b"}},
            "patternProperties": {"^x-": {"type": "integer"}},
            "additionalProperties": False,
        }
    )
    assert form.fits({"a": "abc", "x-1": 2}, form.schema)
    assert not form.fits({"a": "ac"}, form.schema)
    assert not form.fits({"x-1": "2"}, form.schema)
    assert not form.fits({"y-x-1": 2}, form.schema)


@pytest.mark.parametrize(
    ("items", "fits"),
    [
        ([1, 2], True),
        ([1, 1.0], False),
        ([1, True], True),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], False),
        ([[1], [1]], False),
        (["1", 1], True),
    ],
)
def test_unique_values(items: list[Any], fits: bool) -> None:
    form = object_of(a={"uniqueItems": True})
    assert form.fits(items, form.schema["properties"]["a"]) is fits


def test_exactly_one_form_or_any() -> None:
    form = object_of(a={"oneOf": [{"type": "integer"}, {"minimum": 5}]}, b={"anyOf": [{"type": "null"}, {"const": 1}]})
    assert form.written({"a": 3}) == '{"a":3}'
    with pytest.raises(Unfit, match="a: 7 is valid under more than one"):
        form.written({"a": 7})
    with pytest.raises(Unfit, match="b: 2 is not valid under any"):
        form.written({"b": 2})


def test_a_message_shortens_a_long_value() -> None:
    with pytest.raises(Unfit) as caught:
        object_of(a={"type": "integer"}).written({"a": "x" * 10_000})
    assert str(caught.value).endswith("is not of type 'integer'")
    assert len(str(caught.value)) < 400


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


ADDRESS = {"type": "object", "properties": {"street": {"type": "string"}, "number": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("part", "given", "written"),
    [
        ({"type": "object"}, '{"b": " D  E", "a": {"d": 1.0, "c": null}}', '{"a":{"c":null,"d":1},"b":"D E"}'),
        ({}, '{"b": [{"d": 1, "c": "2"}], "a": 1}', '{"a":1,"b":[{"c":"2","d":1}]}'),
        (True, '{"b": 2, "a": 1}', '{"a":1,"b":2}'),
        ({"type": ["object", "null"]}, '{"b": 2, "a": 1}', '{"a":1,"b":2}'),
        ({"type": "object", "additionalProperties": {}}, '{"b": 2, "a": 1}', '{"a":1,"b":2}'),
        ({"type": "object", "required": ["z", "y"]}, '{"b": 2, "y": 1, "z": 0}', '{"z":0,"y":1,"b":2}'),
        (
            {"type": "object", "anyOf": [{"required": ["z"]}, {"required": ["y"]}]},
            '{"b": 2, "a": 3, "y": 1}',
            '{"y":1,"a":3,"b":2}',
        ),
        ({"type": "object", "patternProperties": {"^x-": ADDRESS}}, '{"b": 1, "a": 2}', '{"a":2,"b":1}'),
        (
            {"type": "object", "patternProperties": {"^x-": ADDRESS}, "additionalProperties": False},
            '{"x-b": {"number": "7", "street": "Elm"}, "other": 1}',
            '{"x-b":{"street":"Elm","number":7}}',
        ),
        ({**ADDRESS, "patternProperties": {"^x-": {}}}, '{"x-a": 1, "b": 2, "number": 7}', '{"number":7,"x-a":1}'),
        (
            {"type": "array", "prefixItems": [{"$ref": "#/$defs/address"}, {"type": "number"}], "items": False},
            '[{"number": 7, "street": "Elm"}, "1.50"]',
            '[{"street":"Elm","number":7},1.5]',
        ),
    ],
)
def test_what_names_no_fields_keeps_those_of_the_answer_and_the_grammar_allows_them(
    part: Any, given: str, written: str
) -> None:
    require_form(part, given, written)


@pytest.mark.parametrize(
    "part",
    [
        {"allOf": [{"$ref": "#/$defs/address"}]},
        {"allOf": [{"$ref": "#/$defs/address"}], "description": "where", "default": {"street": "Elm"}},
        {"allOf": [{"allOf": [ADDRESS]}], "type": "object"},
        {"allOf": [{"$ref": "#/$defs/address"}, {"description": "where"}, {"minProperties": 1}]},
        {"anyOf": [{"type": "null"}, {"allOf": [{"$ref": "#/$defs/address"}]}]},
        {"type": "object", "additionalProperties": True, "allOf": [{"$ref": "#/$defs/address"}]},
    ],
)
def test_fields_behind_all_of_are_kept_in_the_schema_s_order(part: Any) -> None:
    require_form(part, '{"number": "7", "street": "Elm", "other": 1}', '{"street":"Elm","number":7}')


EITHER = {
    "type": "object",
    "properties": {
        "a": {"type": "number"},
        "b": {"type": ["number", "null"]},
        "c": {"type": ["string", "null"]},
    },
    "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
}


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ('{"c": "x", "a": "1.50"}', '{"a":1.5,"c":"x"}'),
        ('{"c": null, "b": 2.0, "a": null}', '{"b":2}'),
        ('{"b": null}', '{"b":null}'),
        ('{"b": "2", "a": 1}', '{"a":1,"b":2}'),
    ],
)
def test_branches_that_only_require_fields_leave_the_order_to_the_fields(given: str, written: str) -> None:
    require_form(EITHER, given, written)
    form = RecordForm(EITHER)
    assert form.canonical(given) == written


def test_branches_beside_items_leave_the_order_to_the_items() -> None:
    part = {"type": "array", "items": ADDRESS, "anyOf": [{"minItems": 2}, {"maxItems": 1}]}
    require_form(part, '[{"number": "7", "street": "Elm"}]', '[{"street":"Elm","number":7}]')


def test_no_branch_fits() -> None:
    with pytest.raises(Unfit, match=r"part: .* is not valid under any"):
        object_of(part=EITHER).canonical('{"part": {"c": "x"}}')


def require_form(part: Any, given: str, written: str) -> None:
    """Require the canonical form of a field, and that the grammar of its record allows that."""
    form = RecordForm({"type": "object", "properties": {"part": part}, "$defs": {"address": ADDRESS}})
    canonical = form.canonical(f'{{"part": {given}}}')
    assert canonical == form.canonical(canonical) == f'{{"part":{written}}}'
    grammar = RecordGrammar(TOKENS, form.schema, 0)
    tokens, matcher = grammar.tokens.tokenize_str(canonical), LLMatcher(grammar.tokens, grammar.grammar)
    assert matcher.try_consume_tokens(tokens) == len(tokens)
    assert matcher.is_accepting()


@pytest.mark.parametrize(
    ("record", "paths"),
    [
        ({"vendor": "Acme", "lines": []}, []),
        ({"vendor": "Acme", "any": {"colour": "red", "size": None, "parts": [{"a": 1}]}}, []),
        ({"vendor": "Acme", "few": {"x-a": 1, "b": 2}}, ["few.b"]),
        ({"vendor": "Acme", "note": "", "seller": None}, []),
        ({"vendor": " Acme ", "note": "paid"}, ["note"]),
        ({"vendor": "Acme", "lines": [{"what": "Pen", "price": 2}, {"price": 3}]}, ["lines.price", "lines.price"]),
    ],
)
def test_fields_that_the_schema_lacks_are_told(record: dict[str, Any], paths: list[str]) -> None:
    line = {"type": "object", "properties": {"what": {"type": "string"}}}
    few = {"type": "object", "patternProperties": {"^x-": {}}, "additionalProperties": False}
    properties = {
        "vendor": {"type": "string"},
        "lines": {"type": "array", "items": line},
        "any": {"type": "object"},
        "few": few,
    }
    form = RecordForm({"type": "object", "properties": properties})
    answer = json.dumps(record)
    assert list(left_out(answer, form.canonical(answer))) == paths


def test_a_multiple_is_one_as_it_is_written() -> None:
    form = RecordForm({"type": "object", "properties": {"total": {"type": "number", "multipleOf": 0.01}}})
    for total in ("19.99", "0.07", "4.35", "0", "-12", "1e300"):
        assert json.loads(form.canonical(f'{{"total": {total}}}')) == {"total": float(total)}
    for total in ("19.995", "1e-3"):
        with pytest.raises(Unfit, match=r"is not a multiple of 0\.01"):
            form.canonical(f'{{"total": {total}}}')
