"""OpenTelemetry traces: a span for each request, and below it one for each question to an upstream or an own model.

Names are those of the semantic conventions for generative AI, version 1.41
(opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans, read 2026-11-30). Spans hold no texts, no keys and no queries.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context, use_span

from tunewright.core.version import __version__
from tunewright.economics.usage import TokenUsage
from tunewright.gateway.exchanges import Ending
from tunewright.gateway.observation import Observation
from tunewright.gateway.routes import KINDS, Kind
from tunewright.gateway.upstreams import Upstream, UpstreamFault
from tunewright.serving.guard import Message

if TYPE_CHECKING:
    from tunewright.gateway.takeover.models import OwnAnswer

_REFUSED, _BROKEN = 400, 500
"""Statuses from which an upstream, and the gateway itself, have failed."""
_JOB_ATTRIBUTES = ("job", "mode", "answered_by", "version", "confidence", "fallback")
"""Of `JobNote`, in a request's span."""
_LAST_SECONDS = 3.0
"""How long the end of the gateway waits for a collector that does not answer."""
_OPERATIONS: Mapping[Kind, str] = {
    "chat": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
_ROUTES: Mapping[Kind, str] = {kind: f"/{path}" for path, kind in KINDS.items()}
_PROVIDERS = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "api.mistral.ai": "mistral_ai",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "generativelanguage.googleapis.com": "gcp.gemini",
}
_OWN_PROVIDER = "tunewright"
_LONGEST_VALUE, _LONGEST_NAME = 256, 100
"""Letters of attributes and of a model in a span's name; clients choose both."""
_LARGEST = 2**63
"""No whole number in a span is as large."""
_PARAMETERS = {
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
}
"""Fields of requests that are numbers, and what the conventions call them."""


class Tracing:
    """Sends spans to a collector, by the SDK's environment variables. A collector that fails costs spans, no answer."""

    def __init__(self) -> None:
        resource = Resource.create({SERVICE_VERSION: __version__})
        if str(resource.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "tunewright-gateway"}))
        self._exporter = OTLPSpanExporter()
        limits = SpanLimits(max_attribute_length=_LONGEST_VALUE)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False, span_limits=limits)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("tunewright.gateway", __version__)

    def close(self) -> None:
        """Send what is left."""
        patience = threading.Timer(_LAST_SECONDS, self._exporter.shutdown)
        patience.start()
        self._provider.shutdown()
        patience.cancel()

    @contextmanager
    def request(self, scope: Message, seen: Observation) -> Iterator[None]:
        """The span of a request, which is the current one until its answer has ended."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        route = _ROUTES.get(seen.route.kind)
        attributes = {"http.request.method": scope["method"], "url.scheme": scope["scheme"], "url.path": scope["path"]}
        if route:
            attributes["http.route"] = route
        name = f"{scope['method']} {route}" if route else scope["method"]
        context = propagate.extract(headers)
        span = self._tracer.start_span(name, context, kind=SpanKind.SERVER, attributes=attributes)
        try:
            with use_span(span, record_exception=False, set_status_on_exception=False):
                yield
        finally:
            _end_request(span, seen)

    def question(self, upstream: Upstream, method: str, seen: Observation) -> UpstreamSpan:
        """The span of a question to an upstream, below the current one."""
        attributes: dict[str, Any] = {"http.request.method": method, "server.address": upstream.hostname}
        attributes["server.port"] = upstream.port
        name, operation = method, _OPERATIONS.get(seen.route.kind)
        if operation:
            name = f"{operation} {_whole(seen.model)[:_LONGEST_NAME]}" if seen.model else operation
            attributes |= _of_request(operation, upstream, seen)
        return UpstreamSpan(self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes), seen.begun)

    @contextmanager
    def own(self, job: str, version: str, kind: Kind) -> Iterator[Callable[[OwnAnswer], None]]:
        """The span of a question to a job's own models. What it yields takes their answer."""
        operation = _OPERATIONS[kind]
        attributes = {"gen_ai.operation.name": operation, "gen_ai.provider.name": _OWN_PROVIDER}
        attributes |= {"gen_ai.request.model": version, "tunewright.job": job}
        span = self._tracer.start_span(f"{operation} {job}", kind=SpanKind.INTERNAL, attributes=attributes)
        try:
            yield lambda answer: _set_own(span, answer)
        except BaseException as error:
            _fail(span, type(error).__name__)
            raise
        finally:
            span.end()


