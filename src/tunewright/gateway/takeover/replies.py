"""Own answers in the form that the client asked for: of its route, in one piece or as a stream, as text, JSON or a tool
call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tunewright.config.checking import schema_fault
from tunewright.core.errors import UserError
from tunewright.gateway.answers import AnswerChoice
from tunewright.gateway.jobs.signature import JobSignature
from tunewright.gateway.own_responses import own_response
from tunewright.gateway.routes import Kind
from tunewright.gateway.takeover.models import OwnAnswer
from tunewright.serving.forms import ChatForm, CompletionForm, Form, ResponseForm
from tunewright.tasks import base as tasks
from tunewright.tasks.record_form import RecordForm
from tunewright.tasks.tools import said

_ASKS_FOR_MORE = (
    "logprobs",
    "top_logprobs",
    "store",
    "previous_response_id",
    "conversation",
    "background",
    "audio",
    "logit_bias",
    "functions",
    "function_call",
    "echo",
    "suffix",
)
"""Fields of a request that only the API can fulfil. `functions` and `function_call` are of OpenAI's API before there
were tools, and own models answer in the form that came after it."""
_LOGPROBS = "message.output_text.logprobs"
"""What `include` of the Responses API says to ask for probabilities."""
_SCHEMAS = 100
"""Schemas of clients that are kept in the form that records are checked by."""


class CantReplace(Exception):
    """An own answer can't stand in for the API's."""


def asks_for_more(request: Mapping[str, Any]) -> bool:
    """Whether a request asks for something that own models don't give: several answers, probabilities, or an
    answer or a conversation that the API keeps."""
    several = any(request.get(name) not in (None, 1) for name in ("n", "best_of"))
    included = request.get("include")
    # In completions 0 asks for the chosen tokens' alone.
    has_logprobs = (isinstance(included, list) and _LOGPROBS in included) or type(request.get("logprobs")) is int
    return several or has_logprobs or any(request.get(name) not in (None, False, 0, {}) for name in _ASKS_FOR_MORE)


def choice_of(answer: OwnAnswer, signature: JobSignature, request: Mapping[str, Any]) -> AnswerChoice:
    """An own answer as the API would give it.

    Raises:
        CantReplace: it was cut, is longer than the client allows, or does not fit the client's schema.
    """
    if answer.is_cut:
        raise CantReplace("it was cut")
    limits = (request.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"))
    if any(isinstance(limit, int) and answer.answer_tokens > limit for limit in limits):
        raise CantReplace("it is longer than the client allows")
    if signature.answer == "call":
        return _call_or_text(answer.text, request)
    text = answer.text if signature.key is None else json.dumps({signature.key: answer.text}, ensure_ascii=False)
    if signature.answer != "record" and signature.key is None:
        return AnswerChoice(text, finish_reason="stop")
    if signature.tool and not _may_call(signature.tool, request):
        raise CantReplace("the client has chosen what is called")
    schema = _schema(signature.tool, request)
    text = text if schema is None else _fitted(text, json.dumps(schema))
    if signature.tool:
        return AnswerChoice(tool_calls=[{"name": signature.tool, "arguments": text}], finish_reason="tool_calls")
    return AnswerChoice(text, finish_reason="stop")


def _may_call(tool: str, request: Mapping[str, Any]) -> bool:
    """Whether a request lets the model call a tool."""
    match request.get("tool_choice"):
        case None | "auto" | "required":
            return True
        case {"function": {"name": name}} | {"name": name}:
            return bool(name == tool)
    return False


def _call_or_text(answer: str, request: Mapping[str, Any]) -> AnswerChoice:
    """The answer of a model that calls tools.

    Raises:
        CantReplace: the client has chosen what is called, wants its text in a form, or does not have that tool.
    """
    call = said(answer)
    if call is None or request.get("tool_choice") not in (None, "auto"):
        raise CantReplace("the client has chosen what is called")
    if call.tool is None:
        if _schema(None, request) is not None:
            raise CantReplace("the client wants a text of a form")
        return AnswerChoice(call.content, finish_reason="stop")
    function = _function(call.tool, request)
    if function is None:
        raise CantReplace("the client has no such tool")
    schema = _object(function.get("parameters")) or {"type": "object", "properties": {}}
    arguments = _fitted(call.content, json.dumps(schema))
    return AnswerChoice(tool_calls=[{"name": call.tool, "arguments": arguments}], finish_reason="tool_calls")


def reply_body(
    kind: Kind, identity: str, model: str, choice: AnswerChoice, answer: OwnAnswer, request: Mapping[str, Any]
) -> tuple[str, bytes]:
    """(content type, body) of a reply.

    Args:
        identity: of the request, 32 letters.
        model: as the client named it.
    """
    call = choice.tool_calls[0] if choice.tool_calls else None
    tool, text = (call["name"], call["arguments"]) if call else (None, choice.text)
    form: Form
    if kind == "responses":
        form = ResponseForm(own_response(identity), model, request, tool)
    elif kind == "completions":
        form = CompletionForm(f"cmpl-{identity}", model, with_usage=_wants_usage(request))
    else:
        form = ChatForm(f"chatcmpl-{identity}", model, with_usage=_wants_usage(request), tool=tool)
    usage = answer.prompt_tokens, answer.answer_tokens
    if request.get("stream") is not True:
        return "application/json", json.dumps(form.whole(text, "stop", usage)).encode()
    events = [*form.begin(), form.piece(text), *form.end("stop", usage, {})]
    return "text/event-stream; charset=utf-8", "".join(events).encode()


def _wants_usage(request: Mapping[str, Any]) -> bool:
    options = request.get("stream_options")
    return isinstance(options, Mapping) and options.get("include_usage") is True


def _schema(tool: str | None, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema that the client wants a record, or a tool's arguments, to fit; None: none."""
    if tool:
        return _object((_function(tool, request) or {}).get("parameters"))
    form = request.get("response_format")
    if form is None and isinstance(text := request.get("text"), Mapping):
        form = text.get("format")
    if not isinstance(form, Mapping) or form.get("type") != "json_schema":
        return None
    inner = form.get("json_schema", form)
    return _object(inner.get("schema")) if isinstance(inner, Mapping) else None


def _function(name: str, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """One of the functions that a request offers as tools; None: it does not offer that one."""
    for each in request.get("tools") or ():
        function = each.get("function", each) if isinstance(each, Mapping) else {}
        if isinstance(function, Mapping) and function.get("name") == name:
            return function
    return None


def _object(schema: Any) -> Mapping[str, Any] | None:
    return schema if isinstance(schema, Mapping) else None


def _fitted(text: str, schema: str) -> str:
    """A record's JSON in the form of the client's schema.

    Raises:
        CantReplace: it does not fit, or the schema can't be checked in bounded time.
    """
    try:
        return _form(schema).canonical(text)
    except (UserError, tasks.Unfit):
        raise CantReplace("it does not fit the client's schema") from None


@lru_cache(_SCHEMAS)
def _form(schema: str) -> RecordForm:
    parsed = json.loads(schema)
    if (fault := schema_fault(parsed)) is not None:
        raise UserError(fault[1])
    return RecordForm(parsed)
