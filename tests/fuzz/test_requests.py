"""Requests to every route: an answer, or a refusal in OpenAI's form; never that the server failed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.fuzz.mutation import json_of, mutated, names, seeds
from tests.fuzz.running import Check, Input
from tests.serving.test_app import Echo
from tunewright.serving.app import build_app
from tunewright.serving.captures import RequestLog, read_captures
from tunewright.serving.hosts import OneModel
from tunewright.tasks.classify import ClassifyTask

ROUTES = ("classify", "extract", "generate")
BODIES: dict[str, list[Any]] = {
    "classify": [
        {"text": "a", "probabilities": True, "model": None},
        {"document": {"name": "a.txt", "content": base64.b64encode(b"hello").decode()}},
    ],
    "extract": [{"text": "a"}, {"document": {"name": "a.html", "content": base64.b64encode(b"<p>hello").decode()}}],
    "generate": [{"text": "a", "max_tokens": 3, "stop": ["b", "c"]}],
    "chat/completions": [
        {
            "model": "echo",
            "messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}],
            "n": 1,
            "stream": True,
            "stream_options": {"include_usage": True},
            "stop": "c",
            "max_tokens": 9,
            "temperature": 0.5,
        },
        {
            "model": "echo",
            "messages": [{"role": "user", "content": [{"type": "text", "text": "b"}]}],
            "logprobs": True,
            "top_logprobs": 2,
            "max_completion_tokens": 4,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}},
            },
        },
    ],
    "feedback": [
        {"id": "a", "model": "echo", "right": False, "answer": "refund", "comment": "c"},
        {"id": "a", "right": False, "answer": {"a": 1}},
        {"id": "a", "right": True},
    ],
}
KEYS = tuple(sorted({key for bodies in BODIES.values() for body in bodies for key in body}))
KINDS = (
    "application/json",
    "application/json; charset=utf-16",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=a",
    "application/json+x",
    "",
    "\xff",
)


class Labels(Echo):
    bundle = SimpleNamespace(**{**vars(Echo.bundle), "task": ClassifyTask("Which?", {"billing": "", "refund": ""})})


@pytest.fixture(params=ROUTES)
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestClient]:
    app = build_app(OneModel(Labels(request.param)), request_log=RequestLog(tmp_path / "kept"))
    with TestClient(app) as client:
        yield client
    list(read_captures(tmp_path / "kept"))


def checked(client: TestClient, method: str = "POST", kind: str = "application/json") -> Check:
    """What asks a client's server; the name is the route's."""

    def check(name: str, content: bytes) -> None:
        reply = client.request(
            method, f"/v1/{name}", content=content, headers={b"content-type": kind.encode("latin-1")}
        )
        assert reply.status_code < 500, reply.text
        if method == "HEAD":
            assert not reply.content
        elif reply.status_code >= 400:
            error = reply.json()["error"]
            assert set(reply.json()) == {"error"} and set(error) == {"message", "type", "param", "code"}
            assert isinstance(error["message"], str) and error["message"].strip()
            assert isinstance(error["code"], str)
        elif reply.headers["content-type"].startswith("text/event-stream"):
            *events, last, nothing = reply.text.split("\n\n")
            assert (last, nothing) == ("data: [DONE]", "")
            assert all(json.loads(event.removeprefix("data: ")) for event in events)
        else:
            reply.json()

    return check


@pytest.mark.parametrize("seed", seeds("requests"), ids=names("requests"))
def test_kept(seed: Input, client: TestClient, keep: Callable[..., None]) -> None:
    keep(checked(client), (seed[0].removesuffix(".json").replace("_", "/"), seed[1]))


def test_known_keys_that_hold_anything(client: TestClient, fuzz: Callable[..., None]) -> None:
    requests = st.sampled_from(sorted(BODIES)).flatmap(lambda route: json_of(BODIES[route], route, KEYS))
    fuzz(checked(client), requests, 75)


def test_mutated_bodies(client: TestClient, fuzz: Callable[..., None]) -> None:
    own = tuple((route, json.dumps(body).encode()) for route, bodies in BODIES.items() for body in bodies)
    asked = mutated("requests", own).map(lambda seed: (seed[0].removesuffix(".json").replace("_", "/"), seed[1]))
    kinds = st.tuples(
        asked, st.sampled_from(KINDS), st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "HEAD", "OPTIONS"])
    )
    # The kind and method travel in front of the body, so that an example is one file.
    told = kinds.map(lambda all_of_it: (all_of_it[0][0], f"{all_of_it[2]} {all_of_it[1]}\n".encode() + all_of_it[0][1]))

    def check(name: str, content: bytes) -> None:
        head, _, body = content.partition(b"\n")
        method, _, kind = head.decode().partition(" ")
        checked(client, method, kind)(name, body)

    fuzz(check, told, 75)
