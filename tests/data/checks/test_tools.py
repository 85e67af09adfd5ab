"""Tool calls in the data of a job of tools, and of other jobs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tunewright.config import DataSpec
from tunewright.config.tool_list import tool_list
from tunewright.data.checks.scan import Scanner
from tunewright.data.job import Job
from tunewright.data.readers import read
from tunewright.tasks import ClassifyTask, Example, Task
from tunewright.tasks.tools import ToolsTask

PARAMETERS = {"type": "object", "properties": {"day": {"type": "string", "format": "date"}}, "required": ["day"]}
BOOK = {"type": "function", "function": {"name": "book", "parameters": PARAMETERS}}
TASK = ToolsTask("Help.", tool_list([BOOK], Path()))


def row(answer: dict[str, Any], **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": None, **answer}
    return {"messages": [{"role": "user", "content": "Friday, please"}, message], **more}


def call(arguments: Any, name: str = "book") -> dict[str, Any]:
    return {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}


def scanned(
    tmp_path: Path, rows: list[dict[str, Any]], task: Task = TASK
) -> tuple[list[Example], dict[str, list[str]]]:
    """(the examples as they are written, what was found by code)."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")
    scanner, stream = Scanner(Job(DataSpec(train=file), {"train": file}, task), "train", alone=True), io.BytesIO()
    for item in read(file):
        if isinstance(item, Example):
            scanner.add(item, stream)
    hits = {code: list(found.kinds) for code, found in scanner.scan().hits.items() if found.rows}
    return [Example.model_validate_json(line) for line in stream.getvalue().splitlines()], hits


def test_calls_and_texts_are_answers(tmp_path: Path) -> None:
    given = call('{"day": "2026-12-04"}')
    rows = [
        row({"tool_calls": [given]}, tools=[BOOK]),
        row({"content": "Which one?"}),
        row({"tool_calls": [call({"day": "2026-12-04"})]}),
    ]
    examples, hits = scanned(tmp_path, rows)
    assert [example.answer for example in examples] == [
        booked := '{"name":"book","arguments":{"day":"2026-12-04"}}',
        '{"text":"Which one?"}',
        booked,
    ]
    assert not hits
    assert not any(example.tools or example.messages[-1].tool_calls for example in examples)


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        ([call('{"day": "Friday"}')], "book: day: 'Friday' is not a 'date'"),
        ([call("{}", "cancel")], "there is no tool 'cancel'"),
        ([call('{"day": "2026-12-04", "hour": 3}')], "book: it has no argument 'hour'"),
        ([call("Friday")], "it is not JSON: Expecting value at character 0"),
        ([call('{"day": "2026-12-04"}')] * 2, "it has 2 calls, this task takes one"),
    ],
)
def test_a_call_that_the_tools_do_not_take_is_a_finding(calls: list[Any], reason: str, tmp_path: Path) -> None:
    assert scanned(tmp_path, [row({"tool_calls": calls})])[1] == {"D026": [reason]}


def test_a_row_with_other_tools_is_a_finding(tmp_path: Path) -> None:
    rename = {"type": "function", "function": {**BOOK["function"], "name": "rename"}}
    wider = {"type": "function", "function": {"name": "book", "parameters": {**PARAMETERS, "required": []}}}
    lists: list[list[Any]] = [[BOOK], [BOOK, rename], [wider], [{"type": "web_search"}]]
    _, hits = scanned(tmp_path, [row({"content": "Hello"}, tools=tools) for tools in lists])
    assert hits == {
        "D034": ["'rename' is new", "other arguments", "its type is 'web_search'; only functions can be called"]
    }


def test_the_text_beside_a_call_is_told(tmp_path: Path) -> None:
    rows = [row({"content": "One moment.", "tool_calls": [call('{"day": "2026-12-04"}')]})]
    examples, hits = scanned(tmp_path, rows)
    assert hits == {"D035": ["the call is taught"]}
    assert "One moment" not in examples[0].answer


def test_other_jobs_do_not_take_calls(tmp_path: Path) -> None:
    calls = [call('{"day": "2026-12-04"}')]
    rows = [row({"tool_calls": calls}), row({"content": "billing", "tool_calls": calls})]
    _, hits = scanned(tmp_path, rows, ClassifyTask("Which team?", {"billing": "", "refund": ""}))
    assert hits == {"D030": ["tool call"], "D035": ["the text is taught"]}
