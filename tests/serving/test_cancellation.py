"""Work stops when the client has gone: between two tokens, and before it begins."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.serving.test_app import Echo
from tunewright.core.call import CALL, Abandoned, Call, OutOfTime
from tunewright.core.limits import MOST_UNDER_WAY
from tunewright.inference.predictors import Answer, GenerationConfig, Pieces
from tunewright.serving.app import build_app
from tunewright.serving.cancellation import cancellable, slot
from tunewright.serving.guard import TrackCall
from tunewright.serving.hosts import OneModel


class Model:
    at_once = 3

    def __call__(self, ids: Any) -> Any:
        return ids

    def of_tokens(self, queries: Any) -> Any:
        return queries


@pytest.fixture
def call() -> Iterator[Call]:
    call = Call(60)
    token = CALL.set(call)
    yield call
    CALL.reset(token)


def test_a_runtime_stops_when_the_client_has_gone(call: Call) -> None:
    model = cancellable(Model())
    assert model.at_once == 3
    assert model([1, 2]) == [1, 2]
    call.gone.set()
    with pytest.raises(Abandoned):
        model([1, 2])


def test_without_a_call_nothing_is_stopped() -> None:
    assert cancellable(Model())([5]) == [5]
    with slot(threading.BoundedSemaphore(1)):
        pass


def test_waiting_for_a_slot_ends_at_the_deadline() -> None:
    slots = threading.BoundedSemaphore(1)
    slots.acquire()
    token = CALL.set(Call(0.05))
    try:
        with pytest.raises(OutOfTime), slot(slots):
            pass
    finally:
        CALL.reset(token)
    slots.release()  # it was not taken


def test_a_client_that_goes_while_it_waits_releases_its_slot(call: Call) -> None:
    slots = threading.BoundedSemaphore(1)
    call.gone.set()
    with pytest.raises(Abandoned), slot(slots):
        pass
    assert slots.acquire(blocking=False)


class Slow(Echo):
    """Works until the call's time is over."""

    def answer(self, text: str) -> Answer:  # noqa: ARG002 (the engine's own)
        call = CALL.get()
        assert call
        while True:
            call.check()
            time.sleep(0.01)


@pytest.mark.slow
def test_an_answer_after_the_deadline_is_a_504() -> None:
    with TestClient(build_app(OneModel(Slow("classify")), seconds=0.2)) as client:
        answer = client.post("/v1/classify", json={"text": "a"})
        assert answer.status_code == 504
        error = answer.json()["error"]
        assert (error["code"], error["type"]) == ("timeout", "server_error")
        assert "0.2 s" in error["message"]


class Broken(Echo):
    def answer(self, text: str) -> Answer:
        raise RuntimeError(f"the model could not read {text}")


def test_an_internal_error_has_openais_form_and_no_text() -> None:
    with TestClient(build_app(OneModel(Broken("classify"))), raise_server_exceptions=False) as client:
        answer = client.post("/v1/classify", json={"text": "secret"})
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal_error"
        assert "secret" not in answer.text


def test_a_disconnect_is_noticed_during_the_answer() -> None:
    seen: list[bool] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        assert (await receive())["body"] == b"{}"
        call = CALL.get()
        assert call
        seen.append(call.gone.is_set())
        await asyncio.sleep(0.05)
        seen.append(call.gone.is_set())

    messages = [{"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return messages.pop(0)

    async def send(_message: Any) -> None:
        """Nothing."""

    asyncio.run(TrackCall(app)({"type": "http", "path": "/v1/classify", "method": "POST"}, receive, send))
    assert seen == [False, True]


class OneAtATime(Echo):
    """A model that holds its only place while a stream is read, as ONNX Runtime's does."""

    def __init__(self) -> None:
        super().__init__("generate")
        self._slots = threading.BoundedSemaphore(1)

    def stream(self, text: str, generation_config: GenerationConfig) -> Pieces:
        with slot(self._slots):
            yield from super().stream(text, generation_config)


def test_streams_that_wait_for_the_model_leave_a_thread_to_the_one_that_has_it() -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "a"}], "stream": True}
    with (
        TestClient(build_app(OneModel(OneAtATime()), seconds=4)) as client,
        ThreadPoolExecutor(MOST_UNDER_WAY) as clients,
    ):
        replies = list(
            clients.map(lambda _: client.post("/v1/chat/completions", json=body).text, range(MOST_UNDER_WAY))
        )
    assert not [reply for reply in replies if not reply.endswith("data: [DONE]\n\n")]
