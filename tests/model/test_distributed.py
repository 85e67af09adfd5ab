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


_SHARDED = """
import sys
from pathlib import Path
import torch
from peft import LoraConfig, get_peft_model
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from tunewright.models.torch_model import load_torch_model
from tunewright.train.engine import fit_engine, supervised_loss

distributed.init_process_group("gloo")
torch.manual_seed(0)
model = load_torch_model(Path(sys.argv[1]), dtype=sys.argv[2], nf4=sys.argv[3] == "nf4")
lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
model = get_peft_model(model, lora).train()
trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
for value in trained.values():
    value.data = value.data.float()
rows = [{"input_ids": [*range(50), *[60 + i] * 10], "labels": [-100] * 58 + [1, 2]} for i in range(8)]
batch = fit_engine(model, rows).collate(rows)
model.enable_input_require_grads()
model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
supervised_loss(model, batch).backward()
alone = {name: value.grad.clone() for name, value in trained.items()}
model.zero_grad()
mesh = init_device_mesh("cpu", (2,))
for layer in model.get_base_model().model.layers:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
assert all(value.to_local().numel() < value.numel() for value in model.parameters())
supervised_loss(model, batch).backward()
for name, value in model.named_parameters():
    if value.requires_grad:
        torch.testing.assert_close(value.grad.full_tensor(), alone[name])
distributed.destroy_process_group()
"""


@pytest.mark.parametrize(("dtype", "weights", "port"), [("bfloat16", "dense", 29542), ("float32", "nf4", 29543)])
def test_a_model_that_fsdp_divides_learns_the_same(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path, dtype: str, weights: str, port: int
) -> None:
    """FSDP2 over the fused layers: frozen 16-bit or 4-bit weights beside adapters in float32, checkpointed."""
    _, model = make_tiny_model("llama3")
    (tmp_path / "sharded.py").write_text(_SHARDED, "utf-8")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}",
        str(tmp_path / "sharded.py"), str(model), dtype, weights,
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
