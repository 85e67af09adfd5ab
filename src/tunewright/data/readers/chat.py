"""The chat form: turns a list of messages in OpenAI's format into canonical ones, or refuses it with a reason."""

from __future__ import annotations

import json
from typing import Any

from tunewright.core.strict_json import JsonRefusal
from tunewright.data.shown import shown

Remarks = list[tuple[str, str]]
"""(code, reason) of the notes on a row."""

MAX_WEIGHT = 1_000_000

_ROLES = ("system", "user", "assistant", "tool", "function")
_ALIASES = {
    "human": "user",
    "customer": "user",
    "client": "user",
    "bot": "assistant",
    "gpt": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "chatbot": "assistant",
    "agent": "assistant",
    "observation": "tool",
}
_JSON_NAMES = {
    dict: "an object",
    list: "a list",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    str: "a text",
}
_CALLS = ("tool_calls", "function_call")
_KNOWN = ("role", "content", "name", "tool_calls", "tool_call_id", "weight")


def messages(value: Any, remarks: Remarks) -> list[dict[str, Any]]:
    """Messages for `Message`, from a list of objects with `role` and `content`.

    Joins text parts, and merges consecutive plain turns of one speaker, each with a remark. Null counts as absent.

    Raises:
        JsonRefusal: an unknown role, content that isn't text, a system message that isn't first, no answer at the end.
    """
    if not isinstance(value, list):
        raise JsonRefusal("shape", f"The messages are {_kind(value)}, not a list; each row needs a list of messages.")
    if not value:
        raise JsonRefusal("shape", "The list of messages is empty; delete this row.")
    turns = _merged([_message(each, number, remarks) for number, each in enumerate(value, 1)], remarks)
    _check_order(turns)
    return turns


