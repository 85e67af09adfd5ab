"""The HTTP API: OpenAI's chat completions and model list, plain /v1/classify, /v1/extract and /v1/generate, and health
routes."""

from __future__ import annotations

import json
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Self, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, BeforeValidator, Field, model_validator
from starlette.exceptions import HTTPException

from tunewright.errors import UserError, missing_extra
from tunewright.evaluate.predictors import Answer, Pieces, Terms, Token
from tunewright.models.grammar import GrammarError
from tunewright.serve.body import Asked
from tunewright.serve.call import Abandoned, OutOfTime
from tunewright.serve.engine import Engine, TooLong, finish_reason, told
from tunewright.serve.errors import REFUSALS, error_body
from tunewright.serve.guard import ANSWER_SECONDS, KEY, MOST_UNDER_WAY, Admission, Attendance, CheckKey, LimitBody
from tunewright.serve.hosts import BaseEngine, Host, UnknownModel
from tunewright.serve.keys import Key, KeyRing
from tunewright.serve.metrics import METRICS_TYPE, Metrics
from tunewright.tasks import Message
from tunewright.tasks.base import JsonRecord

_Answer = TypeVar("_Answer")
_NAMED = 20
"""Models that an error names."""
_LOG = logging.getLogger(__name__)
_FAILED = error_body(500, "The server failed; its log says why.", "internal_error")
SMALLEST = 1e-300
"""The least probability whose logarithm is told."""
Flagged = Callable[[Answer], dict[str, Any]]
"""What an answer says beside itself."""


class ClassifyRequest(Asked):
    probabilities: bool = False
    """Whether the answer lists the probability of every label."""


Stop = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(max_length=4),
    BeforeValidator(lambda value: () if value is None else (value,) if isinstance(value, str) else value),
]
"""As OpenAI has it: none, a text or up to four."""


class GenerateRequest(Asked):
    max_tokens: int | None = Field(None, ge=1)
    """Tokens after which the answer is cut, if that is earlier than the model's own limit."""
    stop: Stop = ()
    """Texts that end the answer, beside the model's own."""


class ContentPart(BaseModel):
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    include_usage: bool = False


class JsonSchema(BaseModel):
    name: str = ""
    form: dict[str, Any] = Field(alias="schema")


