"""The commands of docs/get-started.md, typed in its order. Its runs try only the linear model: no download."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import REPOSITORY
from tests.docs.pages import blocks

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
PAGE = REPOSITORY / "docs" / "get-started.md"
LINES = [line.split("  #")[0].strip() for block in blocks(PAGE, "bash") for line in block.splitlines()]


PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def typed(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": PATH}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@contextmanager
def serving(command: str, folder: Path) -> Iterator[str]:
    """The address at which a command serves, on any free port."""
    line = f"exec {command.replace('8080', '0')}"
    environment = os.environ | {"PATH": PATH}
    process = subprocess.Popen(["bash", "-c", line], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        ready = process.stderr.readline()
        address = re.search(r"http://[\d.:]+", ready)
        assert address, ready + process.stderr.read()
        yield address[0]
    finally:
        process.terminate()
        process.wait(20)


def test_the_commands_do_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "my-job").mkdir()
    shutil.copy(REPOSITORY / "examples" / "tickets" / "data" / "train.jsonl", tmp_path / "my-job")
    (curl,) = [line for line in LINES if line.startswith("curl ")]
    request = re.search(r"http://[^/]+(\S+) .*-d '(.*)'", curl)
    assert request
    commands = [line for line in LINES if line.startswith("tunewright ")]
    assert len(commands) >= 9
    for command in commands:
        if command.startswith("tunewright serve "):
            with serving(command, tmp_path) as address:
                reply = httpx.post(address + request[1], json=json.loads(request[2])).json()
            assert {"label", "confidence", "escalate"} <= set(reply)
            continue
        done = typed(command, tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        for spec in tmp_path.glob("*/tunewright.yaml"):
            spec.write_text(re.sub(r"candidates: .*", "candidates: [linear]", spec.read_text("utf-8")), "utf-8")
