"""The whole job on the emulated Azure: the outputs are those of a run on this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import tunewright
from tests.fixtures.tiny import TINY, run_example
from tunewright.core.artifacts import read_manifest

pytestmark = [pytest.mark.model, pytest.mark.nightly, pytest.mark.usefixtures("forked_steps")]

PLAYED = ("azure.emulate=seasoned",)
"""With GPUs."""
EXACT = ("check", "split", "train", "export")
"""Steps whose outputs hold no time of day and no latency."""


@pytest.fixture(scope="module")
def both(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, str, dict]:
    """(the project run here, the one run on Azure, what the latter said, its report)."""
    folder = tmp_path_factory.mktemp("azure")
    here, _ = run_example("tickets", make_tiny_model("llama3")[1], folder)
    there = folder / "there"
    shutil.copytree(here, there, ignore=shutil.ignore_patterns("runs"))
    done = tunewright(
        "run", str(there), f"model={folder / 'tiny'}", *TINY, *PLAYED, "--on", "azure", "--emulate", "--json"
    )
    assert done.returncode == 0, done.stderr
    return here, there, done.stderr, json.loads(done.stdout)


@pytest.mark.parametrize("step", EXACT)
def test_the_outputs_are_the_same_to_the_byte(both: tuple[Path, Path, str, dict], step: str) -> None:
    here, there, *_ = both
    links = [(project / "runs" / "latest" / step).resolve() for project in (here, there)]
    assert links[0].name == links[1].name
    ours, theirs = map(read_manifest, links)
    assert ours and theirs
    assert ours.content == theirs.content
    assert ours.fingerprint == theirs.fingerprint


def test_every_later_verb_works_on_them(both: tuple[Path, Path, str, dict]) -> None:
    _, there, _, report = both
    assert report["verdict"]["decision"]
    again = tunewright("evaluate", str(there), f"model={there.parent / 'tiny'}", *TINY)
    assert again.returncode == 0
    assert "evaluate ✓ unchanged, reused" in again.stderr


def test_it_tells_what_the_real_run_would_cause(both: tuple[Path, Path, str, dict]) -> None:
    told = both[2]
    assert "Emulated: nothing was sent to Azure." in told
    assert "refused" not in told
    for made in (
        "computes tunewright-gpu",
        "environments/versions tunewright-steps",
        "models/versions tunewright-tickets",
    ):
        assert made in told
    for step in ("train", "verdict"):
        assert f"  {step}: 1 x Standard_" in told
    assert "MLflow does not answer" not in told
    assert str(both[1]) not in told.partition("Emulated")[2]
