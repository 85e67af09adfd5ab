"""What Langfuse's observations say: their inputs as requests in OpenAI's form, their outputs as answers.

Langfuse stores both as text, whoever wrote them: an SDK's wrapper, LangChain's handler, LiteLLM's callback, a person.
Some ways out parse that text, others do not (langfuse/langfuse, worker/src/services/IngestionService/index.ts and
packages/shared/src/utils/json.ts, 2026-11-30).
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from tunewright.core.limits import JSON_DEPTH
from tunewright.core.strict_json import depth_of
from tunewright.logs.call import joined, tool_call
from tunewright.logs.values import first, items, mapping, mappings, parsed, text
from tunewright.logs.vendors import openai_response

_ANSWERING = ("assistant", "ai", "model")
_MESSAGE_PARTS = ("content", "tool_calls", "function_call", "parts")
_BESIDE_CONTENT = (
    *_MESSAGE_PARTS,
    "id",
    "name",
    "type",
    "refusal",
    "annotations",
    "audio",
    "images",
    "additional_kwargs",
)
_ALSO_BESIDE = ("reasoning_content", "thinking_blocks", "provider_specific_fields", "response_metadata")
_LONGEST_REPR = 100_000


def opened(value: Any) -> Any:
    """A value that may be JSON in a text, or in a text in a text. What is nested too deep stays text, or is None."""
    inner = unquoted(value)
    if isinstance(inner, str) and inner.lstrip()[:1] in ("{", "["):
        value = inner
    found = parsed(value)
    if not isinstance(found, Mapping | list) or depth_of(found) <= JSON_DEPTH:
        return found
    return value if isinstance(value, str) else None


def unquoted(value: Any) -> Any:
    """The text that is in a JSON text; any other value as it is."""
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        with suppress(ValueError):
            return json.loads(value)
    return value


def opened_repr(value: Any) -> Any:
    """A value that may be JSON in a text, or what Python's `str` made of an object: LiteLLM's callback writes its
    parameters so (BerriAI/litellm, litellm/integrations/langfuse/langfuse.py, 2026-11-30)."""
    found = opened(value)
    if isinstance(found, str) and found[:1] in ("{", "[") and len(found) <= _LONGEST_REPR:
        with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            literal = ast.literal_eval(found)
            return literal if isinstance(literal, dict | list) and depth_of(literal) <= JSON_DEPTH else value
    return found


def texts_in(*values: Any) -> Iterator[str]:
    """All texts in JSON values."""
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


# The request


def request_of(given: Any) -> dict[str, Any]:
    """The request that an opened input is; empty: it has no known form."""
    if isinstance(given, str):
        return {"messages": [{"role": "user", "content": given}]} if given.strip() else {}
    if isinstance(given, list):
        return _of_list(given)
    return _of_object(given) if isinstance(given, Mapping) else {}


def _of_object(given: Mapping[str, Any]) -> dict[str, Any]:
    if "role" in given:
        return _of_list([given])
    request: dict[str, Any] = {}
    system = joined(first(given, "system", "instructions"))
    if given.get("input") is not None and "messages" not in given:
        if not isinstance(given["input"], str | list):
            return {}
        request = {"input": given["input"]} | ({"instructions": system} if system else {})
    else:
        request = request_of(opened(first(given, "messages", "prompt")))
        if system and request.get("messages") and request["messages"][0].get("role") != "system":
            request["messages"].insert(0, {"role": "system", "content": system})
    if not request:
        return {}
    tools = list(mappings(given.get("tools"))) or [
        {"type": "function", "function": each} for each in mappings(given.get("functions"))
    ]
    if tools:
        request["tools"] = tools
    if given.get("tool_choice") is not None:
        request["tool_choice"] = given["tool_choice"]
    return request


def _of_list(given: list[Any]) -> dict[str, Any]:
    if len(given) == 1 and isinstance(given[0], list | str):  # a batch of one, as LangChain has it
        return request_of(given[0])
    if not given or not all(isinstance(each, Mapping) for each in given):
        return {}
    if any(_is_input_item(each) for each in given):
        return {"input": given}
    # LangChain's handler adds the tools' definitions to the messages (langfuse/langfuse-python,
    # langfuse/langchain/CallbackHandler.py, 2026-11-30).
    tools = [mapping(each["content"]) for each in given if _is_definition(each)]
    turns = [each for each in given if not _is_definition(each)]
    if not turns or not all("role" in each for each in turns):
        return {}
    return {"messages": [message_of(each) for each in turns]} | ({"tools": tools} if tools else {})


def _is_input_item(value: Mapping[str, Any]) -> bool:
    """Whether an object is an item of the Responses API's input, and no chat message."""
    if "role" not in value:
        return value.get("type") in ("function_call", "function_call_output", "reasoning", "item_reference")
    kinds = (part.get("type") for part in mappings(value.get("content")))
    return value.get("type") == "message" or any(kind in ("input_text", "output_text", "input_image") for kind in kinds)


