"""Traces: what a collector gets of each request, and what it never gets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.gateway.conftest import Running, Start
from tests.gateway.test_faults import until
from tests.gateway.tickets import Messages, request, team_of
from tests.gateway.upstream import Upstream, refused, upstream
from tunewright.core.errors import UserError
from tunewright.gateway.config import JobSpec
from tunewright.gateway.trace_settings import tracing_by_environment

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FROM_CLIENT = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=value"}
BODY = {"model": "gpt-6-luna", "temperature": 0.5, "max_tokens": 7, "messages": [{"role": "user", "content": "secret"}]}


@dataclass
class Collector:
    """An OTLP collector, which decodes what it gets as the standard says."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def named(self, name: str) -> Span:
        """The only span of this name, once it is here."""
        until(lambda: any(span.name == name for span in self.spans))
        (span,) = (span for span in self.spans if span.name == name)
        return span


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that the environment names."""
    running = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["content-length"]))
            for each in ExportTraceServiceRequest.FromString(body).resource_spans:
                running.resources.append({pair.key: pair.value.string_value for pair in each.resource.attributes})
                running.spans += [span for scope in each.scope_spans for span in scope.spans]
            running.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever).start()
    running.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    yield running
    server.shutdown()
    server.server_close()


def attributes(span: Span) -> dict[str, Any]:
    found = {}
    for pair in span.attributes:
        value = getattr(pair.value, str(pair.value.WhichOneof("value")))
        found[pair.key] = [each.string_value for each in value.values] if hasattr(value, "values") else value
    return found


@pytest.fixture
def job(start: Start, tickets: Path, collector: Collector) -> Iterator[Callable[..., Running]]:  # noqa: ARG001 (set up first)
    """Starts a gateway with the job `tickets` before an API that is always right."""
    with upstream(team_of) as played:

        def begin(mode: str, **settings: Any) -> Running:
            return start({"openai": played.url}, jobs={"tickets": JobSpec(project=tickets, mode=mode, **settings)})

        yield begin


def test_a_request_and_its_question_are_spans_of_the_clients_trace(
    collector: Collector, start: Start, paid: Upstream
) -> None:
    running = start({"openai": paid.url})
    httpx.post(f"{running.url}/v1/chat/completions?api-version=secret", json=BODY, headers=FROM_CLIENT)
    asked, answered = collector.named("POST /chat/completions"), collector.named("chat gpt-6-luna")
    assert (asked.trace_id.hex(), asked.parent_span_id.hex()) == (TRACE, PARENT)
    assert (answered.trace_id.hex(), answered.parent_span_id) == (TRACE, asked.span_id)
    assert (asked.kind, answered.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert paid.asked[0].headers["traceparent"] == f"00-{TRACE}-{answered.span_id.hex()}-01"
    assert paid.asked[0].headers["tracestate"] == "vendor=value"
    assert attributes(asked) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/chat/completions",
        "url.path": "/v1/chat/completions",
        "url.scheme": "http",
    }
    found = attributes(answered)
    assert found.pop("tunewright.usd") > 0
    assert found.pop("gen_ai.usage.input_tokens") > found.pop("gen_ai.usage.cache_read.input_tokens") > 0
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.model": "gpt-6-luna",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.model": "gpt-6-luna-2026-09-01",
        "gen_ai.usage.output_tokens": 1,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": int(paid.url.split(":")[2].removesuffix("/v1")),
        "tunewright.ending": "whole",
    }
    assert asked.start_time_unix_nano < answered.start_time_unix_nano < answered.end_time_unix_nano
    assert collector.resources[0]["service.name"] == "tunewright-gateway"


def test_no_span_holds_texts_keys_or_queries(collector: Collector, start: Start, paid: Upstream) -> None:
    running = start({"openai": paid.url})
    headers = {"authorization": "Bearer secret", "cookie": "secret"}
    for stream in (False, True):
        httpx.post(f"{running.url}/v1/chat/completions?q=secret", json=BODY | {"stream": stream}, headers=headers)
    until(lambda: len(collector.spans) == 4)
    assert "secret" not in str(collector.spans).lower()


def test_what_no_span_can_hold_costs_no_spans(
    collector: Collector, start: Start, paid: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    running = start({"openai": paid.url})
    odd = {"model": "half \ud800", "max_tokens": 10**30, "temperature": 1e999}
    httpx.post(f"{running.url}/v1/chat/completions", content=json.dumps(BODY | odd))
    found = attributes(collector.named("chat half ?"))
    assert found["gen_ai.request.model"] == "half ?"
    assert not {"gen_ai.request.max_tokens", "gen_ai.request.temperature"} & found.keys()
    assert collector.named("POST /chat/completions")
    assert not [each for each in caplog.records if each.name.startswith("opentelemetry")]


def test_a_stream_has_the_time_to_its_first_piece(collector: Collector, start: Start, paid: Upstream) -> None:
    running = start({"openai": paid.url})
    paid.seconds = 0.05
    httpx.post(f"{running.url}/v1/chat/completions", json=BODY | {"stream": True})
    found = attributes(collector.named("chat gpt-6-luna"))
    assert found["gen_ai.request.stream"] is True
    assert 0.05 <= found["gen_ai.response.time_to_first_chunk"] < 10


def test_without_a_collector_the_clients_headers_pass_as_they_are(start: Start, paid: Upstream) -> None:
    running = start({"openai": paid.url})
    httpx.post(f"{running.url}/v1/chat/completions", json=BODY, headers=FROM_CLIENT)
    assert {name: paid.asked[0].headers[name] for name in FROM_CLIENT} == FROM_CLIENT


def test_refusals_and_faults_are_errors_by_their_kind(collector: Collector, start: Start, paid: Upstream) -> None:
    running = start({"openai": paid.url})
    paid.faults.append(refused(429, "rate_limit_exceeded"))
    httpx.post(f"{running.url}/v1/chat/completions", json=BODY)
    span = collector.named("chat gpt-6-luna")
    assert (attributes(span)["error.type"], span.status.code) == ("429", 2)
    assert attributes(collector.named("POST /chat/completions"))["http.response.status_code"] == 429
    assert collector.named("POST /chat/completions").status.code == 0  # a refusal is no fault of the gateway
    gone = start({"openai": "http://127.0.0.1:9/v1"})
    httpx.get(f"{gone.url}/v1/models", timeout=30)
    until(lambda: sum(span.name == "GET" for span in collector.spans) == 2)
    kinds = {span.kind: attributes(span).get("error.type") for span in collector.spans if span.name == "GET"}
    assert kinds == {Span.SPAN_KIND_CLIENT: "upstream_unreachable", Span.SPAN_KIND_SERVER: "502"}


def test_what_the_client_does_not_want_sampled_is_not_sent(collector: Collector, start: Start, paid: Upstream) -> None:
    running = start({"openai": paid.url})
    unsampled = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    httpx.post(f"{running.url}/v1/chat/completions", json=BODY, headers=unsampled)
    httpx.post(f"{running.url}/v1/chat/completions", json=BODY | {"model": "other"})
    collector.named("chat other")
    collector.named("POST /chat/completions")  # a span's parent may come in a later batch
    assert len(collector.spans) == 2
    assert paid.asked[0].headers["traceparent"].startswith(f"00-{TRACE}-")
    assert paid.asked[0].headers["traceparent"].endswith("-00")


@pytest.mark.slow
def test_own_answers_and_audits_are_spans_too(collector: Collector, job: Callable[..., Running]) -> None:
    running = job("own", audit=1.0)
    httpx.post(f"{running.url}/v1/chat/completions", json=request(Messages(1).clear()))
    whole = collector.named("POST /chat/completions")
    own, audit = collector.named("chat tickets"), collector.named("chat gpt-6-luna")
    assert own.parent_span_id == audit.parent_span_id == whole.span_id
    assert own.kind == Span.SPAN_KIND_INTERNAL
    found = attributes(own)
    assert found["gen_ai.provider.name"] == "tunewright"
    assert found["gen_ai.request.model"] == found["gen_ai.response.model"]
    assert found["tunewright.is_sure"] is True
    assert attributes(audit)["gen_ai.usage.input_tokens"] > 0
    told = {name: value for name, value in attributes(whole).items() if name.startswith("tunewright.")}
    assert told.pop("tunewright.confidence") == found["tunewright.confidence"]
    assert told == {
        "tunewright.answered_by": "own",
        "tunewright.job": "tickets",
        "tunewright.mode": "own",
        "tunewright.version": found["gen_ai.request.model"],
    }


@pytest.mark.slow
def test_in_shadow_the_own_models_span_follows_the_answer(collector: Collector, job: Callable[..., Running]) -> None:
    running = job("shadow")
    httpx.post(f"{running.url}/v1/chat/completions", json=request(Messages(1).clear()))
    whole, own = collector.named("POST /chat/completions"), collector.named("chat tickets")
    assert own.parent_span_id == whole.span_id
    assert own.start_time_unix_nano >= collector.named("chat gpt-6-luna").end_time_unix_nano


@pytest.mark.slow
def test_a_collector_that_is_gone_costs_no_answer_and_little_time(
    monkeypatch: pytest.MonkeyPatch, start: Start, paid: Upstream
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    running = start({"openai": paid.url})
    for _ in range(3):
        assert httpx.post(f"{running.url}/v1/chat/completions", json=BODY).status_code == 200
        time.sleep(0.1)
    assert running.gateway._tracing
    began = time.monotonic()
    running.gateway._tracing.close()
    assert time.monotonic() - began < 8  # the exporter alone tries for ten seconds


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "no web address"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "protocol 'grpc'"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "by 'zipkin'"),
    ],
)
def test_what_cant_be_sent_is_said_at_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, what: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=what) as told:
        tracing_by_environment()
    assert name in told.value.paragraph()


def test_the_environment_may_ask_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracing_by_environment() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert tracing_by_environment() is None
    monkeypatch.delenv("OTEL_TRACES_EXPORTER")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert tracing_by_environment() is None
