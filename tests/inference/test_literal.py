"""Literal fields hold what stands in the request, word for word."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.inference.test_grammar import END, TOKENS, Babbler, Reciter
from tunewright.inference.decoding.grammar import RecordGrammar
from tunewright.inference.decoding.writing import generate
from tunewright.models.tokenizer import TextPrompt
from tunewright.tasks.literal import not_literal, pieces
from tunewright.tasks.record_form import RecordForm

LITERAL = {"type": "string", "x-literal": True}
PROPERTIES: dict[str, Any] = {
    "vendor": LITERAL,
    "date": {"type": "string", "format": "date"},
    "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    "note": LITERAL,
    "total": {"enum": [1.5, 5]},
}
LINE = {"type": "object", "properties": {"what": LITERAL, "count": {"type": "integer"}}, "required": ["what"]}
TEXT = 'Acme "Best"\tGmbH\n Desk  lamp, 3 x\nTotal 5.00 in Köln'


def rules(*required: str, **properties: Any) -> tuple[RecordGrammar, RecordForm]:
    form = RecordForm(
        {
            "type": "object",
            "properties": properties or PROPERTIES,
            "required": list(required),
            "$defs": {"line": LINE},
        }
    )
    return RecordGrammar(TOKENS, form.schema, END, literal=True), form


def written(grammar: RecordGrammar, record: Any, text: str = TEXT) -> Any:
    """What a model that is sure of a record writes."""
    ids = [*TOKENS.encode_verbatim(json.dumps(record, ensure_ascii=False, separators=(",", ":"))), END]

    def recite(before: Sequence[int]) -> npt.NDArray[np.float32]:
        logits = np.zeros(grammar.tokens.vocab_size, np.float32)
        logits[ids[min(len(before), len(ids) - 1)]] = 10
        return logits

    return json.loads(TOKENS.decode(generate(grammar, recite, TextPrompt([], text), 200).ids))


@pytest.mark.parametrize(
    "record",
    [
        {"vendor": 'Acme "Best" GmbH', "total": 5},
        {"vendor": "", "total": 5},
        {"vendor": "GmbH Desk", "date": "2024-02-29", "total": 5},
        {"vendor": "Köln", "lines": [{"what": "Desk lamp", "count": 3}, {"what": "lamp"}], "note": "3", "total": 5},
        {"vendor": "Best", "note": "Total 5.00", "total": 1.5},
    ],
)
def test_a_record_whose_literal_values_are_in_the_text_is_written(record: Any) -> None:
    grammar, form = rules("vendor", "total")
    assert form.canonical(json.dumps(record)) == json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    assert written(grammar, record) == record


@pytest.mark.parametrize("value", ["Acme GmbH", "ACME", "Desk lam", "esk", "Hamburg"])
def test_a_value_that_is_not_in_the_text_can_t_be_written(value: str) -> None:
    grammar, _ = rules("vendor")
    assert written(grammar, {"vendor": value})["vendor"] != value


@pytest.mark.parametrize("required", [(), ("vendor",), ("total",), ("note", "total"), tuple(PROPERTIES)])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_model_says_is_a_record_of_the_text(required: tuple[str, ...], seed: int) -> None:
    grammar, form = rules(*required)
    writer = generate(grammar, Babbler(seed), TextPrompt([], TEXT), 60)
    answer = TOKENS.decode(writer.ids)
    canonical = form.canonical(answer)
    assert answer.startswith("{") and list(json.loads(answer)) == [n for n in PROPERTIES if n in json.loads(answer)]
    assert not list(not_literal(canonical, TEXT, ["vendor", "note", "lines[].what"]))


def test_tokens_are_those_of_the_same_schema_without_literal_fields() -> None:
    record = {"vendor": "Desk lamp", "date": "2024-02-29", "lines": [{"what": "lamp", "count": 3}], "total": 5}
    answer = json.dumps(record, separators=(",", ":"))
    free = {name: {"type": "string"} if part is LITERAL else part for name, part in PROPERTIES.items()}
    both = [generate(rules(**each)[0], Reciter(answer), TextPrompt([], TEXT), 200).ids for each in (PROPERTIES, free)]
    assert both[0] == both[1] == TOKENS.encode_verbatim(answer)


def test_a_prompt_without_its_text_is_not_confined() -> None:
    grammar, _ = rules("vendor")
    answer = '{"vendor":"Hamburg"}'
    assert TOKENS.decode(generate(grammar, Reciter(answer), [], 50).ids) == answer


def test_a_text_without_a_word_leaves_the_empty_value() -> None:
    grammar, _ = rules("vendor", vendor=LITERAL)
    assert written(grammar, {"vendor": "x"}, text=" \n") == {"vendor": ""}


def test_logits_of_a_literal_place_leave_few_tokens() -> None:
    grammar, _ = rules("vendor", vendor=LITERAL)
    writer = grammar.begin(50, TextPrompt([], TEXT))
    logits: npt.NDArray[np.float32] = np.zeros(grammar.tokens.vocab_size, np.float32)
    writer.choose(logits)
    assert writer.log_probabilities[-1] > np.log(1 / 100)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Invoice F-87, 5kg\r\n\u00a0EUR5", ["Invoice", " ", "F", "-", "87", ",", " ", "5", "kg", " ", "EUR", "5"]),
        ("Mu\u0308ller & Söhne", ["Müller", " ", "&", " ", "Söhne"]),
        ("दुनिया में", ["दुनिया", " ", "में"]),
        ("abc東京ก็", ["abc", "東", "京", "ก็"]),
        ("x" * 450, ["x" * 200, "x" * 200, "x" * 50]),
    ],
)
def test_the_pieces_at_which_values_begin_and_end(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


@pytest.mark.parametrize(
    ("value", "text", "stands"),
    [
        ("5.00", "EUR5.00", True),
        ("東京", "東京都渋谷区", True),
        ("दुन", "दुनिया", False),
        ("Desk lamp", "Desk\n  lamp", True),
        ("amp", "lamp", False),
    ],
)
def test_what_stands_in_a_text(value: str, text: str, stands: bool) -> None:
    grammar, form = rules("vendor", vendor=LITERAL)
    assert (written(grammar, {"vendor": value}, text) == {"vendor": value}) is stands
    assert (not list(not_literal(form.canonical(json.dumps({"vendor": value})), text, ["vendor"]))) is stands


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"},
        {
            "type": "object",
            "properties": {"a": {"type": "string", "x-literal": True, "maxLength": 3}},
            "required": ["a"],
        },
        {
            "$defs": {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
            | {"a40": {"type": "null"}}
        },
    ],
)
def test_a_client_s_schema_has_no_literal_fields(schema: dict[str, Any]) -> None:
    writer = RecordGrammar(TOKENS, schema, END).begin(20, TextPrompt([], TEXT))
    assert not writer.done


def test_a_longer_text_than_the_limit_is_not_confined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewright.inference.decoding.grammar.LITERAL_PIECES", 3)
    grammar, _ = rules("vendor", vendor=LITERAL)
    assert written(grammar, {"vendor": "Hamburg"}) == {"vendor": "Hamburg"}
    assert written(grammar, {"vendor": "Hamburg"}, "a b") != {"vendor": "Hamburg"}


def test_other_parts_keep_their_references_and_their_limits() -> None:
    defined = {"c": {"type": "string", "pattern": "^[a-z]+$"}}
    properties = {"vendor": LITERAL, "code": {"$ref": "#/$defs/c", "maxLength": 3}}
    form = RecordForm({"type": "object", "properties": properties, "required": ["code"], "$defs": defined})
    grammar = RecordGrammar(TOKENS, form.schema, END, literal=True)
    for seed in range(4):
        form.canonical(TOKENS.decode(generate(grammar, Babbler(seed), TextPrompt([], TEXT), 60).ids))