class UpstreamSpan:
    """The span of a question to an upstream. Its end is the answer's, or the first that goes wrong."""

    def __init__(self, span: Span, begun: float):
        self._span, self._begun = span, begun

    def passed_on(self) -> dict[str, str]:
        """The headers by which the upstream may continue the trace."""
        headers: dict[str, str] = {}
        propagate.inject(headers, set_span_in_context(self._span))
        return headers

    def failed(self, error: BaseException) -> None:
        """There is no answer, or no end of it."""
        if not self._span.is_recording():
            return
        _fail(self._span, error.code if isinstance(error, UpstreamFault) else type(error).__name__)
        self._span.end()

    def answered(self, status: int) -> None:
        """The head of the answer is here. What follows after a refusal does not count."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= _REFUSED:
            _fail(self._span, str(status))
            self._span.end()

    def ended(self, seen: Observation, usd: float | None, ending: Ending) -> None:
        """The answer has ended."""
        if not self._span.is_recording():  # not sampled, or a refusal
            return
        answer, span = seen.answer, self._span
        if answer.model:
            span.set_attribute("gen_ai.response.model", _whole(answer.model))
        reasons = [_whole(each.finish_reason) for each in answer.choices if each.finish_reason]
        if reasons:
            span.set_attribute("gen_ai.response.finish_reasons", reasons)
        if answer.usage:
            span.set_attributes(_of_usage(answer.usage))
        if usd is not None:
            span.set_attribute("tunewright.usd", usd)
        if seen.streamed and seen.first is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", seen.first - self._begun)
        span.set_attribute("tunewright.ending", ending)
        if ending == "broken":
            _fail(span, "upstream_broke_off")
        span.end()


def _of_request(operation: str, upstream: Upstream, seen: Observation) -> dict[str, Any]:
    provider = "azure.ai.openai" if upstream.is_azure else _PROVIDERS.get(upstream.hostname, upstream.name)
    attributes: dict[str, Any] = {"gen_ai.operation.name": operation, "gen_ai.provider.name": provider}
    if seen.model:
        attributes["gen_ai.request.model"] = _whole(seen.model)
    request = seen.request or {}
    if request.get("stream") is True:
        attributes["gen_ai.request.stream"] = True
    for name, convention in _PARAMETERS.items():
        if isinstance(value := request.get(name), int | float) and abs(value) < _LARGEST:
            attributes[f"gen_ai.request.{convention}"] = value
    return attributes


def _whole(text: str) -> str:
    """A text as a span takes it. A client may name half a letter, and the spans that are sent with it would be lost."""
    return text.encode("utf-8", "replace").decode()


def _of_usage(usage: TokenUsage) -> dict[str, int]:
    counts = {"gen_ai.usage.input_tokens": usage.prompt_tokens, "gen_ai.usage.output_tokens": usage.answer_tokens}
    more = {
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }
    return counts | {name: count for name, count in more.items() if count}


def _set_own(span: Span, answer: OwnAnswer) -> None:
    span.set_attribute("gen_ai.response.model", answer.version)
    span.set_attribute("tunewright.is_sure", answer.is_sure)
    if answer.confidence is not None:
        span.set_attribute("tunewright.confidence", answer.confidence)
    span.set_attributes(_of_usage(TokenUsage(answer.prompt_tokens, answer.answer_tokens)))


def _end_request(span: Span, seen: Observation) -> None:
    if span.is_recording():
        span.set_attribute("http.response.status_code", seen.status)
        if seen.client:
            span.set_attribute("tunewright.client", seen.client)
        if job := seen.job:
            noted = {name: getattr(job, name) for name in _JOB_ATTRIBUTES}
            span.set_attributes({f"tunewright.{name}": value for name, value in noted.items() if value is not None})
        if seen.status >= _BROKEN:
            _fail(span, str(seen.status))
    span.end()


def _fail(span: Span, kind: str) -> None:
    """Mark a span as failed. The messages of errors may hold some of a request, so only their kind is told."""
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)
