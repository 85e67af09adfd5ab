from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.readers.helpers import Read, assistant, lines, read_all, talk, user, write
from tunewright.core.errors import UserError
from tunewright.data.readers import Columns, detect, read

CALL = {"id": "c1", "type": "function", "function": {"name": "track", "arguments": '{"id": 1}'}}
TOOL = {"type": "function", "function": {"name": "track", "parameters": {"type": "object"}}}
SYSTEM = {"role": "system", "content": "Be kind."}


def given(tmp_path: Path, *rows: Any, form: str | None = None, columns: Columns | None = None) -> Read:
    return read_all(write(tmp_path / "d.jsonl", lines(rows)), form, columns)


def turns(found: Read) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in found.example.messages]


ROWS: dict[str, dict[str, Any]] = {
    "chat": talk("q", "a"),
    "prompt": {"prompt": "q", "completion": "a"},
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "alpaca": {"instruction": "q", "input": "", "output": "a"},
    "stored": {"messages": [user("q")], "choices": [{"message": assistant("a"), "finish_reason": "stop"}]},
    "labelled": {"text": "q", "label": "a"},
}


@pytest.mark.parametrize("form", ROWS)
def test_each_form_is_detected_and_gives_the_same_plain_example(form: str, tmp_path: Path) -> None:
    assert detect([ROWS[form]]) == form
    assert given(tmp_path, ROWS[form]).example.row() == {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        "meta": {"id": "d.jsonl:1", "source": "d.jsonl:1"},
    }


@pytest.mark.parametrize(
    ("form", "other"),
    # A stored completion has messages too, and could be read as a chat.
    [(form, other) for form in ROWS for other in ROWS if form not in (other, "stored") and other != "stored"],
)
def test_a_row_of_another_form_is_a_fault_that_names_its_form(form: str, other: str, tmp_path: Path) -> None:
    found = given(tmp_path, ROWS[other], form=form)
    assert found.placed == [(1, "shape")]
    assert f"form '{other}'" in found.fault.reason


def test_the_form_of_most_rows_counts(tmp_path: Path) -> None:
    found = given(tmp_path, ROWS["prompt"], ROWS["chat"], ROWS["chat"])
    assert found.placed == [(1, "shape")]


@pytest.mark.parametrize(
    ("columns", "answer"),
    [
        (Columns(label="weight"), "12"),
        (Columns(label={"weight": "weight", "unit": "unit"}), '{"weight": 12, "unit": "kg"}'),
        (Columns(label="unit", group="weight"), "kg"),
    ],
)
def test_a_column_that_is_named_weight_and_used_is_no_rows_weight(
    columns: Columns, answer: str, tmp_path: Path
) -> None:
    found = given(tmp_path, {"text": "q", "weight": 12, "unit": "kg"}, columns=columns)
    assert (found.example.answer, found.example.weight) == (answer, 1.0)


def test_each_file_has_its_own_form(tmp_path: Path) -> None:
    for form, row in ROWS.items():
        write(tmp_path / f"{form}.jsonl", lines([row]))
    assert [example.answer for example in read_all(tmp_path).examples] == ["a"] * len(ROWS)


def test_named_columns_win_over_the_form(tmp_path: Path) -> None:
    row = {**ROWS["alpaca"], "Frage": "q2", "queue": 7, "who": "x", "when": "2026-01-01"}
    columns = Columns("Frage", "queue", "who", "when")
    example = given(tmp_path, row, columns=columns).example
    assert (example.request, example.answer, example.meta.group, example.meta.time) == ("q2", "7", "x", "2026-01-01")
    assert example.meta.extra == ROWS["alpaca"]


def test_columns_of_group_and_time_hold_for_every_form(tmp_path: Path) -> None:
    found = given(tmp_path, {**talk(), "customer": 12}, talk(), columns=Columns(group="customer"))
    assert found.example.meta.group == "12"
    assert found.placed == [(2, "column")]


@pytest.mark.parametrize(
    ("value", "text"), [(12.0, "12"), (1762000000.5, "1762000000.5"), (7, "7"), (True, "True"), ("x", "x")]
)
def test_a_number_of_a_group_or_a_time_is_text(value: Any, text: str, tmp_path: Path) -> None:
    found = given(tmp_path, {**ROWS["labelled"], "of": value}, columns=Columns(group="of", time="of"))
    assert (found.example.meta.group, found.example.meta.time) == (text, text)


