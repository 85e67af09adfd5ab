"""Settings that are read again while requests are under way: modes, bundles and prices."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.gateway.conftest import Running, Start
from tests.gateway.test_faults import until
from tests.gateway.test_pass_through import CHAT
from tests.gateway.test_takeover import ask, messages  # noqa: F401 (fixtures)
from tests.gateway.tickets import Messages, request
from tests.gateway.upstream import Upstream
from tests.serving.test_adapters import linear_bundle
from tunewright.gateway.config import JobSpec, ModelSpec, UpstreamSpec
from tunewright.gateway.takeover.store import Setting, open_store
from tunewright.inference.bundle import read_info

# ruff: noqa: F811 (fixtures)
pytestmark = pytest.mark.slow

SOME_LOOKS = 1.2
"""Seconds in which a gateway looks at its store four times."""


def read_again(running: Running, **settings: Any) -> None:
    """Let a gateway read its settings again, some of which have changed."""
    spec, before = running.spec.model_copy(update=settings), running.gateway._now
    running.gateway._load = lambda: spec
    running.gateway.reload_soon()
    until(lambda: running.gateway._now is not before)


@contextmanager
def under_way(running: Running, api: Upstream) -> Iterator[None]:
    """A request that ends with this context."""
    ended = threading.Event()

    async def wait(_: web.Request) -> web.Response:
        while not ended.is_set():
            await asyncio.sleep(0.01)
        return web.json_response({})

    api.faults.append(wait)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(ask, running, CHAT)
        until(lambda: not api.faults)
        try:
            yield
        finally:
            ended.set()
        assert answer.result().status_code == 200


def owned(project: Path, bundle: Path | None = None, **settings: Any) -> dict[str, JobSpec]:
    models = [ModelSpec(bundle=bundle)] if bundle else []
    return {"tickets": JobSpec(project=project, mode="own", models=models, **({"audit": 0.0} | settings))}


def version(running: Running, messages: Messages) -> str:
    """Of the bundle that answers."""
    return str(ask(running, request(messages.clear())).headers["x-tunewright-bundle"])


def test_former_settings_change_no_mode_while_their_last_request_is_under_way(
    start: Start, team_api: Upstream, tickets: Path
) -> None:
    running = start({"openai": team_api.url}, jobs=owned(tickets))
    with under_way(running, team_api):
        read_again(running, jobs=owned(tickets, audit=0.5))
        store = open_store(running.spec)
        time.sleep(SOME_LOOKS)
        assert [each.why for each in store.changes()] == ["changed in the file", "first start"]
        store.change("tickets", Setting("observe", 1.0, 0.5), Setting("own", 1.0, 0.5), "anna", "a pause")
        time.sleep(SOME_LOOKS)
    until(lambda: not running.gateway._closing)
    assert store.changes()[0].why == "a pause"
    assert running.gateway.settings["tickets"].mode == "observe"
    store.close()


def test_a_mode_counts_only_if_the_rest_of_the_settings_is_right(
    start: Start, team_api: Upstream, tickets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = start({"openai": team_api.url}, jobs=owned(tickets))
    ask(running, CHAT)
    wrong = {"openai": UpstreamSpec(url=team_api.url, key="A_KEY_THAT_IS_NOT_SET")}
    spec = running.spec.model_copy(update={"upstreams": wrong, "jobs": owned(tickets, audit=0.5)})
    running.gateway._load = lambda: spec
    running.gateway.reload_soon()
    said = ""

    def refused() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "The old settings stay" in said

    until(refused)
    store = open_store(running.spec)
    assert [each.why for each in store.changes()] == ["first start"]
    store.close()


def test_a_newer_bundle_in_the_same_folder_is_loaded(
    start: Start, team_api: Upstream, tickets: Path, tmp_path: Path, messages: Messages
) -> None:
    bundle, newer = linear_bundle("first", tmp_path / "bundle"), linear_bundle("second", tmp_path / "newer")
    running = start({"openai": team_api.url}, jobs=owned(tickets, bundle))
    assert version(running, messages) == read_info(bundle).version != read_info(newer).version
    shutil.rmtree(bundle)
    shutil.copytree(newer, bundle)
    read_again(running)
    until(lambda: version(running, messages) == read_info(newer).version)


def test_a_bundle_that_was_just_loaded_is_not_loaded_again(
    start: Start, team_api: Upstream, tickets: Path, tmp_path: Path, messages: Messages
) -> None:
    first, second = linear_bundle("first", tmp_path / "first"), linear_bundle("second", tmp_path / "second")
    running = start({"openai": team_api.url}, jobs=owned(tickets, first))
    version(running, messages)
    both = owned(tickets, second) | {"other": owned(tickets, second)["tickets"]}
    read_again(running, jobs=both)
    hosts = running.gateway._hosts
    assert hosts
    loaded = hosts._hosts[second.resolve()].host.engine(None)
    time.sleep(SOME_LOOKS)
    assert hosts._hosts[second.resolve()].host.engine(None) is loaded


def test_bundles_that_no_settings_name_any_more_are_given_up(
    start: Start, team_api: Upstream, tickets: Path, tmp_path: Path, messages: Messages
) -> None:
    def watchers() -> int:
        return sum(each.name == "bundle-watcher" for each in threading.enumerate())

    before = watchers()
    first, second = linear_bundle("first", tmp_path / "first"), linear_bundle("second", tmp_path / "second")
    running = start({"openai": team_api.url}, jobs=owned(tickets, first))
    assert version(running, messages) == read_info(first).version
    assert running.gateway._hosts
    hosts = running.gateway._hosts._hosts
    with under_way(running, team_api):
        read_again(running, jobs=owned(tickets, second))
        assert version(running, messages) == read_info(second).version
        assert len(hosts) == 2, "a request by the former settings is under way"
    until(lambda: list(hosts) == [second.resolve()])
    until(lambda: watchers() == before + 1)
    assert version(running, messages) == read_info(second).version
    read_again(running, jobs=owned(tickets, first))
    assert version(running, messages) == read_info(first).version
    read_again(running, jobs={})
    until(lambda: not hosts)


def test_what_wrong_settings_have_loaded_is_given_up_too(
    start: Start,
    team_api: Upstream,
    tickets: Path,
    tmp_path: Path,
    messages: Messages,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = linear_bundle("first", tmp_path / "first"), linear_bundle("second", tmp_path / "second")
    running = start({"openai": team_api.url}, jobs=owned(tickets, first))
    version(running, messages)
    wrong = owned(tickets, second) | {"other": owned(tickets, tmp_path / "none")["tickets"]}
    spec = running.spec.model_copy(update={"jobs": wrong})
    running.gateway._load = lambda: spec
    running.gateway.reload_soon()
    until(lambda: "The old settings stay" in capsys.readouterr().err)
    assert running.gateway._hosts
    hosts = running.gateway._hosts._hosts
    assert version(running, messages) == read_info(first).version
    read_again(running)
    until(lambda: list(hosts) == [first.resolve()])
    assert version(running, messages) == read_info(first).version


def test_changed_prices_count(start: Start, team_api: Upstream, tmp_path: Path) -> None:
    book = tmp_path / "prices.yaml"

    def price(usd: float) -> None:
        book.write_text(f"apis: {{gpt-6-luna: {{usd_in: {usd}, usd_cached: {usd}, usd_out: {usd}}}}}\n", "utf-8")

    price(1)
    running = start({"openai": team_api.url}, prices=book)
    ask(running, CHAT)
    price(3)
    read_again(running)
    ask(running, CHAT)
    before, after = sorted(running.exchanges(), key=lambda each: each.time)
    assert before.usd
    assert after.usd == pytest.approx(3 * before.usd)
