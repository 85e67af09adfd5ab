"""OpenAI's route: /v1/chat/completions, in one piece or streamed.

It is a plain function, as the plain routes are: FastAPI runs it in a worker thread.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from tunewright.inference.predictors import Answer, Pieces, Token
from tunewright.serving.engine import Engine, finish_reason, whole_answer
from tunewright.serving.errors import ApiError
from tunewright.serving.hosts import BaseEngine
from tunewright.serving.recorder import RecordedQuestion
from tunewright.serving.replies import events, head, likeliest, log_probabilities, usage
from tunewright.serving.requests import ChatRequest
from tunewright.serving.routes.state import ServerState, client_of, name_of, served_by
from tunewright.serving.strict import StrictRoute
from tunewright.tasks import Message
from tunewright.tasks.base import JsonRecord

router = APIRouter(route_class=StrictRoute)


@router.post("/v1/chat/completions", response_model=None)
def chat(http: Request, request: ChatRequest) -> dict[str, Any] | StreamingResponse:
    served, client = served_by(http), client_of(http)
    engine = served.engine(client, request.model)
    _check_format(engine, request.generation_config.schema)
    text = None if isinstance(engine, BaseEngine) else _one_message(request)
    question = RecordedQuestion(engine, request.model, name_of(client), text, f"chatcmpl-{uuid.uuid4().hex}")
    if request.stream:
        return _streamed(served, question, request)
    others: list[Token] = []
    if request.top_logprobs and engine.kind == "classify":
        question, found = served.answer(question, lambda engine: engine.classify(question.prompt))
        answer, others = found.answer, likeliest(found.probabilities, request.top_logprobs)
    else:
        question, answer = served.answer(question, lambda engine: whole_answer(_pieces(engine, question, request)))
    return _completion(served, question, answer, log_probabilities(answer.tokens, others) if request.logprobs else None)


def _completion(
    served: ServerState, question: RecordedQuestion, answer: Answer, logprobs: dict[str, Any] | None
) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish_reason(answer)}
    return {
        **head("chat.completion", question.id, question.model),
        "choices": [choice],
        "usage": usage(answer),
        **served.recorder.note(question, answer),
    }


def _streamed(served: ServerState, question: RecordedQuestion, request: ChatRequest) -> StreamingResponse:
    champion = question.engine

    def begin(engine: Engine) -> Pieces:
        pieces = _pieces(engine, question, request)
        return pieces if engine is champion else _begun(pieces)

    answered, pieces = served.answer(question, begin)
    with_usage = bool(request.stream_options and request.stream_options.include_usage)
    beginning = head("chat.completion.chunk", question.id, question.model)
    body = events(pieces, beginning, partial(served.recorder.note, answered), with_usage=with_usage)
    return StreamingResponse(body, media_type="text/event-stream")


def _pieces(engine: Engine, question: RecordedQuestion, request: ChatRequest) -> Pieces:
    """The answer to a chat: a tuned model answers its one message, a base the whole conversation."""
    if isinstance(engine, BaseEngine):
        messages = [
            Message(role="system" if each.role == "developer" else each.role, content=each.text)
            for each in request.messages
        ]
        return engine.converse(messages, request.generation_config)
    return engine.stream(question.prompt, request.generation_config)


def _begun(pieces: Pieces) -> Pieces:
    """The same pieces, the first of them made at once: the champion can still answer where it fails."""
    first = next(pieces)

    def resumed() -> Pieces:
        with closing(pieces):
            yield first
            yield from pieces

    return resumed()


def _check_format(engine: Engine, schema: Mapping[str, Any] | None) -> None:
    """Refuse a schema that is not the one the model was trained for. A label takes any: it is always whole.

    Raises:
        ApiError: it is another one.
    """
    if schema is None:
        return
    rule = engine.bundle.task.constraint
    if isinstance(rule, JsonRecord) and schema not in ({"type": "object"}, rule.schema):
        raise ApiError(
            400,
            "This model's records have a schema of their own; leave response_format away.",
            "invalid_value",
            "response_format",
        )


def _one_message(request: ChatRequest) -> str:
    users = [message for message in request.messages if message.role == "user"]
    if len(users) != 1 or any(message.role == "assistant" for message in request.messages):
        raise ApiError(
            400, "This model takes exactly one user message; the system prompt is its own.", "invalid_value", "messages"
        )
    return users[0].text