def test_a_missing_group_or_time_is_a_fault(tmp_path: Path) -> None:
    rows = [{**ROWS["labelled"], "of": value} for value in (None, [1])]
    found = given(tmp_path, *rows, columns=Columns(group="of"))
    assert found.placed == [(1, "content-type"), (2, "content-type")]


def test_an_unknown_form_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Choose one of: stored, chat"):
        read(tmp_path, form="xml")


def test_rows_of_no_known_form_are_faults_that_name_their_keys(tmp_path: Path) -> None:
    found = given(tmp_path, {"frage": "q", "antwort": "a"}, {})
    assert found.placed == [(1, "form"), (2, "form")]
    assert "'frage', 'antwort'" in found.faults[0].reason
    assert found.faults[0].raw == '{"frage": "q", "antwort": "a"}'


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("completion", ["yes", [assistant("yes")], assistant("yes")])
def test_a_prompt_may_be_messages(completion: Any, as_text: bool, tmp_path: Path) -> None:
    row = {"prompt": [SYSTEM, user("q")], "completion": completion, "tools": [TOOL]}
    if as_text:
        row = {key: each if isinstance(each, str) else json.dumps(each) for key, each in row.items()}
    found = given(tmp_path, row)
    assert turns(found) == [("system", "Be kind."), ("user", "q"), ("assistant", "yes")]
    assert (found.example.tools, found.example.meta.extra) == ([TOOL], {})


@pytest.mark.parametrize("text", ['["a", "b"]', "[1]", "[", '{"role": "CEO"}', '[{"role": "user"}]'])
def test_other_json_of_a_prompt_is_its_text(text: str, tmp_path: Path) -> None:
    found = given(tmp_path, {"prompt": text, "completion": text})
    assert turns(found) == [("user", text), ("assistant", text)]


def test_a_column_of_tools_beside_plain_prompts_is_no_list_of_tools(tmp_path: Path) -> None:
    assert given(tmp_path, {"prompt": "q", "completion": "a", "tools": "hammer"}).example.tools is None


def test_a_tables_messages_are_json_text(tmp_path: Path) -> None:
    text = json.dumps(talk("q", "a")["messages"])
    assert turns(given(tmp_path, {"messages": text})) == [("user", "q"), ("assistant", "a")]
    turn = {"conversations": json.dumps(ROWS["sharegpt"]["conversations"])}
    assert turns(given(tmp_path, turn)) == [("user", "q"), ("assistant", "a")]


def test_a_number_as_a_completion_is_a_label(tmp_path: Path) -> None:
    assert given(tmp_path, {"prompt": "q", "completion": 3.0}).example.answer == "3"


@pytest.mark.parametrize("wrapped", [False, True])
def test_azures_diagnostic_logs_are_told_to_keep_no_texts(wrapped: bool, tmp_path: Path) -> None:
    row = {"time": "x", "resourceId": "/s/1", "category": "RequestResponse", "operationName": "Chat", "properties": "{"}
    found = given(tmp_path, {"records": [row]} if wrapped else row)
    assert found.placed == [(1, "form")]
    assert "Azure's diagnostic logs" in found.fault.reason


def test_a_question_with_choices_is_no_stored_completion() -> None:
    assert detect([{**talk(), "choices": ["A", "B"]}]) == "chat"


def test_a_long_chat_keeps_tools_calls_weights_and_names(tmp_path: Path) -> None:
    messages = [
        SYSTEM,
        user("first", name="Ann"),
        assistant("no", weight=0),
        user("where is my order"),
        {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None, "annotations": []},
        {"role": "tool", "tool_call_id": "c1", "content": "shipped"},
        assistant("It was shipped.", weight=1, reasoning="because"),
    ]
    example = given(tmp_path, {"messages": messages, "tools": [TOOL], "weight": 2}).example
    assert (example.request, example.answer) == ("where is my order", "It was shipped.")
    assert (example.tools, example.weight) == ([TOOL], 2.0)
    assert [m.weight for m in example.messages] == [None, None, 0.0, None, None, None, 1.0]
    assert example.messages[1].name == "Ann"
    assert (example.messages[4].content, example.messages[4].tool_calls, example.messages[4].extra) == ("", [CALL], {})
    assert example.messages[6].extra == {"reasoning": "because"}
    assert type(example).model_validate(example.row()) == example


