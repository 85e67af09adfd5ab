"""The gates that a deployment on trial must pass."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import make_spec
from tunewright.core.errors import UserError
from tunewright.core.processes import free_port
from tunewright.deploy.exam import exam_of, failures
from tunewright.deploy.trial import DeploymentTrial, Exam, NoAnswer, TrialQuestion, report

FINE = DeploymentTrial(0.1, 1.0, 10, 1.0, 0, 20.0, 60.0, ())


@pytest.mark.parametrize(("requests", "counts"), [(1_000, True), (100_000, False)])
def test_a_start_counts_where_more_than_one_in_twenty_waits_for_it(requests: int, counts: bool) -> None:
    """Of 1,000 requests a month 89 % come after five minutes of silence, of 100,000 none."""
    spec = make_spec(traffic={"requests_per_month": requests}, goal={"p95_ms": 1000.0})
    assert failures(FINE, spec) == failures(replace(FINE, cold_ms=900.0), spec) == []
    missed = failures(replace(FINE, cold_ms=4000.0), spec)
    assert bool(missed) == counts
    if counts:
        assert missed == ["89% of the requests would find it asleep and wait 4,000 ms, the goal is 1000 ms for 95 %"]


def test_the_sentence_has_the_start_beside_the_latency() -> None:
    told = replace(FINE, cold_ms=4000.0).sentence
    assert "P50 20 ms, P95 60 ms, 0 failed; asleep it answers after 4,000 ms" in told
    assert "asleep" not in FINE.sentence


def test_without_an_answer_to_compare_with_nothing_is_tried(tmp_path: Path) -> None:
    (tmp_path / "split" / "test").mkdir(parents=True)
    (tmp_path / "parity" / "answers").mkdir(parents=True)
    (tmp_path / "parity" / "answers" / "served.jsonl").touch()
    with pytest.raises(UserError, match="no test example whose answer"):
        exam_of(make_spec(), tmp_path / "split", tmp_path / "parity")


def beside(exam: Exam, address: str, monkeypatch: pytest.MonkeyPatch) -> DeploymentTrial:
    """A trial in a process of its own, as in a pod."""
    monkeypatch.setenv("TUNEWRIGHT_TRIED", address)
    command = [sys.executable, "-m", "tunewright.deploy.trial"]
    return report(subprocess.run(command, input=exam.json(), capture_output=True, text=True, check=True).stdout)


class OnlyWithKey(BaseHTTPRequestHandler):
    """A server that answers "a" to callers with a key, and 401 to all others."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        knows = self.headers["authorization"] == "Bearer sk-1"
        body = json.dumps({"choices": [{"message": {"content": "a"}}]}).encode()
        self.send_response(200 if knows else 401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_trial_beside_a_server_sends_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    exam = Exam("m", [TrialQuestion([{"role": "user", "content": "q"}], "a")], 50.0, 2, 0, wake_seconds=5.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), OnlyWithKey) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/v1"
        with pytest.raises(UserError, match="The last failure: 401"):
            beside(exam, address, monkeypatch)
        found = beside(replace(exam, key="sk-1"), address, monkeypatch)
        server.shutdown()
    assert (found.agreement, found.failed) == (1.0, 0)


def test_a_trial_beside_a_server_says_that_it_answers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    exam = Exam("m", [TrialQuestion([], "a")], 1.0, 1, 0, wake_seconds=0.1)
    with pytest.raises(NoAnswer, match=r"answered nothing in .* s\. The last failure: ConnectError") as raised:
        beside(exam, f"http://127.0.0.1:{free_port()}/v1", monkeypatch)
    assert raised.value.fix == "See its log in the Azure portal, then type the same command again."
