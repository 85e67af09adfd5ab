"""The tools and the schema of a request: a model takes its own, and the choice among tools that a request may make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.config.tool_list import UnfitTool, name_of, plain_tool, same_tools
from tunewright.serving.errors import ApiError
from tunewright.serving.requests import ToolsRequest
from tunewright.tasks.base import Constraint, JsonRecord, ToolCall
from tunewright.tasks.tools import narrowed


def require_own_tools(rule: Constraint, request: ToolsRequest) -> None:
    """Refuse tools that the model does not have. Otherwise a client would wait for calls that never come.

    A model with tools calls them whether or not a request names them.

    Raises:
        ApiError: the request names tools, and the model has none or others.
    """
    if request.tool_choice == "none" or not (request.tools or request.functions):
        return
    if not isinstance(rule, ToolCall):
        raise _refused("This model calls no tools; leave tools away, or send tool_choice: none.")
    if request.functions:
        raise _refused("Send the functions as tools, in the form of today's API.", "functions")
    own = sorted(map(name_of, rule.tools))
    try:
        given = [plain_tool(tool) for tool in request.tools or ()]
    except UnfitTool as error:
        raise _refused(f"A tool can't be used: {error}.") from None
    names = sorted(map(name_of, given))
    if names != own:
        raise _refused(f"This model was trained to call {', '.join(own)}; send these tools, or none.")
    if not same_tools(given, rule.tools):
        changed = [name_of(tool) for tool in given if not any(same_tools([tool], [each]) for each in rule.tools)]
        raise _refused(f"The arguments of {', '.join(changed)} are others than this model was trained for.")


def require_own_schema(rule: Constraint, schema: Mapping[str, Any] | None) -> None:
    """Refuse a schema that is not the one the model was trained for. A label takes any: it is always whole. A model
    that calls tools takes none.

    Raises:
        ApiError: it is another one.
    """
    if schema is None:
        return
    if isinstance(rule, ToolCall) or (isinstance(rule, JsonRecord) and schema not in ({"type": "object"}, rule.schema)):
        raise ApiError(
            400,
            "This model's answers have a schema of their own; leave response_format away.",
            "invalid_value",
            "response_format",
        )


def narrowed_schema(rule: Constraint, choice: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The schema of the answers that a `tool_choice` leaves; None: all that the model gives.

    Raises:
        ApiError: the model can't be held to that choice.
    """
    if not isinstance(rule, ToolCall) or choice in (None, "auto"):
        return None
    names = list(map(name_of, rule.tools))
    match choice:
        case "none":
            return narrowed(rule, [], text=True).schema
        case "required":
            return narrowed(rule, names, text=False).schema
        case {"type": "function", "function": {"name": str(name)}} | {"type": "function", "name": str(name)}:
            if name in names:
                return narrowed(rule, [name], text=False).schema
            raise _refused(f"This model has no tool {name[:64]!r}.", "tool_choice")
    raise _refused("tool_choice is none, auto, required, or one function by its name.", "tool_choice")


def _refused(message: str, parameter: str = "tools") -> ApiError:
    return ApiError(400, message, "invalid_value", parameter)
