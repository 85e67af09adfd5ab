"""Training in two processes on CPU (gloo) learns what one process learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import write_project
from tunewright.artifacts import read_jsonl, read_manifest

pytestmark = pytest.mark.model


def train(project: Path, out: str, *launcher: str) -> Path:
    command = [
        sys.executable, *launcher, "-m", "tunewright.step", "train", "--spec", str(project),
        "--in", f"split={project / 'split'}", "--out", str(project / out),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert read_manifest(project / out)
    assert not list(project.glob(".*.partial"))
    return project / out


def test_two_processes_take_the_steps_of_one(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    _, model = make_tiny_model("llama3")
    settings = {"max_steps": 6, "lr": 0.01, "precision": "float32", "evaluations": 2}
    project = write_project(tmp_path / "project", model=str(model), train={"batch_size": 8, **settings})
    for name, inputs in (("check", []), ("split", ["--in", f"check={project / 'check'}"])):
        command = [sys.executable, "-m", "tunewright.step", name, "--spec", str(project), *inputs]
        subprocess.run([*command, "--out", str(project / name)], check=True, capture_output=True)
    one = train(project, "one")
    spec = json.loads((project / "tunewright.yaml").read_text("utf-8"))
    spec["train"]["batch_size"] = 4
    (project / "tunewright.yaml").write_text(json.dumps(spec), "utf-8")
    two = train(project, "two", "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29541")
    curves = [[row for row in read_jsonl(run / "curve.jsonl") if "loss" in row] for run in (one, two)]
    assert len(curves[0]) == 6
    assert [row["loss"] for row in curves[1]] == pytest.approx([row["loss"] for row in curves[0]], rel=1e-4)
    weights = [load_file(run / "adapter" / "adapter_model.safetensors") for run in (one, two)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=2e-4, rtol=1e-2)
