"""Keys, limits and metrics in front of the application. The engine is a fake that waits on request."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AuthenticationError, NotFoundError, OpenAI
from starlette.testclient import TestClient

from tests.serving.test_app import Echo
from tunewright.auth.keys import KeyRing, add_key, remove_key
from tunewright.core.limits import MOST_BODY_BYTES, SMALL_BODY_BYTES
from tunewright.inference.predictors import Answer
from tunewright.serving.app import build_app
from tunewright.serving.guard import Admission, LimitBody, TrackCall
from tunewright.serving.hosts import OneModel

TEXT = {"text": "hello"}


class Waiting(Echo):
    """Answers when `go` is set."""

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
    """Name of a key -> a client that has it. Each key allows 2 requests a minute."""
    tokens = {name: add_key(file, name, per_minute=2) for name in ("shop", "other")}
    with TestClient(build_app(OneModel(Echo("classify")), KeyRing(file))) as client:

        def of(name: str) -> TestClient:
            client.headers.update(bearer(tokens[name]))
            return client

        yield of


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer tw-wrong"}, {"Authorization": "Basic tw-wrong"}, {"Authorization": ""}]
)
def test_a_client_without_a_key_is_refused_before_its_body_is_read(headers: dict[str, str], file: Path) -> None:
    add_key(file, "shop")
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"x" * 1000

    with TestClient(build_app(OneModel(Echo("classify")), KeyRing(file))) as client:
        answer = client.post("/v1/classify", content=body(), headers=headers)
        assert client.get("/v1/models", headers=headers).status_code == 401
        assert [client.get(path).status_code for path in ("/health", "/ready", "/metrics")] == [200, 200, 200]
        assert [client.get(path, headers=headers).status_code for path in ("/openapi.json", "/docs")] == [401, 401]
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"] == {
        "message": "The request needs a key: Authorization: Bearer KEY.",
        "type": "authentication_error",
        "param": None,
        "code": "invalid_api_key",
    }


def test_each_key_has_its_own_rate_limit(locked: Callable[[str], TestClient], file: Path) -> None:
    client = locked("shop")
    assert [client.post("/v1/classify", json=TEXT).status_code for _ in range(3)] == [200, 200, 429]
    refused = client.post("/v1/classify", json=TEXT)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert locked("other").post("/v1/classify", json=TEXT).status_code == 200
    remove_key(file, "other")
    assert locked("other").post("/v1/classify", json=TEXT).status_code == 401


def test_one_request_too_many_gets_a_429() -> None:
    engine = Waiting()
    with TestClient(build_app(OneModel(engine), most=2)) as client:
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
    with TestClient(build_app(OneModel(Echo("classify")), most=1)) as client:
        assert [client.post("/v1/classify", json={}).status_code for _ in range(5)] == [400] * 5
        assert client.post("/v1/classify", json=TEXT).status_code == 200


class Asking:
    """A request, sent straight to a middleware.

    Args:
        pieces: the pieces of its body; None: an empty piece, which comes when `more` is set.
        length: its Content-Length.
    """

    def __init__(self, *pieces: bytes | None, length: int | None = None, method: str = "POST"):
        self.scope = {
            "type": "http",
            "path": "/v1/classify",
            "method": method,
            "headers": [] if length is None else [(b"content-length", str(length).encode())],
        }
        self.more, self.went = asyncio.Event(), asyncio.Event()
        self.read = 0
        self.sent: list[Any] = []
        self._pieces = list(pieces)

    async def receive(self) -> dict[str, Any]:
        if self.read == len(self._pieces):
            await self.went.wait()
            return {"type": "http.disconnect"}
        piece = self._pieces[self.read]
        if piece is None:
            await self.more.wait()
        self.read += 1
        return {"type": "http.request", "body": piece or b"", "more_body": self.read < len(self._pieces)}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def of(self, app: Any) -> int:
        """Send the request. Returns the status."""
        await app(self.scope, self.receive, self.send)
        return int(self.sent[0]["status"])


class Held:
    """An application that answers when `go` is set."""

    def __init__(self) -> None:
        self.go, self.bodies = asyncio.Event(), list[bytes]()

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        self.bodies.append((await receive())["body"])
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def test_a_body_that_does_not_arrive_times_out() -> None:
    """Its sender takes no place either: the body is read before."""
    app = Held()
    assert asyncio.run(Asking(b"a", None).of(LimitBody(app, seconds=0.05))) == 408
    assert not app.bodies


def test_a_client_that_disconnects_while_it_sends_gets_no_answer() -> None:
    async def ask() -> None:
        asking = Asking()
        asking.went.set()
        await LimitBody(app)(asking.scope, asking.receive, asking.send)
        assert not asking.sent

    app = Held()
    asyncio.run(ask())
    assert not app.bodies


def test_the_slowest_of_many_slow_senders_is_given_up() -> None:
    async def ask() -> None:
        app = Held()
        app.go.set()
        limited = LimitBody(app, readers=2)
        slow = [Asking(b"a", None) for _ in range(3)]
        tasks = [asyncio.create_task(each.of(limited)) for each in slow]
        assert await tasks[0] == 408, "the first has had the longest time"
        assert [await Asking(b"quick").of(limited) for _ in range(5)] == [200] * 5
        assert await tasks[1] == 408, "the first of those in its place"
        slow[2].more.set()
        assert await tasks[2] == 200
        assert app.bodies == [b"quick"] * 5 + [b"a"]

    asyncio.run(ask())


def test_a_body_with_a_large_content_length_is_not_read() -> None:
    asking = Asking(b"a", length=MOST_BODY_BYTES + 1)
    assert asyncio.run(asking.of(LimitBody(Held()))) == 413
    assert asking.read == 0


def test_all_bodies_together_have_a_limit() -> None:
    async def ask() -> None:
        app = Held()
        limited = LimitBody(app, at_once=100)
        large = asyncio.create_task(Asking(b"a" * SMALL_BODY_BYTES, b"a" * 60).of(limited))
        while not app.bodies:
            await asyncio.sleep(0)
        declared = Asking(b"a", length=SMALL_BODY_BYTES + 50)
        assert await declared.of(limited) == 429
        assert declared.read == 0
        assert dict(declared.sent[0]["headers"])[b"retry-after"] == b"1"
        undeclared = Asking(b"a" * SMALL_BODY_BYTES, b"a" * 30, b"a" * 30, b"a" * 30)
        assert await undeclared.of(limited) == 429
        assert undeclared.read == 3, "what is left was read"
        small = asyncio.create_task(Asking(b"a" * SMALL_BODY_BYTES).of(limited))
        other = asyncio.create_task(Asking(b"a" * SMALL_BODY_BYTES, b"a" * 40).of(limited))
        while len(app.bodies) < 3:
            await asyncio.sleep(0)
        app.go.set()
        assert [await each for each in (large, small, other)] == [200] * 3
        assert await Asking(b"a" * (SMALL_BODY_BYTES + 100)).of(limited) == 200, "all of it is free again"

    asyncio.run(ask())


def test_no_body_is_read_when_all_places_are_taken() -> None:
    async def ask() -> None:
        app = Held()
        admission = Admission(app, most=1)
        slow = Asking(b"a", None)
        late = asyncio.create_task(slow.of(admission))
        first = asyncio.create_task(Asking(b"first").of(admission))
        while not app.bodies:
            await asyncio.sleep(0)
        refused = Asking(b"a")
        assert await refused.of(admission) == 429
        assert refused.read == 0
        slow.more.set()
        assert await late == 429, "it was sent while another took the place"
        app.go.set()
        assert await first == 200
        assert admission.under_way == 0
        assert await Asking(b"next").of(admission) == 200

    asyncio.run(ask())


def test_the_body_of_a_get_is_not_read() -> None:
    async def ask() -> None:
        app = Held()
        app.go.set()
        asking = Asking(b"a" * 1000, None, method="GET")
        assert await asking.of(Admission(app)) == 200
        assert (asking.read, app.bodies) == (0, [b""])

    asyncio.run(ask())


def test_a_body_is_in_memory_once() -> None:
    """This holds for any number of pieces, and behind all middlewares."""
    size = 16 << 20

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        assert len(body) == size
        held.append(tracemalloc.get_traced_memory())
        await send({"type": "http.response.start", "status": 200, "headers": []})

    held: list[tuple[int, int]] = []
    piece = bytes(1 << 16)
    tracemalloc.start()
    try:
        asyncio.run(Asking(*[piece] * (size >> 16)).of(Admission(TrackCall(app))))
    finally:
        tracemalloc.stop()
    ((now, peak),) = held
    assert now < 1.1 * size
    assert peak < 1.3 * size


def test_metrics_count_requests_and_hold_no_text() -> None:
    with TestClient(build_app(OneModel(Echo("classify")))) as client:
        for _ in range(3):
            client.post("/v1/classify", json={"text": "the parcel of Ms Miller"})
        client.post("/v1/classify", json={})
        client.get("/the/parcel/of/Ms/Miller")
        metrics = client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=")
    lines = metrics.text.splitlines()
    assert 'tunewright_requests_total{route="/v1/classify",status="200"} 3.0' in lines
    assert 'tunewright_requests_total{route="/v1/classify",status="400"} 1.0' in lines
    assert 'tunewright_requests_total{route="other",status="404"} 1.0' in lines
    assert 'tunewright_request_seconds_count{route="/v1/classify"} 4.0' in lines
    assert 'tunewright_confidence_count{model="echo",version="1"} 3.0' in lines
    assert 'tunewright_escalated_total{model="echo",version="1"} 3.0' in lines
    assert 'tunewright_out_of_scope_total{model="echo",version="1"} 0.0' in lines
    assert 'tunewright_tokens_total{kind="prompt",model="echo",version="1"} 3.0' in lines
    assert "Miller" not in metrics.text


def test_no_other_origin_is_allowed() -> None:
    with TestClient(build_app(OneModel(Echo("classify")))) as client:
        answer = client.options(
            "/v1/classify",
            headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
        )
    assert "access-control-allow-origin" not in answer.headers


def test_a_key_may_use_only_the_models_it_names(file: Path) -> None:
    theirs, others = add_key(file, "shop", models=["echo", "more"]), add_key(file, "other", models=["else"])
    with TestClient(build_app(OneModel(Echo("classify")), KeyRing(file))) as client:
        chat = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
        bodies = {"/v1/classify": {"text": "x"}, "/v1/chat/completions": chat}
        for path, body in bodies.items():
            assert client.post(path, json=body, headers=bearer(theirs)).status_code == 200
            refused = client.post(path, json=body, headers=bearer(others))
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
        listed = [client.get("/v1/models", headers=bearer(token)).json()["data"] for token in (theirs, others)]
    assert [len(models) for models in listed] == [1, 0]


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_a_probes_path_is_open_to_readers_alone(path: str, file: Path) -> None:
    add_key(file, "shop")
    with TestClient(build_app(OneModel(Echo("classify")), KeyRing(file))) as client:
        assert client.get(path).status_code == 200
        assert {client.request(method, path, content=b"x").status_code for method in ("POST", "PUT", "DELETE")} == {401}


def test_official_clients_retrieve_the_models_that_they_may_use(file: Path) -> None:
    theirs, others = add_key(file, "shop", models=["maker/echo"]), add_key(file, "other", models=["else"])
    host = OneModel(Echo("classify"))
    host.label = "maker/echo"  # bases are named so
    with TestClient(build_app(host, KeyRing(file))) as http:

        def client_with(key: str) -> OpenAI:
            return OpenAI(base_url="http://testserver/v1", api_key=key, http_client=http, max_retries=0)

        (listed,) = client_with(theirs).models.list()
        assert client_with(theirs).models.retrieve("maker/echo") == listed
        for key, name in ((theirs, "maker"), (others, "maker/echo"), (others, "else")):
            with pytest.raises(NotFoundError, match=f"The model '{name}' does not exist") as refused:
                client_with(key).models.retrieve(name)
            assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
        with pytest.raises(AuthenticationError):
            client_with("tw-wrong").models.retrieve("maker/echo")
