"""The answer is a record with any model, and forced tokens cost no forward pass."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.conftest import TOKENIZER
from tunewright.core.call import CALL, Abandoned, Call
from tunewright.inference.decoding.grammar import GrammarError, RecordGrammar
from tunewright.inference.decoding.shortest import least_letters
from tunewright.inference.decoding.writing import generate
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks.record_form import RecordForm

SCHEMAS: dict[str, dict[str, Any]] = {
    "flat": {
        "properties": {
            "vendor": {"type": "string"},
            "date": {"type": "string", "format": "date"},
            "total": {"type": "number"},
            "currency": {"enum": ["USD", "EUR"]},
        },
        "required": ["vendor", "date", "total", "currency"],
    },
    "nested": {
        "properties": {
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
            "paid": {"type": "boolean"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["lines"],
        "$defs": {"line": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
    },
    "strict": {
        "properties": {
            "code": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
            "total": {"type": "string", "pattern": r"^[0-9]+\.[0-9]{2}$"},
            "word": {"type": "string", "pattern": "^[a-z]+x$"},
            "tag": {"const": "x"},
        },
        "required": ["code", "total", "word", "tag"],
    },
}
TOKENS = TextTokenizer(TOKENIZER)
END = TOKENS.encode_text("<|im_end|>")[0]
VOCABULARY = 49152


def grammar(schema: dict[str, Any]) -> tuple[RecordGrammar, RecordForm]:
    form = RecordForm({"type": "object", **schema})
    return RecordGrammar(TOKENS, form.schema, END), form


class Babbler:
    """A model that says random things; the same ones for a seed."""

    def __init__(self, seed: int):
        self._draw, self.calls = np.random.default_rng(seed), 0

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:  # noqa: ARG002 (the protocol)
        self.calls += 1
        return self._draw.normal(0, 3, VOCABULARY).astype(np.float32)


class Reciter:
    """A model that is sure of one text."""

    def __init__(self, text: str):
        self._ids, self.calls = [*TOKENS.encode_verbatim(text), END], 0

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        self.calls += 1
        logits = np.zeros(VOCABULARY, np.float32)
        logits[self._ids[len(ids)]] = 10
        return logits


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("most", [0, 5, 60])
def test_the_answer_of_any_model_is_a_record(name: str, most: int) -> None:
    rules, form = grammar(SCHEMAS[name])
    for seed in range(8):
        decoded = generate(rules, Babbler(seed), [], most)
        form.canonical(TOKENS.decode(decoded.ids))
        assert len(decoded.log_probabilities) == len(decoded.ids)
        assert all(score <= 0 for score in decoded.log_probabilities)


def test_a_known_answer_is_written_and_forced_tokens_need_no_forward_pass() -> None:
    rules, form = grammar(SCHEMAS["flat"])
    text = form.written({"vendor": "Vantage Cleaning LLC", "date": "2024-03-18", "total": 12.5, "currency": "EUR"})
    model = Reciter(text)
    decoded = generate(rules, model, [], 200)
    assert TOKENS.decode(decoded.ids) == text
    assert decoded.ids == TOKENS.encode_verbatim(text), "the tokens are those that training teaches"
    assert not decoded.cut
    assert model.calls < len(decoded.ids)


def test_an_answer_that_would_not_end_is_cut_and_stays_a_record() -> None:
    rules, _ = grammar(SCHEMAS["flat"])
    decoded = generate(rules, Reciter('{"vendor":"' + "very " * 500), [], 40)
    assert decoded.cut
    assert len(decoded.ids) < 100
    record = json.loads(TOKENS.decode(decoded.ids))
    assert record["vendor"].startswith("very very")
    assert len(record["date"]) == 10


def test_a_cut_record_takes_the_shortest_way_to_its_end() -> None:
    rules, _ = grammar({"properties": {name: {"type": "string"} for name in "abc"}, "required": list("abc")})
    assert TOKENS.decode(generate(rules, Babbler(0), [], 0).ids) == '{"a":"","b":"","c":""}'


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema, "minItems": 1}
    return schema


HOSTILE: dict[str, tuple[Any, str]] = {
    "long text": ({"type": "string", "minLength": 1_000_000}, "shortest answer has 1,000,002"),
    "long list": ({"type": "array", "items": {"type": "integer"}, "minItems": 1_000_000}, "shortest answer"),
    "more than all": ({"type": "string", "minLength": 10**400}, "shortest answer"),
    "requires itself": (
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}},
        },
        "requires itself",
    ),
    "large": ({"const": "x" * 1_000_000}, "256 KiB"),
    "long constant": ({"const": "x" * 50_000}, "shortest answer"),
    "many": ({"enum": [f"v{number}" for number in range(100_000)]}, "256 KiB"),
    "deep": (nested(200), "120 levels"),
    "doubled": (
        {
            "$ref": "#/$defs/a0",
            "$defs": {"a30": {"const": 1}}
            | {
                f"a{n}": {"type": "array", "prefixItems": [{"$ref": f"#/$defs/a{n + 1}"}] * 2, "minItems": 2}
                for n in range(30)
            },
        },
        "shortest answer",
    ),
    "chain": (
        {"$ref": "#/$defs/a0", "$defs": {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(1500)}},
        "references",
    ),
    "not disjoint": (
        {
            "allOf": [
                {
                    "anyOf": [
                        {"type": "object", "properties": {f"k{n}{m}": {"type": "string"}}, "required": [f"k{n}{m}"]}
                        for m in range(6)
                    ]
                }
                for n in range(9)
            ]
        },
        "large",
    ),
    "no type": ({"type": "strin"}, "Invalid type"),
    "type in a list": ({"type": [1]}, "no JSON Schema|must be a string"),
    "names in a list": ({"properties": [1]}, "must be an object"),
    "not a number": ({"type": "number", "minimum": float("nan")}, "no JSON Schema"),
    "half a letter": ({"type": "object", "properties": {"\ud800": {"type": "string"}}}, "no JSON Schema"),
    "elsewhere": ({"$ref": "http://example.com/x"}, "not present"),
    "a file": ({"$ref": "file:///etc/passwd"}, "not present"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_schema_that_is_too_large_or_invalid_is_refused(name: str) -> None:
    schema, reason = HOSTILE[name]
    with pytest.raises(GrammarError, match=reason):
        RecordGrammar(TOKENS, schema, END).begin(16)


def test_an_answer_that_can_not_end_is_an_error() -> None:
    rules = RecordGrammar(TOKENS, {"type": "string", "pattern": "^[a-z]{60000}$"}, END)
    with pytest.raises(GrammarError, match="can't end"):
        generate(rules, Babbler(0), [], 8)


def test_forced_tokens_end_with_the_call() -> None:
    rules = RecordGrammar(TOKENS, {"const": "x" * 8000}, END)
    call = Call(60)
    token = CALL.set(call)
    call.gone.set()
    try:
        with pytest.raises(Abandoned):
            rules.begin(16)
    finally:
        CALL.reset(token)


@pytest.mark.parametrize(
    ("schema", "letters"),
    [
        (True, 1),
        ({}, 1),
        ({"type": "string", "minLength": 3}, 5),
        ({"type": ["string", "null"]}, 2),
        ({"const": "ab"}, 4),
        ({"enum": ["abc", "a"]}, 3),
        ({"type": "array", "items": {"type": "null"}, "minItems": 2}, 11),
        ({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}, 10),
        ({"$ref": "#/nowhere"}, 1),
        ({"anyOf": [{"const": "abc"}, {"$ref": "#"}]}, 5),
        ({"minLength": "no", "type": "string"}, 2),
    ],
)
def test_the_shortest_answer_to_a_schema_is_known(schema: Any, letters: int) -> None:
    assert least_letters(schema) == letters


def test_a_list_that_is_linked_to_itself_has_an_end() -> None:
    link = {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/link"}]}
    schema = {
        "type": "object",
        "properties": {"first": link, "second": {"$ref": "#/$defs/link"}},
        "required": ["second"],
        "$defs": {"link": {"type": "object", "properties": {"next": link}, "required": ["next"]}},
    }
    text = '{"second":{"next":null}}'
    assert least_letters(schema) == len(text)
    rules = RecordGrammar(TOKENS, schema, END)
    assert json.loads(TOKENS.decode(generate(rules, Reciter(text), [], 100).ids)) == json.loads(text)
