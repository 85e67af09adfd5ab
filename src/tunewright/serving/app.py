"""The HTTP API: OpenAI's chat completions and model list, plain /v1/classify, /v1/extract and /v1/generate, and health
routes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse

from tunewright.auth.identity import Identity
from tunewright.auth.keys import KeyRing, Principal
from tunewright.core.call import Abandoned, OutOfTime
from tunewright.core.errors import UserError, missing_extra
from tunewright.core.limits import ANSWER_SECONDS, MOST_UNDER_WAY
from tunewright.inference.predictors import Answer, GenerationConfig, Pieces, Token
from tunewright.serving.body import RequestInput
from tunewright.serving.captures import RequestLog
from tunewright.serving.engine import Engine, finish_reason, told
from tunewright.serving.errors import REFUSALS, ApiError, tell_errors
from tunewright.serving.guard import PRINCIPAL, Admission, Attendance, CheckPrincipal
from tunewright.serving.hosts import BaseEngine, Host, UnknownModel
from tunewright.serving.metrics import METRICS_TYPE, Metrics
from tunewright.serving.recorder import RecordedQuestion, Recorder
from tunewright.serving.replies import events, head, likeliest, log_probabilities, usage
from tunewright.serving.requests import ChatRequest, ClassifyRequest, FeedbackRequest, GenerateRequest
from tunewright.serving.strict import StrictRoute
from tunewright.tasks import Message
from tunewright.tasks.base import JsonRecord

_Answer = TypeVar("_Answer")
_NAMED = 20
"""Models that an error names."""


def build_app(
    models: Host,
    keys: KeyRing | None = None,
    identity: Identity | None = None,
    *,
    most: int = MOST_UNDER_WAY,
    seconds: float = ANSWER_SECONDS,
    request_log: RequestLog | None = None,
) -> FastAPI:
    """The application for the models of a server.

    Args:
        keys: of those who may ask.
        identity: where others who may ask sign in. Without both, everybody may.
        most: requests under way; a further one is told to come again.
        seconds: in which a request must be answered.
        journal: where questions and answers are kept; None: nowhere.
    """
    # No page for the document: FastAPI's has scripts of other sites.
    app = FastAPI(title=f"Tunewright: {models.label}", docs_url=None, redoc_url=None, responses=REFUSALS)
    app.router.route_class = StrictRoute
    created = int(time.time())
    tell_errors(app)
    # The last one added is the first one met.
    metrics = Metrics()
    app.add_middleware(Attendance, seconds=seconds)
    app.add_middleware(Admission, most=most)
    if keys or identity:
        app.add_middleware(CheckPrincipal, keys=keys, identity=identity)
    app.add_middleware(metrics.measured)

    recorder = Recorder(metrics, request_log)

    def question(http: Request, request: RequestInput, kind: str) -> RecordedQuestion:
        """What a plain route is asked."""
        engine = engine_of(http, request.model, kind)
        return RecordedQuestion(engine, request.model or models.label, _principal(http), _text(request))

    def answered(asked: RecordedQuestion, ask: Callable[[Engine], _Answer]) -> tuple[RecordedQuestion, _Answer]:
        """An answer, and the question as it was answered: by the engine that was asked, or one that is on trial. Where
        that one can't, the other does."""
        engine, trial = models.taking(asked.engine, asked.said)
        if trial:
            try:
                return replace(asked, engine=engine), ask(engine)
            except (Abandoned, OutOfTime):
                raise
            except Exception as error:  # noqa: BLE001 (whatever is wrong with it, the champion answers)
                answer = ask(asked.engine)  # what this refuses too is no fault of the challenger's
                trial.fail(error)
                metrics.challenger_failed(trial.version)
                return asked, answer
        return asked, ask(engine)

    def plain(asked: RecordedQuestion, answer: Answer) -> dict[str, Any]:
        """What a plain route answers."""
        beside = {"id": asked.id, **recorder.note(asked, answer), "usage": usage(answer)}
        return {**told(asked.engine.kind, answer), **beside}

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
        if kind and engine.route != kind:
            raise ApiError(404, f"This model's job is to {engine.route}: POST to /v1/{engine.route}.", "wrong_route")
        return engine

    @app.get("/metrics", include_in_schema=False)
    async def counted() -> PlainTextResponse:
        return PlainTextResponse(metrics.text(), media_type=METRICS_TYPE)

    def require_model() -> None:
        if models.ended:
            raise ApiError(503, "The model has ended.", "model_ended")

    @app.get("/health")
    async def health() -> dict[str, str]:
        require_model()
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        require_model()
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
        asked = question(http, request, "classify")
        if request.probabilities:
            asked, found = answered(asked, lambda engine: engine.classify(asked.said))
            return plain(asked, found.answer) | {"probabilities": found.probabilities}
        return plain(*answered(asked, lambda engine: engine.answer(asked.said)))

    @app.post("/v1/extract")
    def extract(http: Request, request: RequestInput) -> dict[str, Any]:
        asked = question(http, request, "extract")
        return plain(*answered(asked, lambda engine: engine.answer(asked.said)))

    @app.post("/v1/generate")
    def generate(http: Request, request: GenerateRequest) -> dict[str, Any]:
        asked = question(http, request, "generate")
        terms = GenerationConfig(request.stop, request.max_tokens)
        return plain(*answered(asked, lambda engine: _whole(engine.stream(asked.said, terms))))

    @app.post("/v1/chat/completions", response_model=None)
    def chat(http: Request, request: ChatRequest) -> dict[str, Any] | StreamingResponse:
        engine = engine_of(http, request.model)
        _check_format(engine, request.terms.schema)
        text = None if isinstance(engine, BaseEngine) else _one_message(request)
        asked = RecordedQuestion(engine, request.model, _principal(http), text, f"chatcmpl-{uuid.uuid4().hex}")
        others: list[Token] = []
        if request.top_logprobs and engine.kind == "classify" and not request.stream:
            asked, found = answered(asked, lambda engine: engine.classify(asked.said))
            answer, others = found.answer, likeliest(found.probabilities, request.top_logprobs)
        elif request.stream:
            usual = asked.engine

            def begin(engine: Engine) -> Pieces:
                pieces = _pieces(engine, asked, request)
                return pieces if engine is usual else _begun(pieces)

            answering, pieces = answered(asked, begin)
            with_usage = bool(request.stream_options and request.stream_options.include_usage)
            beginning = head("chat.completion.chunk", asked.id, asked.model)
            said = events(pieces, beginning, partial(recorder.note, answering), with_usage=with_usage)
            return StreamingResponse(said, media_type="text/event-stream")
        else:
            asked, answer = answered(asked, lambda engine: _whole(_pieces(engine, asked, request)))
        message = {
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": log_probabilities(answer.tokens, others) if request.logprobs else None,
        }
        return {
            **head("chat.completion", asked.id, asked.model),
            "choices": [{"index": 0, **message, "finish_reason": finish_reason(answer)}],
            "usage": usage(answer),
            **recorder.note(asked, answer),
        }

    @app.post("/v1/feedback")
    def feedback(http: Request, request: FeedbackRequest) -> dict[str, Any]:
        engine = engine_of(http, request.model)
        recorder.feedback(engine, request.model or models.label, _principal(http), request)
        return {"id": request.id, "captured": True}

    return app


