"""Own models in the API's place: who answers in each mode, what clients get, and what takes a job back."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from openai import OpenAI

from tests.gateway.conftest import Running, Start
from tests.gateway.test_faults import until
from tests.gateway.tickets import SYSTEM, Messages, request, team_of
from tests.gateway.upstream import Handler, Upstream, hang_up, refused, upstream
from tests.traffic.test_grouping import chat
from tunewright.gateway.config import BudgetSpec, JobSpec, ModelSpec
from tunewright.gateway.exchanges import Exchange
from tunewright.gateway.takeover.store import AMOUNTS, Setting, open_store
from tunewright.traffic.jobs import find_jobs

FAR = 30.0
pytestmark = pytest.mark.slow


@pytest.fixture
def begin(start: Start, team_api: Upstream, tickets: Path) -> Callable[..., Running]:
    """Starts a gateway with the job `tickets`."""

    def begin(mode: str, **settings: Any) -> Running:
        return start({"openai": team_api.url}, jobs={"tickets": JobSpec(project=tickets, mode=mode, **settings)})

    return begin


@pytest.fixture
def messages() -> Messages:
    return Messages(1)


def ask(running: Running, body: dict[str, Any], path: str = "/v1/chat/completions") -> httpx.Response:
    return httpx.post(f"{running.url}{path}", json=body, timeout=FAR)


def text_of(answer: httpx.Response) -> str:
    return str(answer.json()["choices"][0]["message"]["content"])


def counts(running: Running) -> dict[str, float]:
    """All that was counted of the job."""
    running.gateway._now.takeover.looks.now()
    store = open_store(running.spec)
    tallies = store.tallies()
    store.close()
    return {name: sum(getattr(each, name) for each in tallies) for name in AMOUNTS}


def test_observed_requests_are_answered_by_the_api_and_known(
    begin: Callable[..., Running], team_api: Upstream, messages: Messages
) -> None:
    running = begin("observe")
    for _ in range(5):
        answer = ask(running, request(messages.clear()))
        assert not [name for name in answer.headers if name.startswith("x-tunewright")]
    assert len(team_api.asked) == 5
    assert {(each.job, each.mode, each.answered_by) for each in running.exchanges()} == {
        ("tickets", "observe", "upstream")
    }
    found = counts(running)
    assert (found["requests"], found["own"], found["compared"], found["priced"]) == (5, 0, 0, 5)
    assert found["paid_usd"] == pytest.approx(sum(each.usd or 0 for each in running.exchanges()))


def test_in_shadow_both_answer_and_the_client_gets_the_apis(
    begin: Callable[..., Running], team_api: Upstream, messages: Messages
) -> None:
    running = begin("shadow")
    texts = [messages.clear() for _ in range(20)]
    for text in texts:
        answer = ask(running, request(text))
        assert (text_of(answer), answer.headers["x-request-id"]) == (team_of(text), "req_1f8e")
    assert len(team_api.asked) == 20
    until(lambda: counts(running)["compared"] == 20)
    found = counts(running)
    assert found["agreed"] >= 19
    assert found["own"] == 0


def test_in_cascade_the_own_model_answers_what_it_is_sure_of(
    begin: Callable[..., Running], team_api: Upstream, messages: Messages
) -> None:
    running = begin("cascade", audit=0)
    sure = [ask(running, request(messages.clear())) for _ in range(20)]
    own = [each for each in sure if each.headers.get("x-tunewright-answered-by") == "own"]
    assert len(own) >= 15
    first = own[0]
    assert first.json()["model"] == "gpt-6-luna"
    assert float(first.headers["x-tunewright-confidence"]) > 0.9
    assert first.headers["x-tunewright-bundle"] == counts_version(running)
    assert first.json()["usage"]["total_tokens"] == sum(
        first.json()["usage"][name] for name in ("prompt_tokens", "completion_tokens")
    )
    before = len(team_api.asked)
    assert before == 20 - len(own)
    unsure = [ask(running, request(messages.unclear())) for _ in range(5)]
    assert all("x-tunewright-answered-by" not in each.headers for each in unsure)
    assert len(team_api.asked) == before + 5
    found = counts(running)
    assert (found["own"], found["unsure"], found["requests"]) == (len(own), 25 - len(own), 25)
    captured = [each for each in running.exchanges() if each.answered_by == "own"]
    assert len(captured) == len(own)
    assert {(each.upstream, each.usd, each.status) for each in captured} == {("own model", 0.0, 200)}


def counts_version(running: Running) -> str:
    return running.gateway._now.takeover.jobs["tickets"]._model.version


def test_an_own_model_answers_everything_and_is_audited(
    begin: Callable[..., Running], team_api: Upstream, messages: Messages
) -> None:
    running = begin("own", audit=1)
    for text in (messages.clear(), messages.unclear(), messages.clear()):
        assert ask(running, request(text)).headers["x-tunewright-answered-by"] == "own"
    until(lambda: counts(running)["audits"] == 3)
    found = counts(running)
    assert (found["own"], found["compared"], found["paid_usd"]) == (3, 3, 0)
    assert found["audit_usd"] > 0
    assert len(team_api.asked) == 3


def test_the_official_client_gets_what_it_asked_for(begin: Callable[..., Running], messages: Messages) -> None:
    running = begin("own", audit=0)
    client = OpenAI(base_url=f"{running.url}/v1", api_key="k", max_retries=0)
    text = messages.clear()
    stream = client.chat.completions.create(**request(text), stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == team_of(text)
    assert chunks[-1].usage is not None
    (exchange,) = running.exchanges()
    assert exchange.streamed
    assert exchange.choices[0].text == team_of(text)


def test_what_the_own_model_cant_give_the_api_gives(
    begin: Callable[..., Running], team_api: Upstream, messages: Messages
) -> None:
    running = begin("own", audit=0)
    for more in ({"n": 2}, {"logprobs": True}, {"tools": [{"type": "function", "function": {"name": "x"}}]}):
        ask(running, request(messages.clear(), **more))
    assert len(team_api.asked) == 3


def test_another_prompt_is_another_job(begin: Callable[..., Running], team_api: Upstream, messages: Messages) -> None:
    running = begin("own", audit=0)
    text = messages.clear()
    changed = [
        chat(("system", f"{SYSTEM} Answer in French, and in capital letters."), ("user", text)),
        chat(("system", SYSTEM), ("user", text), ("assistant", "billing"), ("user", "are you sure?")),
        chat(("system", "You are helpful."), ("user", text)),
        chat(("user", [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": "https://x"}}])),
    ]
    for body in changed:
        ask(running, {"model": "gpt-6-luna", **body})
    assert len(team_api.asked) == len(changed)
    metrics = httpx.get(f"{running.url}/metrics").text
    assert 'tunewright_gateway_unlike_total{job="tickets"} 2.0' in metrics


def test_a_share_is_sticky(begin: Callable[..., Running], messages: Messages) -> None:
    running = begin("own", share=0.5, audit=0)
    texts = [messages.clear() for _ in range(30)]

    def by_own() -> list[bool]:
        return ["x-tunewright-answered-by" in ask(running, request(text)).headers for text in texts]

    first = by_own()
    assert 5 <= sum(first) <= 25
    assert by_own() == first


@pytest.mark.parametrize("mode", ["observe", "cascade"])
def test_where_the_api_fails_the_own_model_answers(
    mode: str, begin: Callable[..., Running], team_api: Upstream, messages: Messages
) -> None:
    running = begin(mode, audit=0)
    for faults, reason in (
        ([refused(429, "rate_limit")], "status 429"),
        ([refused(500, "server_error")], "status 500"),
        ([hang_up, hang_up], "upstream_unreachable"),  # an idle connection may be closed, so it is tried twice
    ):
        team_api.faults += faults
        text = messages.unclear()
        answer = ask(running, request(text))
        assert answer.status_code == 200
        assert answer.headers["x-tunewright-fallback"] == reason
    team_api.faults.append(refused(401, "invalid_api_key"))
    assert ask(running, request(messages.unclear())).status_code == 401
    assert counts(running)["fallbacks"] == 3


def test_a_job_may_forbid_that(begin: Callable[..., Running], team_api: Upstream, messages: Messages) -> None:
    running = begin("observe", fallback=False)
    team_api.faults.append(refused(429, "rate_limit"))
    assert ask(running, request(messages.clear())).status_code == 429


def test_a_proven_drop_in_agreement_takes_the_job_back(
    begin: Callable[..., Running], team_api: Upstream, messages: Messages
) -> None:
    running = begin("own", audit=1)
    for _ in range(10):
        ask(running, request(messages.clear()))
    until(lambda: counts(running)["compared"] == 10)
    assert running.gateway._now.takeover.jobs["tickets"].setting.mode == "own"
    team_api.reply = lambda _: "account"
    for _ in range(200):
        if "x-tunewright-answered-by" not in ask(running, request(messages.clear())).headers:
            break
        time.sleep(0.01)
    else:
        raise AssertionError("it was not taken back")
    store = open_store(running.spec)
    until(lambda: store.changes("tickets")[0].mode == "shadow")
    newest = store.changes("tickets")[0]
    assert newest.by == "the gateway"
    assert "agrees with the API less often than" in newest.why
    assert "it was own" in newest.why
    store.close()


async def cut_off(_: web.Request) -> web.Response:
    """An answer that ends at the client's limit."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "bil"}, "finish_reason": "length"}
    return web.json_response({"model": "gpt-6-luna", "choices": [choice]})