def test_a_tool_call_may_be_the_answer(tmp_path: Path) -> None:
    found = given(tmp_path, {"messages": [user("q"), {"role": "assistant", "tool_calls": [CALL]}]})
    assert found.example.messages[-1].tool_calls == [CALL]


def test_a_function_call_and_its_answer_are_kept(tmp_path: Path) -> None:
    call = {"name": "track", "arguments": "{}"}
    called = {"role": "assistant", "content": None, "function_call": call}
    found = given(
        tmp_path,
        {"messages": [user("q"), called, {"role": "function", "name": "track", "content": "3"}, assistant("a")]},
    )
    assert found.example.messages[1].extra == {"function_call": call}


def test_tool_arguments_as_an_object_become_text(tmp_path: Path) -> None:
    call = {**CALL, "function": {"name": "track", "arguments": {"id": "ü"}}}
    found = given(tmp_path, {"messages": [user("q"), assistant(None, tool_calls=[call])]})
    (kept,) = found.example.messages[-1].tool_calls or []
    assert kept["function"]["arguments"] == '{"id": "ü"}'
    assert found.noted == [(1, "tool-arguments")]


def test_text_parts_are_joined(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    found = given(tmp_path, talk(parts))
    assert (found.example.request, found.noted) == ("one\ntwo", [(1, "parts")])


def test_turns_of_different_weight_are_not_merged(tmp_path: Path) -> None:
    found = given(tmp_path, {"messages": [user("q"), assistant("a", weight=0), assistant("b")]})
    assert len(found.example.messages) == 3
    assert found.noted == [(1, "same-role")]


def test_a_developer_message_is_a_system_message(tmp_path: Path) -> None:
    found = given(tmp_path, {"messages": [{"role": "developer", "content": "s"}, user("q"), assistant("a")]})
    assert turns(found) == [("system", "s"), ("user", "q"), ("assistant", "a")]
    assert found.noted == [(1, "role")]


@pytest.mark.parametrize(
    ("row", "code", "expected"),
    [
        ({"messages": {}}, "shape", "an object, not a list"),
        ({"messages": ["hi"]}, "shape", "Message 1 is a text"),
        ({"messages": [user("q"), {"role": ["assistant"], "content": "a"}]}, "role", "a list"),
        ({"messages": [user("q"), {"role": "narrator", "content": "a"}]}, "role", "'narrator'"),
        ({"messages": [{"role": "gpt", "content": "a"}]}, "role", "'assistant' instead"),
        ({"messages": [user(None), assistant("a")]}, "content-type", "is null"),
        ({"messages": [user(True), assistant("a")]}, "content-type", "true or false"),
        ({"messages": [user([]), assistant("a")]}, "content-type", "a list"),
        ({"messages": [user("q"), assistant("")]}, "empty-answer", "Message 2"),
        ({"messages": [user("q"), assistant(None, refusal="No.")]}, "empty-answer", "refused"),
        ({"messages": [SYSTEM, assistant("a")]}, "no-request", "user's"),
        ({"messages": [user("q"), assistant("a", weight="high")]}, "weight", "message 2"),
        ({"messages": [user("q"), assistant("a", name=3)]}, "shape", "name of message 2"),
        ({"messages": [user("q"), assistant(None, tool_calls="x")]}, "tools", "not a list"),
        ({"messages": [user("q"), assistant(None, tool_calls=["x"])]}, "tools", "function.name"),
        (talk(weight=-1), "weight", "'-1'"),
        (talk(weight=True), "weight", "'True'"),
        (talk(weight=10**400), "weight", "of the row"),
        (talk(tools="{"), "tools", "isn't JSON"),
        (talk(tools=[1]), "tools", "list of tool definitions"),
        ({"prompt": ["q"], "completion": "a"}, "content-type", "message 1"),
        ({"prompt": "q", "completion": " "}, "empty-answer", ""),
        ({"text": "q", "label": None}, "content-type", "'label' is missing"),
        ({"instruction": 1, "output": "a"}, "content-type", "int"),
        ({"instruction": "q", "output": {"a": 1}}, "content-type", "an object"),
        ({"conversations": "x"}, "shape", "not a list"),
        ({"conversations": [{"from": "human"}]}, "shape", "from and value"),
        ({"conversations": [{"from": "narrator", "value": "x"}]}, "role", "'narrator'"),
        ({"conversations": [{"from": "human", "value": "x"}]}, "no-answer", ""),
        ({"choices": [{"message": assistant("a")}]}, "shape", "lacks the request's messages"),
        ({"messages": [user("q")], "choices": []}, "no-answer", "choices[0]"),
        (
            {"messages": [user("q")], "choices": [{"message": assistant("a"), "finish_reason": "length"}]},
            "cut-answer",
            "cut off",
        ),
    ],
)
def test_the_fault_of_a_row_is_named(row: dict[str, Any], code: str, expected: str, tmp_path: Path) -> None:
    found = given(tmp_path, row)
    assert found.placed == [(1, code)]
    assert expected in found.fault.reason


def test_the_note_on_other_keys_is_given_once_a_file(tmp_path: Path) -> None:
    found = given(tmp_path, talk(id=1), talk(id=2), talk(lang="de"))
    assert found.noted == [(1, "extra-keys"), (3, "extra-keys")]


def test_alpaca_joins_instruction_and_input(tmp_path: Path) -> None:
    row = {"instruction": "Classify.", "input": "My bill", "output": "billing", "system": "s", "text": "all"}
    found = given(tmp_path, row)
    assert turns(found) == [("system", "s"), ("user", "Classify.\n\nMy bill"), ("assistant", "billing")]
    assert found.example.meta.extra == {"text": "all"}


def test_sharegpt_with_system_tools_and_weights(tmp_path: Path) -> None:
    row = {
        "system": "s",
        "tools": '[{"name": "f"}]',
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "gpt", "value": "a", "weight": 0.5},
            {"from": "user", "value": "r"},
            {"from": "assistant", "value": "b"},
        ],
    }
    found = given(tmp_path, row)
    assert turns(found) == [("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b")]
    assert found.example.tools == [{"name": "f"}]
    assert found.example.messages[2].weight == 0.5


