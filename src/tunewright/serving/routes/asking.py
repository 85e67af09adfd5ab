"""What the routes of OpenAI's API share: a request to a model, whatever its form."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from functools import partial
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from tunewright.inference.predictors import Answer, Pieces
from tunewright.serving.conversations import UnfitMessages, one_text
from tunewright.serving.engine import Engine, whole_answer
from tunewright.serving.errors import ApiError
from tunewright.serving.forms import Form
from tunewright.serving.hosts import BaseEngine
from tunewright.serving.recorder import RecordedQuestion
from tunewright.serving.replies import events
from tunewright.serving.requests import ChatRequest
from tunewright.serving.routes.state import ServerState, client_of, name_of, served_by
from tunewright.tasks.base import JsonRecord
from tunewright.tasks.input_form import InputForm


def question_of(http: Request, request: ChatRequest, identity: str) -> RecordedQuestion:
    """The question of a request.

    Raises:
        ApiError: there is no such model, or it can't take such a request.
    """
    served, client = served_by(http), client_of(http)
    engine = served.engine(client, request.model)
    _check_format(engine, request.generation_config.schema)
    text = None if isinstance(engine, BaseEngine) else _one_text(engine, request)
    return RecordedQuestion(engine, request.model, name_of(client), text, identity)


def answer_to(served: ServerState, question: RecordedQuestion, request: ChatRequest) -> tuple[RecordedQuestion, Answer]:
    """(the question with the engine that answered, the answer)."""
    return served.answer(question, lambda engine: whole_answer(_pieces(engine, question, request)))


def stream_of(served: ServerState, question: RecordedQuestion, request: ChatRequest, form: Form) -> StreamingResponse:
    """The answer, piece by piece."""
    champion = question.engine

    def begin(engine: Engine) -> Pieces:
        pieces = _pieces(engine, question, request)
        return pieces if engine is champion else _begun(pieces)

    answered, pieces = served.answer(question, begin)
    body = events(pieces, form, partial(served.recorder.note, answered))
    return StreamingResponse(body, media_type="text/event-stream")


def _pieces(engine: Engine, question: RecordedQuestion, request: ChatRequest) -> Pieces:
    """The answer to a chat: a tuned model answers its one message, a base the whole conversation."""
    if isinstance(engine, BaseEngine):
        return engine.converse([each.as_message() for each in request.messages], request.generation_config)
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


def _one_text(engine: Engine, request: ChatRequest) -> str:
    try:
        return one_text(request.messages, InputForm.of(engine.bundle.info.task))
    except UnfitMessages as error:
        raise ApiError(400, str(error), "invalid_value", "messages") from None
