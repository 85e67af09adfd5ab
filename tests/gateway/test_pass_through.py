"""Applications change base_url, nothing else, and get what the upstream sends, byte for byte."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from openai import APIStatusError, AsyncOpenAI, AzureOpenAI, OpenAI, RateLimitError

from tests.gateway.conftest import Running, Start
from tests.gateway.upstream import Upstream, refused
from tunewright.economics.prices import price_book
from tunewright.gateway.config import UpstreamSpec

KEY = "sk-of-the-client"
CHAT: dict[str, Any] = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "my card is lost"}]}


def client_of(gateway: Running) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0)


def raw(url: str, path: str, body: bytes | None = None, method: str = "POST", **headers: str) -> httpx.Response:
    return httpx.request(method, f"{url}{path}", content=body, headers=headers)


@pytest.mark.slow
def test_the_official_client_gets_every_kind_of_answer(gateway: Running, paid: Upstream) -> None:
    client = client_of(gateway)
    assert client.chat.completions.create(**CHAT).choices[0].message.content == "MY CARD IS LOST"
    assert client.responses.create(model="gpt-6-luna", input="hello").output_text == "HELLO"
    assert client.completions.create(model="gpt-6-luna", prompt="hello").choices[0].text == "HELLO"
    assert client.embeddings.create(model="e", input="hello", encoding_format="float").data[0].embedding == [0.1] * 8
    assert [each.id for each in client.models.list()] == ["gpt-6-luna"]
    assert {each.headers["authorization"] for each in paid.asked} == {f"Bearer {KEY}"}


@pytest.mark.slow
def test_streams_arrive_as_they_are_sent(gateway: Running, paid: Upstream) -> None:
    paid.between = 0.1
    client = client_of(gateway)
    stream = client.chat.completions.create(**CHAT, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "MY CARD IS LOST"
    with client.responses.stream(model="gpt-6-luna", input="a b c") as events:
        assert events.get_final_response().output_text == "A B C"


@pytest.mark.slow
def test_the_asynchronous_client_streams_tool_calls(gateway: Running) -> None:
    tools: Any = [{"type": "function", "function": {"name": "route", "parameters": {"type": "object"}}}]

    async def ask() -> str:
        async with (
            AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY) as client,
            client.chat.completions.stream(**CHAT, tools=tools) as stream,
        ):
            final = await stream.get_final_completion()
        calls = final.choices[0].message.tool_calls
        assert calls and calls[0].function.name == "route"
        return calls[0].function.arguments

    assert json.loads(asyncio.run(ask())) == {"text": "MY CARD IS LOST"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/chat/completions", json.dumps(CHAT).encode()),
        ("POST", "/v1/chat/completions?extra=a%20b&c", json.dumps(CHAT | {"stream": True}).encode()),
        ("POST", "/v1/responses", b'{"model": "m", "input": "a", "stream": true, "unknown_field": [1, {"a": null}]}'),
        ("POST", "/v1/files", b"\x00\xffno JSON" * 1000),
        ("POST", "/v1/files", b"x" * 300_000),
        ("GET", "/v1/fine_tuning/jobs/a%2Fb?limit=3", None),
        ("DELETE", "/v1/files/1", None),
        ("PUT", "/unknown/route", b"{}"),
        ("POST", "/v1/chat/completions/1", b""),
    ],
)
def test_both_ways_are_the_same_bytes_as_without_the_gateway(
    gateway: Running, paid: Upstream, method: str, path: str, body: bytes | None
) -> None:
    odd = {"x-odd": "a", "accept": "text/x-odd", "openai-organization": "org-1"}
    through = raw(gateway.url, path, body, method, **odd)
    direct = raw(paid.url.removesuffix("/v1"), path, body, method, **odd)
    assert (through.status_code, through.content) == (direct.status_code, direct.content)
    both = [
        sorted((name, value) for name, value in each.headers.items() if name != "date") for each in (through, direct)
    ]
    assert both[0] == both[1]
    first, second = paid.asked
    assert (first.method, first.target, first.body) == (second.method, second.target, second.body)
    kept = [
        {name: value for name, value in each.headers.items() if name not in ("host", "accept-encoding", "connection")}
        | {"content-length": str(len(each.body))}  # aiohttp says 0, httpx says nothing
        for each in paid.asked
    ]
    assert kept[0] == kept[1]


@pytest.mark.slow
def test_refusals_pass_with_their_headers(gateway: Running, paid: Upstream) -> None:
    paid.faults = [refused(429, "rate_limit_exceeded", **{"Retry-After": "7", "retry-after-ms": "6500"})]
    with pytest.raises(RateLimitError) as caught:
        client_of(gateway).chat.completions.create(**CHAT)
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.response.headers["retry-after-ms"] == "6500"
    assert caught.value.request_id == "req_1f8e"
    assert len(paid.asked) == 1


@pytest.mark.slow
def test_a_redirect_is_the_clients_to_follow(gateway: Running, paid: Upstream) -> None:
    paid.faults = [refused(307, "moved", Location="https://example.org/")]
    answer = raw(gateway.url, "/v1/models", method="GET")
    assert (answer.status_code, answer.headers["location"]) == (307, "https://example.org/")


@pytest.mark.slow
def test_azures_form_reaches_azure_with_its_own_key(
    start: Start, paid: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_KEY", "azure-secret")
    host = paid.url.removesuffix("/v1")
    gateway = start({"a": "http://127.0.0.1:9/v1", "azure": UpstreamSpec(url=host, kind="azure", key="AZURE_KEY")})
    client = AzureOpenAI(azure_endpoint=gateway.url, api_version="2024-10-21", api_key=KEY)
    assert client.chat.completions.create(**CHAT).choices[0].message.content == "MY CARD IS LOST"
    v1 = OpenAI(base_url=f"{gateway.url}/openai/v1/", api_key=KEY)
    assert v1.chat.completions.create(**CHAT).choices[0].message.content == "MY CARD IS LOST"
    first, second = paid.asked
    assert first.target == "/openai/deployments/gpt-6-luna/chat/completions?api-version=2024-10-21"
    assert second.target == "/openai/v1/chat/completions"
    for asked in paid.asked:
        assert asked.headers["api-key"] == "azure-secret"
        assert "authorization" not in asked.headers
    assert [each.model for each in gateway.exchanges()] == ["gpt-6-luna"] * 2


@pytest.mark.slow
def test_a_deployment_in_the_path_counts_before_the_bodys_model(start: Start, paid: Upstream) -> None:
    host = paid.url.removesuffix("/v1")
    specs = {name: UpstreamSpec(url=host, kind="azure", models=[name]) for name in ("gpt-6-luna", "gpt-6-sol")}
    gateway = start(specs)
    answer = raw(gateway.url, "/openai/deployments/gpt-6-sol/chat/completions", json.dumps(CHAT).encode())
    assert answer.json()["model"] == "gpt-6-luna-2026-09-01", "this upstream reads the body, and Azure does not"
    (exchange,) = gateway.exchanges()
    assert (exchange.model, exchange.upstream) == ("gpt-6-sol", "gpt-6-sol")
    # The price is that of the model which answered.
    assert exchange.usd == pytest.approx(price_book().api("gpt-6-luna").usd(8, 4, 4))


@pytest.mark.slow
def test_plain_v1_requests_reach_azures_root(start: Start, paid: Upstream) -> None:
    gateway = start({"azure": UpstreamSpec(url=paid.url.removesuffix("/v1"), kind="azure")})
    client_of(gateway).chat.completions.create(**CHAT)
    assert paid.asked[0].target == "/openai/v1/chat/completions"


@pytest.mark.slow
def test_the_model_chooses_the_upstream(start: Start, paid: Upstream) -> None:
    gateway = start(
        {
            "other": UpstreamSpec(url="http://127.0.0.1:9/v1", models=["claude-*"]),
            "openai": UpstreamSpec(url=paid.url, models=["gpt-*"]),
        }
    )
    assert client_of(gateway).chat.completions.create(**CHAT).choices
    with pytest.raises(APIStatusError, match="The upstream 'other' can't be asked"):
        client_of(gateway).chat.completions.create(model="claude-5", messages=CHAT["messages"])


@pytest.mark.slow
@pytest.mark.parametrize("target", ["@example.org/v1/models", "http://example.org/v1/models", ".example.org/", "*"])
def test_a_request_cant_name_another_host(gateway: Running, paid: Upstream, target: str) -> None:
    parts = urlsplit(gateway.url)
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port)
    connection.putrequest("GET", target, skip_host=True)
    connection.putheader("Host", "example.org")
    connection.endheaders()
    assert connection.getresponse().status == 400
    connection.close()
    assert paid.asked == []


@pytest.mark.slow
def test_gateways_own_headers_stay_here(gateway: Running, paid: Upstream) -> None:
    raw(gateway.url, "/v1/models", method="GET", **{"x-tunewright-capture": "no", "connection": "x-private"})
    assert not [name for name in paid.asked[0].headers if name.startswith("x-tunewright")]


def with_header(gateway: Running, value: bytes) -> http.client.HTTPResponse:
    """The answer to a request with a header of some bytes."""
    parts = urlsplit(gateway.url)
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port)
    connection.putrequest("GET", "/v1/models")
    connection.putheader("x-odd", value)
    connection.endheaders()
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


@pytest.mark.parametrize("value", ["Zoë 東京".encode(), "Zoë".encode("latin-1")])
def test_headers_beyond_ascii_keep_their_letters(gateway: Running, paid: Upstream, value: bytes) -> None:
    assert with_header(gateway, value).status == 200
    assert paid.asked[0].headers["x-odd"].startswith("Zoë")
    assert len(paid.asked[0].headers["x-odd"]) == len(value.decode("utf-8", "replace"))


@pytest.mark.parametrize("value", [b"a\x01b", b"a\x7f"])
def test_a_control_character_in_a_header_is_the_clients_fault(gateway: Running, paid: Upstream, value: bytes) -> None:
    assert with_header(gateway, value).status == 400
    assert paid.asked == []


@pytest.mark.slow
def test_own_paths(gateway: Running, paid: Upstream) -> None:
    raw(gateway.url, "/v1/chat/completions", json.dumps(CHAT).encode())
    assert raw(gateway.url, "/health", method="GET").json() == {"status": "ok"}
    assert raw(gateway.url, "/ready", method="GET").json()["upstreams"] == ["openai"]
    text = raw(gateway.url, "/metrics", method="GET").text
    assert 'tunewright_gateway_requests_total{kind="chat",status="200",upstream="openai"} 1.0' in text
    assert len(paid.asked) == 1
