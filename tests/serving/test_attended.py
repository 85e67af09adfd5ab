"""Work stops where nobody waits for it: between two tokens, and before it begins."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.serving.test_app import Echo
from tunewright.core.call import CALL, Abandoned, Call, OutOfTime
from tunewright.inference.predictors import Answer
from tunewright.serving.app import build_app
from tunewright.serving.attended import attended, turn
from tunewright.serving.guard import Attendance
from tunewright.serving.hosts import OneModel


class Model:
    at_once = 3

    def __call__(self, ids: Any) -> Any:
        return ids

    def many(self, sequences: Any) -> Any:
        return sequences


@pytest.fixture
def call() -> Iterator[Call]:
    call = Call(60)
    token = CALL.set(call)
    yield call
    CALL.reset(token)


def test_a_model_is_asked_while_somebody_waits(call: Call) -> None:
    model = attended(Model())  # type: ignore[arg-type]
    assert model.at_once == 3
    assert model([1, 2]) == [1, 2]
    call.gone.set()
    with pytest.raises(Abandoned):
        model([1, 2])


def test_without_a_call_nobody_can_go() -> None:
    assert attended(Model())([5]) == [5]  # type: ignore[arg-type]
    with turn(threading.BoundedSemaphore(1)):
        pass


def test_a_place_is_not_waited_for_longer_than_the_request_has() -> None:
    places = threading.BoundedSemaphore(1)
    places.acquire()
    token = CALL.set(Call(0.05))
    try:
        with pytest.raises(OutOfTime), turn(places):
            pass
    finally:
        CALL.reset(token)
    places.release()  # it was not taken


def test_whoever_goes_while_he_waits_gives_his_place_back(call: Call) -> None:
    places = threading.BoundedSemaphore(1)
    call.gone.set()
    with pytest.raises(Abandoned), turn(places):
        pass
    assert places.acquire(blocking=False)


class Slow(Echo):
    """Answers when the call is over."""

    def answer(self, text: str) -> Answer:  # noqa: ARG002 (the engine's own)
        call = CALL.get()
        assert call
        while True:
            call.check()
            time.sleep(0.01)


def test_a_request_has_so_long() -> None:
    with TestClient(build_app(OneModel(Slow("classify")), seconds=0.2)) as client:  # type: ignore[arg-type]
        answer = client.post("/v1/classify", json={"text": "a"})
        assert answer.status_code == 504
        error = answer.json()["error"]
        assert (error["code"], error["type"]) == ("timeout", "server_error")
        assert "0.2 s" in error["message"]


class Broken(Echo):
    def answer(self, text: str) -> Answer:
        raise RuntimeError(f"the model could not read {text}")


def test_a_failure_is_told_in_openais_form_and_says_nothing_of_the_text() -> None:
    with TestClient(build_app(OneModel(Broken("classify"))), raise_server_exceptions=False) as client:  # type: ignore[arg-type]
        answer = client.post("/v1/classify", json={"text": "secret"})
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal_error"
        assert "secret" not in answer.text


def test_who_goes_is_noticed_while_the_answer_is_made() -> None:
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

    asyncio.run(Attendance(app)({"type": "http", "path": "/v1/classify", "method": "POST"}, receive, send))
    assert seen == [False, True]
