"""`tunewright review` as a user types it: from what a server wrote to what somebody said."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from tests.conftest import make_spec, tunewright, write_project
from tunewright.monitoring.store import open_store
from tunewright.monitoring.store.tables import Review
from tunewright.serving.captures import CaptureRecord, RequestLog, now

pytestmark = pytest.mark.slow


def test_what_a_server_wrote_is_reviewed(tmp_path: Path) -> None:
    folder = write_project(tmp_path)
    spec = make_spec(folder)
    request_log = RequestLog(spec.path(spec.monitor.captures))
    assert request_log.keep(
        CaptureRecord(
            id="a" * 32,
            time=now(),
            model="tickets",
            version="v1",
            by="shop",
            request="Charged <b>twice</b>!",
            answer="billing",
            confidence=0.4,
            escalate=True,
            in_scope=True,
        )
    )
    command = [str(Path(sys.executable).with_name("tunewright")), "review", str(folder), "--port", "0", "--as", "ann"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        link = re.findall(r"http\S+", process.stderr.readline())[0]
        with httpx.Client(base_url=link.partition("/sign-in")[0], follow_redirects=True) as client:
            page = client.get(link).text
            assert "Charged &lt;b&gt;twice&lt;/b&gt;!" in page
            csrf = re.findall(r'name="csrf" value="([\w-]+)"', page)[0]
            saved = client.post(f"/item/{'a' * 32}", data={"csrf": csrf, "answer": "refund"})
            assert "Saved: refund." in saved.text
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    store = open_store(spec)
    with store.session() as session:
        (said,) = session.scalars(select(Review)).all()
    assert (said.reviewer, said.answer, said.right) == ("ann", "refund", False)
    store.close()


def test_nobody_else_is_let_in_by_accident(tmp_path: Path) -> None:
    refused = tunewright("review", str(write_project(tmp_path)), "--host", "0.0.0.0")
    assert refused.returncode == 2
    assert "--keys FILE" in refused.stderr
    absent = tunewright("review", str(tmp_path), "--keys", str(tmp_path / "nothing.json"))
    assert absent.returncode == 2
    assert "tunewright keys add" in absent.stderr
