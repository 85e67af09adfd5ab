"""The gateway as a process: its start, its settings read again, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import python
from tests.gateway.test_faults import FAR, until
from tests.gateway.test_pass_through import CHAT
from tests.gateway.upstream import Upstream, upstream

pytestmark = pytest.mark.slow


class GatewayProcess:
    def __init__(self, folder: Path, settings: str, port: int = 0):
        self.settings = folder / "gateway.yaml"
        self.settings.write_text(settings, "utf-8")
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tunewright", "gateway", "gateway.yaml", "--port", str(port)],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"NO_COLOR": "1"},
        )
        threading.Thread(target=self._read, daemon=True).start()
        until(lambda: self.said("is ready at") or self.process.poll() is not None)
        self.url = self.said("is ready at").partition("ready at ")[2].split()[0]

    def _read(self) -> None:
        assert self.process.stderr
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def said(self, text: str) -> str:
        return next((line for line in self.lines if text in line), "")

    def ask(self) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/chat/completions", json=CHAT, timeout=FAR)


@pytest.fixture
def running(paid: Upstream, tmp_path: Path) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path, f"upstreams: {{first: {{url: '{paid.url}'}}}}\n")
    yield gateway
    gateway.process.kill()
    gateway.process.wait()


def test_it_says_where_it_is_and_what_it_does(running: GatewayProcess, paid: Upstream) -> None:
    assert "capturing nothing" in running.said("is ready at")
    until(lambda: running.said("first"))
    assert f"first: {paid.url} (clients bring their own key; models *)" in running.said("first")
    assert running.ask().status_code == 200


def test_settings_are_read_again_at_sighup(running: GatewayProcess, paid: Upstream, tmp_path: Path) -> None:
    paid.seconds = 1.5
    with upstream(str.lower) as other:
        slow: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: slow.append(running.ask()))
        thread.start()
        until(lambda: paid.asked)
        running.settings.write_text(f"upstreams: {{second: {{url: '{other.url}'}}}}\ncapture: {{}}\n", "utf-8")
        running.process.send_signal(signal.SIGHUP)
        until(lambda: running.said("The settings were read again"))
        answer = running.ask().json()
        thread.join()
    assert answer["choices"][0]["message"]["content"] == "my card is lost"
    assert slow[0].json()["choices"][0]["message"]["content"] == "MY CARD IS LOST", "ends by the old settings"
    assert len(list((tmp_path / "captures").iterdir())) == 1


def test_wrong_settings_leave_the_old_ones(running: GatewayProcess) -> None:
    running.settings.write_text("upstreams: 3\n", "utf-8")
    running.process.send_signal(signal.SIGHUP)
    until(lambda: running.said("The old settings stay"))
    assert "'upstreams'" in running.said("The old settings stay")
    assert running.ask().status_code == 200


def test_requests_under_way_are_answered_at_the_end(running: GatewayProcess, paid: Upstream) -> None:
    paid.seconds = 1.0
    got: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: got.append(running.ask()))
    thread.start()
    until(lambda: paid.asked)
    running.process.terminate()
    thread.join()
    assert got[0].status_code == 200
    assert running.process.wait(FAR) in (0, -signal.SIGTERM)
    assert not running.said("Traceback")


def test_ctrl_c_is_its_normal_end(running: GatewayProcess) -> None:
    assert running.ask().status_code == 200
    time.sleep(0.1)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(FAR) == 0
    assert not running.said("Traceback")


def test_it_loads_neither_torch_nor_scikit_learn() -> None:
    code = "import sys, tunewright.gateway.server; print(*sys.modules)"
    loaded = python("-c", code).stdout.split()
    assert not {"torch", "sklearn", "openvino", "onnxruntime", "tunewright.pii"} & set(loaded)


def test_without_jobs_it_needs_no_library_of_models_or_of_the_store() -> None:
    absent = ("openvino", "onnxruntime", "torch", "transformers", "tokenizers", "safetensors", "sqlalchemy")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent!r})); import tunewright.gateway.app"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
