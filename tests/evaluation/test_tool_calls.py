"""An API is asked with the tools of a job, and its calls are read as answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_spec
from tests.evaluation.large_model import SECRET, LargeModel, large_model
from tests.evaluation.test_baseline import asked, records
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.data.dataset import Dataset
from tunewright.evaluation.api.asking import questions_for, recorded_answers
from tunewright.evaluation.api.questions import asked_task, question, read
from tunewright.tasks import Example, Meta

TOOL = {
    "type": "function",
    "function": {
        "name": "track",
        "description": "Find a parcel.",
        "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
    },
}
TASK = {"kind": "tools", "instruction": "Help the customer.", "tools": [TOOL]}
HELLO = '{"text":"Hello!"}'


def tracked(number: int) -> str:
    return f'{{"name":"track","arguments":{{"number":{number}}}}}'


def calls(*numbers: int) -> dict[str, Any]:
    functions = [{"name": "track", "arguments": json.dumps({"number": number})} for number in numbers]
    return {
        "finish_reason": "tool_calls",
        "message": {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": function} for function in functions],
        },
    }


def knows(message: str) -> str | dict[str, Any]:
    """Three of four are right: it calls twice for request 3."""
    number = int(message.split()[-1])
    return "Hi there." if number == 0 else calls(3, 3) if number == 3 else calls(number)


@pytest.fixture
def model() -> Iterator[LargeModel]:
    with large_model(knows) as large:
        yield large


def spec_of(folder: Path, **api: Any) -> Spec:
    return make_spec(folder, task=TASK, api={"model": "gpt-4o", **api})


def examples() -> list[Example]:
    golds = [HELLO, *map(tracked, range(1, 4))]
    return [Example.of(f"request {n}", gold, Meta(id=f"t{n}")) for n, gold in enumerate(golds)]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["chat-completions", "responses"])
def test_calls_and_texts_of_an_api_are_its_answers(
    protocol: str, model: LargeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", SECRET)
    spec = spec_of(tmp_path, url=model.url, key="API_KEY", protocol=protocol)
    asked(spec, tmp_path, examples()[:3] if protocol == "responses" else examples())
    answers = [row["answer"] for row in records(tmp_path)]
    assert answers[:3] == ['{"text":"Hi there."}', tracked(1), tracked(2)]
    right = [row["measures"]["call accuracy"] for row in records(tmp_path)]
    assert right == [[1, 1]] * 3 + [[0, 1]] * (protocol != "responses"), "two calls are no answer"
    flat = {"type": "function", **TOOL["function"]}
    assert model.asked[0]["tools"] == ([flat] if protocol == "responses" else [TOOL])
    assert "response_format" not in model.asked[0]
    assert "text" not in model.asked[0]


def test_where_an_endpoint_takes_no_tools_the_prompt_describes_them(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, structured=False)
    task = asked_task(spec, spec.api)
    asks = question(task, "Where is 5?", examples()[1:2], spec.api)
    assert not {"tools", "response_format"} & asks.options.keys()
    system, user, shown, _ = (message["content"] for message in asks.messages)
    assert system.startswith("Help the customer.\n\nThe tools:\n- track: Find a parcel.\n\nCall the tool")
    assert '"const": "track"' in system
    assert (user, shown) == ("request 1", tracked(1))
    assert read(task, f"```json\n{tracked(5)}\n```") == tracked(5)
    assert read(task, '{"name": "find", "arguments": {}}') is None


def test_no_examples_are_shown_as_calls(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, shots=2)
    with pytest.raises(UserError, match=r"can't be shown solved examples of tool calls"):
        questions_for(spec, spec.api, Dataset(examples(), [], {"test": examples()}))


def test_recorded_calls_are_answers(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "Where is 7?"}, calls(7)["message"]]},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]},
    ]
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    spec = spec_of(tmp_path)
    task = asked_task(spec, spec.api)
    found = {request: read(task, answer) for request, answer in recorded_answers(spec, file).items()}
    assert found == {"Where is 7?": tracked(7), "Hi": HELLO}
