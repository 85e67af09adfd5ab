"""Valid and invalid requests. The engine is a fake that echoes the request; tests marked `model` use a real one."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.conftest import python
from tests.documents import hostile
from tests.documents.samples import INVOICE, path_without, pdf
from tunewright.core.limits import MOST_BODY_BYTES, REQUEST_DOCUMENT_BYTES
from tunewright.documents import pool, text_of
from tunewright.documents.pool import Pool
from tunewright.inference.predictors import Answer, GenerationConfig, Pieces, Token
from tunewright.serving import body as request_body
from tunewright.serving.app import build_app
from tunewright.serving.engine import Classification
from tunewright.serving.hosts import OneModel
from tunewright.tasks.generate import GenerateTask


class Echo:
    ended = False
    bundle = SimpleNamespace(
        info=SimpleNamespace(
            name="echo",
            precision="int8",
            version="1",
            task=SimpleNamespace(earlier_turns=0, input_template=None),
            system_prompts=None,
        ),
        flags=lambda sure: {"confidence": sure, "escalate": True, "in_scope": None},
        task=GenerateTask("Echo."),
    )

    def __init__(self, kind: str):
        self.kind = self.route = kind

    def answer(self, text: str) -> Answer:
        return Answer(
            text if self.kind == "classify" else json.dumps({"echo": text}), 1.0, 1, 1, tokens=[Token(text, -0.5)]
        )

    def stream(self, text: str, generation_config: GenerationConfig) -> Pieces:  # noqa: ARG002 (the engine's own)
        yield text
        yield Answer(text, 1.0, 1, 1, tokens=[Token(text, -0.5)])

    def classify(self, text: str) -> Classification:
        return Classification(self.answer(text), {text: 1.0})


@pytest.fixture(params=["extract", "classify", "generate"])
def route(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(route: str) -> Iterator[TestClient]:
    with TestClient(build_app(OneModel(Echo(route)))) as client:
        yield client


def echoed(client: TestClient, route: str, request: Any) -> str:
    """The text that reached the engine."""
    answer = client.post(f"/v1/{route}", json=request)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return str(
        {
            "extract": lambda: body["record"]["echo"],
            "classify": lambda: body["label"],
            "generate": lambda: body["text"],
        }[route]()
    )


def refusal(client: TestClient, route: str, body: Any, status: int = 400) -> dict[str, Any]:
    answer = client.post(f"/v1/{route}", json=body)
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    return error


def document(name: str, content: bytes) -> dict[str, Any]:
    return {"document": {"name": name, "content": base64.b64encode(content).decode()}}


def test_a_text_reaches_the_model_unchanged(client: TestClient, route: str) -> None:
    assert echoed(client, route, {"text": "  hello\n"}) == "  hello\n"


def test_the_text_parts_of_a_message_are_lines_as_in_training(client: TestClient) -> None:
    parts = [{"type": "text", "text": "two"}, {"type": "text", "text": "lines"}]
    body = {"model": "echo", "messages": [{"role": "user", "content": parts}]}
    assert "two\nlines" in client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    items = [{"role": "user", "content": [{**part, "type": "input_text"} for part in parts]}]
    answer = client.post("/v1/responses", json={"model": "echo", "input": items}).json()
    assert "two\nlines" in answer["output"][0]["content"][0]["text"]


@pytest.mark.parametrize(
    ("name", "content"), [("in.pdf", pdf(INVOICE)), ("mail.eml", b"Subject: lamp\n\nbroken\n"), ("note", b"one\r\ntwo")]
)
def test_a_document_is_read_as_in_training(name: str, content: bytes, client: TestClient, route: str) -> None:
    assert echoed(client, route, document(name, content)) == text_of(name, content)


@pytest.mark.parametrize("body", [{}, {"text": "a", **document("a.txt", b"b")}, {"text": None}])
def test_a_request_has_either_text_or_document(body: dict[str, Any], client: TestClient, route: str) -> None:
    assert refusal(client, route, body)["message"] == "body: give either text or document"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "param", "reason"),
    [
        ({"text": ""}, "text", "nothing in it to read"),
        ({"text": " \n\t "}, "text", "nothing in it to read"),
        ({"text": 3}, "text", "string"),
        ({"txet": "a"}, "txet", "not permitted"),
        ({"document": "a"}, "document", "dictionary"),
        ({"document": {"name": "a.txt"}}, "document.content", "required"),
        ({"document": {"name": "", "content": ""}}, "document.name", "at least 1 character"),
        ({"document": {"name": "a.txt", "content": "not base64"}}, "document.content", "not base64"),
        ({"document": {"name": "a.txt", "content": "ä"}}, "document.content", "not base64"),
        ({"document": {"name": "a.txt", "content": 5}}, "document.content", "not base64"),
        ({"document": {"name": "a.txt", "content": "", "path": "/etc"}}, "document.path", "not permitted"),
    ],
)
def test_an_invalid_request_is_refused(
    body: dict[str, Any], param: str, reason: str, client: TestClient, route: str
) -> None:
    error = refusal(client, route, body)
    assert (error["code"], error["param"]) == ("invalid_value", param)
    assert reason in error["message"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("in.pdf", b"%PDF-1.7 no", "in.pdf: The PDF is broken"),
        ("in.pdf", pdf([]), "ocrmypdf in.pdf"),
        ("in.png", b"\x89PNG\r\n\x1a\n", "This is a picture"),
        ("in.txt", b"", "holds no text"),
        ("../../etc/passwd", b"", "holds no text"),
    ],
)
def test_a_document_that_cannot_be_read_is_refused(
    name: str, content: bytes, reason: str, client: TestClient, route: str
) -> None:
    error = refusal(client, route, document(name, content))
    assert (error["code"], error["param"]) == ("invalid_document", "document")
    assert reason in error["message"]


@pytest.mark.slow
@pytest.mark.parametrize("route", ["extract"], indirect=True)
def test_a_hostile_document_is_refused_and_the_next_is_answered(client: TestClient, route: str) -> None:
    harmful = [
        ("in.pdf", hostile.nested_forms(), "1024 MiB of memory"),
        ("in.eml", hostile.nested_parts(), "nested too deeply"),
        ("in.json", hostile.far_boxes()[0], "no place on a page"),
        ("in.json", b"[" * 100_000, "nested too deeply"),
    ]
    for name, content, reason in harmful:
        error = refusal(client, route, document(name, content))
        assert (error["code"], error["param"]) == ("invalid_document", "document")
        assert error["message"].startswith(f"{name}: ")
        assert reason in error["message"]
        assert echoed(client, route, document("mail.eml", b"Subject: lamp\n\nbroken")) == "Subject: lamp\n\nbroken"


@pytest.mark.slow
@pytest.mark.parametrize("route", ["extract"], indirect=True)
def test_a_document_in_a_request_has_less_time(client: TestClient, route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "REQUEST_DOCUMENT_CPU_SECONDS", 1)
    error = refusal(client, route, document("in.json", hostile.slow_words()))
    assert "more than 1 seconds of processor time" in error["message"]


@pytest.mark.slow
def test_a_document_above_the_limit_is_refused(client: TestClient, route: str) -> None:
    error = refusal(client, route, document("a.txt", b"a" * (REQUEST_DOCUMENT_BYTES + 1)))
    assert "larger than 16 MiB" in error["message"]
    assert len(echoed(client, route, document("a.txt", b"a" * REQUEST_DOCUMENT_BYTES))) == REQUEST_DOCUMENT_BYTES


def test_a_request_above_the_limit_is_not_read_to_its_end(client: TestClient, route: str) -> None:
    """The request comes in pieces, so that no header has its length."""
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        yield b'{"text": "'
        for _ in range(MOST_BODY_BYTES >> 20):
            sent += 1
            yield b"a" * (1 << 20)
        yield b'"}'

    answer = client.post(f"/v1/{route}", content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["error"]["message"] == "The request is larger than 24 MiB."
    assert client.get("/health").json() == {"status": "ok"}


def test_a_missing_library_is_a_501(
    client: TestClient, route: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", path_without("pypdfium2", tmp_path))
    monkeypatch.setattr(pool, "POOL", Pool())
    error = refusal(client, route, document("in.pdf", pdf(INVOICE)), status=501)
    assert "pip install 'tunewright[documents]'" in error["message"]
    assert echoed(client, route, {"text": "still here"}) == "still here"


def chat(client: TestClient, **more: Any) -> Any:
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}], **more}
    return client.post("/v1/chat/completions", json=body)


CONVERSATION = [
    {"role": "system", "content": "Route it."},
    {"role": "user", "content": "My card."},
    {"role": "assistant", "content": "What about it?"},
    {"role": "user", "content": [{"type": "text", "text": "It is gone."}]},
]


@pytest.mark.parametrize(
    ("most", "read"),
    [
        (1, "assistant: What about it?\n\nuser: It is gone."),
        (9, "user: My card.\n\nassistant: What about it?\n\nuser: It is gone."),
    ],
)
def test_a_model_reads_as_many_earlier_turns_as_it_was_taught(most: int, read: str) -> None:
    engine = Echo("classify")
    engine.bundle = SimpleNamespace(
        info=SimpleNamespace(
            **{**vars(Echo.bundle.info), "task": SimpleNamespace(earlier_turns=most, input_template=None)}
        ),
        flags=Echo.bundle.flags,
        task=Echo.bundle.task,
    )
    with TestClient(build_app(OneModel(engine))) as client:
        assert chat(client, messages=CONVERSATION).json()["choices"][0]["message"]["content"] == read
        given = client.post("/v1/responses", json={"model": "echo", "input": [*CONVERSATION[:3], CONVERSATION[1]]})
        assert given.json()["output"][0]["content"][0]["text"].endswith("assistant: What about it?\n\nuser: My card.")
        assert chat(client).json()["choices"][0]["message"]["content"] == "hello"
        unanswerable = chat(client, messages=CONVERSATION[:3])
        assert unanswerable.status_code == 400
        assert unanswerable.json()["error"]["message"] == "The last message must be a user's."


def test_a_conversation_is_refused_by_a_model_that_reads_one_message(client: TestClient) -> None:
    answer = chat(client, messages=CONVERSATION)
    assert answer.status_code == 400
    assert "exactly one user message" in answer.json()["error"]["message"]


def test_log_probabilities_come_on_request(client: TestClient, route: str) -> None:
    assert chat(client).json()["choices"][0]["logprobs"] is None
    logprobs = chat(client, logprobs=True, top_logprobs=2).json()["choices"][0]["logprobs"]
    likeliest = [{"token": "hello", "logprob": 0.0, "bytes": [104, 101, 108, 108, 111]}] if route == "classify" else []
    assert logprobs["content"] == [
        {"token": "hello", "logprob": -0.5, "bytes": [104, 101, 108, 108, 111], "top_logprobs": likeliest}
    ]


def test_likeliest_tokens_without_log_probabilities_are_refused(client: TestClient) -> None:
    answer = chat(client, top_logprobs=2)
    assert answer.status_code == 400
    assert "top_logprobs needs logprobs" in answer.json()["error"]["message"]
    assert chat(client, logprobs=True, top_logprobs=21).status_code == 400


def test_sampling_settings_are_accepted(client: TestClient) -> None:
    assert chat(client, seed=7, temperature=0.2, top_p=0.9, user="me", presence_penalty=1).status_code == 200


@pytest.mark.slow
def test_reading_documents_loads_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys, tunewright.serving.app, tunewright.serving.engine, tunewright.documents as d;"
        "d.text_of('a.eml', b'Subject: x\\n\\n<p>y'); d.text_of('a.html', b'<p>y');"
        "print({'torch', 'sklearn', 'transformers'} & set(sys.modules))"
    )
    done = python("-c", code)
    assert done.stdout == "set()\n", done.stderr


def test_every_error_has_openais_form(client: TestClient, route: str) -> None:
    replies = [
        client.post(f"/v1/{route}", content=b"\xff\xfe{", headers={"content-type": "application/json"}),
        client.post(f"/v1/{route}", content=b"{", headers={"content-type": "application/json"}),
        client.get("/v1/nothing"),
        client.get(f"/v1/{route}"),
    ]
    assert [reply.status_code for reply in replies] == [400, 400, 404, 405]
    assert all(set(reply.json()["error"]) == {"message", "type", "param", "code"} for reply in replies)
