"""The tools of `task.tools`: read, checked and in one form; and the JSON Schema of an answer that calls one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.config.checking import schema_fault
from tunewright.config.json_schema import closed, require_bounded, transformed
from tunewright.config.record_schema import json_of_file, require_expressible, require_one_place
from tunewright.core.errors import UserError, shortened

MOST_TOOLS = 128
"""Tools that a task may have, as many as OpenAI's API takes.

Source: developers.openai.com/api/reference (2026-11-30).
"""
NAME, ARGUMENTS, TEXT = "name", "arguments", "text"
"""The keys of an answer: those of a call, and that of a text without a call."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEPT = (NAME, "description", "parameters", "strict")
"""What is kept of a tool's function."""
_NOTES = ("$comment", "$schema", "default", "deprecated", "description", "examples", "readOnly", "title", "writeOnly")
"""Keywords of a schema that allow and refuse nothing."""
_FIX = "Give task.tools as a list, or as a .json file with one, of tools in the form of OpenAI's API: "
_FIX += '{"type": "function", "function": {"name": …, "description": …, "parameters": {…}}}.'


class UnfitTool(ValueError):
    """A tool that can't be one of a task; the message says why."""


def tool_list(named: str | Sequence[Any], folder: Path) -> list[dict[str, Any]]:
    """The tools of a task, each as `plain_tool` gives it.

    Args:
        named: the tools, or the path of a JSON file, relative to `folder`.

    Raises:
        UserError: they can't be read, are no tools, or a tool's arguments can't be confined to its schema.
    """
    where = "task.tools" if not isinstance(named, str) else f"task.tools = {named}"
    listed = json_of_file(folder / named, "tool list", _FIX) if isinstance(named, str) else list(named)
    if not isinstance(listed, list) or not listed:
        raise UserError("The tools are not a list with at least one tool.", where=where, fix=_FIX)
    try:
        tools = [plain_tool(tool) for tool in listed]
    except UnfitTool as error:
        raise UserError(f"A tool can't be used: {error}.", where=where, fix=_FIX) from None
    names = [name_of(tool) for tool in tools]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"The tool '{repeated}' is listed twice.", where=where, fix="Give each tool its own name.")
    if len(tools) > MOST_TOOLS:
        raise UserError(f"There are {len(tools)} tools; the limit is {MOST_TOOLS}.", where=where, fix="List fewer.")
    for tool in tools:
        _require_usable(tool, f"{where}: {name_of(tool)}")
    require_bounded(call_schema(tools), where)
    return tools


def plain_tool(tool: Any) -> dict[str, Any]:
    """A tool in the form of OpenAI's chat completions, with the schema of its arguments even where it has none.

    Args:
        tool: in that form, or in that of the Responses API, where the function's keys are the tool's own.

    Raises:
        UnfitTool: it is no tool, or one that runs on the API's side.
    """
    if not isinstance(tool, Mapping):
        raise UnfitTool("it is not an object")
    if tool.get("type", "function") != "function":
        raise UnfitTool(f"its type is {shortened(str(tool['type']), 40)!r}; only functions can be called")
    function = tool.get("function", tool)
    name = function.get(NAME) if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UnfitTool("it has no name of 1 to 64 letters, digits, '_' and '-'")
    kept = {key: function[key] for key in _KEPT if function.get(key) is not None}
    parameters = kept.get("parameters", {})
    if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
        raise UnfitTool(f"the parameters of {name} are not the schema of an object")
    return {"type": "function", "function": {**kept, "parameters": {"type": "object", "properties": {}, **parameters}}}


def name_of(tool: Mapping[str, Any]) -> str:
    """The name of a plain tool."""
    return str(tool["function"][NAME])


def parameters_of(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a plain tool's arguments, in which objects refuse unknown keys, unless it says otherwise."""
    return closed(tool["function"]["parameters"])


def same_tools(tools: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two lists of plain tools have the same names, and arguments of the same schemas. Descriptions may
    differ."""
    return _compared(tools) == _compared(others)


def call_schema(tools: Sequence[Mapping[str, Any]], *, text: bool = True) -> dict[str, Any]:
    """The JSON Schema of an answer: a call of one of some plain tools or, if allowed, a text."""
    calls = [
        _object({NAME: {"const": name_of(tool)}, ARGUMENTS: {"$ref": f"#/$defs/{name_of(tool)}"}}) for tool in tools
    ]
    texts = [_object({TEXT: {"type": "string"}})] if text else []
    forms = {name_of(tool): _moved(parameters_of(tool), f"#/$defs/{name_of(tool)}") for tool in tools}
    return {"anyOf": [*calls, *texts], **({"$defs": forms} if forms else {})}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _moved(schema: Mapping[str, Any], place: str) -> Any:
    """A schema whose references are right where it stands at a place of a larger one."""

    def move(part: dict[str, Any]) -> dict[str, Any]:
        reference = part.get("$ref")
        return {**part, "$ref": place + reference[1:]} if isinstance(reference, str) else part

    return transformed(schema, move)


def _require_usable(tool: Mapping[str, Any], where: str) -> None:
    parameters = tool["function"]["parameters"]
    require_bounded(parameters, where)
    if fault := schema_fault(parameters):
        place, reason = fault
        raise UserError(f"{place or 'The schema'}: {shortened(reason, 300)}.", where=where, fix="Fix the schema.")
    require_one_place(parameters, where)
    require_expressible(parameters, where)


def _compared(tools: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    def plain(part: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in part.items() if key not in _NOTES}
        required = sorted(map(str, kept.pop("required", ())))
        return {**kept, "required": required} if required else kept

    return {name_of(tool): json.dumps(transformed(parameters_of(tool), plain), sort_keys=True) for tool in tools}
