"""Faults of the machine that libraries raise, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.errors import as_user_error


def test_a_full_gpu_says_what_makes_the_training_smaller(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    said = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.58 GiB of which …"
    error = as_user_error(torch.OutOfMemoryError(said), tmp_path)
    assert error
    assert "The GPU's memory is full" in error.what
    assert "2.00 GiB" in error.what
    assert "train.batch_size" in (error.fix or "")


@pytest.mark.parametrize("error", [
    MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to have 9 bytes"),
])  # fmt: skip
def test_memory_that_the_machine_does_not_give_is_told_with_the_steps_own_remedy(
    error: Exception, tmp_path: Path
) -> None:
    found = as_user_error(error, tmp_path, "Set export.runtime=openvino.")
    assert found
    assert "memory" in found.what
    assert found.fix == "Set export.runtime=openvino. Then type the same command again."
    plain = as_user_error(error, tmp_path)
    assert plain
    assert "more memory" in (plain.fix or "")


def test_a_full_gpu_is_told_with_the_steps_own_remedy(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    error = as_user_error(torch.OutOfMemoryError("CUDA out of memory. Tried."), tmp_path, "Set evaluate.few_shot=0.")
    assert error
    assert error.fix == "Set evaluate.few_shot=0. Then type the same command again."
