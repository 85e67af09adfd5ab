"""The README's commands, typed as they stand there, in a copy of the example that is only a few steps long."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.model.conftest import SHORT, ShortRun
from tunewright.spec import load_spec

README = (REPOSITORY / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture
def as_in_the_readme(short_run: ShortRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds `examples/tickets` with the short run, and the specs that need no run, so that the README's
    own words work on it."""
    folder = short_run.project.parents[1]
    short = load_spec(short_run.project, SHORT).save(short_run.project)
    assert short == short_run.project / "tunewright.yaml"
    shutil.copytree(REPOSITORY / "examples" / "article", folder / "examples" / "article", dirs_exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_the_make_commands_do_what_the_readme_says() -> None:
    for target in [command for command in commands() if command.startswith("make ")]:
        plan = subprocess.run(
            [*target.split(), "--dry-run"], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        assert "tunewright run examples/tickets" in plan.stdout or "pytest" in plan.stdout


REFUSED = {
    "tunewright deploy": "The verdict is keep-api, not to serve this model",
    "tunewright monitor drift": "The reference has",
}
"""What so short a run is not enough for, and what is said then."""


def test_every_tunewright_command_runs(as_in_the_readme: Path) -> None:  # noqa: ARG001 (changes the folder)
    typed = [c for c in commands() if c.startswith("tunewright ") and c.split()[1] not in ("serve", "review")]
    assert len(typed) >= 8
    for command in typed:
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        refusal = next((said for start, said in REFUSED.items() if command.startswith(start)), None)
        assert done.returncode == (2 if refusal else 0), f"{command}\n{done.stderr}"
        assert (refusal or "") in done.stderr


def test_the_served_example_answers_the_readmes_request(as_in_the_readme: Path) -> None:  # noqa: ARG001
    import httpx

    serve = next(c for c in commands() if c.startswith("tunewright serve"))
    (curl,) = [c for c in commands() if c.startswith("curl ")]
    process = subprocess.Popen(["bash", "-c", f"exec {serve}"], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        assert "is ready at" in process.stderr.readline()
        asked = re.search(r"(http://\S+) .*-d '(.*)'", curl)
        assert asked
        reply = httpx.post(asked[1], content=asked[2], headers={"content-type": "application/json"}).json()
        assert set(reply) >= {"label", "confidence"}
    finally:
        process.terminate()
        process.wait(20)


def test_the_python_example_runs(as_in_the_readme: Path) -> None:  # noqa: ARG001
    (example,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
