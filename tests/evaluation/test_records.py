"""Predictors of records: the baselines, and a language model's confidence in each field."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.conftest import TOKENIZER
from tunewright.config.tool_list import tool_list
from tunewright.evaluation.candidates.records import Nearest, Patterns, controls
from tunewright.inference.calibration import Calibration
from tunewright.inference.decoding.grammar import RecordGrammar
from tunewright.inference.predictors import RecordReader
from tunewright.inference.predictors.base import settled
from tunewright.inference.predictors.prompted import shots_of
from tunewright.models.chat import ChatTemplate, end_token
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, Meta
from tunewright.tasks.extract import ExtractTask
from tunewright.tasks.tools import ToolsTask, narrowed

SCHEMA = {
    "type": "object",
    "properties": {
        "vendor": {"type": "string"},
        "date": {"type": "string", "format": "date"},
        "total": {"type": "number"},
    },
    "required": ["vendor", "date", "total"],
}
TASK = ExtractTask("Read the invoice.", SCHEMA)
VENDORS = ("Acme Ltd", "Umbrella Corp", "Tyrell Inc")


def invoice(number: int) -> Example:
    vendor, day, total = VENDORS[number % 3], 1 + number % 28, 100 + 7 * number
    text = f"{vendor}\nInvoice {number}\nDate: {day:02}/03/2024\nlamp   {number}.50\nTOTAL USD {total}.25\nThank you"
    record = {"vendor": vendor, "date": f"2024-03-{day:02}", "total": total + 0.25}
    return Example.of(text, TASK.form.written(record), Meta(id=str(number)))


KNOWN = [invoice(number) for number in range(40)]


def test_the_nearest_example_lends_its_record() -> None:
    nearest = Nearest(KNOWN)
    assert nearest.answer(KNOWN[3].request).text == KNOWN[3].answer
    assert nearest.answer(KNOWN[3].request).confidence == pytest.approx(1)


def test_patterns_find_values_that_no_example_had() -> None:
    patterns = Patterns(KNOWN, TASK.canonical)
    for number in (101, 110, 118):
        example = invoice(number)
        assert json.loads(patterns.answer(example.request).text) == json.loads(example.answer)


def test_patterns_give_an_empty_record_where_nothing_fits() -> None:
    assert Patterns(KNOWN, TASK.canonical).answer("").text == "{}"


def test_the_baselines_go_with_the_task() -> None:
    assert set(controls(TASK, KNOWN)) == {"nearest", "patterns"}


def test_shots_are_short_and_few_enough() -> None:
    examples = [*KNOWN, Example.of("word " * 900, KNOWN[0].answer, Meta(id="long"))]
    encode = str.split
    assert [shot.meta.id for shot in shots_of(examples, [], 3, encode)] == [
        example.meta.id for example in sorted(KNOWN, key=lambda e: (len(e.request) + len(e.answer), e.meta.id))[:3]
    ]
    long = [Example.of("word " * 900, "x", Meta(id=str(number))) for number in range(5)]
    assert len(shots_of(long, [], 5, encode)) == 2


class Sure:
    """Writes one text; of each token that is not forced it is as sure as `odds` says of the next one."""

    def __init__(self, tokens: Sequence[int], start: int, odds: float):
        self._tokens, self._start, self._odds = tokens, start, odds

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        logits = np.full(1 << 16, -1e9, np.float32)
        wanted = self._tokens[len(ids) - self._start]
        logits[[wanted, wanted ^ 1]] = math.log(self._odds), 0
        return logits


def test_shots_of_several_labels_show_each_label_in_turn_and_no_example_twice() -> None:
    answers = ["[]", '["a"]', '["b","a"]', '["b"]', '["c"]', "[]"]
    rows = [Example.of("x" * (number + 1), answer, Meta(id=str(number))) for number, answer in enumerate(answers)]
    assert [shot.meta.id for shot in shots_of(rows, ["a", "b", "c"], 3, str.encode)] == ["1", "2", "4"]
    assert [shot.meta.id for shot in shots_of(rows, ["a", "b", "c"], 9, str.encode)] == ["1", "2", "4", "3"]


def test_a_field_is_as_sure_as_the_tokens_that_decide_it() -> None:
    template, tokenizer = ChatTemplate.named("chatml"), TextTokenizer(TOKENIZER)
    end = end_token(TASK, template, tokenizer)
    text = TASK.form.written({"vendor": "Acme", "date": "2024-03-18", "total": 12.5})
    start = len(template.encode_prompt(TASK.prompt("x"), tokenizer))
    model = Sure([*tokenizer.encode_verbatim(text), end], start, odds=3)
    grammar = RecordGrammar(tokenizer, SCHEMA, end)
    reader = RecordReader(model, TASK, template, tokenizer, grammar, grammar, max_tokens=200)
    answer = reader.answer("x")
    assert answer.text == text
    assert set(answer.fields) == {"vendor", "date", "total"}
    assert all(0 < confidence <= 1 for confidence in answer.fields.values())
    assert answer.confidence == pytest.approx(math.prod(answer.fields.values()), rel=0.5)
    assert answer.prompt_tokens == start
    assert answer.answer_tokens == len(tokenizer.encode_verbatim(text)) + 1


def test_the_words_of_a_text_have_no_part_in_how_sure_a_tool_call_is() -> None:
    task = ToolsTask("Help.", tool_list([{"type": "function", "function": {"name": "now"}}], Path()))
    template, tokenizer = ChatTemplate.named("chatml"), TextTokenizer(TOKENIZER)
    end = end_token(task, template, tokenizer)
    grammar = RecordGrammar(tokenizer, task.constraint.schema, end)
    start = len(template.encode_prompt(task.prompt("x"), tokenizer))
    for text in ('{"text":"Hello, my dear friend!"}', '{"text":"Hi"}', '{"name":"now","arguments":{}}'):
        model = Sure([*tokenizer.encode_verbatim(text), end], start, odds=3)
        reader = RecordReader(model, task, template, tokenizer, grammar, grammar, max_tokens=200)
        answer = reader.answer("x")
        assert answer.text == text
        assert answer.confidence == pytest.approx(1), "there is no other choice but among letters of the text"
        assert answer.fields.get("text", 0) < 0.9
        (prompt,) = reader.prompts("x")
        only = narrowed(task.constraint, [], text=True).schema
        assert set(json.loads(reader.answer_confined(prompt, only).text)) == {"text"}


class Knows:
    """A model that has learnt what to write behind each prompt."""

    def __init__(self, written: dict[tuple[int, ...], list[int]]):
        self._written = written

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        prompt = next(prompt for prompt in self._written if tuple(ids[: len(prompt)]) == prompt)
        logits = np.zeros(1 << 16, np.float32)
        place = len(ids) - len(prompt)
        if place < len(self._written[prompt]):
            logits[self._written[prompt][place]] = 20
        return logits


def test_a_long_document_is_read_in_windows_and_its_record_is_whole() -> None:
    task = ExtractTask("Read the invoice.", SCHEMA, window=64)
    template, tokenizer = ChatTemplate.named("chatml"), TextTokenizer(TOKENIZER)
    end = end_token(task, template, tokenizer)
    filler = "".join(f"Article {n}, as agreed\n" for n in range(40))
    text = f"Acme Ltd\nDate: 18/03/2024\n{filler}TOTAL USD 12.5"
    example = Example.of(text, '{"vendor":"Acme Ltd","date":"2024-03-18","total":12.5}', Meta(id="1"))
    training_examples = task.training_examples(example, lambda text: len(tokenizer.encode_verbatim(text)))
    assert len(training_examples) > 4
    taught = {
        tuple(template.encode_prompt(task.prompt(training_example.request), tokenizer)): [
            *tokenizer.encode_verbatim(training_example.answer),
            end,
        ]
        for training_example in training_examples
    }
    chunk, whole = (RecordGrammar(tokenizer, schema, end) for schema in (task.constraint.chunk, SCHEMA))
    reader = RecordReader(Knows(taught), task, template, tokenizer, chunk, whole, max_tokens=200)
    answer = reader.answer(text)
    assert answer.text == example.answer
    assert set(answer.fields) == {"vendor", "date", "total"}
    assert answer.prompt_tokens == sum(map(len, taught))

    # No window says the total; the record has one all the same, because it must: what the first would say of the whole.
    first, *_, last = taught
    taught[last] = [*tokenizer.encode_verbatim("{}"), end]
    ids = tokenizer.encode_verbatim('{"vendor":"Acme Ltd","date":"2024-03-18"')
    taught[first] = [*ids, *tokenizer.encode_verbatim("}"), end]
    partly = RecordReader(Knows(taught), task, template, tokenizer, chunk, whole, max_tokens=200).answer(text)
    record = json.loads(partly.text)
    assert (record["vendor"], record["date"]) == ("Acme Ltd", "2024-03-18")
    assert set(partly.fields) == {"vendor", "date", "total"}
    assert task.canonical(partly.text) == partly.text


def test_an_object_whose_fields_stand_far_apart_is_completed_by_the_first_window() -> None:
    """No window says the seller's city, so the first is asked for the whole record. What others say of it stays."""
    text = {"type": "string"}
    seller = {"type": "object", "properties": {"name": text, "city": text, "iban": text}, "required": ["name", "city"]}
    schema = {"type": "object", "properties": {"seller": seller}, "required": ["seller"]}
    task = ExtractTask("Read the invoice.", schema, window=64)
    template, tokenizer = ChatTemplate.named("chatml"), TextTokenizer(TOKENIZER)
    end = end_token(task, template, tokenizer)
    chunk, whole = (RecordGrammar(tokenizer, form, end) for form in (task.constraint.chunk, schema))
    request = "Acme\n" + "".join(f"Article {n}, as agreed\n" for n in range(40)) + "DE89"
    first, *others, last = task.chunks(request, lambda text: len(tokenizer.encode_verbatim(text)))
    said = {first: '{"seller":{"name":"Acme"', last: '{"seller":{"iban":"DE89"}}'} | dict.fromkeys(others, "{}")
    taught = {
        tuple(template.encode_prompt(task.prompt(part), tokenizer)): [*tokenizer.encode_verbatim(answer), end]
        for part, answer in said.items()
    }
    reader = RecordReader(Knows(taught), task, template, tokenizer, chunk, whole, max_tokens=200)
    record = json.loads(reader.answer(request).text)
    assert (record["seller"]["name"], record["seller"]["iban"]) == ("Acme", "DE89")
    assert set(record["seller"]) == {"name", "city", "iban"}


