"""A node whose GPU torch can't use ends its step at once; it does not compute on its CPU at the GPU's price."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.backends.azure.conftest import MakeJob
from tunewright import api
from tunewright.azure_emulator import AzureEmulator
from tunewright.backends.azure import assets
from tunewright.backends.azure.machines import has_gpu
from tunewright.core.errors import UserError

_SMI = """#!/bin/sh
case "$*" in
  -L) echo 'GPU 0: Tesla T4 (UUID: GPU-1)';;
  --query-gpu=driver_version*) echo '535.161.08';;
  *) exit 9;;
esac
"""


@pytest.fixture
def driver(azure: AzureEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AzureEmulator:
    """Nodes have a T4 and an old driver, by an nvidia-smi on their path; torch is this machine's."""
    if torch.cuda.is_available():
        pytest.skip("torch can use a GPU here")
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.write_text(_SMI)
    tool.chmod(0o755)
    monkeypatch.setitem(azure.runner._environment, "PATH", f"{tool.parent}:{azure.runner._environment['PATH']}")
    monkeypatch.setattr(azure.runner, "plays_gpus", False)
    return azure


@pytest.mark.parametrize("whole", [False, True], ids=["one step", "a pipeline"])
@pytest.mark.may_skip
@pytest.mark.usefixtures("driver")
def test_a_node_whose_driver_is_too_old_ends_at_once(job: MakeJob, whole: bool) -> None:
    spec = job(azure={"cpu": "Standard_NC4as_T4_v3"})
    with pytest.raises(UserError) as told:
        (api.split if whole else api.check)(spec, on="azure")
    said = str(told.value)
    assert "Tesla T4" in said and "driver 535.161.08" in said
    assert f"torch {torch.__version__}" in said and ("CUDA" in said)
    assert "the nodes get the torch that is installed where you type" in said
    assert "azure.gpu=null" in said and "CUDA_VISIBLE_DEVICES" not in said


def test_a_size_of_azures_gpu_families_has_a_gpu_whatever_the_price_book_says(job: MakeJob) -> None:
    """A price file of one's own may name no card."""
    spec = job(prices="prices.yaml")
    own = {"usd_per_hour": 1.0, "cores": 8, "memory_gib": 56}
    (spec.folder / "prices.yaml").write_text(
        'as_of: "2026-11-27"\nmachines:\n'
        + "".join(f"  {name}: {own}\n" for name in ("Standard_NC8as_T4_v3", "Standard_D8s_v5"))
    )
    assert has_gpu("Standard_NC8as_T4_v3", spec) and has_gpu("Standard_NC4as_T4_v3", spec)
    assert not has_gpu("Standard_D8s_v5", spec) and not has_gpu("Standard_D4s_v5", spec)


def test_nodes_get_the_build_of_torch_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch for another CUDA is not in the package index, so its own index is named, and its label stays."""
    real = assets.distribution

    def built(name: str) -> object:
        return type("Built", (), {"version": "2.13.0+cu126"})() if name == "torch" else real(name)

    assert "torch==" in assets.requirements() and "+c" not in assets.requirements()
    monkeypatch.setattr(assets, "distribution", built)
    lines = assets.requirements().splitlines()
    assert lines[0] == "--extra-index-url https://download.pytorch.org/whl/cu126"
    assert "torch==2.13.0+cu126" in lines
