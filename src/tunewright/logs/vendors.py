"""Requests and answers of Anthropic's and Gemini's APIs in OpenAI's form, for logs that keep bodies as they were.

Sources: platform.claude.com/docs/en/api/messages and ai.google.dev/api/generate-content (2026-11-30).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from tunewright.logs.call import joined, tool_call
from tunewright.logs.values import count, first, items, mapping, mappings, parsed, text, whole

_THOUGHTS = ("thinking", "redacted_thinking")
_ANTHROPIC_BLOCKS = ("tool_use", "tool_result", *_THOUGHTS)
_ANSWER_BLOCKS = ("text", "output_text", "tool_use", *_THOUGHTS)
_CUT = ("model_context_window_exceeded", "pause_turn")
"""Anthropic's reasons for an end before the answer's own, beside `max_tokens`."""

_OBJECTS = ("response", "chat.completion", "text_completion", "error")
_OUTPUT_ITEMS = ("message", "reasoning", "function_call", "custom_tool_call")
_OF_MESSAGES = {"content", "refusal", "tool_calls", "finish_reason", "stop_reason", "id", "type", "model", "usage"}
"""The keys of a message that has no role."""
_OF_COMPLETIONS = {"id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier"}
_OF_CHOICES = {"message", "finish_reason", "delta"}
"""Keys that a choice of a model has, and no choice in a record."""
_OF_GEMINI = {"promptFeedback", "prompt_feedback", "usageMetadata", "usage_metadata"}
"""Keys of Gemini's responses, in the spellings of its API and of its client for Python."""
_OF_REFUSALS = {
    *("status", "statusCode", "status_code", "detail", "details", "code", "type", "message", "error", "error_type"),
    *("activityId", "requestId", "request_id", "timestamp", "path"),
}
"""The keys of a gateway's or a server's refusal that has no object under `error`."""
_OF_OTHERS: tuple[set[str], ...] = (
    *({"additional_kwargs"}, {"response_metadata"}),  # LangChain's messages
    *({"model", "done"}, {"generated_text"}, {"generation_id"}, {"outputText"}),
    *({"completion", "stop_reason"}, {"generation", "stop_reason"}),
)
"""Keys of responses of other APIs, such as Ollama's, TGI's, Cohere's and Bedrock's."""


