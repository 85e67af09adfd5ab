"""Keys, limits and metrics in front of the application. The engine is a stand-in that can be made to wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.serve.test_app import Echo
from tunewright.evaluate.predictors import Answer
from tunewright.serve.app import build_app
from tunewright.serve.guard import LimitBody
from tunewright.serve.hosts import OneModel
from tunewright.serve.keys import KeyRing, add_key, remove_key

TEXT = {"text": "hello"}


class Waiting(Echo):
    """Answers when it is let go."""

    def __init__(self) -> None:
        super().__init__("classify")
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)

    def answer(self, text: str) -> Answer:
        self.begun.release()
        assert self.go.wait(20)
        return super().answer(text)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def locked(file: Path) -> Iterator[Callable[[str], TestClient]]:
    """A client of a server that asks for keys; given the name of a key it has, of those that may ask 2 times a
    minute."""
    tokens = {name: add_key(file, name, per_minute=2) for name in ("shop", "other")}
    with TestClient(build_app(OneModel(Echo("classify")), KeyRing(file))) as client:  # type: ignore[arg-type]

        def of(name: str) -> TestClient:
            client.headers.update(bearer(tokens[name]))
            return client

        yield of


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer tw-wrong"}, {"Authorization": "Basic tw-wrong"}, {"Authorization": ""}]
)
def test_who_has_no_key_is_refused_before_anything_is_read(headers: dict[str, str], file: Path) -> None:
    add_key(file, "shop")
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"x" * 1000

    with TestClient(build_app(OneModel(Echo("classify")), KeyRing(file))) as client:  # type: ignore[arg-type]
        answer = client.post("/v1/classify", content=body(), headers=headers)
        assert client.get("/v1/models", headers=headers).status_code == 401
        assert [client.get(path).status_code for path in ("/health", "/ready", "/metrics")] == [200, 200, 200]
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"] == {
        "message": "A key is needed: Authorization: Bearer KEY.", "type": "authentication_error", "param": None,
        "code": "invalid_api_key",
    }  # fmt: skip


def test_a_key_may_ask_as_often_as_it_says_and_no_other_key_pays_for_it(
    locked: Callable[[str], TestClient], file: Path
) -> None:
    client = locked("shop")
    assert [client.post("/v1/classify", json=TEXT).status_code for _ in range(3)] == [200, 200, 429]
    refused = client.post("/v1/classify", json=TEXT)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert locked("other").post("/v1/classify", json=TEXT).status_code == 200
    remove_key(file, "other")
    assert locked("other").post("/v1/classify", json=TEXT).status_code == 401


def test_one_request_too_many_is_told_to_come_again() -> None:
    engine = Waiting()
    with TestClient(build_app(OneModel(engine), most=2)) as client:  # type: ignore[arg-type]
        answers: list[int] = []

        def ask() -> None:
            answers.append(client.post("/v1/classify", json=TEXT).status_code)

        asking = [threading.Thread(target=ask) for _ in range(2)]
        for thread in asking:
            thread.start()
        for _ in asking:
            assert engine.begun.acquire(timeout=20)
        refused = client.post("/v1/classify", json=TEXT)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/health").status_code == 200
        assert client.get("/v1/models").status_code == 200
        engine.go.set()
        for thread in asking:
            thread.join(20)
        assert answers == [200, 200]
        assert client.post("/v1/classify", json=TEXT).status_code == 200, "the places are free again"


def test_a_refused_request_gives_its_place_back() -> None:
    with TestClient(build_app(OneModel(Echo("classify")), most=1)) as client:  # type: ignore[arg-type]
        assert [client.post("/v1/classify", json={}).status_code for _ in range(5)] == [400] * 5
        assert client.post("/v1/classify", json=TEXT).status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    """Nor does its sender keep a place: the body comes before one is taken."""
    sent: list[dict[str, Any]] = []

    async def app(*_: Any) -> None:
        raise AssertionError("nothing was sent")

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(10)
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(LimitBody(app, seconds=0.05)({"type": "http"}, receive, send))
    assert sent[0]["status"] == 408


def test_the_metrics_tell_what_was_asked_and_no_text() -> None:
    with TestClient(build_app(OneModel(Echo("classify")))) as client:  # type: ignore[arg-type]
        for _ in range(3):
            client.post("/v1/classify", json={"text": "the parcel of Ms Miller"})
        client.post("/v1/classify", json={})
        client.get("/the/parcel/of/Ms/Miller")
        told = client.get("/metrics")
    assert told.headers["content-type"].startswith("text/plain; version=")
    lines = told.text.splitlines()
    assert 'tunewright_requests_total{route="/v1/classify",status="200"} 3.0' in lines
    assert 'tunewright_requests_total{route="/v1/classify",status="400"} 1.0' in lines
    assert 'tunewright_requests_total{route="other",status="404"} 1.0' in lines
    assert 'tunewright_request_seconds_count{route="/v1/classify"} 4.0' in lines
    assert 'tunewright_confidence_count{model="echo",version="1"} 3.0' in lines
    assert 'tunewright_escalated_total{model="echo",version="1"} 3.0' in lines
    assert 'tunewright_out_of_scope_total{model="echo",version="1"} 0.0' in lines
    assert 'tunewright_tokens_total{kind="prompt",model="echo",version="1"} 3.0' in lines
    assert "Miller" not in told.text


def test_no_other_origin_is_let_in() -> None:
    with TestClient(build_app(OneModel(Echo("classify")))) as client:  # type: ignore[arg-type]
        answer = client.options(
            "/v1/classify",
            headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
        )
    assert "access-control-allow-origin" not in answer.headers


def test_a_key_may_ask_the_models_it_names(file: Path) -> None:
    theirs, others = add_key(file, "shop", models=["echo", "more"]), add_key(file, "other", models=["else"])
    with TestClient(build_app(OneModel(Echo("classify")), KeyRing(file))) as client:  # type: ignore[arg-type]
        chat = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
        asked = {"/v1/classify": {"text": "x"}, "/v1/chat/completions": chat}
        for path, body in asked.items():
            assert client.post(path, json=body, headers=bearer(theirs)).status_code == 200
            refused = client.post(path, json=body, headers=bearer(others))
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
        listed = [client.get("/v1/models", headers=bearer(token)).json()["data"] for token in (theirs, others)]
    assert [len(models) for models in listed] == [1, 0]