class ResponseFormat(BaseModel):
    """What the answer is to be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema is given where type is json_schema")
        return self

    @property
    def schema_asked(self) -> dict[str, Any] | None:
        """None: text."""
        if self.json_schema:
            return self.json_schema.form
        return {"type": "object"} if self.type == "json_object" else None


class ChatRequest(BaseModel):
    """OpenAI's request. Sampling settings are accepted and have no effect: the likeliest answer is given. Limits and
    stop texts hold for what a model generates; labels and records are always whole."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    n: Literal[1] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stop: Stop = ()
    response_format: ResponseFormat | None = None
    """Of what a model generates, any; of records, the model's own schema or any object; of labels, text."""
    logprobs: bool = False
    """Whether the answer lists its tokens' log-probabilities: a label is one token, and its probability is the
    confidence. Not of streamed answers."""
    top_logprobs: int | None = Field(None, ge=0, le=20)
    """Of a label, so many of the likeliest with theirs."""

    @model_validator(mode="after")
    def _asked_for(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self

    @property
    def terms(self) -> Terms:
        schema = self.response_format.schema_asked if self.response_format else None
        return Terms(self.stop, self.max_completion_tokens or self.max_tokens, schema)


class ApiError(Exception):
    """An error in OpenAI's form."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None):
        self.status, self.code, self.param = status, code, param
        super().__init__(message)

    def body(self) -> dict[str, Any]:
        return error_body(self.status, str(self), self.code, self.param)


def build_app(
    models: Host, keys: KeyRing | None = None, most: int = MOST_UNDER_WAY, seconds: float = ANSWER_SECONDS
) -> FastAPI:
    """The application for the models of a server.

    Args:
        keys: of those who may ask; None: everybody may.
        most: requests under way; a further one is told to come again.
        seconds: in which a request must be answered.
    """
    app = FastAPI(title=f"Tunewright: {models.label}", docs_url="/docs", redoc_url=None, responses=REFUSALS)
    created = int(time.time())

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), error.status)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        code = {404: "unknown_url", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        return JSONResponse(error_body(error.status_code, str(error.detail), code), error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:]) or None
        reason = first["msg"].removeprefix("Value error, ")
        return JSONResponse(ApiError(400, f"{param or 'body'}: {reason}", "invalid_value", param).body(), 400)

    @app.exception_handler(Abandoned)
    async def abandoned(_: Request, __: Abandoned) -> JSONResponse:
        return JSONResponse(error_body(499, "Whoever asked has gone.", "gone"), 499)

    @app.exception_handler(OutOfTime)
    async def late(_: Request, __: OutOfTime) -> JSONResponse:
        return JSONResponse(_late(seconds), 504)

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> JSONResponse:
        return JSONResponse(_FAILED, 500)

    # The last one added is the first one met.
    metrics = Metrics()
    app.add_middleware(Attendance, seconds=seconds)
    app.add_middleware(Admission, most=most)
    app.add_middleware(LimitBody)
    if keys:
        app.add_middleware(CheckKey, keys=keys)
    app.add_middleware(metrics.measured)

    def flagged(engine: Engine, name: str | None, answer: Answer) -> dict[str, Any]:
        """What every answer says beside itself."""
        flags = engine.bundle.flags(answer.confidence)
        metrics.answered(name or models.label, flags, answer.prompt_tokens, answer.answer_tokens)
        return flags

    def plain(engine: Engine, name: str | None, answer: Answer) -> dict[str, Any]:
        """What the plain routes answer."""
        return {**told(engine.kind, answer), **flagged(engine, name, answer), "usage": _usage(answer)}

    def engine_of(http: Request, name: str | None, kind: str | None = None) -> Engine:
        """The engine of a model, whose job it must be, for who may ask it.

        Args:
            kind: of the route; None: any.
        """
        if not _may_ask(http, name or models.label):
            raise ApiError(
                403, f"This key may not ask the model '{name or models.label}'.", "model_not_allowed", "model"
            )
        try:
            engine = models.engine(name)
        except UnknownModel:
            names = ", ".join(_allowed(http, models.names())[:_NAMED])
            said = f"The model '{name}' does not exist" if name else "Say which model: give model"
            raise ApiError(404, f"{said}; this server has {names}.", "model_not_found", "model") from None
        if kind and engine.kind != kind:
            raise ApiError(404, f"This model's job is to {engine.kind}: POST to /v1/{engine.kind}.", "wrong_route")
        return engine

    @app.get("/metrics", include_in_schema=False)
    async def counted() -> PlainTextResponse:
        return PlainTextResponse(metrics.text(), media_type=METRICS_TYPE)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready", "model": models.label, "precision": models.precision}

    @app.get("/v1/models")
    async def list_models(http: Request) -> dict[str, Any]:
        return {
            "object": "list",
            "data": [
                {"id": name, "object": "model", "created": created, "owned_by": "tunewright"}
                for name in _allowed(http, models.names())
            ],
        }

    # Plain functions: FastAPI runs them in worker threads, so that health routes answer while a request is scored.
    @app.post("/v1/classify")
    def classify(http: Request, request: ClassifyRequest) -> dict[str, Any]:
        engine = engine_of(http, request.model, "classify")
        text = _text(request)
        if request.probabilities:
            found = _in_context(lambda: engine.classify(text))
            return plain(engine, request.model, found.answer) | {"probabilities": found.probabilities}
        return plain(engine, request.model, _in_context(lambda: engine.answer(text)))

    @app.post("/v1/extract")
    def extract(http: Request, request: Asked) -> dict[str, Any]:
        engine = engine_of(http, request.model, "extract")
        text = _text(request)
        return plain(engine, request.model, _in_context(lambda: engine.answer(text)))

    @app.post("/v1/generate")
    def generate(http: Request, request: GenerateRequest) -> dict[str, Any]:
        engine = engine_of(http, request.model, "generate")
        text = _text(request)
        return plain(
            engine,
            request.model,
            _whole(_in_context(lambda: engine.stream(text, Terms(request.stop, request.max_tokens)))),
        )

    @app.post("/v1/chat/completions", response_model=None)
    def chat(http: Request, request: ChatRequest) -> dict[str, Any] | StreamingResponse:
        engine = engine_of(http, request.model)
        _check_format(engine, request.terms.schema)
        likeliest: list[Token] = []
        if request.top_logprobs and engine.kind == "classify" and not request.stream:
            found = _in_context(lambda: engine.classify(_one_message(request)))
            answer, likeliest = found.answer, _likeliest(found.probabilities, request.top_logprobs)
        else:
            pieces = _in_context(lambda: _pieces(engine, request))
            if request.stream:
                usage = bool(request.stream_options and request.stream_options.include_usage)
                events = _events(
                    pieces, request.model, partial(flagged, engine, request.model), usage=usage, seconds=seconds
                )
                return StreamingResponse(events, media_type="text/event-stream")
            answer = _whole(pieces)
        message = {
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": _log_probabilities(answer.tokens, likeliest) if request.logprobs else None,
        }
        return {
            **_head("chat.completion", request.model),
            "choices": [{"index": 0, **message, "finish_reason": finish_reason(answer)}],
            "usage": _usage(answer),
            **flagged(engine, request.model, answer),
        }

    return app


def _may_ask(http: Request, model: str) -> bool:
    key: Key | None = http.scope.get(KEY)
    return key is None or key.may_ask(model)


def _allowed(http: Request, names: Sequence[str]) -> list[str]:
    return [name for name in names if _may_ask(http, name)]


def _pieces(engine: Engine, request: ChatRequest) -> Pieces:
    """The answer to a chat: of a tuned model to its one message, of a base to the whole conversation."""
    if isinstance(engine, BaseEngine):
        said = [
            Message(role="system" if each.role == "developer" else each.role, content=each.text)
            for each in request.messages
        ]
        return engine.converse(said, request.terms)
    return engine.stream(_one_message(request), request.terms)


def _check_format(engine: Engine, schema: Mapping[str, Any] | None) -> None:
    """A model that was taught its answers gives those."""
    if schema is None or engine.kind == "generate":
        return
    rule = engine.bundle.task.constraint
    if not isinstance(rule, JsonRecord):
        raise ApiError(400, "This model answers with a label, which is no JSON.", "invalid_value", "response_format")
    if schema not in ({"type": "object"}, rule.schema):
        raise ApiError(400, "This model's records have a schema of their own; leave response_format away.",
                       "invalid_value", "response_format")  # fmt: skip


def _one_message(request: ChatRequest) -> str:
    users = [message for message in request.messages if message.role == "user"]
    if len(users) != 1 or any(message.role == "assistant" for message in request.messages):
        raise ApiError(400, "This model takes exactly one user message; the system prompt is its own.",
                       "invalid_value", "messages")  # fmt: skip
    return users[0].text


def _likeliest(probabilities: Mapping[str, float], count: int) -> list[Token]:
    ranked = sorted(probabilities, key=lambda label: -probabilities[label])[:count]
    return [Token(label, math.log(max(probabilities[label], SMALLEST))) for label in ranked]


def _log_probabilities(tokens: Sequence[Token], likeliest: Sequence[Token]) -> dict[str, Any]:
    """In OpenAI's form; none of an answer that was put together from several."""

    def one(token: Token) -> dict[str, Any]:
        return {"token": token.text, "logprob": token.log_probability, "bytes": list(token.text.encode())}

    content = [{**one(token), "top_logprobs": [one(other) for other in likeliest]} for token in tokens]
    return {"content": content or None, "refusal": None}


def _whole(pieces: Pieces) -> Answer:
    *_, answer = pieces
    assert isinstance(answer, Answer)
    return answer


async def _events(pieces: Pieces, model: str, flagged: Flagged, *, usage: bool, seconds: float) -> AsyncIterator[str]:
    """A streamed answer in OpenAI's form, as server-sent events; what goes wrong on the way is the last of them."""
    from starlette.concurrency import iterate_in_threadpool

    head = _head("chat.completion.chunk", model)

    def event(delta: dict[str, str], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return f"data: {json.dumps({**head, 'choices': [choice], **more})}\n\n"

    try:
        yield event({"role": "assistant", "content": ""})
        async for piece in iterate_in_threadpool(pieces):
            if isinstance(piece, str):
                yield event({"content": piece})
                continue
            yield event({}, finish_reason(piece), **flagged(piece))
            if usage:
                yield f"data: {json.dumps({**head, 'choices': [], 'usage': _usage(piece)})}\n\n"
        yield "data: [DONE]\n\n"
    except OutOfTime:
        yield f"data: {json.dumps(_late(seconds))}\n\n"
    except Exception:  # noqa: BLE001 (whatever it is, whoever listens must hear of it)
        _LOG.exception("A streamed answer failed.")
        yield f"data: {json.dumps(_FAILED)}\n\n"
    finally:
        # Whoever asked may have gone: the next request must not wait for an answer to nobody.
        pieces.close()


def _late(seconds: float) -> dict[str, Any]:
    return error_body(504, f"The answer took longer than the {seconds:g} s this server gives one.", "timeout")


def _not_expressible(error: GrammarError) -> ApiError:
    return ApiError(400, f"Answers can't be confined to this schema: {error}", "invalid_value", "response_format")


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


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
    except GrammarError as error:
        raise _not_expressible(error) from None


def _usage(answer: Answer) -> dict[str, int]:
    prompt, written = answer.prompt_tokens, answer.answer_tokens
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
