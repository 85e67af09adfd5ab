"""What the routes of OpenAI's API share: a request to a model, whatever its form."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Protocol

from starlette.requests import Request
from starlette.responses import StreamingResponse

from tunewright.inference.predictors import Answer, Pieces
from tunewright.serving.conversations import UnfitMessages, one_text, require_text
from tunewright.serving.engine import Engine, whole_answer
from tunewright.serving.errors import ApiError
from tunewright.serving.forms import CallForm, Form
from tunewright.serving.hosts import BaseEngine
from tunewright.serving.recorder import RecordedQuestion
from tunewright.serving.replies import events
from tunewright.serving.requests import ChatRequest
from tunewright.serving.routes.state import ServerState, client_of, name_of, served_by
from tunewright.serving.tools import narrowed_schema, require_own_schema, require_own_tools
from tunewright.tasks.base import ToolCall


def question_of(http: Request, request: ChatRequest, identity: str) -> RecordedQuestion:
    """The question of a request.

    Raises:
        ApiError: there is no such model, or it can't take such a request.
    """
    served, client = served_by(http), client_of(http)
    _, engine = served.engine(client, request.model)
    rule = engine.bundle.task.constraint
    require_own_schema(rule, request.generation_config.schema)
    require_own_tools(rule, request)
    narrowed_schema(rule, request.tool_choice)  # raises here, before an answer begins
    text = _text(served, engine, request)
    return RecordedQuestion(engine, request.model, name_of(client), text, identity)


class ToolForms(Protocol):
    """Makes the form of an answer that calls a tool; of None: of a text."""

    def __call__(self, *, tool: str | None) -> Form: ...


def form_for(question: RecordedQuestion, form_of: ToolForms) -> Form:
    """The form of the answer to a question."""
    if isinstance(question.engine.bundle.task.constraint, ToolCall):
        return CallForm(lambda tool: form_of(tool=tool))
    return form_of(tool=None)


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
    narrowed = narrowed_schema(engine.bundle.task.constraint, request.tool_choice)
    return engine.stream(question.prompt, replace(request.generation_config, narrowed=narrowed))


def _begun(pieces: Pieces) -> Pieces:
    """The same pieces, the first of them made at once: the champion can still answer where it fails."""
    first = next(pieces)

    def resumed() -> Pieces:
        with closing(pieces):
            yield first
            yield from pieces

    return resumed()


def _text(served: ServerState, engine: Engine, request: ChatRequest) -> str | None:
    """The text for a tuned model; None: a conversation with a base."""
    try:
        if isinstance(engine, BaseEngine):
            require_text(request.messages[-1].text)
            return None
        return one_text(request.messages, engine.bundle.info, any_system_prompt=served.any_system_prompt)
    except UnfitMessages as error:
        raise ApiError(400, str(error), "invalid_value", "messages") from None