def tools(value: Any) -> list[dict[str, Any]] | None:
    """The tools of a row: a list of objects, or the same as JSON text."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise JsonRefusal(
                "tools", "The tools are text that isn't JSON; write a list of tool definitions."
            ) from None
    if not value:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise JsonRefusal("tools", f"The tools are {_kind(value)}; write a list of tool definitions.")
    return value


def weight(value: Any, of: str) -> float:
    """A weight as a number. In tables it is text."""
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= MAX_WEIGHT:
        what = _kind(value) if isinstance(value, (dict, list)) else f"'{shown(value, 40)}'"
        raise JsonRefusal(
            "weight", f"The weight of {of} is {what}; write a number from 0 to {MAX_WEIGHT}, or leave it out."
        )
    return number


def _message(value: Any, number: int, remarks: Remarks) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise JsonRefusal("shape", f"Message {number} is {_kind(value)}, not an object with role and content.")
    if _is_plain(value):
        return value.copy()
    present = {key: inner for key, inner in value.items() if inner is not None and inner != []}
    role = _role(value, number, remarks)
    message: dict[str, Any] = {"role": role}
    calls = any(present.get(key) for key in _CALLS)
    # Content may be null where the assistant only calls a tool. Without a call, it is an empty answer.
    absent = role == "assistant" and "content" not in present
    message["content"] = "" if absent else _content(value.get("content"), number, role, remarks)
    if role == "assistant" and not calls and not message["content"].strip():
        refused = " The model refused to answer here." if present.get("refusal") else ""
        raise JsonRefusal(
            "empty-answer", f"Message {number}, the assistant's, is empty.{refused} Delete or fill this row."
        )
    for key in ("name", "tool_call_id"):
        if key in present:
            if not isinstance(present[key], str):
                raise JsonRefusal("shape", f"The {key} of message {number} is {_kind(present[key])}, not text.")
            message[key] = present[key]
    if "tool_calls" in present:
        message["tool_calls"] = [_tool_call(call, number, remarks) for call in _listed(present["tool_calls"], number)]
    if "weight" in present:
        message["weight"] = weight(present["weight"], f"message {number}")
    if extra := {key: inner for key, inner in present.items() if key not in _KNOWN}:
        remarks.append(
            ("extra-keys", f"Messages have other keys, which are kept: {', '.join(map(repr, sorted(extra)))}.")
        )
        message["extra"] = extra
    return message


def _is_plain(message: dict[str, Any]) -> bool:
    """Whether there is nothing to check or change: a fast path for the usual case."""
    if len(message) != 2:
        return False
    role, content = message.get("role"), message.get("content")
    return role in _ROLES and isinstance(content, str) and (role != "assistant" or bool(content.strip()))


def _role(message: dict[str, Any], number: int, remarks: Remarks) -> str:
    role = message.get("role")
    if role in _ROLES:
        return str(role)
    if role == "developer":
        remarks.append(("role", "Messages of the role 'developer' are read as 'system'."))
        return "system"
    if "role" not in message:
        raise JsonRefusal("role", f"Message {number} has no role; write one of: {', '.join(_ROLES)}.")
    if not isinstance(role, str):
        raise JsonRefusal("role", f"The role of message {number} is {_kind(role)}, not text.")
    folded = role.strip().lower()
    suggestion = folded if folded in _ROLES else _ALIASES.get(folded)
    fix = f"write '{suggestion}' instead" if suggestion else f"write one of: {', '.join(_ROLES)}"
    raise JsonRefusal("role", f"Message {number} has the role '{shown(role, 40)}'; {fix}.")


def _content(value: Any, number: int, role: str, remarks: Remarks) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        texts = []
        for part in value:
            if not isinstance(part, dict):
                raise JsonRefusal(
                    "content-type", f"A content part of message {number} ({role}) is {_kind(part)}, not an object."
                )
            if part.get("type") != "text" or not isinstance(part.get("text"), str):
                kind = f"'{shown(part.get('type'), 40)}'"
                reason = f"Message {number} ({role}) has a content part of type {kind}; only text can be learnt."
                raise JsonRefusal("content-type", reason)
            texts.append(part["text"])
        if len(texts) > 1:
            remarks.append(("parts", f"The {len(texts)} text parts of message {number} were joined with line breaks."))
        return "\n".join(texts)
    raise JsonRefusal(
        "content-type", f"The content of message {number} ({role}) is {_kind(value)}, not text; write it as text."
    )


def _listed(calls: Any, number: int) -> list[Any]:
    if not isinstance(calls, list):
        raise JsonRefusal("tools", f"The tool_calls of message {number} are {_kind(calls)}, not a list.")
    return calls


def _tool_call(call: Any, number: int, remarks: Remarks) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise JsonRefusal("tools", f"A tool call of message {number} names no function; it needs function.name.")
    arguments = function.get("arguments", "")
    if isinstance(arguments, str):
        return dict(call)
    remarks.append(("tool-arguments", f"The tool arguments of message {number} were an object; they became JSON text."))
    return {**call, "function": {**function, "arguments": json.dumps(arguments, ensure_ascii=False)}}


def _merged(turns: list[dict[str, Any]], remarks: Remarks) -> list[dict[str, Any]]:
    """Merge consecutive turns of one speaker where they hold only text of the same weight."""
    result: list[dict[str, Any]] = []
    for number, turn in enumerate(turns, 1):
        earlier = result[-1] if result else None
        if earlier and earlier["role"] == turn["role"] and turn["role"] in ("user", "assistant"):
            plain = earlier.keys() | turn.keys() <= {"role", "content", "weight"}
            if plain and earlier.get("weight") == turn.get("weight"):
                earlier["content"] += "\n\n" + turn["content"]
                remarks.append(
                    ("merged", f"Message {number} follows one of the same role, {turn['role']}; they were merged.")
                )
                continue
            remarks.append(
                ("same-role", f"Message {number} follows one of the same role, {turn['role']}; both are kept.")
            )
        result.append(turn)
    return result


def _check_order(turns: list[dict[str, Any]]) -> None:
    roles = [turn["role"] for turn in turns]
    if "system" in roles[1:]:
        place = roles.index("system", 1) + 1
        raise JsonRefusal(
            "system-order", f"Message {place} is a system message; only the first may be one: move or join them."
        )
    if "assistant" not in roles:
        raise JsonRefusal("no-answer", "No message is the assistant's, so there is nothing to learn; delete this row.")
    if roles[-1] != "assistant":
        reason = f"The last message is of the role '{roles[-1]}', not an answer; delete it, or add the assistant's."
        raise JsonRefusal("ends-with-user", reason)
    if "user" not in roles:
        raise JsonRefusal("no-request", "No message is the user's; add the message that the assistant answers.")


def _kind(value: Any) -> str:
    return _JSON_NAMES.get(type(value), type(value).__name__)
