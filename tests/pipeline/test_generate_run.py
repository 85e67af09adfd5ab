"""Generation from data to the running server, on a tiny random model: how well it writes is not the point here."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openai
import pytest

from tests.fixtures.tiny import run_example
from tests.inference.test_grammar import HOSTILE
from tunewright.core.artifacts import read_jsonl
from tunewright.core.processes import free_port
from tunewright.inference.bundle import read_info, write_info
from tunewright.serving.child import running_server

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]


@pytest.fixture(scope="module")
def run(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict]:
    """The example of replies, run in small, its adapter served beside its base."""
    folder = tmp_path_factory.mktemp("generate")
    return run_example(
        "replies",
        make_tiny_model("llama3")[1],
        folder,
        "task.max_tokens=24",
        "data.validation_fraction=0.01",
        "export.runtime=openvino-lora",
    )


@pytest.fixture(scope="module")
def server(run: tuple[Path, dict]) -> Iterator[str]:
    with running_server(run[0] / "runs" / "latest" / "export" / "bundle") as address:
        yield address


def asked(run: tuple[Path, dict]) -> str:
    return str(read_jsonl(run[0] / "data" / "test.jsonl")[0]["text"])


def test_every_arm_is_measured_as_a_text(run: tuple[Path, dict]) -> None:
    _, report = run
    assert report["comparison"]["primary_metric"] == "chrF"
    candidates = report["comparison"]["candidates"]
    assert {"nearest", "few_shot", "adapter", "merged", "exported", "served"} == set(candidates)
    for candidate in candidates.values():
        for split in ("seen", "unseen_phrasing"):
            assert 0 <= candidate["scores"][split]["primary_metric"]["value"] <= 1
            assert set(candidate["scores"][split]["others"]) == {"ROUGE-L", "exact", "copied", "repeated"}
    assert candidates["nearest"]["scores"]["seen"]["primary_metric"]["value"] > 0.5, "an answer of the same shop"


def test_all_forms_of_the_model_write_alike(run: tuple[Path, dict]) -> None:
    chain = {link["candidate"]: link["agreement"] for link in run[1]["parity"]["chain"]}
    assert chain["adapter"] == pytest.approx(1)
    assert chain["served"] > 0.5


def test_the_curve_says_what_was_measured(run: tuple[Path, dict]) -> None:
    measured = [
        row for row in read_jsonl(run[0] / "runs" / "latest" / "train" / "curve.jsonl") if "primary_metric" in row
    ]
    assert len(measured) == 1
    assert 0 <= measured[0]["primary_metric"] <= 1
    html = (run[0] / "runs" / "latest" / "verdict" / "report.html").read_text("utf-8")
    assert "and chrF (dashed, scale on the right)" in html
    assert "generate, free text" in html


def test_a_plain_call_and_a_chat_and_a_stream_give_one_answer(run: tuple[Path, dict], server: str) -> None:
    text = asked(run)
    plain = httpx.post(f"{server}/v1/generate", json={"text": text}, timeout=60).json()
    assert plain["finish_reason"] in ("stop", "length")
    assert plain["usage"]["completion_tokens"] <= 25
    client = openai.OpenAI(base_url=f"{server}/v1", api_key="none")
    chat = client.chat.completions.create(model="replies", messages=[{"role": "user", "content": text}])
    assert chat.choices[0].message.content == plain["text"]
    assert chat.choices[0].finish_reason == plain["finish_reason"]
    chunks = list(
        client.chat.completions.create(
            model="replies",
            messages=[{"role": "user", "content": text}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == plain["text"]
    assert len([piece for piece in pieces if piece]) > 1
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == plain["finish_reason"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == plain["usage"]["completion_tokens"]


def test_a_request_may_ask_for_less(run: tuple[Path, dict], server: str) -> None:
    text = asked(run)
    whole = httpx.post(f"{server}/v1/generate", json={"text": text}, timeout=60).json()["text"]
    short = httpx.post(f"{server}/v1/generate", json={"text": text, "max_tokens": 2}, timeout=60).json()
    assert short["finish_reason"] == "length"
    assert whole.startswith(short["text"])
    # A letter: of line breaks the reply has the canonical form, and what is random here may write others.
    stop = next(letter for letter in whole[2:] if letter.isascii() and letter.isalnum())
    stopped = httpx.post(f"{server}/v1/generate", json={"text": text, "stop": stop}, timeout=60).json()
    assert stopped["finish_reason"] == "stop"
    assert stopped["text"] == whole[: whole.index(stop)].strip()
    for wrong in ({"max_tokens": 0}, {"stop": ["a"] * 5}, {"stop": ""}):
        assert httpx.post(f"{server}/v1/generate", json={"text": text, **wrong}).status_code == 400
    assert httpx.post(f"{server}/v1/extract", json={"text": text}).status_code == 404


def test_who_leaves_in_the_middle_of_an_answer_keeps_nobody_waiting(run: tuple[Path, dict], server: str) -> None:
    body = {"model": "replies", "messages": [{"role": "user", "content": asked(run)}], "stream": True}
    with httpx.stream("POST", f"{server}/v1/chat/completions", json=body, timeout=60) as response:
        assert next(response.iter_lines()).startswith("data: ")
    assert httpx.post(f"{server}/v1/generate", json={"text": asked(run)}, timeout=20).is_success


def test_who_leaves_before_the_answer_stops_it(run: tuple[Path, dict], server: str) -> None:
    body = json.dumps({"text": asked(run)}).encode()
    kind = "Content-Type: application/json"
    head = f"POST /v1/generate HTTP/1.1\r\nHost: a\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    url = httpx.URL(server)
    deadline = time.monotonic() + 30
    # Who goes before the server has read the request at all is not noticed by the route: each waits a little longer.
    for patience in itertools.count():
        if 'route="/v1/generate",status="499"' in httpx.get(f"{server}/metrics", timeout=30).text:
            break
        assert time.monotonic() < deadline, httpx.get(f"{server}/metrics", timeout=30).text
        with socket.create_connection((url.host, url.port or 80)) as connection:
            connection.sendall(head.encode() + body)
            time.sleep(0.01 * (patience % 30))


ADDRESS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "floor": {"type": "integer", "maximum": 9}},
    "required": ["city", "floor"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_has_the_form_that_is_asked_for(run: tuple[Path, dict], server: str, stream: bool) -> None:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none") as client:

        def answer(schema: dict[str, Any]) -> str:
            said = client.chat.completions.create(
                model="replies",
                messages=[{"role": "user", "content": asked(run)}],
                stream=stream,
                seed=1,
                response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
            )
            if not stream:
                return str(said.choices[0].message.content)
            return "".join(chunk.choices[0].delta.content or "" for chunk in said if chunk.choices)

        jsonschema.validate(json.loads(answer(ADDRESS)), ADDRESS)
        for wrong in ({"type": "strin"}, {"$ref": "#/nowhere"}):
            with pytest.raises(openai.BadRequestError, match="can't be confined"):
                answer(wrong)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_schema_keeps_others_waiting(run: tuple[Path, dict], server: str, name: str) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": HOSTILE[name][0]}}
    body = {"model": "replies", "messages": [{"role": "user", "content": asked(run)}], "response_format": wanted}
    told = {"content-type": "application/json"}
    refused = httpx.post(f"{server}/v1/chat/completions", content=json.dumps(body), headers=told, timeout=60)
    assert refused.status_code == 400, refused.text
    assert httpx.post(f"{server}/v1/generate", json={"text": asked(run), "max_tokens": 1}, timeout=20).is_success


def test_a_bundle_is_loaded_anew_without_a_dropped_request(run: tuple[Path, dict], tmp_path: Path) -> None:
    """At SIGHUP; a broken one changes nothing."""
    text, old, new = asked(run), run[0] / "runs" / "latest" / "export" / "bundle", tmp_path / "new"
    shutil.copytree(old, new)
    write_info(new, read_info(new).model_copy(update={"threshold": 0.5}))
    link = tmp_path / "bundle"
    link.symlink_to(old, target_is_directory=True)
    port = free_port()
    command = [str(Path(sys.executable).with_name("tunewright")), "serve", str(link), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            assert "is ready" in server.stderr.readline()
            found: list[object] = []
            stop = threading.Event()

            def ask() -> object:
                reply = httpx.post(f"http://127.0.0.1:{port}/v1/generate", json={"text": text}, timeout=60)
                return reply.raise_for_status().json()["escalate"]

            def ask_on() -> None:
                while not stop.is_set():
                    found.append(ask())

            def reload(target: Path) -> str:
                fresh = tmp_path / "fresh"
                fresh.symlink_to(target, target_is_directory=True)
                fresh.replace(link)
                server.send_signal(signal.SIGHUP)
                return server.stderr.readline()

            with ThreadPoolExecutor(3) as clients:
                running = [clients.submit(ask_on) for _ in range(3)]
                assert "the old one goes on" in reload(tmp_path / "nothing")
                assert ask() is None
                assert "was reloaded" in reload(new)
                assert ask() is not None
                stop.set()
                for each in running:
                    each.result(60)
            assert None in found
        finally:
            server.terminate()
