"""The commands of README and pages, typed as they stand there, in a copy of the example that is a few steps long."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, tunewright
from tests.docs.pages import commands as page_command_lines
from tests.fixtures.short_run import SHORT
from tunewright.config import load_spec

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

# Commands train anew what they train, on the real model; how good it gets is of no matter to any of them.
SHORTEST = [
    *SHORT,
    "model=smollm2-135m",
    "train.num_seeds=1",
    "train.max_steps=2",
    "train.num_evaluations=1",
    "evaluate.few_shot=1",
    "evaluate.max_examples=4",
    "export.max_disagreement=0.9",
    "export.max_accuracy_drop=0.9",
]
README = (REPOSITORY / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds `examples/tickets` with a run in it, and the specs that need no run."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("tickets", "article"):
        source = REPOSITORY / "examples" / name
        shutil.copytree(source, folder / "examples" / name, ignore=shutil.ignore_patterns("runs"))
    project = folder / "examples" / "tickets"
    assert load_spec(project, SHORTEST).save(project) == project / "tunewright.yaml"
    done = tunewright("run", str(project))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def as_in_the_readme(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's own words work where the test stands."""
    monkeypatch.chdir(example)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def test_the_make_commands_do_what_the_readme_says() -> None:
    for target in [command for command in commands() if command.startswith("make ")]:
        plan = subprocess.run(
            [*target.split(), "--dry-run"], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        assert "tunewright run examples/tickets" in plan.stdout or "pytest" in plan.stdout


REFUSED = {
    "tunewright deploy": "The verdict is cheaper-api, not to serve this model",
    "tunewright monitor drift": "The reference has 40 answers; a comparison needs 100.",
}
"""What so short a run is not enough for, and what is said then."""


@pytest.mark.timeout(1200)  # some twenty commands, which train four times
@pytest.mark.usefixtures("as_in_the_readme")
def test_every_tunewright_command_runs() -> None:
    typed = [c for c in commands() if c.startswith("tunewright ") and c.split()[1] not in ("serve", "review")]
    assert len(typed) >= 8
    for command in typed:
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        refusal = next((said for start, said in REFUSED.items() if command.startswith(start)), None)
        assert done.returncode == (2 if refusal else 0), f"{command}\n{done.stderr}"
        assert (refusal or "") in done.stderr


OFFLINE = {"assess", "data", "doctor", "gate", "keys", "models", "monitor", "plan", "recipes", "spec"}
"""Verbs that take seconds, train nothing and need nothing but a project."""
NEEDS_MORE = {
    "data freeze": "a project of its own, which it changes; tests/data/test_freeze.py types it",
    "data judge": "a judge that answers; tests/cli/test_judge.py types it",
    "data curve": "a minute; tests/data/test_curve_and_fit.py fits it",
    "data text": "a PDF of the reader's own",
    "doctor --gpu": "a GPU",
    "models prices --refresh": "a network",
    "plan examples/tickets model=llama": "a model of the hub",
    "plan examples/tickets --recipe": "a model of the hub",
}
"""What other commands need that this test has not, by how they begin."""
_REFUSED = {
    "monitor drift": "a comparison needs 100",
    "monitor rollback": "There is no previous champion",
    "gate": "cheaper-api",
}
"""What a project that was never deployed is refused, and what the message says."""


def page_commands() -> list[str]:
    """Whole commands on the pages that can be typed here, on the README's example as the project."""
    found = [each.words for each in page_command_lines("tunewright") if each.whole and each.words[0] in OFFLINE]
    lines = {" ".join(words).replace("PROJECT", "examples/tickets") for words in found}
    typed_there = {line.removeprefix("tunewright ") for line in commands()}
    return sorted(
        line
        for line in lines - typed_there
        if not re.search(r"\b(?!D0)[A-Z]{4,}|my-job|…|\.\.\.| \.$", line) and not line.startswith(tuple(NEEDS_MORE))
    )


@pytest.mark.usefixtures("as_in_the_readme")
@pytest.mark.parametrize("line", page_commands())
def test_a_command_of_the_pages_runs(line: str) -> None:
    done = subprocess.run(["bash", "-c", f"tunewright {line}"], capture_output=True, text=True, check=False)
    refusal = next((message for start, message in _REFUSED.items() if line.startswith(start)), None)
    assert done.returncode == 0 or (refusal and refusal in done.stdout + done.stderr), f"{line}\n{done.stderr}"


@pytest.mark.usefixtures("as_in_the_readme")
def test_the_served_example_answers_the_readmes_request() -> None:
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


@pytest.mark.usefixtures("as_in_the_readme")
def test_the_python_example_runs() -> None:
    (example,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
