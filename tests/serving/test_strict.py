"""The server refuses JSON that no model and no log can hold, with the reason."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.serving.test_app import Echo
from tunewright.serving.app import build_app
from tunewright.serving.hosts import OneModel

CHAT = b'{"model":"%s","messages":[{"role":"user","content":"a"}],%s}'
SCHEMA = b'"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":%s}}'
BODIES = {
    "half a letter in a text": (b'{"text":"\\ud800"}', "half a letter"),
    "half a letter in the model's name": (b'{"text":"a","model":"\\udc00"}', "half a letter"),
    "half a letter in a key": (b'{"text":"a","\\ud800":1}', "half a letter"),
    "half a letter in a stop text": (CHAT % (b"echo", b'"stop":"\\ud800"'), "half a letter"),
    "half a letter in a schema": (CHAT % (b"echo", SCHEMA % b'{"\\ud800":1}'), "half a letter"),
    "NaN": (CHAT % (b"echo", SCHEMA % b'{"minimum":NaN}'), "NaN"),
    "infinity": (CHAT % (b"echo", SCHEMA % b'{"minimum":1e999}'), "NaN"),
    "digits": (b'{"text":"a","max_tokens":' + b"9" * 5000 + b"}", "digits"),
    "depth": (b'{"text":' + b"[" * 100_000 + b"}", "100 levels"),
    "depth that Python reads": (b'{"text":' + b"[" * 300 + b"]" * 300 + b"}", "100 levels"),
    "parts": (b'{"text":[' + b"[]," * 7_000_000 + b"0]}", "500,000"),
    "Latin-1": (b'{"text":"\xff"}', "UTF-8"),
}


@pytest.mark.slow
@pytest.mark.parametrize("route", ["/v1/generate", "/v1/chat/completions", "/v1/feedback"])
@pytest.mark.parametrize("name", BODIES)
def test_invalid_json_is_refused(name: str, route: str) -> None:
    body, reason = BODIES[name]
    with TestClient(build_app(OneModel(Echo("generate")))) as client:
        answer = client.post(route, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert reason in answer.json()["error"]["message"]


@pytest.mark.parametrize("letter", ["\ufdd0", "\x00", "\uffff", "\U0001f389"])
def test_unusual_characters_are_text(letter: str) -> None:
    with TestClient(build_app(OneModel(Echo("generate")))) as client:
        assert client.post("/v1/generate", json={"text": letter}).json()["text"] == letter


def test_a_long_stop_text_is_refused() -> None:
    with TestClient(build_app(OneModel(Echo("generate")))) as client:
        answer = client.post("/v1/generate", json={"text": "a", "stop": ["x" * 1_000_000]})
    assert answer.status_code == 400
    assert "256" in answer.json()["error"]["message"]
