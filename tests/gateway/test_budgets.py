"""What may be paid in a month: of a key, of a job, of everything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import time_machine
from aiohttp import web
from openai import OpenAI, RateLimitError
from pydantic import ValidationError

from tests.gateway.conftest import Running, Start
from tests.gateway.test_faults import opened, until
from tests.gateway.test_pass_through import raw
from tests.gateway.test_takeover import ask, counts
from tests.gateway.tickets import Messages, request
from tests.gateway.upstream import Upstream, refused
from tunewright.auth.keys import add_key
from tunewright.core.errors import UserError
from tunewright.economics.prices import price_book
from tunewright.economics.usage import read_usage
from tunewright.gateway.config import BudgetSpec, GatewaySpec, JobSpec, UpstreamSpec
from tunewright.gateway.metrics import GatewayMetrics
from tunewright.gateway.takeover.budgets import Budgets
from tunewright.gateway.takeover.store import open_store

pytestmark = pytest.mark.slow
LITTLE = 1e-7
"""USD that one answer costs more than."""


def test_a_key_that_has_spent_its_budget_is_refused_and_no_other(
    start: Start,
    team_api: Upstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PAID_KEY", "sk-upstream")
    keys = tmp_path / "keys.json"
    first, second = add_key(keys, "first"), add_key(keys, "second")
    running = start(
        {"openai": UpstreamSpec(url=team_api.url, key="PAID_KEY")},
        keys=keys,
        budgets=[BudgetSpec(key="first", usd_per_month=LITTLE)],
    )

    def asked(key: str) -> Any:
        client = OpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0)
        return client.chat.completions.create(**request("my parcel is late"))

    assert asked(first).choices
    with pytest.raises(
        RateLimitError, match=r"The budget of key first for this month \(\$0.00\) is used up"
    ) as refused:
        asked(first)
    assert refused.value.code == "insufficient_quota"
    assert asked(second).choices
    assert len(team_api.asked) == 2
    assert "of the budget of key first" in capsys.readouterr().err


@pytest.mark.parametrize(
    "path", ["/v1//chat/completions", "//v1/chat/completions", "/v1/chat;a=b/completions", "/V1/Chat/Completions"]
)
def test_no_spelling_of_a_path_hides_a_request_from_captures_and_budgets(
    start: Start, paid: Upstream, path: str
) -> None:
    async def lenient(_request: web.Request) -> web.Response:
        usage = {"prompt_tokens": 9, "completion_tokens": 9}
        return web.json_response({"model": "gpt-6-luna", "choices": [], "usage": usage})

    running = start({"openai": paid.url}, budgets=[BudgetSpec(usd_per_month=LITTLE)])
    paid.faults = [lenient, lenient]
    asked = [raw(running.url, path, json.dumps(request("hello")).encode()).status_code for _ in range(2)]
    assert asked == [200, 429]
    assert [each.kind for each in running.exchanges()] == ["chat", "chat"]


@pytest.mark.parametrize("target", ["/v1/chat/completions#", "/v1/chat/completions?a=b#c"])
def test_a_path_that_would_be_cut_is_refused(start: Start, paid: Upstream, target: str) -> None:
    connection = opened(start({"openai": paid.url}))  # httpx itself cuts it
    connection.request("POST", target, json.dumps(request("hello")))
    assert connection.getresponse().status == 400
    connection.close()
    assert paid.asked == []


def test_a_job_without_budget_is_answered_by_its_own_model_alone(
    start: Start, team_api: Upstream, tickets: Path
) -> None:
    running = start(
        {"openai": team_api.url},
        jobs={"tickets": JobSpec(project=tickets)},
        budgets=[BudgetSpec(job="tickets", usd_per_month=LITTLE, then="own")],
    )
    messages = Messages(2)
    assert "x-tunewright-answered-by" not in ask(running, request(messages.clear())).headers
    for text in (messages.clear(), messages.unclear()):
        answer = ask(running, request(text))
        assert answer.headers["x-tunewright-answered-by"] == "own"
        assert answer.headers["x-tunewright-fallback"] == "insufficient_quota"
    assert ask(running, request(messages.clear(), n=2)).status_code == 429
    assert ask(running, {"model": "m", "messages": [{"role": "user", "content": "hello"}]}).status_code == 200
    assert len(team_api.asked) == 2
    assert counts(running)["requests"] == 4
    assert api_latencies(running) == 1, "of the other three the API was not asked"


def test_refusals_say_nothing_of_how_fast_an_api_answers(start: Start, team_api: Upstream, tickets: Path) -> None:
    running = start({"openai": team_api.url}, jobs={"tickets": JobSpec(project=tickets, fallback=False)})
    team_api.faults = [refused(429, "rate_limit_exceeded")]
    messages = Messages(2)
    assert [ask(running, request(messages.clear())).status_code for _ in range(2)] == [429, 200]
    assert counts(running)["requests"] == 2
    assert api_latencies(running) == 1


def api_latencies(running: Running) -> int:
    """How many latencies of the API were counted of the job."""
    store = open_store(running.spec)
    tallies = store.tallies()
    store.close()
    return sum(sum(each.api_seconds.values()) for each in tallies)


def test_what_was_spent_outlives_the_process_and_counts_for_all_gateways(start: Start, team_api: Upstream) -> None:
    def begin() -> Running:
        return start({"openai": team_api.url}, budgets=[BudgetSpec(usd_per_month=LITTLE)])

    first = begin()
    assert ask(first, request("my parcel is late")).status_code == 200
    first.gateway._now._budgets.writes.now()
    second = begin()
    assert ask(second, request("my parcel is late")).status_code == 429
    metrics = second.gateway._now._budgets
    metrics.writes.now()
    assert b'tunewright_gateway_budget_used{scope="everything"}' in second.gateway.metrics.text()


@pytest.mark.parametrize("words", [3, 4000])
def test_streams_without_token_counts_use_a_budget_up_also_where_nothing_is_captured(
    words: int, start: Start, paid: Upstream
) -> None:
    asked: Any = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "word " * words}]}
    usage = read_usage(paid.usage(json.dumps(asked["messages"]), asked["messages"][0]["content"]))
    assert usage
    budget = BudgetSpec(usd_per_month=22.5 * usage.usd(price_book().api("gpt-6-luna")))
    running = start({"openai": paid.url}, capture=None, budgets=[budget])
    assert {ask(running, asked).status_code for _ in range(20)} == {200}
    streamed = [ask(running, {**asked, "stream": True}).status_code for _ in range(4)]
    assert streamed == [200, 200, 200, 429]


def test_a_new_month_begins_with_nothing_spent(tmp_path: Path) -> None:
    spec = GatewaySpec(upstreams={"o": UpstreamSpec(url="openai")}, store=tmp_path / "gateway.db")
    with time_machine.travel("2026-11-30 23:59:00+00:00", tick=False) as clock:
        budgets = Budgets([BudgetSpec(usd_per_month=1)], open_store(spec), GatewayMetrics())
        budgets.spend(None, None, 2)
        budgets.writes.now()
        assert budgets.used_up(None, None)
        clock.shift(120)
        assert budgets.used_up(None, None) is None
        budgets.writes.now()
        assert budgets.used_up(None, None) is None


def test_what_cant_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = GatewaySpec(upstreams={"o": UpstreamSpec(url="openai")}, store=tmp_path / "gateway.db")
    store = open_store(spec)
    budgets = Budgets([BudgetSpec(usd_per_month=1)], store, GatewayMetrics())

    def full(*_: object) -> None:
        raise UserError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(store, "spend", full)
        budgets.spend(None, None, 2)
        budgets.writes.now()
        budgets.writes.now()
    assert capsys.readouterr().err.count("can't be kept at the moment") == 1
    assert budgets.used_up("anybody", "anything")
    budgets.writes.now()
    assert Budgets([BudgetSpec(usd_per_month=1)], open_store(spec), GatewayMetrics()).used_up(None, None)


@pytest.mark.parametrize(
    ("budget", "fault"),
    [
        ({"key": "a", "job": "b"}, "of a key or of a job"),
        ({"key": "a"}, "has no `keys`"),
        ({"job": "b"}, "there is no job 'b'"),
        ({"usd_per_month": 0}, "greater than 0"),
    ],
)
def test_a_budget_that_can_hold_for_nobody_is_refused(budget: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        GatewaySpec.model_validate(
            {"upstreams": {"o": {"url": "openai"}}, "budgets": [{"usd_per_month": 5.0, **budget}]}
        )


def test_time_runs_until_it_is_written(start: Start, team_api: Upstream) -> None:
    running = start({"openai": team_api.url}, budgets=[BudgetSpec(usd_per_month=1000)])
    assert ask(running, request("my parcel is late")).status_code == 200

    def kept() -> float:
        store = open_store(running.spec)
        others = store.spend("another", running.gateway._now._budgets._month, {})
        store.close()
        return sum(others.values())

    until(lambda: kept() > 0)
