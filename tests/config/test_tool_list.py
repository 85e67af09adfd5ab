"""The tools that a spec names, inline or in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import spec_data
from tunewright.config import load_spec
from tunewright.config.sections import ToolsSpec
from tunewright.config.tool_list import UnfitTool, plain_tool, same_tools, tool_list
from tunewright.core.errors import UserError


def tool(name: str = "add", **parameters: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"a": {"type": "number"}}, **parameters}
    return {"type": "function", "function": {"name": name, "description": "Adds.", "parameters": schema}}


TEXTS, NUMBERS = (
    {"type": "object", "properties": {kind: {"type": kind}}, "required": [kind]} for kind in ("string", "number")
)


def test_tools_are_named_inline_or_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text(json.dumps([tool()]), "utf-8")
    assert tool_list("tools.json", tmp_path) == tool_list([tool()], tmp_path) == [tool()]


def test_the_form_of_the_responses_api_and_a_tool_without_arguments(tmp_path: Path) -> None:
    flat = {"type": "function", **tool()["function"]}
    bare = {"type": "function", "function": {"name": "now", "parameters": None}}
    empty = {"name": "now", "parameters": {"type": "object", "properties": {}}}
    assert tool_list([flat, bare], tmp_path) == [tool(), {"type": "function", "function": empty}]


def test_a_spec_reads_its_tools(tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text(json.dumps([tool()]), "utf-8")
    task = {"kind": "tools", "instruction": "Help.", "tools": "tools.json"}
    (tmp_path / "tunewright.yaml").write_text(json.dumps(spec_data(task=task)), "utf-8")
    spec = load_spec(tmp_path)
    assert isinstance(spec.task, ToolsSpec)
    assert spec.task.tools == [tool()]


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("absent.json", "There is no such tool list file"),
        ("broken.json", "The tool list is not JSON"),
        ("object.json", "not a list with at least one tool"),
        ([], "not a list with at least one tool"),
        (["add"], "it is not an object"),
        ([{"type": "web_search"}], "its type is 'web_search'; only functions can be called"),
        ([{"type": "function", "function": {"name": "two words"}}], "it has no name of 1 to 64"),
        ([{"type": "function"}], "it has no name"),
        ([tool(type="array")], "the parameters of add are not the schema of an object"),
        ([tool(), tool()], "'add' is listed twice"),
        ([tool(f"t{number}") for number in range(129)], "There are 129 tools; the limit is 128"),
        ([tool(properties={"a": {"type": "text"}})], "task.tools: add: properties.a.type: 'text' is not valid"),
        ([tool(properties={"a": {"$ref": "#/$defs/b"}})], "task.tools: add: .*leads nowhere"),
        ([tool(properties={"a": {"type": "string", "pattern": "(?=a)"}})], "task.tools: add: The pattern"),
        ([tool(properties={"a": {"allOf": [TEXTS, NUMBERS]}})], "task.tools: add: .*in several places: allOf"),
        ([tool(properties={}, allOf=[TEXTS])], "task.tools: add: .*in several places: properties and allOf"),
        ([tool(properties={"a": {"not": {"type": "string"}}})], "task.tools: add: Answers can't be confined"),
    ],
)
def test_what_are_no_tools(named: Any, reason: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("[", "utf-8")
    (tmp_path / "object.json").write_text("{}", "utf-8")
    with pytest.raises(UserError) as error:
        tool_list(named, tmp_path)
    assert error.match(reason)


def test_tools_are_the_same_whatever_their_descriptions() -> None:
    described = tool(properties={"a": {"description": "first", "type": "number"}}, title="Add", required=[])
    first, second = plain_tool(tool()), plain_tool(described)
    assert same_tools([first], [second])
    assert same_tools([first, plain_tool(tool("b"))], [plain_tool(tool("b")), second])
    assert not same_tools([first], [plain_tool(tool("b"))])
    assert not same_tools([first], [plain_tool(tool(required=["a"]))])
    assert not same_tools([first], [first, plain_tool(tool("b"))])
    both = [plain_tool(tool(properties={"a": {}, "b": {}}, required=names)) for names in (["a", "b"], ["b", "a"])]
    assert same_tools(both[:1], both[1:])


def test_an_argument_may_have_the_name_of_a_keyword() -> None:
    first, second = (plain_tool(tool(properties={"title": {"type": kind}})) for kind in ("string", "number"))
    assert not same_tools([first], [second])


def test_no_tool_is_an_error_that_others_can_catch() -> None:
    with pytest.raises(UnfitTool):
        plain_tool(None)
