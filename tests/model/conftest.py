"""What the tests on the real model share: one short run of the ticket example."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, tunewright
from tests.tiny.conftest import forked_steps, make_tiny_model

__all__ = ["forked_steps", "make_tiny_model"]

# Few steps and few examples: the run shows that everything fits together, not how good the model gets.
SHORT = [
    "data.validation_fraction=0.03",
    "train.max_steps=4",
    "train.batch_size=4",
    "train.num_evaluations=2",
    "train.precision=float32",
    "evaluate.max_examples=8",
    "evaluate.few_shot=2",
    "export.max_disagreement=0.5",
    "export.max_accuracy_drop=0.5",
]


@dataclass(frozen=True)
class ShortRun:
    project: Path
    report: dict
    stderr: str

    @property
    def runs(self) -> Path:
        return self.project / "runs"

    def latest(self, step: str) -> Path:
        return (self.runs / "latest" / step).resolve()


@pytest.fixture(scope="session")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> ShortRun:
    """`tunewright run` on the tickets with the real SmolLM2-135M, a few steps long."""
    project = tmp_path_factory.mktemp("short") / "tickets"
    shutil.copytree(REPOSITORY / "examples" / "tickets", project, ignore=shutil.ignore_patterns("runs"))
    spec = project / "tunewright.yaml"
    text, found = re.subn(r"(?m)^candidates: .*$", "model: smollm2-135m", spec.read_text("utf-8"))
    assert found == 1
    spec.write_text(text, "utf-8")
    done = tunewright("run", str(project), *SHORT, "--json")
    assert done.returncode == 0, done.stderr
    return ShortRun(project, json.loads(done.stdout), done.stderr)
