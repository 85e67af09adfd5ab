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