async def failed(_: web.Request) -> web.Response:
    """A stream of the Responses API that begins with status 200 and fails."""
    part = {"type": "output_text", "text": "bil"}
    response = {"status": "failed", "error": {"code": "server_error"}, "output": [{"content": [part]}]}
    events = ({"type": "response.output_text.delta", "delta": "bil"}, {"type": "response.failed", "response": response})
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return web.Response(text=stream, content_type="text/event-stream")


@pytest.mark.parametrize("fault", [cut_off, failed])
def test_an_api_that_gives_no_whole_answer_says_nothing_against_the_own_model(
    fault: Handler, start: Start, team_api: Upstream, tickets: Path, tmp_path: Path, messages: Messages
) -> None:
    project = Path(shutil.copytree(tickets, tmp_path / "mine", symlinks=True))
    path, given = "/v1/chat/completions", "messages"
    if fault is failed:
        signature = project / "job.json"
        signature.write_text(signature.read_text("utf-8").replace('"kind": "chat"', '"kind": "responses"'), "utf-8")
        path, given = "/v1/responses", "input"
    team_api.fault = lambda: fault
    job = JobSpec(project=project, mode="own", audit=1)
    running = start({"openai": team_api.url}, jobs={"tickets": job})
    for _ in range(100):
        body = request(messages.clear(), stream=fault is failed)
        body[given] = body.pop("messages")
        assert ask(running, body, path).headers["x-tunewright-answered-by"] == "own"
    until(lambda: counts(running)["audits"] == 100)
    assert counts(running)["compared"] == 0
    assert running.gateway.settings["tickets"].mode == "own"


