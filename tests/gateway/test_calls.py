"""A job of tool calls from captures to own answers in the gateway, which asks a real server whose engine knows them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openai import OpenAI

from tests.gateway.conftest import Start
from tests.gateway.test_faults import until
from tests.gateway.test_takeover import ask, counts
from tests.gateway.upstream import Upstream
from tests.serving.test_app import Echo
from tests.traffic.test_grouping import chat
from tests.traffic.test_jobs import Traffic
from tunewright.config.tool_list import tool_list
from tunewright.core.processes import listener
from tunewright.gateway.answers import AnswerChoice
from tunewright.gateway.config import JobSpec, ModelSpec
from tunewright.inference.predictors import Answer
from tunewright.serving.app import build_app
from tunewright.serving.connections import HttpServer
from tunewright.serving.hosts import OneModel
from tunewright.tasks.tools import ToolsTask
from tunewright.traffic.jobs import find_jobs
from tunewright.traffic.project import project_of

SYSTEM = "You help the customers of a shop. Call a tool where one does what they ask for."
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "find",
            "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        },
    },
    {"type": "function", "function": {"name": "hours"}},
]


def request(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-6-luna", **chat(("system", SYSTEM), ("user", text)), "tools": TOOLS, **more}


class Calling(Echo):
    """Finds what has a number, and greets."""

    bundle = SimpleNamespace(**{**vars(Echo.bundle), "task": ToolsTask("Help.", tool_list(TOOLS, Path()))})

    def __init__(self) -> None:
        super().__init__("tools")
        self.route = "call"

    def answer(self, text: str) -> Answer:
        said = {"text": text.upper()}
        call = {"name": "find", "arguments": said} if any(map(str.isdigit, text)) else said
        return Answer(json.dumps(call, separators=(",", ":")), 0.9, 5, 7)


@pytest.fixture
def address() -> Iterator[str]:
    bound = listener("127.0.0.1", 0)
    bound.listen()
    server = HttpServer(build_app(OneModel(Calling())))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join(60)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project that is made of captures of the job."""
    traffic = Traffic(tmp_path / "traffic")
    for count, choice in (
        (30, AnswerChoice("", tool_calls=[{"name": "find", "arguments": '{"text": "A 7"}'}])),
        (30, AnswerChoice("", tool_calls=[{"name": "hours", "arguments": "{}"}])),
        (10, AnswerChoice("You are welcome.")),
    ):
        traffic.add(lambda fake, _: request(fake.sentence()), count, choice)
    traffic.close()
    (job,) = find_jobs(tmp_path / "traffic").jobs
    project_of(tmp_path / "traffic", job.name, tmp_path / "project")
    return tmp_path / "project"


@pytest.mark.slow
def test_an_own_model_answers_with_calls_and_texts(project: Path, address: str, start: Start, paid: Upstream) -> None:
    job = JobSpec(project=project, models=[ModelSpec(url=address)], mode="own", audit=1)
    running = start({"openai": paid.url}, jobs={"shop": job})
    client = OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
    whole = ask(running, request("Where is 41 now?"))
    assert whole.headers["x-tunewright-answered-by"] == "own"
    with client.chat.completions.stream(**request("Where is 41 now?")) as events:
        streamed = events.get_final_completion().choices[0]
    (call,) = streamed.message.tool_calls or ()
    assert whole.json()["choices"][0]["finish_reason"] == streamed.finish_reason == "tool_calls"
    assert whole.json()["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == call.function.arguments
    assert (call.function.name, call.function.arguments) == ("find", '{"text":"WHERE IS 41 NOW?"}')
    text = client.chat.completions.create(**request("Thanks a lot")).choices[0]
    assert (text.message.content, text.message.tool_calls, text.finish_reason) == ("THANKS A LOT", None, "stop")
    until(lambda: counts(running)["compared"] == 3)
    assert counts(running)["agreed"] == 2, "the API always calls the first tool"


def test_a_client_that_chooses_the_call_gets_the_apis(
    project: Path, address: str, start: Start, paid: Upstream
) -> None:
    job = JobSpec(project=project, models=[ModelSpec(url=address)], mode="own", audit=0)
    running = start({"openai": paid.url}, jobs={"shop": job})
    forced = ask(running, request("Where is 41 now?", tool_choice="required"))
    assert forced.status_code == 200
    assert "x-tunewright-answered-by" not in forced.headers
    assert len(paid.asked) == 1
