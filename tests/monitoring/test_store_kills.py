"""kill -9 of servers and collectors at any moment: nothing that was acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from tests.conftest import make_spec
from tests.monitoring.conftest import address, postgresql, postgresql_server  # noqa: F401 (fixtures)
from tests.monitoring.request_logs import capture, feedback, write
from tunewright.config import Spec
from tunewright.core.processes import free_port
from tunewright.monitoring.store import collect as module
from tunewright.monitoring.store import tables
from tunewright.monitoring.store.collect import collect
from tunewright.monitoring.store.database import open_at

pytestmark = pytest.mark.slow

SERVER = """
import sys
from pathlib import Path
import uvicorn
from tests.serving.test_captures import Labels
from tunewright.serving.app import build_app
from tunewright.serving.captures import RequestLog
from tunewright.serving.hosts import OneModel
app = build_app(OneModel(Labels()), request_log=RequestLog(Path(sys.argv[1]), share=0.5))
uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""
"""A server as `tunewright serve` runs it, but for the model."""


def collector(spec: Spec, where: str) -> int:
    """A process that collects, and its number; it has opened the store."""
    ready, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        os.read(ready, 1)
        os.close(ready)
        return child
    module.BATCH_LINES = 25
    try:
        store = open_at(where)
        os.write(tell, b".")
        while True:
            collect(spec, store)
            time.sleep(0.005)
    finally:
        os._exit(1)


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def found_in(where: str) -> tuple[Counter[str], Counter[str], int]:
    """The ids of captures and of feedback, and how many captures the tallies count."""
    with open_at(where).session() as session:
        return (
            Counter(session.scalars(select(tables.Capture.id))),
            Counter(session.scalars(select(tables.Review.capture_id))),
            int(session.scalar(select(func.sum(tables.Tally.captured))) or 0),
        )


def test_a_collector_may_be_killed_at_any_moment(tmp_path: Path, address: str) -> None:  # noqa: F811
    spec, rng = make_spec(tmp_path), random.Random(0)
    ids = [f"{number:05d}" for number in range(8000)]
    for server in range(2):
        own = ids[server::2]
        write(tmp_path / "captures" / str(server), *map(capture, own), *map(feedback, own[:100]))
    open_at(address).close()
    killed = partly = 0
    while (killed < 20 and partly < 5000) or (not partly and killed < 100):
        for process in [collector(spec, address) for _ in range(2)]:
            time.sleep(rng.uniform(0, 0.01 + 0.003 * killed))
            kill(process)
            killed += 1
        partly = found_in(address)[0].total()
    assert 0 < partly < 8000, "they were killed in the middle of it"
    store = open_at(address)
    collect(spec, store)
    captures, reviews, counted = found_in(address)
    assert captures == Counter(ids)
    assert reviews == Counter([*ids[0::2][:100], *ids[1::2][:100]])
    assert counted == 8000


class Client:
    """Who asks, gives feedback, and remembers what he was told."""

    def __init__(self, port: int):
        self.port = port
        self.kept: set[str] = set()
        self.left: set[str] = set()
        self.said: set[str] = set()

    def ask(self, until: float) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=5) as http:
            while time.monotonic() < until:
                try:
                    answer = http.post("/v1/classify", json={"text": "a"}).json()
                    (self.kept if answer["captured"] else self.left).add(answer["id"])
                    if http.post("/v1/feedback", json={"id": answer["id"], "right": True}).json()["captured"]:
                        self.said.add(answer["id"])
                except httpx.TransportError:
                    time.sleep(0.02)

    def has_seen_enough(self) -> bool:
        return len(self.kept) > 20 and len(self.left) > 20 and len(self.said) > 40


def test_a_server_under_load_and_its_collectors_may_be_killed_at_any_moment(
    tmp_path: Path,
    postgresql: str,  # noqa: F811
) -> None:
    spec, rng = make_spec(tmp_path), random.Random(1)
    stores = [f"sqlite:///{tmp_path / 'monitor.db'}", postgresql.format("postgres")]
    for where in stores:
        open_at(where).close()
    port = free_port()
    client, lives = Client(port), 0
    while lives < 2 or (not client.has_seen_enough() and lives < 20):  # on a slow machine a life has few answers
        lives += 1
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path / "captures"), str(port)])
        try:
            while not ready(port):
                time.sleep(0.05)
            with ThreadPoolExecutor(4) as pool:
                life = rng.uniform(0.6, 1.0)
                asking = [pool.submit(client.ask, time.monotonic() + life + 0.1) for _ in range(4)]
                until = time.monotonic() + life
                while time.monotonic() < until:
                    collecting = [collector(spec, where) for where in stores]
                    time.sleep(rng.uniform(0.02, 0.2))
                    for process in collecting:
                        kill(process)
                server.kill()
                for each in asking:
                    each.result()
        finally:
            server.kill()
            server.wait()
    assert client.has_seen_enough()
    for where in stores:
        collect(spec, open_at(where))
        captures, reviews, counted = found_in(where)
        assert not client.kept - captures.keys(), "lost"
        assert not client.left & captures.keys(), "kept, though it was said not to be"
        assert not client.said - reviews.keys(), "lost"
        assert max(reviews.values()) == 1
        assert counted == captures.total()


def ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=1).is_success
    except httpx.TransportError:
        return False
