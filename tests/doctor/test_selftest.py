"""The self-test of GPUs, run for real on a CPU; and that it sees what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import tunewright
from tests.training.test_trial import FAULTS
from tunewright.core.errors import UserError
from tunewright.doctor import GpuReport, GpuRow, run_selftest
from tunewright.doctor.run import held_bytes
from tunewright.models import device
from tunewright.training.engine import attention, lora
from tunewright.training.engine import fast_paths as engine

pytestmark = pytest.mark.slow


def names(report: GpuReport, passed: bool | None) -> list[str]:
    return [row.name for row in report.rows if row.passed is passed]


def test_every_way_that_a_cpu_has_is_taken_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNEWRIGHT_VLLM", raising=False)
    report = run_selftest("cpu", ["phi3"])
    assert names(report, False) == [], report.markdown()
    assert names(report, True) == [
        "phi3, LoRA step, float32",
        "phi3, LoRA step, bfloat16",
        "phi3, NF4 step, float32",
        "phi3, NF4 step, bfloat16",
        "phi3, NF4 training, float32",
        "phi3, NF4 training, bfloat16",
        "phi3, export",
        "phi3, merged, float32",
        "phi3, memory freed",
    ]
    assert names(report, None) == ["vLLM"]
    assert report.markdown().count("| ✓ |") == 9


def wrong_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter learns a tenth too much."""
    right = lora.float32_product
    monkeypatch.setattr(lora, "float32_product", lambda a, b: 1.1 * right(a, b))


def wrong_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """An example sees what comes later; the trial leaves packing out, which is a fault here."""
    monkeypatch.setattr(engine, "_TRIAL_RESULTS", {})
    monkeypatch.setattr(attention, "_masks", FAULTS["sees what comes later"])


@pytest.mark.parametrize("fault", [pytest.param(wrong_gradient, marks=pytest.mark.nightly), wrong_layout])
def test_what_is_wrong_is_a_row(monkeypatch: pytest.MonkeyPatch, fault: Any) -> None:
    fault(monkeypatch)
    monkeypatch.setattr("tunewright.doctor.run._trained", lambda *_: iter(()))
    report = run_selftest("cpu", ["llama"], ["float32"])
    assert not report.passed
    assert "✗" in report.markdown()
    failed = names(report, False)
    assert failed
    assert all("step" in name for name in failed)


def test_what_is_not_let_go_is_seen() -> None:
    before = held_bytes("cpu")
    kept = torch.zeros(3 << 20)
    assert held_bytes("cpu") - before == kept.nbytes
    del kept
    assert held_bytes("cpu") == before


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_NODES", (tmp_path, "nothing"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="There is no GPU to test"):
        run_selftest()


@pytest.mark.may_skip
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_command_ends_with_2_where_there_is_none() -> None:
    done = tunewright("doctor", "--gpu")
    assert done.returncode == 2
    assert "There is no GPU to test" in done.stderr
    assert done.stdout == ""


def test_a_report_can_be_pasted_and_read() -> None:
    report = GpuReport("a card", [GpuRow("a", True, "1"), GpuRow("b", None, "x | y"), GpuRow("c", False, "no")], 61.4)
    shown = report.markdown()
    assert "1 of 3 failed, 61 s" in shown
    assert "| b | – | x / y |" in shown
    assert not report.passed
    assert json.dumps([row.name for row in report.rows])
