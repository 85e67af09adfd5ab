"""The HTTP API: OpenAI's chat completions and model list, plain /v1/classify and /v1/extract, and health routes."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, Field

from tunewright.errors import UserError, missing_extra
from tunewright.evaluate.predictors import Answer
from tunewright.serve.body import MOST_BODY_BYTES, Asked, LimitBody
from tunewright.serve.engine import Engine, TooLong

if TYPE_CHECKING:
    from fastapi import FastAPI


_Answer = TypeVar("_Answer")


class ClassifyRequest(Asked):
    probabilities: bool = False
    """Whether the answer lists the probability of every label."""


class ContentPart(BaseModel):
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(BaseModel):
    """OpenAI's request. Sampling settings are accepted and have no effect: the likeliest answer is given."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    n: Literal[1] = 1
    stream: Literal[False] = False


class ApiError(Exception):
    """An error in OpenAI's form."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None):
        self.status, self.code, self.param = status, code, param
        super().__init__(message)

    def body(self) -> dict[str, Any]:
        error = {"message": str(self), "type": "invalid_request_error", "param": self.param, "code": self.code}
        return {"error": error}


def build_app(engine: Engine) -> FastAPI:
    """The application for one loaded bundle."""
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse

    info = engine.bundle.info
    app = FastAPI(title=f"Tunewright: {info.name}", docs_url="/docs", redoc_url=None)
    created = int(time.time())

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), error.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:]) or None
        reason = first["msg"].removeprefix("Value error, ")
        return JSONResponse(ApiError(400, f"{param or 'body'}: {reason}", "invalid_value", param).body(), 400)

    too_large = ApiError(413, f"The request is larger than {MOST_BODY_BYTES >> 20} MiB.", "request_too_large")
    app.add_middleware(LimitBody, most=MOST_BODY_BYTES, refuse=JSONResponse(too_large.body(), too_large.status))

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready", "model": info.name, "precision": info.precision}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {
            "object": "list",
            "data": [{"id": info.name, "object": "model", "created": created, "owned_by": "tunewright"}],
        }

    # Plain functions: FastAPI runs them in worker threads, so that health routes answer while a request is scored.
    @app.post("/v1/classify")
    def classify(request: ClassifyRequest) -> dict[str, Any]:
        if not engine.classifies:
            raise ApiError(404, "This model extracts records: POST to /v1/extract.", "wrong_route")
        text = _text(request)
        result = _in_context(lambda: engine.classify(text))
        answer: dict[str, Any] = {
            "label": result.label,
            "confidence": result.confidence,
            "usage": _usage(result.prompt_tokens, result.answer_tokens),
        }
        return answer | ({"probabilities": result.probabilities} if request.probabilities else {})

    @app.post("/v1/extract")
    def extract(request: Asked) -> dict[str, Any]:
        if engine.classifies:
            raise ApiError(404, "This model classifies: POST to /v1/classify.", "wrong_route")
        text = _text(request)
        answer = _in_context(lambda: engine.answer(text))
        return {
            "record": json.loads(answer.text),
            "confidence": answer.confidence,
            "fields": answer.fields,
            "usage": _usage(answer.prompt_tokens, answer.answer_tokens),
        }

    @app.post("/v1/chat/completions")
    def chat(request: ChatRequest) -> dict[str, Any]:
        if request.model != info.name:
            raise ApiError(404, f"The model '{request.model}' does not exist; this server has '{info.name}'.",
                           "model_not_found", "model")  # fmt: skip
        users = [message for message in request.messages if message.role == "user"]
        if len(users) != 1 or any(message.role == "assistant" for message in request.messages):
            raise ApiError(400, "This model takes exactly one user message; the system prompt is its own.",
                           "invalid_value", "messages")  # fmt: skip
        answer: Answer = _in_context(lambda: engine.answer(users[0].text))
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": info.name,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": answer.text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": _usage(answer.prompt_tokens, answer.answer_tokens),
            "confidence": answer.confidence,
        }

    return app


def _text(request: Asked) -> str:
    try:
        return request.read()
    except UserError as error:
        raise ApiError(400, error.paragraph(), "invalid_document", "document") from None
    except ModuleNotFoundError as error:
        reason = missing_extra("documents", error.name or "").paragraph()
        raise ApiError(501, reason, "documents_not_installed", "document") from None


def _in_context(answer: Callable[[], _Answer]) -> _Answer:
    try:
        return answer()
    except TooLong as error:
        raise ApiError(400, error.paragraph(), "context_length_exceeded", "messages") from None


def _usage(prompt: int, answer: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
