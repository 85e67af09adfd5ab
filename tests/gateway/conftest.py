"""A gateway in this process, in front of a played upstream."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.tickets import finished_project, team_of
from tests.gateway.upstream import Upstream, upstream
from tunewright.core.processes import listener
from tunewright.gateway.app import Gateway
from tunewright.gateway.config import CaptureSpec, GatewaySpec, UpstreamSpec
from tunewright.gateway.exchanges import Exchange, read_exchanges
from tunewright.serving.connections import HttpServer


@dataclass
class Running:
    """A gateway that runs."""

    url: str
    """Its address without a path."""
    captures: Path
    spec: GatewaySpec
    gateway: Gateway
    server: HttpServer

    def exchanges(self) -> list[Exchange]:
        return list(read_exchanges(self.captures))


Start = Callable[..., Running]


@pytest.fixture
def paid() -> Iterator[Upstream]:
    """An upstream that answers with the last message in capitals."""
    with upstream(str.upper) as played:
        yield played


@pytest.fixture
def team_api() -> Iterator[Upstream]:
    """The API of the job `tickets`, which is always right."""
    with upstream(team_of) as played:
        yield played


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway in front of upstreams, given by their addresses or settings. When it stops, requests under way
    have `drain` seconds to end."""
    running: list[tuple[HttpServer, threading.Thread]] = []

    def begin(upstreams: dict[str, Any], drain: int | None = None, **settings: Any) -> Running:
        specs = {
            name: each if isinstance(each, UpstreamSpec) else UpstreamSpec(url=each) for name, each in upstreams.items()
        }
        folder = tmp_path / "captures"
        settings.setdefault("capture", CaptureSpec(folder=folder))
        settings.setdefault("store", tmp_path / "gateway.db")
        bound = listener("127.0.0.1", 0)
        bound.listen()
        spec = GatewaySpec(upstreams=specs, **settings)
        gateway = Gateway(lambda: spec)
        server = HttpServer(gateway, drain=drain, date=False)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        running.append((server, thread))
        return Running(f"http://127.0.0.1:{bound.getsockname()[1]}", folder, spec, gateway, server)

    yield begin
    for server, thread in running:
        server.should_exit = True
        thread.join(60)


@pytest.fixture(scope="session")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job's project, with a bundle. Gateways write their captures into it; tests may not change it otherwise."""
    return finished_project(tmp_path_factory.mktemp("job"))


@pytest.fixture
def gateway(start: Start, paid: Upstream) -> Running:
    """A gateway in front of `paid`, which captures everything."""
    return start({"openai": paid.url})