def _principal(http: Request) -> str | None:
    principal: Principal | None = http.scope.get(PRINCIPAL)
    return principal.name if principal else None


def _may_ask(http: Request, model: str) -> bool:
    principal: Principal | None = http.scope.get(PRINCIPAL)
    return principal is None or principal.may_ask(model)


def _allowed(http: Request, names: Sequence[str]) -> list[str]:
    return [name for name in names if _may_ask(http, name)]


def _pieces(engine: Engine, asked: RecordedQuestion, request: ChatRequest) -> Pieces:
    """The answer to a chat: of a tuned model to its one message, of a base to the whole conversation."""
    if isinstance(engine, BaseEngine):
        said = [
            Message(role="system" if each.role == "developer" else each.role, content=each.text)
            for each in request.messages
        ]
        return engine.converse(said, request.terms)
    return engine.stream(asked.said, request.terms)


def _begun(pieces: Pieces) -> Pieces:
    """The same, the first piece made already: what goes wrong before it can still be mended."""
    first = next(pieces)

    def all_of_it() -> Pieces:
        with closing(pieces):
            yield first
            yield from pieces

    return all_of_it()


def _check_format(engine: Engine, schema: Mapping[str, Any] | None) -> None:
    """A model that was taught its records gives those; a label is always whole."""
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


def _whole(pieces: Pieces) -> Answer:
    *_, answer = pieces
    assert isinstance(answer, Answer)
    return answer


def _text(request: RequestInput) -> str:
    try:
        return request.read()
    except UserError as error:
        raise ApiError(400, error.paragraph(), "invalid_document", "document") from None
    except ModuleNotFoundError as error:
        reason = missing_extra("documents", error.name or "").paragraph()
        raise ApiError(501, reason, "documents_not_installed", "document") from None
