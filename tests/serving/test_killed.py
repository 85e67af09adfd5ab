"""A server that the kernel kills, while it loads or later, names a fix that needs less memory."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

from tunewright.core.errors import UserError
from tunewright.serving import child
from tunewright.serving.child import running_server

LOADING = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
ANSWERING = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        os.kill(os.getpid(), signal.SIGKILL)
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.mark.parametrize("script", [LOADING, ANSWERING])
def test_a_killed_server_names_a_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (tmp_path / "server.py").write_text(script, "utf-8")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/server.py "$@"\n', "utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(child.sys, "executable", str(python))
    with pytest.raises(UserError) as caught, running_server(tmp_path) as address:
        httpx.post(f"{address}/v1/chat/completions", json={})
    message = caught.value.paragraph()
    assert message.startswith("The server of the bundle was killed. Most often memory has run out: there are")
    assert "export.precision=int4" in message


@pytest.mark.slow
def test_a_running_server_that_does_not_answer_is_another_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server.py").write_text(ANSWERING, "utf-8")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/server.py "$@"\n', "utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(child.sys, "executable", str(python))
    with pytest.raises(httpx.ConnectError), running_server(tmp_path):
        httpx.get("http://127.0.0.1:9/")
