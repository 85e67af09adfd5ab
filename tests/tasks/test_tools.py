"""Tool calls: the one form of an answer, what a message answers, and the scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from llguidance import LLMatcher

from tests.conftest import TOKENIZER
from tunewright.config.tool_list import tool_list
from tunewright.inference.decoding.grammar import RecordGrammar
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Message
from tunewright.tasks.base import ToolCall, Unfit
from tunewright.tasks.measures import Ratio
from tunewright.tasks.tools import SaidCall, ToolsTask, narrowed, said

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "track_order",
            "description": "Where an order\nis.",
            "parameters": {
                "type": "object",
                "properties": {
                    "order": {"$ref": "#/$defs/order"},
                    "carrier": {"enum": ["dhl", "ups"]},
                    "notify": {"type": "boolean"},
                },
                "required": ["order"],
                "$defs": {"order": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}},
            },
        },
    },
    {"type": "function", "function": {"name": "opening_hours"}},
]
TOKENS = TextTokenizer(TOKENIZER)
TASK = ToolsTask("Help. You can:\n{tools}", tool_list(TOOLS, Path()))
TRACK = '{"name":"track_order","arguments":{"order":"AB-1234"}}'
HOURS = '{"name":"opening_hours","arguments":{}}'
TEXT = '{"text":"Hello."}'


def assistant(*calls: Mapping[str, Any], content: str = "") -> Message:
    tool_calls = [{"id": "1", "type": "function", "function": dict(call)} for call in calls]
    return Message(role="assistant", content=content, tool_calls=tool_calls or None)


def answered(message: Message) -> str:
    return TASK.canonical(TASK.answer_in(message))


def test_the_prompt_lists_the_tools_each_in_a_line() -> None:
    assert TASK.prompt("x")[0].content == "Help. You can:\n- track_order: Where an order is.\n- opening_hours"


def test_a_call_has_its_arguments_in_the_order_of_the_schema() -> None:
    given = '{"notify": null, "carrier":"ups","order":" AB-1234"}'
    assert answered(assistant({"name": "track_order", "arguments": given})) == (
        '{"name":"track_order","arguments":{"order":"AB-1234","carrier":"ups"}}'
    )
    assert answered(assistant({"name": "opening_hours", "arguments": ""})) == HOURS
    assert answered(assistant({"name": "opening_hours"})) == HOURS


def test_the_former_kind_of_call_counts_too() -> None:
    old = {"function_call": {"name": "track_order", "arguments": '{"order":"AB-1234"}'}}
    assert answered(Message(role="assistant", content="", extra=old)) == TRACK


def test_a_text_is_an_answer_and_keeps_its_lines() -> None:
    assert answered(assistant(content=" Hello.\r\nBye. ")) == '{"text":"Hello.\\nBye."}'
    assert answered(assistant(content="[1] See there.")) == '{"text":"[1] See there."}'
    assert answered(assistant(content='{"total": 3}')) == '{"text":"{\\"total\\": 3}"}'
    assert TASK.canonical("Hello.") == TEXT


def test_a_call_wins_over_the_text_beside_it() -> None:
    assert answered(assistant({"name": "opening_hours", "arguments": "{}"}, content="Let me see.")) == HOURS


@pytest.mark.parametrize("answer", [TRACK, HOURS, TEXT, '{"text":""}', '{"text":"ä\\n\\"x\\""}'])
def test_an_answer_in_canonical_form_stays_as_it_is(answer: str) -> None:
    assert TASK.canonical(answer) == answer == answered(assistant(content=answer))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('{"name":"cancel","arguments":{}}', "there is no tool 'cancel'"),
        ('{"name":"track_order","arguments":{}}', "track_order: the record: 'order' is a required property"),
        ('{"name":"track_order","arguments":{"order":"AB-12"}}', "track_order: order: 'AB-12' does not match"),
        ('{"name":"opening_hours","arguments":{"day":1}}', "opening_hours: it has no argument 'day'"),
        ('{"name":"opening_hours","arguments":"[]"}', "opening_hours: the record: .* is not of type 'object'"),
        ('{"name":"opening_hours","arguments":"{"}', "it is not JSON"),
        ('{"name":"opening_hours","arguments":{},"id":1}', "its keys are not name and arguments, or text alone"),
        ('{"name":["opening_hours"],"arguments":{}}', "there is no tool"),
        ('[{"name":"opening_hours"},{"name":"opening_hours"}]', "it has 2 calls, this task takes one"),
        ('{"text":1}', "its keys are not"),
        ('{"name":', "it is not JSON"),
        ('{"text":"\\ud800"}', "lone surrogate"),
    ],
)
def test_what_is_no_answer(answer: str, reason: str) -> None:
    with pytest.raises(Unfit, match=reason):
        TASK.canonical(answer)


@pytest.mark.parametrize("more", [{}, {"additionalProperties": False}])
def test_a_tool_may_name_its_arguments_by_a_pattern(more: dict[str, Any]) -> None:
    parameters = {"type": "object", "patternProperties": {"^x-": {"type": "integer"}}, **more}
    task = ToolsTask("Help.", tool_list([{"name": "tag", "parameters": parameters}], Path()))
    assert task.canonical('{"name":"tag","arguments":{"x-b":1,"x-a":"2"}}') == (
        '{"name":"tag","arguments":{"x-a":2,"x-b":1}}'
    )
    with pytest.raises(Unfit, match="tag: it has no argument 'y'"):
        task.canonical('{"name":"tag","arguments":{"y":1}}')


def test_several_calls_are_no_answer() -> None:
    with pytest.raises(Unfit, match="2 calls"):
        answered(assistant({"name": "opening_hours"}, {"name": "opening_hours"}))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (TRACK, SaidCall("track_order", '{"order":"AB-1234"}')),
        (TEXT, SaidCall(None, "Hello.")),
        ("?", None),
        ("[]", None),
    ],
)
def test_what_an_answer_says(answer: str, says: SaidCall | None) -> None:
    assert said(answer) == says


def scores(gold: str, answer: str) -> dict[str, Ratio]:
    return {name: ratio for name, ratio in TASK.measures("", gold, answer).items() if ratio.whole}


def test_a_right_call() -> None:
    found = scores(TRACK, TRACK)
    assert next(iter(TASK.measures("", TRACK, TRACK))) == TASK.primary_metric == "call accuracy"
    assert found == {
        "call accuracy": (1, 1),
        "tool accuracy": (1, 1),
        "argument F1": (2, 2),
        "field track_order.order": (2, 2),
        "label track_order": (2, 2),
    }


def test_a_wrong_argument_of_the_right_tool() -> None:
    found = scores(
        '{"name":"track_order","arguments":{"order":"AB-1234"}}',
        '{"name":"track_order","arguments":{"order":"AB-9999","notify":true}}',
    )
    assert found["call accuracy"] == (0, 1)
    assert found["tool accuracy"] == (1, 1)
    assert found["argument F1"] == (0, 3)
    assert found["field track_order.notify"] == (0, 1)


def test_the_arguments_of_a_wrong_tool_count_nowhere() -> None:
    assert scores(TRACK, HOURS) == {
        "call accuracy": (0, 1),
        "tool accuracy": (0, 1),
        "label track_order": (0, 1),
        "label opening_hours": (0, 1),
    }


def test_no_call_where_none_is_due() -> None:
    other = '{"text":"Good day!"}'
    assert scores(TEXT, other) == {
        "call accuracy": (1, 1),
        "tool accuracy": (1, 1),
        "irrelevance detection": (1, 1),
        "label no call": (2, 2),
    }
    assert scores(TEXT, HOURS)["irrelevance detection"] == (0, 1)
    assert "irrelevance detection" not in scores(HOURS, TEXT)
    assert scores(HOURS, TEXT)["call accuracy"] == (0, 1)


@pytest.mark.parametrize("gold", [TRACK, TEXT])
def test_what_is_no_answer_is_wrong_in_every_way(gold: str) -> None:
    assert {ratio.part for ratio in scores(gold, "").values()} == {0}


SEARCH = {
    "name": "search",
    "parameters": {"type": "object", "properties": {"q": {"type": "string"}, "filters": {"type": "object"}}},
}


def test_a_free_form_argument_counts_in_every_order_of_its_keys() -> None:
    task = ToolsTask("Help.", tool_list([{"type": "function", "function": SEARCH}], Path()))
    gold, same, other = (
        task.canonical(json.dumps({"name": "search", "arguments": {"filters": filters, "q": "x"}}))
        for filters in ({"city": "Bonn", "country": "DE"}, {"country": "DE", "city": "Bonn"}, {"country": "FR"})
    )
    assert gold == '{"name":"search","arguments":{"q":"x","filters":{"city":"Bonn","country":"DE"}}}'
    assert allows(task.constraint, gold)
    assert task.measures("", gold, same)["call accuracy"] == (1, 1)
    assert task.measures("", gold, other)["call accuracy"] == (0, 1)
    assert task.measures("", gold, other)["field search.filters.country"] == (0, 2)


def allows(constraint: ToolCall, answer: str) -> bool:
    grammar = RecordGrammar(TOKENS, constraint.schema, 0)
    tokens = grammar.tokens.tokenize_str(answer)
    matcher = LLMatcher(grammar.tokens, grammar.grammar)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def test_the_grammar_allows_answers_and_nothing_else() -> None:
    rule = TASK.constraint
    assert all(allows(rule, answer) for answer in (TRACK, HOURS, TEXT))
    assert not allows(rule, TRACK.replace("1234", "12"))
    assert not allows(rule, HOURS.replace("hours", "times"))
    assert not allows(rule, '{"name":"opening_hours","arguments":{"order":"AB-1234"}}')


def test_a_narrower_constraint() -> None:
    tool = narrowed(TASK.constraint, ["opening_hours"], text=False)
    assert allows(tool, HOURS)
    assert not allows(tool, TRACK)
    assert not allows(tool, TEXT)
    text = narrowed(TASK.constraint, [], text=True)
    assert allows(text, TEXT)
    assert not allows(text, HOURS)


def test_an_answer_is_json_that_others_read() -> None:
    assert json.loads(TASK.canonical(TRACK)) == {"name": "track_order", "arguments": {"order": "AB-1234"}}
