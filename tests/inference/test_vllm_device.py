"""The options of vLLM: for its device, with a fake Python that reports the device, and for an adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright.core.artifacts import write_json
from tunewright.core.errors import UserError
from tunewright.inference.runtimes.vllm_model import _for_device, _our_options

T4, A10 = int(14.6 * 2**30), int(22.5 * 2**30)
PHI_3_MINI, LLAMA_3_8B = int(7.6e9), int(16.1e9)

Finds = Callable[[str, str, int, int], list[str]]


@pytest.fixture
def finds(tmp_path: Path) -> Finds:
    """A Python whose vLLM finds this: device, capability, free and total bytes."""

    def make(device: str, capability: str, free: int, total: int) -> list[str]:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\necho INFO platform\necho {device} {capability} {free} {total}\n")
        python.chmod(0o755)
        return [str(python)]

    return make


@pytest.mark.parametrize(
    ("capability", "free", "total", "weights", "told"),
    [
        ("7", T4 - 10**8, T4, PHI_3_MINI, ["--dtype", "float16", "--gpu-memory-utilization", "0.90"]),
        ("8", A10 - 10**8, A10, LLAMA_3_8B, ["--dtype", "bfloat16", "--gpu-memory-utilization", "0.90"]),
        ("9", 40 * 10**9, 80 * 10**9, LLAMA_3_8B, ["--dtype", "bfloat16", "--gpu-memory-utilization", "0.49"]),
    ],
    ids=["a T4", "an A10", "half of a card is another's"],
)
def test_the_options_follow_the_card_and_its_free_memory(
    finds: Finds, capability: str, free: int, total: int, weights: int, told: list[str]
) -> None:
    assert _for_device(finds("cuda", capability, free, total), weights) == told


def test_weights_that_do_not_fit_are_refused_before_a_quarter_of_an_hour_is_waited(finds: Finds) -> None:
    with pytest.raises(UserError, match=r"take 16\.1 GB; vLLM could have 14\.1 of the GPU's 15\.7 GB"):
        _for_device(finds("cuda", "7", T4 - 10**8, T4), LLAMA_3_8B)
    with pytest.raises(UserError, match=r"could have 0\.0 of .* 0\.2 GB are free"):
        _for_device(finds("cuda", "8", 2 * 10**8, A10), PHI_3_MINI)


def test_a_cpu_and_other_devices_choose_by_themselves(finds: Finds) -> None:
    assert _for_device(finds("cpu", "none", 0, 0), 1) == ["--dtype", "auto", "--gpu-memory-utilization", "0.3"]
    assert _for_device(finds("xpu", "none", 0, 0), 1) == ["--dtype", "auto"]


def test_an_adapters_rank_is_rounded_up_to_one_that_vllm_takes(tmp_path: Path) -> None:
    write_json(tmp_path / "adapter_config.json", {"r": 48})
    options = _our_options(tmp_path, 100, 1, tmp_path)
    assert options[options.index("--max-lora-rank") + 1] == "64"
    write_json(tmp_path / "adapter_config.json", {"r": 768})
    with pytest.raises(UserError, match="rank is 768, and vLLM takes adapters up to rank 512"):
        _our_options(tmp_path, 100, 1, tmp_path)
