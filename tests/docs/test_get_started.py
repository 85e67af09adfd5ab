"""The commands of docs/get-started.md, typed in its order. Its runs try only the linear model: no download."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import REPOSITORY
from tests.docs.pages import blocks

pytestmark = pytest.mark.slow
PAGE = REPOSITORY / "docs" / "get-started.md"
LINES = [line.split("  #")[0].strip() for block in blocks(PAGE, "bash") for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where everything is typed: with a job of one's own, whose file is the example's."""
    folder = tmp_path_factory.mktemp("started")
    (folder / "my-job").mkdir()
    shutil.copy(REPOSITORY / "examples" / "tickets" / "data" / "train.jsonl", folder / "my-job")
    return folder


def typed(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_run_in_order(folder: Path) -> None:
    commands = [line for line in LINES if line.startswith("tunewright ") and "serve" not in line]
    assert len(commands) >= 8
    for command in commands:
        done = typed(command, folder)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        for spec in folder.glob("*/tunewright.yaml"):
            spec.write_text(re.sub(r"candidates: .*", "candidates: [linear]", spec.read_text("utf-8")), "utf-8")
    assert (folder / "tickets" / "runs").is_dir()
    assert (folder / "my-job" / "runs").is_dir()


@pytest.fixture
def served(folder: Path) -> Iterator[str]:
    """What the page's server prints when it is ready."""
    (serve,) = [line for line in LINES if line.startswith("tunewright serve")]
    program = Path(sys.executable).parent / "tunewright"
    words = serve.replace("8080", "0").split()[1:]
    process = subprocess.Popen([program, *words], cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        yield process.stderr.readline()
    finally:
        process.terminate()
        process.wait(20)


def test_the_served_example_answers_the_pages_request(served: str) -> None:
    (curl,) = [line for line in LINES if line.startswith("curl ")]
    address = re.search(r"http://[\d.:]+", served)
    asked = re.search(r"http://[^/]+(\S+) .*-d '(.*)'", curl)
    assert address
    assert asked
    reply = httpx.post(address[0] + asked[1], json=json.loads(asked[2])).json()
    assert {"label", "confidence"} <= set(reply)
