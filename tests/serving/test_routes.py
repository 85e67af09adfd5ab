"""The table of routes: what each refuses before its function is called, HEAD, and what a start need not import."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from tests.serving.test_app import Echo
from tunewright.serving.app import build_app
from tunewright.serving.hosts import OneModel
from tunewright.serving.routes import ENDPOINTS
from tunewright.serving.routes.table import RouteTable, json_response

JSON = {"content-type": "application/json"}


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(build_app(OneModel(Echo("classify")))) as client:
        yield client


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b"", JSON, "body: it is missing"),
        (b"{", JSON, "body: it is no JSON from character 2 on: Expecting property name enclosed in double quotes"),
        (b'{"text":"a"} b', JSON, "body: it is no JSON from character 14 on: Extra data"),
        (b"[]", JSON, "body: Input should be a valid dictionary"),
        (b'{"text":"a"}', {}, "body: its content type must be application/json"),
        (b'{"text":"a"}', {"content-type": "text/plain"}, "body: its content type must be application/json"),
    ],
)
def test_a_body_that_is_no_json_is_refused(
    body: bytes, headers: dict[str, str], reason: str, client: TestClient
) -> None:
    answer = client.post("/v1/classify", content=body, headers=headers)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["message"].startswith(reason)
    assert (error["param"], error["code"]) == (None, "invalid_value")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.api+json"])
def test_every_name_of_json_is_taken(kind: str, client: TestClient) -> None:
    assert client.post("/v1/classify", content=b'{"text":"a"}', headers={"content-type": kind}).json()["label"] == "a"


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/v1/models", "/v1/models/echo", "/openapi.json"])
def test_head_is_get_without_a_body(path: str, client: TestClient) -> None:
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == client.get(path).headers["content-type"]


def test_the_figures_are_by_route_and_no_client_makes_up_names(client: TestClient) -> None:
    client.get("/v1/models/echo")
    client.get("/v1/models/another")
    client.get("/v1/nothing")
    client.put("/v1/classify")
    figures = client.get("/metrics").text
    assert 'tunewright_requests_total{route="/v1/models/{name:path}",status="200"} 1.0' in figures
    assert 'tunewright_requests_total{route="/v1/models/{name:path}",status="404"} 1.0' in figures
    assert 'tunewright_requests_total{route="/v1/classify",status="405"} 1.0' in figures
    assert 'tunewright_requests_total{route="other",status="404"} 1.0' in figures
    assert "another" not in figures


def test_a_number_that_json_does_not_have_becomes_null() -> None:
    body = bytes(json_response({"a": float("nan"), "b": [float("inf")], "c": 0.1, "d": "é"}).body)
    assert json.loads(body) == {"a": None, "b": [None], "c": 0.1, "d": "é"}


def test_a_function_runs_in_a_worker_thread_and_a_coroutine_on_the_loop() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from starlette.applications import Starlette

    table = RouteTable()

    @table.get("/plain")
    def plain(_: Request) -> dict[str, Any]:
        return {"thread": threading.current_thread().name}

    @table.get("/loop/{name}")
    async def loop(_: Request, name: str) -> dict[str, Any]:
        return {"thread": threading.current_thread().name, "name": name}

    with ThreadPoolExecutor(1, "worker") as threads:
        client = TestClient(Starlette(routes=[endpoint.route(threads) for endpoint in table.endpoints]))
        assert client.get("/plain").json()["thread"].startswith("worker")
        answer = client.get("/loop/a").json()
    assert not answer["thread"].startswith("worker")
    assert answer["name"] == "a"


def test_the_document_has_every_route_but_the_figures(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    described = {endpoint.path.replace(":path", "") for endpoint in ENDPOINTS if endpoint.path != "/metrics"}
    assert set(paths) == described
    schema = paths["/v1/classify"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/ClassifyRequest"}


@pytest.mark.slow
def test_a_start_imports_no_fastapi_until_the_document_is_asked_for() -> None:
    code = """
import sys
from starlette.testclient import TestClient
from tests.serving.test_app import Echo
from tunewright.serving.app import build_app
from tunewright.serving.connections import HttpServer
from tunewright.serving.hosts import OneModel
with TestClient(build_app(OneModel(Echo("classify")))) as client:
    assert client.post("/v1/classify", json={"text": "a"}).status_code == 200
    print("fastapi" in sys.modules)
    assert client.get("/openapi.json").status_code == 200
    print("fastapi" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