def test_a_stored_completion_of_request_and_response(tmp_path: Path) -> None:
    row = {
        "id": "chatcmpl-1",
        "request": {"model": "gpt-4o", "messages": [SYSTEM, user("q")], "tools": [TOOL]},
        "response": {
            "created": 1761900000,
            "choices": [{"message": assistant("a"), "index": 0}, {"message": assistant("b")}],
        },
        "metadata": {"job": "x"},
    }
    found = given(tmp_path, row)
    assert turns(found) == [("system", "Be kind."), ("user", "q"), ("assistant", "a")]
    assert found.example.tools == [TOOL]
    assert found.example.meta.extra == {
        "id": "chatcmpl-1",
        "metadata": {"job": "x"},
        "request": {"model": "gpt-4o"},
        "response": {"created": 1761900000},
        "call": {"id": "chatcmpl-1", "model": "gpt-4o", "time": "2025-10-31T08:40:00.000+00:00"},
    }
    assert (1, "choices") in found.noted


def test_a_stored_completion_with_its_input(tmp_path: Path) -> None:
    row = {"object": "chat.completion", "input": [user("q")], "choices": [{"message": assistant("a")}]}
    found = given(tmp_path, row)
    assert turns(found) == [("user", "q"), ("assistant", "a")]
    assert found.example.meta.extra == {"object": "chat.completion"}


@pytest.mark.parametrize("beside", [{"status_code": 500}, {"error": "rate limit"}, {"success": False}])
@pytest.mark.parametrize("nested", [True, False])
def test_a_stored_completion_of_a_call_that_failed_is_no_example(
    beside: dict[str, Any], nested: bool, tmp_path: Path
) -> None:
    request, response = {"messages": [user("q")]}, {"choices": [{"message": assistant("Please retry.")}]}
    row = {"request": request, "response": response} if nested else {**request, **response}
    assert [each.code for each in given(tmp_path, {**row, **beside}).faults] == ["call-failed"]


def test_an_answer_of_weight_0_counts_as_no_row(tmp_path: Path) -> None:
    assert given(tmp_path, {"messages": [user("q"), assistant("a", weight=0)]}).example.importance == 0
