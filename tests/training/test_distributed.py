"""Training in two processes on CPU (gloo) learns what one process learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from tests.conftest import wait_for_checkpoint, write_project
from tunewright.core.artifacts import read_jsonl, read_manifest
from tunewright.core.errors import EXIT_INTERRUPTED
from tunewright.core.processes import free_port

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]


def command(project: Path, out: str, *launcher: str) -> list[str]:
    return [
        sys.executable,
        *launcher,
        "-m",
        "tunewright.pipeline.step",
        "train",
        "--spec",
        str(project),
        "--in",
        f"split={project / 'split'}",
        "--out",
        str(project / out),
    ]


def train(project: Path, out: str, *launcher: str, **environment: str) -> Path:
    done = subprocess.run(
        command(project, out, *launcher),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )
    assert done.returncode == 0, done.stderr
    assert read_manifest(project / out)
    assert not list(project.glob(".*.partial"))
    return project / out


MakeProject = Callable[..., Path]


@pytest.fixture
def make_project(make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path) -> MakeProject:
    """Settings of a training -> a project with its data split: 66 training rows, 6 to measure on, a tiny model."""

    def make(task: dict[str, Any] | None = None, **settings: object) -> Path:
        _, model = make_tiny_model("llama3")
        settings = {"lr": 0.01, "precision": "float32", "num_evaluations": 2} | settings
        project = write_project(
            tmp_path / "project", model=str(model), train=settings, **({"task": task} if task else {})
        )
        for name, inputs in (("check", []), ("split", ["--in", f"check={project / 'check'}"])):
            step = [sys.executable, "-m", "tunewright.pipeline.step", name, "--spec", str(project), *inputs]
            subprocess.run([*step, "--out", str(project / name)], check=True, capture_output=True)
        return project

    return make


def assert_same_training(left: Path, right: Path) -> None:
    import torch
    from safetensors.torch import load_file

    curves = [[row for row in read_jsonl(run / "curve.jsonl") if "loss" in row] for run in (left, right)]
    assert [row["loss"] for row in curves[1]] == pytest.approx([row["loss"] for row in curves[0]], rel=1e-4)
    weights = [load_file(run / "adapter" / "adapter_model.safetensors") for run in (left, right)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=2e-4, rtol=1e-2)


def result(run: Path) -> dict[str, Any]:
    manifest = read_manifest(run)
    assert manifest
    return manifest.result


def test_two_processes_take_the_steps_of_one(make_project: MakeProject) -> None:
    project = make_project(batch_size=8, max_steps=6)
    one = train(project, "one")
    spec = json.loads((project / "tunewright.yaml").read_text("utf-8"))
    spec["train"]["batch_size"] = 4
    (project / "tunewright.yaml").write_text(json.dumps(spec), "utf-8")
    two = train(project, "two", "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29541")
    assert result(one)["steps"] == 6
    assert_same_training(one, two)


def test_texts_that_are_written_are_measured_in_both_processes(make_project: MakeProject) -> None:
    task = {"kind": "generate", "instruction": "Name the topic.", "max_tokens": 6}
    project = make_project(task, batch_size=8, max_steps=4)
    one = train(project, "one")
    two = train(project, "two", "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}")
    measured = [
        [row["primary_metric"] for row in read_jsonl(run / "curve.jsonl") if "primary_metric" in row]
        for run in (one, two)
    ]
    assert len(measured[0]) == 2
    assert measured[1] == pytest.approx(measured[0], abs=0.1)


def test_a_cpu_machine_divides_batches_by_itself(make_project: MakeProject) -> None:
    """Two epochs of four whole batches and one of two rows: the same rows in the same order, each once."""
    project = make_project(batch_size=16, epochs=2)
    one = train(project, "one", OMP_NUM_THREADS="2", RANK="0")
    two = train(project, "two", OMP_NUM_THREADS="2")
    assert [result(run)["processes"] for run in (one, two)] == [1, 2]
    assert result(one)["steps"] == result(two)["steps"] == 10
    assert_same_training(one, two)
    measured = [[row for row in read_jsonl(run / "curve.jsonl") if "primary_metric" in row] for run in (one, two)]
    assert len(measured[0]) == 2
    for left, right in zip(*measured, strict=True):
        assert left["right"] == right["right"]
        assert left["validation_loss"] == pytest.approx(right["validation_loss"], rel=1e-3)


def start(project: Path, out: str) -> subprocess.Popen[str]:
    """A training in two processes, of which the first checkpoint is there."""
    training = subprocess.Popen(
        command(project, out), stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "2"}
    )
    wait_for_checkpoint(training, project, f".{out}.partial/checkpoints/member-0/checkpoint-*")
    return training


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text("ascii").split()]


@pytest.mark.nightly
def test_divided_trainings_go_on_where_they_were(make_project: MakeProject) -> None:
    """After SIGTERM to the step, after kill -9 of one of its processes, and of the one that started them."""
    project = make_project(batch_size=16, epochs=6, num_checkpoints=5, lora={"dropout": 0.2})
    straight = train(project, "straight", OMP_NUM_THREADS="2")
    for name, code in (("terminated", EXIT_INTERRUPTED), ("one-killed", 128 + SIGKILL), ("killed", -SIGKILL)):
        training = start(project, name)
        processes = children(training.pid)
        assert len(processes) == 2
        if name == "terminated":
            training.terminate()
        else:
            os.kill(processes[1] if name == "one-killed" else training.pid, SIGKILL)
        _, told = training.communicate(timeout=60)
        assert training.returncode == code, told
        while any(Path(f"/proc/{process}").exists() for process in processes):
            time.sleep(0.05)
        assert not (project / name).exists()
        again = subprocess.run(
            command(project, name),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env=os.environ | {"OMP_NUM_THREADS": "2"},
        )
        assert again.returncode == 0, again.stderr
        assert "resuming from member-0/checkpoint-" in again.stderr
        assert_same_training(straight, project / name)
        assert (straight / "curve.jsonl").read_bytes() == (project / name / "curve.jsonl").read_bytes()


_SHARDED = """
import sys
from pathlib import Path
import torch
from peft import LoraConfig, get_peft_model
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from tunewright.core.launch import end
from tunewright.inference.runtimes.torch_model import load_torch_model
from tunewright.training.engine.fast_paths import fit_engine, supervised_loss

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
end(0)
"""


@pytest.mark.parametrize(("dtype", "weights", "port"), [("bfloat16", "dense", 29542), ("float32", "nf4", 29543)])
def test_a_model_that_fsdp_divides_learns_the_same(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path, dtype: str, weights: str, port: int
) -> None:
    """FSDP2 over the fused layers: frozen 16-bit or 4-bit weights beside adapters in float32, checkpointed."""
    _, model = make_tiny_model("llama3")
    (tmp_path / "sharded.py").write_text(_SHARDED, "utf-8")
    launched = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        f"--master-port={port}",
        str(tmp_path / "sharded.py"),
        str(model),
        dtype,
        weights,
    ]
    done = subprocess.run(
        launched, capture_output=True, text=True, check=False, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr


_ENDING = """
import torch
from torch import distributed, nn
from tunewright.core.launch import end

torch.set_num_threads(1)
distributed.init_process_group("gloo")
model = nn.parallel.DistributedDataParallel(nn.Linear(4, 4))
kept = [model]
kept.append(kept)  # a trainer holds itself too
model(torch.ones(2, 4)).sum().backward()
end(0)
"""


@pytest.mark.nightly
def test_processes_that_have_done_their_work_end_without_being_aborted(tmp_path: Path) -> None:
    """Without `end` a quarter of such pairs lost a process to torch's threads, which Python had left running."""
    (tmp_path / "ending.py").write_text(_ENDING, "utf-8")
    for _ in range(6):
        environment = {
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "GLOO_SOCKET_IFNAME": "lo",
        }
        pair = [
            subprocess.Popen(
                [sys.executable, str(tmp_path / "ending.py")], env=os.environ | environment | {"RANK": str(rank)}
            )
            for rank in range(2)
        ]
        assert [process.wait(120) for process in pair] == [0, 0]