def test_requests_that_have_changed_take_the_job_back_before_audits_do(
    begin: Callable[..., Running], messages: Messages
) -> None:
    running = begin("cascade", audit=0)
    job = running.gateway._now.takeover.jobs["tickets"]
    job.recall(400, 380)
    for _ in range(20):
        ask(running, request(messages.clear()))
    assert job.setting.mode == "cascade"
    for _ in range(200):
        ask(running, request(messages.unclear()))
        if job.setting.mode == "shadow":
            break
    store = open_store(running.spec)
    until(lambda: store.changes("tickets")[0].mode == "shadow")
    assert "the requests have changed: it was sure of 95% of the first 401" in store.changes("tickets")[0].why
    store.close()


def test_how_sure_a_model_usually_is_outlives_the_process(
    start: Start, team_api: Upstream, tickets: Path, messages: Messages
) -> None:
    for _ in range(2):
        running = start({"openai": team_api.url}, jobs={"tickets": JobSpec(project=tickets, mode="shadow")})
        for _ in range(5):
            ask(running, request(messages.clear()))
        until(lambda: counts(running)["asked"] % 5 == 0 and counts(running)["asked"] > 0)  # noqa: B023
        job = running.gateway._now.takeover.jobs["tickets"]
    assert job._asked == 10


def test_audits_are_captured_and_are_no_requests_of_their_own(
    begin: Callable[..., Running], messages: Messages
) -> None:
    running = begin("own", audit=1)
    for _ in range(12):
        ask(running, request(messages.clear()))
    until(lambda: counts(running)["audits"] == 12)
    audits = [each for each in running.exchanges() if each.is_audit]
    assert {(each.upstream, each.answered_by) for each in audits} == {("openai", "upstream")}
    assert all(each.usd for each in audits)
    assert len(running.exchanges()) == 24
    (job,) = find_jobs(running.captures).jobs
    assert (job.requests, len(job.drawn), job.usd) == (12, 12, 0)
    requests = httpx.get(f"{running.url}/metrics").text
    assert 'tunewright_gateway_requests_total{kind="chat",status="200",upstream="own model"} 12.0' in requests


