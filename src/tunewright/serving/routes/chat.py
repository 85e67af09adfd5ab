"""OpenAI's routes: /v1/chat/completions, /v1/completions and /v1/responses, in one piece or streamed.

They are plain functions, as the plain routes are, which run in worker threads.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from tunewright.inference.predictors import Token
from tunewright.serving.engine import finish_reason
from tunewright.serving.forms import ChatForm, CompletionForm, Form, ResponseForm, tokens_of
from tunewright.serving.recorder import RecordedQuestion
from tunewright.serving.replies import likeliest, log_probabilities
from tunewright.serving.requests import ChatRequest, CompletionRequest, ResponsesRequest
from tunewright.serving.routes.asking import answer_to, form_for, question_of, stream_of
from tunewright.serving.routes.state import served_by
from tunewright.serving.routes.table import RouteTable

ROUTES = RouteTable()


@ROUTES.post("/v1/chat/completions")
def chat(http: Request, request: ChatRequest) -> dict[str, Any] | StreamingResponse:
    served = served_by(http)
    question = question_of(http, request, f"chatcmpl-{uuid.uuid4().hex}")
    form = form_for(question, partial(ChatForm, question.id, question.model, with_usage=request.wants_usage))
    if request.stream:
        return stream_of(served, question, request, form)
    others: list[Token] = []
    if request.top_logprobs and question.engine.kind == "classify":
        question, found = served.answer(question, lambda engine: engine.classify(question.prompt))
        answer, others = found.answer, likeliest(found.probabilities, request.top_logprobs)
    else:
        question, answer = answer_to(served, question, request)
    reply = form.whole(answer.text, finish_reason(answer), tokens_of(answer))
    if request.logprobs:
        reply["choices"][0]["logprobs"] = log_probabilities(answer.tokens, others)
    return {**reply, **served.recorder.note(question, answer)}


@ROUTES.post("/v1/completions")
def complete(http: Request, request: CompletionRequest) -> dict[str, Any] | StreamingResponse:
    identity = f"cmpl-{uuid.uuid4().hex}"
    form = CompletionForm(identity, request.model, with_usage=request.wants_usage)
    return _answered(http, request.as_chat(), identity, lambda _: form)


@ROUTES.post("/v1/responses")
def respond(http: Request, request: ResponsesRequest) -> dict[str, Any] | StreamingResponse:
    identity = uuid.uuid4().hex
    settings = request.model_dump(exclude={"input"}, exclude_none=True, by_alias=True)
    form_of = partial(ResponseForm, identity, request.model, settings)
    return _answered(http, request.as_chat(), f"resp_{identity}", lambda question: form_for(question, form_of))


def _answered(
    http: Request, request: ChatRequest, identity: str, form_of: Callable[[RecordedQuestion], Form]
) -> dict[str, Any] | StreamingResponse:
    served = served_by(http)
    question = question_of(http, request, identity)
    form = form_of(question)
    if request.stream:
        return stream_of(served, question, request, form)
    question, answer = answer_to(served, question, request)
    reply = form.whole(answer.text, finish_reason(answer), tokens_of(answer))
    return {**reply, **served.recorder.note(question, answer)}