def openai_request(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request in the form of OpenAI's API. One that has it already stays as it is."""
    if "contents" in body:
        return _of_gemini(body)
    request = dict(body)
    if "messages" in request:
        turns = list(chain.from_iterable(map(_turns, items(request["messages"]))))
        system = joined(request.pop("system", None))
        request["messages"] = [{"role": "system", "content": system}, *turns] if system else turns
    if isinstance(request.get("tools"), list):
        request["tools"] = list(chain.from_iterable(map(_tools, request["tools"])))
    return request


def openai_response(body: Any) -> Any:
    """A response in the form of OpenAI's API. One that has it already, or an unknown one, stays as it is, and so does
    a text that is no response in JSON: it is the answer itself, perhaps a record or a list."""
    if isinstance(body, str):
        value = parsed(body)
        return openai_response(value) if not isinstance(value, str) and _is_body(value) else body
    if isinstance(body, list):
        return _of_list(body)
    if not isinstance(body, Mapping):
        return body
    if _is_of_gemini(body):
        return _of_candidates(body)
    return _of_message(body) if _is_of_anthropic(body) else body


def response_or_answer(value: Any) -> Any:
    """What a row has as its response, where that may be the answer itself: of a record, a list or a number the JSON
    text is the answer."""
    if value is None or isinstance(value, str) or _is_body(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _of_list(body: list[Any]) -> Any:
    """The response that a list is: pieces of a stream, items of an output, blocks of a content, or one message."""
    if any("candidates" in each for each in mappings(body)):
        return _of_pieces(body)
    if any(map(_is_output_item, body)):
        return {"output": body}
    if body and all(map(_is_block, body)):
        return _of_message({"content": body})
    is_answer = len(body) == 1 and _is_turn(body[0]) and body[0]["role"] == "assistant"
    return openai_response(body[0]) if is_answer else body


def _is_body(value: Any) -> bool:
    """Whether a value is a response, or a part of one, and no answer that is JSON. An empty object stands for a
    response that was not kept."""
    if isinstance(value, list):
        is_part = bool(value) and (all(map(_is_block, value)) or all(map(_is_turn, value)))
        return is_part or any(_is_output_item(each) or _has_form_of_gemini(each) for each in mappings(value))
    if not isinstance(value, Mapping):
        return False
    forms = (_is_message, _is_completion, _is_refusal, _has_form_of_gemini, _is_of_anthropic, _is_of_others)
    return not value or value.get("object") in _OBJECTS or any(is_of_form(value) for is_of_form in forms)


def _is_message(value: Mapping[str, Any]) -> bool:
    is_bare = "content" in value and value.keys() <= _OF_MESSAGES
    is_output = any(each.get("type") in _OUTPUT_ITEMS for each in mappings(value.get("output")))
    return value.get("role") == "assistant" or is_bare or is_output


def _is_turn(value: Any) -> bool:
    is_said = isinstance(value, Mapping) and ("content" in value or "tool_calls" in value)
    return is_said and value.get("role") in ("assistant", "user", "system", "tool")


def _is_block(value: Any) -> bool:
    if not isinstance(value, Mapping) or value.get("type") not in _ANSWER_BLOCKS:
        return False
    return isinstance(value.get("text"), str) or value["type"] not in ("text", "output_text")


def _is_output_item(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    is_message = value.get("type") == "message" and isinstance(value.get("content"), list)
    return is_message or (value.get("type") in ("function_call", "custom_tool_call") and "name" in value)


def _is_of_others(value: Mapping[str, Any]) -> bool:
    counts_tokens = any("token" in name.lower() for name in mapping(value.get("usage")))
    return counts_tokens or any(value.keys() >= marks for marks in _OF_OTHERS)


def _is_completion(value: Mapping[str, Any]) -> bool:
    """Whether an object has a completion's choices. A record may have choices with texts too, such as a question's."""
    choices = value.get("choices")
    if not isinstance(choices, list):
        return False
    if not choices:
        return not value.keys().isdisjoint(("id", "model", "usage"))
    if any(each.keys() & _OF_CHOICES for each in mappings(choices)):
        return True
    is_whole = value.keys() <= _OF_COMPLETIONS or not value.keys().isdisjoint(("model", "usage"))
    return is_whole and any("text" in each for each in mappings(choices))


def _is_refusal(value: Mapping[str, Any]) -> bool:
    if isinstance(value.get("error"), Mapping) or value.keys() in ({"error"}, {"detail"}):
        return True
    is_marked = not value.keys().isdisjoint(("statusCode", "detail", "error_type"))
    has_code = is_marked or (whole(first(value, "status_code", "status")) or 0) >= 400
    is_told = "message" in value or ("error" in value and has_code)
    return has_code and is_told and value.keys() <= _OF_REFUSALS


def _has_form_of_gemini(value: Mapping[str, Any]) -> bool:
    """Whether an object is a response of Gemini, or what it sends in place of one. A record's list of candidates may
    be empty, too."""
    return not value.keys().isdisjoint(_OF_GEMINI) or bool(value.get("candidates") and _is_of_gemini(value))


def openai_usage(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """A usage block in the form of OpenAI's API, whose prompt tokens include cached ones. Anthropic's do not."""
    if "promptTokenCount" in block or "prompt_token_count" in block:
        thoughts = count(first(block, "thoughtsTokenCount", "thoughts_token_count"))
        return {
            "prompt_tokens": count(first(block, "promptTokenCount", "prompt_token_count")),
            "completion_tokens": count(first(block, "candidatesTokenCount", "candidates_token_count")) + thoughts,
            "prompt_tokens_details": {
                "cached_tokens": count(first(block, "cachedContentTokenCount", "cached_content_token_count"))
            },
            "completion_tokens_details": {"reasoning_tokens": thoughts},
        }
    if "input_tokens" in block and ("cache_read_input_tokens" in block or "cache_creation_input_tokens" in block):
        read, written = (count(block.get(f"cache_{way}_input_tokens")) for way in ("read", "creation"))
        return {
            "prompt_tokens": count(block["input_tokens"]) + read + written,
            "completion_tokens": count(block.get("output_tokens")),
            "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        }
    return block


# Anthropic


def _is_of_anthropic(body: Mapping[str, Any]) -> bool:
    content = body.get("content")
    if not isinstance(content, list):
        return False
    return "stop_reason" in body or any(each.get("type") == "tool_use" for each in mappings(content))


def _turns(message: Any) -> Iterator[Any]:
    """The chat messages of one of Anthropic's, in which calls of tools and their results are blocks."""
    blocks = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(blocks, list) or not any(each.get("type") in _ANTHROPIC_BLOCKS for each in mappings(blocks)):
        yield message
        return
    for block in mappings(blocks):
        if block.get("type") == "tool_result":
            identity = text(block.get("tool_use_id")) or ""
            yield {"role": "tool", "tool_call_id": identity, "content": joined(block.get("content"))}
    # LangChain has the calls beside the blocks, too.
    calls = _calls(blocks) or [dict(each) for each in mappings(message.get("tool_calls"))]
    if rest := [each for each in mappings(blocks) if each.get("type") not in _ANTHROPIC_BLOCKS]:
        yield {"role": message.get("role"), "content": rest, **({"tool_calls": calls} if calls else {})}
    elif calls:
        yield {"role": "assistant", "content": None, "tool_calls": calls}


def _calls(blocks: Any) -> list[dict[str, Any]]:
    used = (each for each in mappings(blocks) if each.get("type") == "tool_use")
    return [_call(each.get("name"), each.get("input"), each.get("id")) for each in used]


def _call(name: Any, arguments: Any, identity: Any = None) -> dict[str, Any]:
    given = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return tool_call(text(name) or "", given, text(identity) or "")


def _tools(tool: Any) -> Iterator[Any]:
    """The tools that one entry defines: Gemini lists several in one."""
    if not isinstance(tool, Mapping):
        yield tool
        return
    if "input_schema" in tool:
        yield _tool(tool, tool["input_schema"])
        return
    declared = first(tool, "functionDeclarations", "function_declarations")
    if declared is None:
        yield tool
    for each in mappings(declared):
        yield _tool(each, first(each, "parametersJsonSchema", "parameters"))


def _tool(tool: Mapping[str, Any], schema: Any) -> dict[str, Any]:
    known = {"name": tool.get("name"), "description": tool.get("description"), "parameters": schema}
    return {"type": "function", "function": {name: value for name, value in known.items() if value is not None}}


def _of_message(body: Mapping[str, Any]) -> dict[str, Any]:
    reason = body.get("stop_reason")
    # Text that cites sources comes in several blocks, which are one text.
    answer = "".join(str(each["text"]) for each in mappings(body["content"]) if isinstance(each.get("text"), str))
    calls = _calls(body["content"]) or [dict(each) for each in mappings(body.get("tool_calls"))]
    message: dict[str, Any] = {"role": "assistant", "content": answer, "tool_calls": calls}
    if reason == "refusal":
        message["refusal"] = answer or "refused"
    choice = {"message": message, "finish_reason": "length" if reason in _CUT else reason}
    usage = mapping(body.get("usage"))
    said = {"service_tier": _service_tier(usage), "usage": openai_usage(usage)}
    return {**_identity(body), "choices": [choice], **said}


def _service_tier(usage: Mapping[str, Any]) -> str | None:
    """The tier of an answer of Anthropic's in OpenAI's words. What Anthropic calls priority was paid in advance, so its
    tokens count at the usual price (platform.claude.com/docs/en/api/service-tiers and
    platform.claude.com/docs/en/build-with-claude/fast-mode, 2026-12-01)."""
    if usage.get("speed") == "fast":
        return "fast"
    return "batch" if usage.get("service_tier") == "batch" else None


def _identity(body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": first(body, "id", "responseId", "response_id"),
        "model": first(body, "model", "modelVersion", "model_version"),
        "error": body.get("error"),
        "streamed_data": body.get("streamed_data"),
    }


# Gemini

_ENDS = ("finishReason", "finish_reason")
"""The reason of the end, in the spellings of its API and of its client for Python."""


def _is_of_gemini(body: Mapping[str, Any]) -> bool:
    """Whether a response has Gemini's form. An answer in JSON may have a list of candidates, too."""
    candidates = body.get("candidates")
    if not isinstance(candidates, list):
        return False
    has_answer = any(
        not each.keys().isdisjoint(_ENDS) or "parts" in mapping(each.get("content")) for each in mappings(candidates)
    )
    return has_answer or not candidates


def _of_gemini(body: Mapping[str, Any]) -> dict[str, Any]:
    config = mapping(first(body, "generationConfig", "generation_config"))
    system = _text(mapping(first(body, "systemInstruction", "system_instruction")))
    contents = body["contents"] if isinstance(body["contents"], list) else [body["contents"]]
    request: dict[str, Any] = {
        "model": body.get("model"),
        "messages": [
            *([{"role": "system", "content": system}] if system else []),
            *chain.from_iterable(map(_gemini_turns, contents)),
        ],
        "temperature": config.get("temperature"),
        "max_tokens": first(config, "maxOutputTokens", "max_output_tokens"),
    }
    if tools := list(chain.from_iterable(map(_tools, items(body.get("tools"))))):
        request["tools"] = tools
    if schema := first(config, "responseJsonSchema", "responseSchema", "response_schema"):
        request["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return {name: value for name, value in request.items() if value is not None}


def _gemini_turns(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, str):
        yield {"role": "user", "content": content}
        return
    content = mapping(content)
    for part in mappings(content.get("parts")):
        if found := first(part, "functionResponse", "function_response"):
            answered = mapping(found)
            given = json.dumps(answered.get("response"), ensure_ascii=False)
            yield {"role": "tool", "tool_call_id": text(answered.get("id")) or "", "content": given}
    calls, said = _gemini_calls(content), _text(content)
    # Other parts than texts stay, so that whoever reads the message sees that it is no text alone.
    foreign = [each for each in mappings(content.get("parts")) if "inlineData" in each or "fileData" in each]
    if said or calls or foreign:
        role = "assistant" if content.get("role") == "model" else "user"
        whole = [{"type": "text", "text": said}, *foreign] if foreign else said
        yield {"role": role, "content": whole or None, **({"tool_calls": calls} if calls else {})}


def _text(content: Mapping[str, Any]) -> str:
    """What the parts say, thoughts left out."""
    parts = (each.get("text") for each in mappings(content.get("parts")) if each.get("thought") is not True)
    return "".join(part for part in parts if isinstance(part, str))


def _gemini_calls(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = (mapping(first(each, "functionCall", "function_call")) for each in mappings(content.get("parts")))
    return [_call(each["name"], each.get("args"), each.get("id")) for each in found if each.get("name")]


def _of_candidates(body: Mapping[str, Any]) -> dict[str, Any]:
    choices = [
        {
            "message": {
                "role": "assistant",
                "content": _text(mapping(each.get("content"))),
                "tool_calls": _gemini_calls(mapping(each.get("content"))),
            },
            "finish_reason": first(each, *_ENDS),
        }
        for each in mappings(body["candidates"])
    ]
    usage = openai_usage(mapping(first(body, "usageMetadata", "usage_metadata")))
    return {**_identity(body), "choices": choices, "usage": usage}


def _of_pieces(pieces: list[Any]) -> dict[str, Any]:
    """The response whose stream has these pieces; the last one has the usage."""
    candidates = [next(mappings(each.get("candidates")), {}) for each in mappings(pieces)]
    parts = [part for each in candidates for part in items(mapping(each.get("content")).get("parts"))]
    ends = [end for each in candidates if (end := first(each, *_ENDS))]
    whole = {"content": {"parts": parts}, "finishReason": ends[-1] if ends else None}
    return _of_candidates({**list(mappings(pieces))[-1], "candidates": [whole]})
