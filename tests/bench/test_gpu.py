"""bench/gpu.py, whose figures need a card, runs: its tiny shape, on what this machine has."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

_BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.parametrize("candidate", ["tunewright", "trl"])
def test_an_arm_trains_the_recipe_s_shape_in_small(
    candidate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(_BENCH))
    gpu = import_module("gpu")
    monkeypatch.setattr(gpu, "RUNS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "phi-3-mini-t4", candidate, "--tiny"])
    gpu.main()
    shown = capsys.readouterr().out
    (row,) = (line for line in shown.splitlines() if line.startswith(f"| {gpu.CANDIDATES[candidate]}"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert "failed" not in row
    assert all(float(cell.replace(",", "")) > 0 for cell in cells[1:])
    assert gpu.run_candidate("unsloth", tmp_path) == "not installed" or torch.cuda.is_available()
