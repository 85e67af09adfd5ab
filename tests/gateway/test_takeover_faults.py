"""Whatever happens to own models, stores and processes, clients get answers and what was counted stays."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from tests.gateway.conftest import Start
from tests.gateway.test_faults import FAR, unpriced, until
from tests.gateway.test_server import GatewayProcess
from tests.gateway.test_store import run
from tests.gateway.test_takeover import ask, begin, counts, messages  # noqa: F401 (fixtures)
from tests.gateway.tickets import Messages, request, team_of
from tests.gateway.upstream import Handler, Upstream, half_an_event, hang_up
from tunewright.core.errors import UserError
from tunewright.gateway.config import JobSpec, load_gateway
from tunewright.gateway.takeover.models import InProcess, OwnAnswer, OwnModelFailed
from tunewright.gateway.takeover.store import open_store

# ruff: noqa: F811 (fixtures)
pytestmark = pytest.mark.slow


def settings_of(team_api: Upstream, project: Path, mode: str = "own", more: str = "") -> str:
    return (
        f"upstreams: {{openai: {{url: '{team_api.url}'}}}}\ncapture: {{folder: captures}}\n"
        f"jobs: {{tickets: {{project: '{project}', mode: {mode}, audit: 0{more}}}}}\n"
    )


def is_own(answer: httpx.Response) -> bool:
    return "x-tunewright-answered-by" in answer.headers


def damage(bundle: Path) -> None:
    """Change the end of the weights."""
    weights = max((bundle / "linear").iterdir(), key=lambda file: file.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:-10] + b"0123456789")


@pytest.fixture
def project(tickets: Path, tmp_path: Path) -> Path:
    """A copy of the project that a test may change."""
    shutil.copytree(tickets, tmp_path / "mine", symlinks=True)
    return tmp_path / "mine"


def test_a_kill_loses_nothing_that_was_acknowledged_but_a_second_of_counts(
    team_api: Upstream, tickets: Path, tmp_path: Path, messages: Messages
) -> None:
    gateway = GatewayProcess(tmp_path, settings_of(team_api, tickets))
    assert "job tickets: own" in "\n".join(gateway.lines)
    for _ in range(5):
        assert is_own(httpx.post(f"{gateway.url}/v1/chat/completions", json=request(messages.clear()), timeout=FAR))
    spec = load_gateway(tmp_path / "gateway.yaml")

    def kept() -> float:
        store = open_store(spec)
        rows = store.tallies()
        store.close()
        return sum(each.own for each in rows)

    until(lambda: kept() == 5)
    gateway.process.send_signal(signal.SIGKILL)
    gateway.process.wait()
    again = GatewayProcess(tmp_path, settings_of(team_api, tickets))
    assert is_own(httpx.post(f"{again.url}/v1/chat/completions", json=request(messages.clear()), timeout=FAR))
    shown = run("gateway", "mode", "tickets", "observe", "--settings", tmp_path / "gateway.yaml")
    assert "tickets: own → observe." in shown
    until(lambda: again.said("tickets: observe."))
    assert not is_own(httpx.post(f"{again.url}/v1/chat/completions", json=request(messages.clear()), timeout=FAR))
    again.process.send_signal(signal.SIGTERM)
    assert again.process.wait(FAR) in (0, -signal.SIGTERM)
    assert kept() == 6


def test_a_model_that_no_store_can_write_ends_no_counts(
    team_api: Upstream, tickets: Path, tmp_path: Path, messages: Messages
) -> None:
    gateway = GatewayProcess(tmp_path, settings_of(team_api, tickets))
    spec = load_gateway(tmp_path / "gateway.yaml")

    def kept() -> float:
        store = open_store(spec)
        rows = store.tallies()
        store.close()
        return sum(each.own for each in rows)

    for count, model in enumerate(("\ud800", "gpt-6-luna"), 1):
        body = json.dumps(request(messages.clear()) | {"model": model}).encode()
        assert is_own(httpx.post(f"{gateway.url}/v1/chat/completions", content=body, timeout=FAR))
        until(lambda: kept() == count)  # noqa: B023
    run("gateway", "mode", "tickets", "observe", "--settings", tmp_path / "gateway.yaml")
    until(lambda: gateway.said("tickets: observe."))
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(FAR) in (0, -signal.SIGTERM)
    assert not gateway.said("Traceback")
    assert not gateway.said("can't be kept")


def test_a_mode_in_the_file_is_read_at_a_hangup(
    team_api: Upstream, tickets: Path, tmp_path: Path, messages: Messages
) -> None:
    gateway = GatewayProcess(tmp_path, settings_of(team_api, tickets, "observe"))
    gateway.settings.write_text(settings_of(team_api, tickets, "own"), "utf-8")
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: gateway.said("The settings were read again."))
    assert is_own(httpx.post(f"{gateway.url}/v1/chat/completions", json=request(messages.clear()), timeout=FAR))
    gateway.settings.write_text(settings_of(team_api, tmp_path / "nothing", "own"), "utf-8")
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: gateway.said("The old settings stay."))
    assert is_own(httpx.post(f"{gateway.url}/v1/chat/completions", json=request(messages.clear()), timeout=FAR))
    gateway.process.kill()
    gateway.process.wait()


def test_a_corrupt_bundle_that_comes_later_changes_nothing(
    start: Start, team_api: Upstream, project: Path, messages: Messages
) -> None:
    running = start({"openai": team_api.url}, jobs={"tickets": JobSpec(project=project, mode="own", audit=0)})
    assert is_own(ask(running, request(messages.clear())))
    bundle = (project / "runs" / "latest" / "bundle").resolve()
    other = bundle.with_name("bundle-other")
    shutil.copytree(bundle, other)
    damage(other)
    (project / "runs" / "serving.json").write_text(
        '{"champion": {"bundle": "bundle-other", "version": "x", "since": "2026-11-30T00:00:00Z"}}', "utf-8"
    )
    for _ in range(30):
        assert is_own(ask(running, request(messages.clear())))


def test_a_bundle_that_is_corrupt_at_the_start_is_one_paragraph(
    start: Start, team_api: Upstream, project: Path
) -> None:
    bundle = (project / "runs" / "latest" / "bundle").resolve()
    damage(bundle)
    with pytest.raises(UserError, match="linear"):
        start({"openai": team_api.url}, jobs={"tickets": JobSpec(project=project, mode="own")})


def test_answers_go_on_where_counts_cant_be_kept(
    begin: Any, messages: Messages, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running = begin("own", audit=0)
    takeover = running.gateway._now.takeover

    def full(_: object) -> None:
        raise UserError("The disk is full.", where="gateway.db")

    with monkeypatch.context() as patched:
        patched.setattr(takeover._store, "save", full)
        for _ in range(3):
            assert is_own(ask(running, request(messages.clear())))
        takeover.looks.now()
        takeover.looks.now()
    assert capsys.readouterr().err.count("Modes and counts can't be kept at the moment; answers go on.") == 1
    assert counts(running)["own"] == 3


def test_whatever_is_wrong_with_an_own_model_the_api_answers(
    begin: Any, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = begin("own", audit=0)
    text = messages.clear()

    def broken(*_: object) -> OwnAnswer:
        raise ZeroDivisionError(text)

    monkeypatch.setattr(InProcess, "_answer", broken)
    answer = ask(running, request(text))
    assert (is_own(answer), answer.json()["choices"][0]["message"]["content"]) == (False, team_of(text))
    assert counts(running)["failed"] == 1


def test_a_fault_of_ours_is_no_failure_for_the_client(
    begin: Any, messages: Messages, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = begin("own", audit=0)
    text = messages.clear()

    def broken(*_: object, **__: object) -> None:
        raise KeyError(text)

    monkeypatch.setattr("tunewright.gateway.takeover.answering.choice_of", broken)
    assert ask(running, request(text)).json()["choices"][0]["message"]["content"] == team_of(text)
    assert "KeyError" in caplog.text
    assert text not in caplog.text


def test_a_client_that_leaves_ends_the_own_models_work(
    begin: Any, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = begin("own", audit=0)
    ended: list[str] = []

    async def slow(*_: object, **__: object) -> OwnAnswer:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        raise OwnModelFailed("late")

    job = running.gateway._now.takeover.jobs["tickets"]
    job._patience = 60.0
    monkeypatch.setattr(InProcess, "answer", slow)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{running.url}/v1/chat/completions", json=request(messages.clear()), timeout=0.3)
    until(lambda: ended == ["cancelled"])
    until(lambda: any(each.status == 499 for each in running.exchanges()))


def test_more_than_the_own_model_takes_goes_to_the_api(
    begin: Any, team_api: Upstream, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = begin("own", audit=0, limit_concurrency=1)
    answer = InProcess.answer

    async def slow(self: InProcess, text: str, seconds: float, *, in_background: bool) -> OwnAnswer:
        await asyncio.sleep(0.3)
        return await answer(self, text, seconds, in_background=in_background)

    monkeypatch.setattr(InProcess, "answer", slow)
    texts = [messages.clear() for _ in range(8)]

    async def all_at_once() -> list[str | None]:
        async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key="k", max_retries=0) as client:
            answers = await asyncio.gather(*(client.chat.completions.create(**request(text)) for text in texts))
        return [each.choices[0].message.content for each in answers]

    assert asyncio.run(all_at_once()) == [team_of(text) for text in texts]
    found = counts(running)
    assert (found["own"], len(team_api.asked), found["failed"]) == (1, 7, 0)


def test_an_audit_that_fails_is_no_failure(begin: Any, team_api: Upstream, messages: Messages) -> None:
    running = begin("own", audit=1)

    async def hang(_: object) -> Any:
        await asyncio.sleep(0.2)
        raise ConnectionResetError

    team_api.faults += [hang] * 3
    for _ in range(3):
        assert is_own(ask(running, request(messages.clear())))
    until(lambda: len(team_api.asked) >= 3)
    assert is_own(ask(running, request(messages.clear())))
    until(lambda: counts(running)["compared"] >= 1)


@pytest.mark.parametrize(("mode", "fault"), [("observe", hang_up), ("own", hang_up), ("own", half_an_event)])
def test_an_answer_that_the_api_may_bill_is_unpriced_though_the_client_has_an_own_one(
    begin: Any, team_api: Upstream, messages: Messages, mode: str, fault: Handler
) -> None:
    running = begin(mode, audit=1)
    team_api.faults.append(fault)
    assert is_own(ask(running, request(messages.clear())))
    until(lambda: unpriced(running) == 1)


def test_a_store_that_is_no_store_is_one_paragraph(
    start: Start, team_api: Upstream, tickets: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.db").write_text("no database\n" * 300, "utf-8")
    with pytest.raises(UserError, match="This is not a store"):
        start({"openai": team_api.url}, jobs={"tickets": JobSpec(project=tickets)}, store=tmp_path / "bad.db")