def test_a_required_field_may_be_null_or_empty_in_one_window_and_in_many() -> None:
    schema = {
        "type": "object",
        "properties": {
            "vendor": {"type": "string"},
            "iban": {"type": ["string", "null"]},
            "items": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["vendor", "iban", "items"],
    }
    task = ExtractTask("Read the invoice.", schema, window=64)
    template, tokenizer = ChatTemplate.named("chatml"), TextTokenizer(TOKENIZER)
    end = end_token(task, template, tokenizer)
    chunk, whole = (RecordGrammar(tokenizer, form, end) for form in (task.constraint.chunk, schema))
    written = task.canonical('{"vendor":"Acme","iban":null,"items":[]}')
    for text in ("Acme", "Acme\n" + "".join(f"Article {n}, as agreed\n" for n in range(40))):
        first, *others = task.chunks(text, lambda text: len(tokenizer.encode_verbatim(text)))
        said = {first: written} | dict.fromkeys(others, "{}")
        taught = {
            tuple(template.encode_prompt(task.prompt(part), tokenizer)): [*tokenizer.encode_verbatim(answer), end]
            for part, answer in said.items()
        }
        reader = RecordReader(Knows(taught), task, template, tokenizer, chunk, whole, max_tokens=200)
        assert reader.answer(text).text == written


NEEDS_A_LETTER = {
    "type": "object",
    "properties": {"vendor": {"type": "string", "minLength": 1}, "total": {"type": "number"}},
    "required": ["vendor", "total"],
}


def reader_of(task: ExtractTask | ToolsTask, written: str, text: str) -> RecordReader:
    """The reader of a model that writes this in each window of a text."""
    template, tokenizer = ChatTemplate.named("chatml"), TextTokenizer(TOKENIZER)
    end = end_token(task, template, tokenizer)
    chunk, whole = (RecordGrammar(tokenizer, schema, end) for schema in (task.constraint.chunk, task.constraint.schema))
    windows = task.chunks(text, lambda text: len(tokenizer.encode_verbatim(text)))
    taught = {
        tuple(template.encode_prompt(task.prompt(window), tokenizer)): [*tokenizer.encode_verbatim(written), end]
        for window in windows
    }
    calibration = Calibration(temperature=3, bias=2)
    return RecordReader(Knows(taught), task, template, tokenizer, chunk, whole, 200, calibration=calibration)


@pytest.mark.parametrize("text", ["x", "Article 1, as agreed\n" * 20], ids=["whole", "in windows"])
def test_a_record_that_the_canonical_form_refuses_is_an_answer_without_confidence(text: str) -> None:
    """The grammar takes white space for a letter, and the canonical form does not."""
    task = ExtractTask("Read.", NEEDS_A_LETTER, window=64)
    answer = reader_of(task, '{"vendor":" ","total":5.0}', text).answer(text)
    assert (answer.text, answer.confidence, list(answer.fields)) == ('{"total":5}', 0.0, ["total"])
    assert task.measures("", '{"vendor":"A","total":5}', answer.text)["records"].score == 0


def test_a_refused_chunk_keeps_the_items_of_which_another_has_the_rest() -> None:
    tags = {"type": "array", "items": {"type": "string"}, "minItems": 2}
    schema = {"type": "object", "properties": {"nick": {"type": "string", "minLength": 2}, "tags": tags}}
    task, text = ExtractTask("Read.", schema, window=64), '{"nick":"a ","tags":["q"]}'
    fields = {"nick": 0.9, "tags[]": 0.8}
    assert settled(task, text, 0.7, fields, is_chunk=True) == ('{"tags":["q"]}', 0.0, {"tags[]": 0.8})
    assert settled(task, text, 0.7, fields) == ("{}", 0.0, {})


def test_a_call_that_the_canonical_form_refuses_is_an_answer_without_confidence() -> None:
    function = {"name": "pay", "parameters": NEEDS_A_LETTER}
    task = ToolsTask("Help.", tool_list([{"type": "function", "function": function}], Path()))
    answer = reader_of(task, '{"name":"pay","arguments":{"vendor":" ","total":5.0}}', "x").answer("x")
    assert (answer.text, answer.confidence) == ('{"name":"pay","arguments":{"total":5}}', 0.0)
    assert list(answer.fields) == ["name", "arguments.total"]
    assert task.measures("", '{"name":"pay","arguments":{"vendor":"A","total":5}}', answer.text)[
        task.primary_metric
    ] == (0, 1)
