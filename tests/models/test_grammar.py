"""Whatever a model would rather say, its answer is a record; what the grammar forces costs no model call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.conftest import TOKENIZER
from tunewright.models.grammar import RecordGrammar
from tunewright.models.tokenizer import TextTokenizer
from tunewright.models.writing import written
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
    return RecordGrammar(TOKENIZER, form.schema, END), form


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
def test_whatever_a_model_says_the_answer_is_a_record(name: str, most: int) -> None:
    rules, form = grammar(SCHEMAS[name])
    for seed in range(8):
        decoded = written(rules, Babbler(seed), [], most)
        form.canonical(TOKENS.decode(decoded.ids))
        assert len(decoded.log_probabilities) == len(decoded.ids)
        assert all(score <= 0 for score in decoded.log_probabilities)


def test_an_answer_that_is_known_is_given_and_what_is_forced_is_not_asked_for() -> None:
    rules, form = grammar(SCHEMAS["flat"])
    text = form.written({"vendor": "Vantage Cleaning LLC", "date": "2024-03-18", "total": 12.5, "currency": "EUR"})
    model = Reciter(text)
    decoded = written(rules, model, [], 200)
    assert TOKENS.decode(decoded.ids) == text
    assert decoded.ids == TOKENS.encode_verbatim(text), "the tokens are those that training teaches"
    assert not decoded.cut
    assert model.calls < len(decoded.ids)


def test_an_answer_that_would_not_end_is_cut_and_stays_a_record() -> None:
    rules, _ = grammar(SCHEMAS["flat"])
    decoded = written(rules, Reciter('{"vendor":"' + "very " * 500), [], 40)
    assert decoded.cut
    assert len(decoded.ids) < 100
    record = json.loads(TOKENS.decode(decoded.ids))
    assert record["vendor"].startswith("very very")
    assert len(record["date"]) == 10


def test_what_follows_a_cut_is_as_short_as_it_may_be() -> None:
    rules, _ = grammar({"properties": {name: {"type": "string"} for name in "abc"}, "required": list("abc")})
    assert TOKENS.decode(written(rules, Babbler(0), [], 0).ids) == '{"a":"","b":"","c":""}'