def _is_definition(message: Mapping[str, Any]) -> bool:
    if message.get("role") != "tool" or message.get("tool_call_id"):
        return False
    content = mapping(message.get("content"))
    return content.get("type") == "function" and isinstance(content.get("function"), Mapping)


def message_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """A chat message in OpenAI's form: LangChain has a tool call's arguments as an object, and OpenTelemetry's
    instrumentations have the content in `parts`."""
    message = {key: value for key, value in given.items() if value is not None and key != "additional_kwargs"}
    written = given.get("tool_calls") or mapping(given.get("additional_kwargs")).get("tool_calls")
    if isinstance(given.get("parts"), list) and "content" not in message:
        parts = list(mappings(message.pop("parts")))
        written = written or [part for part in parts if part.get("type") == "tool_call"]
        message["content"] = "\n".join(str(part["content"]) for part in parts if isinstance(part.get("content"), str))
        for part in parts:
            if part.get("type") == "tool_call_response":
                message["tool_call_id"] = text(part.get("id")) or ""
                message["content"] = text_of(first(part, "response", "result"))
    calls = [
        tool_call(each["name"], text_of(first(each, "arguments", "args")) or "{}", text(call.get("id")) or "")
        for call in mappings(written)
        if isinstance((each := mapping(call.get("function")) or call).get("name"), str)
    ]
    if calls and len(calls) == len(items(written)):
        message["tool_calls"] = calls
    return message


# The answer


def response_of(written: Any, finish_reason: str | None = None) -> dict[str, Any] | None:
    """The response that an output is, in OpenAI's form; None: there is none.

    Args:
        finish_reason: of an answer that has none of its own.
    """
    given = opened(written)
    if given is None or given == "":
        return None
    # Anthropic's messages look like items of the Responses API, so they are told apart first.
    whole = openai_response(given[0] if isinstance(given, list) and len(given) == 1 else given)
    if isinstance(whole, Mapping) and _is_whole_response(whole):
        return _ended(whole, finish_reason)
    listed = given if isinstance(given, list) else [given]
    if any(map(_is_output_item, listed)):
        return {"output": listed}
    if listed and all(map(_is_message, listed)):
        # Several are the answers of a request with n > 1, of which the first is taken, or else a whole conversation.
        are_answers = all(each.get("role", "assistant") in _ANSWERING for each in listed)
        message = message_of(listed[0 if are_answers else -1])
    else:
        # An answer that is JSON comes as an object from those ways out that parse, and as it was from the others.
        message = {"content": written if isinstance(written, str) else text_of(given)}
    reason = text(message.get("finish_reason")) or finish_reason
    return {"choices": [{"message": {**message, "role": "assistant"}, "finish_reason": reason}]}


def _ended(response: Mapping[str, Any], finish_reason: str | None) -> dict[str, Any]:
    """A response whose first choice has a reason for its end, if one is known."""
    choices = [dict(each) for each in mappings(response.get("choices"))]
    if not choices or choices[0].get("finish_reason"):
        return dict(response)
    return {**response, "choices": [{**choices[0], "finish_reason": finish_reason}, *choices[1:]]}


def _is_whole_response(given: Mapping[str, Any]) -> bool:
    choices, output = list(mappings(given.get("choices"))), list(mappings(given.get("output")))
    return any("message" in each or "finish_reason" in each for each in choices) or any(map(_is_output_item, output))


def _is_output_item(value: Any) -> bool:
    """Whether a value is an item of the Responses API's output."""
    if not isinstance(value, Mapping):
        return False
    kind = value.get("type")
    if kind == "message":
        return isinstance(value.get("content"), list)
    return kind == "reasoning" or (kind in ("function_call", "custom_tool_call") and "name" in value)


def _is_message(value: Any) -> bool:
    """Whether a value is a chat message. An answer in JSON may have the keys `role` and `content` too."""
    if not isinstance(value, Mapping) or not any(key in value for key in _MESSAGE_PARTS):
        return False
    if "role" in value:
        return value["role"] in (*_ANSWERING, "user", "system", "tool")
    return all(key in _BESIDE_CONTENT or key in _ALSO_BESIDE for key in value)


def text_of(value: Any) -> str:
    """A value as the text that it was: a text, or JSON as Langfuse writes it."""
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        return ""
