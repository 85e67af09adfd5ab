"""The plain routes, one a job: /v1/classify, /v1/extract, /v1/call and /v1/generate.

They are plain functions, which run in worker threads, so that health routes answer while a request is scored.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from tunewright.auth.keys import Principal
from tunewright.core.errors import UserError, missing_extra
from tunewright.inference.predictors import Answer, GenerationConfig
from tunewright.serving.body import RequestInput
from tunewright.serving.conversations import UnfitMessages, one_input
from tunewright.serving.engine import answer_fields, whole_answer
from tunewright.serving.errors import ApiError
from tunewright.serving.forms import tokens_of, usage_block
from tunewright.serving.recorder import RecordedQuestion
from tunewright.serving.requests import ClassifyRequest, GenerateRequest
from tunewright.serving.routes.state import ServerState, client_of, name_of, served_by
from tunewright.serving.routes.table import RouteTable
from tunewright.tasks.input_form import InputForm

ROUTES = RouteTable()


@ROUTES.post("/v1/classify")
def classify(http: Request, request: ClassifyRequest) -> dict[str, Any]:
    served, client = served_by(http), client_of(http)
    question = _question(served, client, request, "classify")
    if request.probabilities:
        question, found = served.answer(question, lambda engine: engine.classify(question.prompt))
        return _reply(served, question, found.answer) | {"probabilities": found.probabilities}
    return _reply(served, *served.answer(question, lambda engine: engine.answer(question.prompt)))


@ROUTES.post("/v1/extract")
def extract(http: Request, request: RequestInput) -> dict[str, Any]:
    served, client = served_by(http), client_of(http)
    question = _question(served, client, request, "extract")
    return _reply(served, *served.answer(question, lambda engine: engine.answer(question.prompt)))


@ROUTES.post("/v1/call")
def call(http: Request, request: RequestInput) -> dict[str, Any]:
    served, client = served_by(http), client_of(http)
    question = _question(served, client, request, "call")
    return _reply(served, *served.answer(question, lambda engine: engine.answer(question.prompt)))


@ROUTES.post("/v1/generate")
def generate(http: Request, request: GenerateRequest) -> dict[str, Any]:
    served, client = served_by(http), client_of(http)
    question = _question(served, client, request, "generate")
    config = GenerationConfig(request.stop, request.max_tokens)
    return _reply(served, *served.answer(question, lambda engine: whole_answer(engine.stream(question.prompt, config))))


def _question(served: ServerState, client: Principal | None, request: RequestInput, kind: str) -> RecordedQuestion:
    name, engine = served.engine(client, request.model, kind)
    text = _text(request, InputForm.of(engine.bundle.info.task))
    return RecordedQuestion(engine, name, name_of(client), text)


def _text(request: RequestInput, form: InputForm) -> str:
    """Raises:
    ApiError: the document can't be read, or there is no input in the text.
    """
    try:
        return one_input(request.read(), form)
    except UnfitMessages as error:
        raise ApiError(400, str(error), "invalid_value", "text") from None
    except UserError as error:
        raise ApiError(400, error.paragraph(), "invalid_document", "document") from None
    except ModuleNotFoundError as error:
        reason = missing_extra("documents", error.name or "").paragraph()
        raise ApiError(501, reason, "documents_not_installed", "document") from None


def _reply(served: ServerState, question: RecordedQuestion, answer: Answer) -> dict[str, Any]:
    """Record an answer, and give the body of its reply."""
    more = {"id": question.id, **served.recorder.note(question, answer), "usage": usage_block(*tokens_of(answer))}
    return {**answer_fields(question.engine.kind, answer), **more}