def test_audits_of_streams_without_token_counts_cost_and_take_time(
    start: Start, team_api: Upstream, tickets: Path, messages: Messages
) -> None:
    job = JobSpec(project=tickets, mode="own", audit=1)
    running = start({"openai": team_api.url}, jobs={"tickets": job}, budgets=[BudgetSpec(usd_per_month=1000)])
    for _ in range(20):
        ask(running, {"model": "gpt-6-luna", **chat(("user", messages.clear()))})
    asked = 'tunewright_gateway_requests_total{kind="chat",status="200",upstream="openai"} 20.0'
    assert asked in httpx.get(f"{running.url}/metrics").text

    def paid() -> float:
        paid = 'tunewright_gateway_usd_total{kind="chat",upstream="openai"} '
        lines = httpx.get(f"{running.url}/metrics").text.splitlines()
        return next(float(line.removeprefix(paid)) for line in lines if line.startswith(paid))

    def spent() -> float:
        return sum(running.gateway._now._budgets._own.values())

    def audits() -> list[Exchange]:
        return [each for each in running.exchanges() if each.is_audit]

    before = paid(), spent()
    team_api.seconds = 0.3
    answer = ask(running, request(messages.clear(), stream=True))
    assert answer.headers["x-tunewright-answered-by"] == "own"
    until(audits)
    (audit,) = audits()
    assert audit.streamed and audit.usage_is_estimated and audit.usd
    assert audit.first_seconds and 0.3 <= audit.first_seconds <= audit.seconds
    assert audit.answer_bytes > 0
    assert audit.time == next(each.time for each in running.exchanges() if each.answered_by == "own")
    assert counts(running)["audit_usd"] == pytest.approx(audit.usd)
    assert [paid(), spent()] == pytest.approx([each + audit.usd for each in before])
    assert asked in httpx.get(f"{running.url}/metrics").text


def test_modes_change_at_run_time(begin: Callable[..., Running], messages: Messages) -> None:
    running = begin("observe")
    assert "x-tunewright-answered-by" not in ask(running, request(messages.clear())).headers
    store = open_store(running.spec)
    store.change("tickets", Setting("own", 1.0, 0.0), Setting("observe", 1.0, 0.02), "anna", "trial")
    store.close()
    until(lambda: "x-tunewright-answered-by" in ask(running, request(messages.clear())).headers)


def test_a_slow_own_model_is_overtaken_by_the_api(
    start: Start, team_api: Upstream, tickets: Path, messages: Messages
) -> None:
    with upstream(str.upper) as slow:
        slow.seconds = 5
        job = JobSpec(project=tickets, mode="own", models=[ModelSpec(url=slow.url)], p95_ms=100)
        running = start({"openai": team_api.url}, jobs={"tickets": job})
        begun = time.monotonic()
        text = messages.clear()
        assert text_of(ask(running, request(text))) == team_of(text)
        assert time.monotonic() - begun < 3


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("fallback", [True, False])
def test_an_api_that_refuses_at_once_does_not_overtake_a_slow_own_model(
    status: int, fallback: bool, start: Start, team_api: Upstream, tickets: Path, messages: Messages
) -> None:
    text = messages.clear()

    async def late(_: web.Request) -> web.Response:
        await asyncio.sleep(0.5)
        answer = {"label": team_of(text), "confidence": 0.99, "escalate": False, "in_scope": True}
        return web.json_response(answer | {"usage": {"prompt_tokens": 9, "completion_tokens": 1}})

    with upstream(str.upper) as slow:
        slow.fault = lambda: late
        models = [ModelSpec(url=slow.url)]
        job = JobSpec(project=tickets, mode="own", models=models, p95_ms=100, fallback=fallback, audit=0)
        running = start({"openai": team_api.url}, jobs={"tickets": job})
        team_api.faults.append(refused(status, "overloaded"))
        answer = ask(running, request(text))
        assert (answer.status_code, text_of(answer)) == (200, team_of(text))
        assert answer.headers["x-tunewright-answered-by"] == "own"
        assert "x-tunewright-fallback" not in answer.headers
        assert (len(slow.asked), len(team_api.asked)) == (1, 1)


def test_an_own_model_that_fails_is_no_failure_for_the_client(
    start: Start, team_api: Upstream, tickets: Path, messages: Messages
) -> None:
    job = JobSpec(project=tickets, mode="own", models=[ModelSpec(url="http://127.0.0.1:9")])
    running = start({"openai": team_api.url}, jobs={"tickets": job})
    for _ in range(3):
        assert ask(running, request(messages.clear())).status_code == 200
    assert counts(running)["failed"] == 3
    for _ in range(40):
        ask(running, request(messages.clear()))
    store = open_store(running.spec)
    until(lambda: store.changes("tickets")[0].mode == "shadow")
    assert "fails on more than 1%" in store.changes("tickets")[0].why
    store.close()
